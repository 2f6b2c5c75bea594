"""A thread whose stored bytes cannot be read: no answer is lost, nothing is overwritten, errors say what is true."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from memexllm import FIFOAlgorithm, SQLiteStorage
from memexllm.core.errors import CorruptThreadError, HistoryReadError, ValidationError
from tests.openai.storages import FailingStorage
from tests.openai.talking import Talk, said, user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from memexllm.testing.server import OpenAIServer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chat.db"


@pytest.fixture
def storage(path: Path) -> Iterator[SQLiteStorage]:
    with SQLiteStorage(path) as storage:
        yield storage


def execute(path: Path, sql: str, *values: Any) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(sql, values).fetchall()


@pytest.mark.parametrize("column", ["state", "metadata"])
def test_a_damaged_thread_costs_nothing(
    server: OpenAIServer, talking: Callable[..., Talk], storage: SQLiteStorage, path: Path, column: str
) -> None:
    talk = talking(storage=storage)
    talk.say(user("one"))
    execute(path, f"UPDATE threads SET {column} = 'words'")
    before = len(server.requests)
    with pytest.raises(HistoryReadError, match=r"'t' could not be read, so no request was made") as refusal:
        talk.say(user("two"))
    assert isinstance(refusal.value.__cause__, CorruptThreadError)
    assert len(server.requests) == before
    assert execute(path, f"SELECT {column} FROM threads") == [("words",)]


def test_ignored_the_turn_is_stored_and_the_damage_stays_as_it_is(
    server: OpenAIServer, talking: Callable[..., Talk], storage: SQLiteStorage, path: Path
) -> None:
    """Also with a window that would note its cut: what was found without the history is not the thread's state."""
    talk = talking(storage=storage, algorithm=FIFOAlgorithm(max_messages=2), on_read_error="ignore")
    talk.say(user("one"))
    ((state,),) = execute(path, "SELECT state FROM threads")
    execute(path, "UPDATE threads SET state = 'words'")
    for text in ("two", "three"):
        talk.say(user("said before"), {"role": "assistant", "content": "so it was"}, user("and"), user(text))
        assert talk.info
        assert (talk.info.saved, talk.info.error) == (True, None)
    assert said(server)[-1] == "three"
    assert execute(path, "SELECT state FROM threads") == [("words",)]
    execute(path, "UPDATE threads SET state = ?", state)
    assert talk.stored_contents()[-2:] == ["three", "You said: three"]
    assert [text for text in talk.stored_contents() if text in ("one", "two", "three")] == ["one", "two", "three"]


class TestATurnThatWaits:
    def test_the_error_says_that_it_waits(self, server: OpenAIServer, talking: Callable[..., Talk]) -> None:
        storage = FailingStorage()
        talk = talking(storage=storage)
        storage.failing_writes = -1
        talk.say(user("one"))
        before = len(server.requests)
        with pytest.raises(
            HistoryReadError, match=r"'t' waits for an earlier turn that could not be stored yet, so no"
        ):
            talk.say(user("two"))
        assert len(server.requests) == before
        storage.failing_writes = 0
        talk.say(user("two"))
        assert talk.stored_contents() == ["one", "You said: one", "two", "You said: two"]

    def test_ignored_so_does_the_log(self, talking: Callable[..., Talk], caplog: pytest.LogCaptureFixture) -> None:
        storage = FailingStorage()
        talk = talking(storage=storage, on_read_error="ignore")
        storage.failing_writes = -1
        talk.say(user("one"))
        talk.say(user("two"))
        assert "thread 't' waits for an earlier turn that could not be stored yet; the call goes on" in caplog.text
        storage.failing_writes = 0
        talk.run("flush")
        assert talk.stored_contents() == ["one", "You said: one", "two", "You said: two"]


class TestCalls:
    @pytest.mark.parametrize("thread_id", ["", 5, b"t", ["t"], object(), 1.5, True])
    def test_what_is_no_thread_id_is_refused_before_any_request(
        self, server: OpenAIServer, talk: Talk, thread_id: Any
    ) -> None:
        with pytest.raises(ValidationError, match="Thread ID"):
            talk.say(user("one"), thread_id=thread_id)
        assert server.requests == []

    @pytest.mark.parametrize("thread_id", ["x" * 10_000, "a\x00b", "a\nb", " ", "'; DROP TABLE threads; --", "🙂", "%"])
    def test_any_text_is_a_thread_id(
        self, talking: Callable[..., Talk], storage: SQLiteStorage, thread_id: str
    ) -> None:
        talk = talking(storage=storage)
        talk.say(user("one"), thread_id=thread_id)
        talk.say(user("two"), thread_id=thread_id)
        assert talk.stored_contents(thread_id) == ["one", "You said: one", "two", "You said: two"]

    def test_half_a_character_is_no_thread_id(
        self, server: OpenAIServer, talking: Callable[..., Talk], storage: SQLiteStorage
    ) -> None:
        with pytest.raises(ValidationError, match="surrogate"):
            talking(storage=storage).say(user("one"), thread_id="\ud83d")
        assert server.requests == []

    @pytest.mark.parametrize("user_id", ["", None, 5, b"u", ["u"], "\ud83d"])
    def test_what_is_no_user_is_refused_before_any_request(
        self, server: OpenAIServer, talk: Talk, user_id: Any
    ) -> None:
        with pytest.raises(ValidationError, match="user_id"):
            talk.say(user("one"), client=talk.client.for_user(user_id))
        assert server.requests == []
