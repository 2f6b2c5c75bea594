"""A storage that fails: no answer is lost, no turn is stored twice, and nobody pays for an answer without memory."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from memexllm import FIFOAlgorithm, HistoryManager, MemoryStorage, history_of, with_history
from memexllm.core.errors import HistoryReadError, HistoryWriteError, StorageError
from tests.openai.storages import AsyncMemoryStorage, FailingStorage
from tests.openai.talking import (
    TOOLS,
    Talk,
    assistant,
    async_sdk_client,
    calling,
    said,
    sdk_client,
    sent,
    system,
    tool,
    user,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from memexllm.testing.server import OpenAIServer


class FailingLater(MemoryStorage):
    """`n_reads` more go through."""

    n_reads = 1000

    def read_head(self, thread_id: str) -> Any:
        self._count()
        return super().read_head(thread_id)

    def read_messages(self, thread_id: str, **which: Any) -> Any:
        self._count()
        return super().read_messages(thread_id, **which)

    def _count(self) -> None:
        if not self.n_reads:
            raise OSError("the disk is gone")
        self.n_reads -= 1


@pytest.fixture
def storage() -> FailingStorage:
    return FailingStorage()


@pytest.fixture
def talk(talking: Callable[..., Talk], storage: FailingStorage) -> Talk:
    return talking(storage=storage)


class TestReading:
    def test_a_thread_that_cannot_be_read_costs_nothing(
        self, server: OpenAIServer, talk: Talk, storage: FailingStorage
    ) -> None:
        storage.failing_reads = 1
        with pytest.raises(HistoryReadError, match="no request was made") as raised:
            talk.say(user("one"))
        assert isinstance(raised.value.__cause__, StorageError)
        assert server.requests == []
        talk.say(user("one"))
        assert talk.stored_contents() == ["one", "You said: one"]

    @pytest.mark.parametrize(
        "brought", [[tool("c2")], [user("one"), assistant("1"), user("TWO")]], ids=["a result", "an edited list"]
    )
    def test_whichever_read_fails_no_request_is_made(
        self, server: OpenAIServer, talking: Callable[..., Talk], brought: list[Any]
    ) -> None:
        storage = FailingLater()
        talk = talking(storage=storage, algorithm=FIFOAlgorithm(max_messages=2))
        run_of_tools = [calling("c0"), tool("c0"), calling("c1"), tool("c1"), calling("c2")]
        talk.seed(user("one"), assistant("1"), user("look"), *run_of_tools)
        n_failed = 0
        while not server.requests:
            storage.n_reads = n_failed
            with suppress(HistoryReadError):
                talk.say(*brought, tools=TOOLS)
            n_failed += not server.requests
        assert n_failed > 2

    def test_ignored_it_is_sent_without_history_and_stored(
        self, server: OpenAIServer, talking: Callable[..., Talk], storage: FailingStorage
    ) -> None:
        talk = talking(storage=storage, on_read_error="ignore")
        talk.say(user("one"))
        storage.failing_reads = 1
        talk.say(user("two"))
        assert said(server) == ["two"]
        talk.say(user("three"))
        assert said(server) == ["one", "You said: one", "two", "You said: two", "three"]

    @pytest.mark.parametrize("repeated", [True, False])
    def test_ignored_it_does_not_harm_the_block(
        self, server: OpenAIServer, talking: Callable[..., Talk], storage: FailingStorage, *, repeated: bool
    ) -> None:
        talk = talking(storage=storage, on_read_error="ignore")
        block = [system("Be brief.")]
        talk.say(*block, user("one"))
        storage.failing_reads = 1
        talk.say(*(block if repeated else []), user("two"))
        talk.say(user("three"))
        assert said(server) == ["Be brief.", "one", "You said: one", "two", "You said: two", "three"]


class TestWriting:
    def test_the_answer_is_returned_and_the_turn_stored_by_the_next_call(
        self, server: OpenAIServer, talk: Talk, storage: FailingStorage, caplog: pytest.LogCaptureFixture
    ) -> None:
        storage.failing_writes = 2
        assert talk.say(user("My name is Ada.")) == "You said: My name is Ada."
        info = talk.info
        assert info
        assert (info.saved, type(info.error)) == (False, StorageError)
        assert [record.levelname for record in caplog.records if record.name.startswith("memexllm")] == ["ERROR"]
        assert "Ada" not in caplog.text
        assert talk.say(user("What is my name?")) == "Your name is Ada."
        assert len(sent(server)) == 3
        assert talk.stored_contents() == [*said(server), "Your name is Ada."]
        assert (info.saved, info.error) == (True, None)

    def test_one_failure_is_tried_again_at_once(self, talk: Talk, storage: FailingStorage) -> None:
        storage.failing_writes = 1
        talk.say(user("one"))
        assert talk.info
        assert talk.info.saved
        assert talk.stored_contents() == ["one", "You said: one"]

    @pytest.mark.parametrize("failing", [1, 2])
    def test_a_write_that_arrived_before_it_failed_is_not_repeated(
        self, talk: Talk, storage: FailingStorage, failing: int
    ) -> None:
        storage.writes_arrive = True
        storage.failing_writes = failing
        talk.say(user("one"))
        talk.say(user("two"))
        talk.run("flush")
        assert talk.stored_contents() == ["one", "You said: one", "two", "You said: two"]

    def test_flush_stores_it(self, talk: Talk, storage: FailingStorage) -> None:
        storage.failing_writes = 2
        talk.say(user("one"))
        assert talk.info
        talk.run("flush")
        assert talk.info.saved
        assert talk.stored_contents() == ["one", "You said: one"]
        talk.run("flush")
        assert len(talk.stored()) == 2

    def test_flush_raises_while_it_still_cannot(self, talk: Talk, storage: FailingStorage) -> None:
        storage.failing_writes = -1
        talk.say(user("one"))
        with pytest.raises(StorageError):
            talk.run("flush")
        storage.failing_writes = 0
        talk.run("flush")
        assert talk.stored_contents() == ["one", "You said: one"]

    def test_while_a_turn_cannot_be_stored_its_thread_is_not_continued_without_it(
        self, server: OpenAIServer, talk: Talk, storage: FailingStorage
    ) -> None:
        storage.failing_writes = -1
        talk.say(user("one"))
        with pytest.raises(HistoryReadError):
            talk.say(user("two"))
        assert len(server.requests) == 1
        storage.failing_writes = 0
        talk.say(user("two"))
        assert said(server) == ["one", "You said: one", "two"]

    def test_other_threads_go_on(self, talk: Talk, storage: FailingStorage) -> None:
        storage.failing_writes = 2
        talk.say(user("one"), thread_id="a")
        talk.say(user("two"), thread_id="b")
        assert talk.stored_contents("b") == ["two", "You said: two"]
        talk.run("flush")
        assert talk.stored_contents("a") == ["one", "You said: one"]

    def test_turns_are_stored_in_the_order_they_were_said(
        self, talking: Callable[..., Talk], storage: FailingStorage
    ) -> None:
        talk = talking(storage=storage, on_read_error="ignore")
        storage.failing_writes = 2
        talk.say(user("one"))
        storage.failing_reads = 1
        talk.say(user("two"))
        assert talk.stored_contents() == ["one", "You said: one", "two", "You said: two"]

    def test_a_turn_the_storage_refuses_for_good_does_not_block_its_thread(
        self, talk: Talk, storage: FailingStorage, caplog: pytest.LogCaptureFixture
    ) -> None:
        talk.seed(user("hello"), assistant("hi"))
        refused = {"role": "user", "content": "one", "x_deep": _nested(250)}
        talk.say(refused)
        assert talk.info
        assert not talk.info.saved
        assert "lost" in caplog.text
        talk.say(user("two"))
        assert talk.stored_contents() == ["hello", "hi", "two", "You said: two"]

    def test_no_text_of_the_conversation_is_logged(
        self, talk: Talk, storage: FailingStorage, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG, logger="memexllm")
        storage.failing_writes = 2
        talk.say(user("a secret word"))
        assert "secret" not in caplog.text


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


class TestRaising:
    """`on_write_error="raise"`."""

    def test_the_error_carries_the_answer(self, server: OpenAIServer, storage: FailingStorage) -> None:
        storage.failing_writes = 2
        with sdk_client(server) as original:
            client: Any = with_history(original, storage=storage, on_write_error="raise")
            with pytest.raises(HistoryWriteError) as raised:
                client.chat.completions.create(model="m", messages=[user("one")], thread_id="t")
            response = raised.value.response
            assert response.choices[0].message.content == "You said: one"
            assert history_of(response).thread_id == "t"
            assert isinstance(raised.value.__cause__, StorageError)
            client.flush()
            assert len(client.history.get_messages("t")) == 2

    def test_a_stream_gives_every_chunk_before_it_raises(self, server: OpenAIServer, storage: FailingStorage) -> None:
        storage.failing_writes = 2
        text = ""
        with sdk_client(server) as original:
            client: Any = with_history(original, storage=storage, on_write_error="raise")
            stream = client.chat.completions.create(model="m", messages=[user("one")], thread_id="t", stream=True)
            for chunk in stream:
                text += chunk.choices[0].delta.content or ""
                if chunk.choices[0].finish_reason:
                    break
            assert text == "You said: one"
            with pytest.raises(HistoryWriteError):
                next(stream)


def test_a_stream_loses_no_chunk_to_a_failed_write(talk: Talk, storage: FailingStorage) -> None:
    storage.failing_writes = 2
    assert talk.say(user("a b c d e f g")) == "You said: a b c d e f g"


def test_a_later_state_of_a_stream_that_cannot_be_stored_is_kept(server: OpenAIServer, storage: FailingStorage) -> None:
    server.answer("Once upon a time there was a fox.")
    with sdk_client(server) as original:
        client: Any = with_history(original, storage=storage)
        stream = client.chat.completions.create(model="m", messages=[user("story")], thread_id="t", stream=True)
        for _ in range(4):
            next(stream)
        client.chat.completions.create(model="m", messages=[user("and?")], thread_id="t")
        storage.failing_writes = 2
        list(stream)
        assert not history_of(stream).saved
        client.flush()
        assert history_of(stream).saved
        contents = [message.content for message in client.history.get_messages("t")]
    assert contents == ["story", "Once upon a time there was a fox.", "and?", "You said: and?"]


async def test_two_calls_that_find_a_waiting_turn_store_it_once(server: OpenAIServer) -> None:
    storage = AsyncMemoryStorage()
    storage.failing_writes = 2
    async with async_sdk_client(server) as original:
        client: Any = with_history(original, storage=storage)

        async def say(text: str) -> None:
            await client.chat.completions.create(model="m", messages=[user(text)], thread_id="t")

        await say("one")
        storage.may_write.clear()
        storage.writing.clear()
        both = asyncio.gather(say("two"), say("three"))
        await storage.writing.wait()
        storage.may_write.set()
        await both
    thread = storage.inner.get_thread("t")
    assert thread
    contents = [message.content for message in thread.messages]
    assert contents[:2] == ["one", "You said: one"]
    assert sorted(contents[2:]) == ["You said: three", "You said: two", "three", "two"]


def test_what_waits_is_bounded_and_the_oldest_goes_with_an_error(
    server: OpenAIServer, client: Any, storage: FailingStorage, caplog: pytest.LogCaptureFixture
) -> None:
    storage.failing_writes = -1
    remembering: Any = with_history(client._memexllm_original, storage=storage, algorithm=FIFOAlgorithm())
    for name in "abc":
        server.answer("ok")
        large = [user(name * (25 * 2**20))]
        remembering.chat.completions.create(model="m", messages=large, thread_id=name)
    assert "what was said in thread 'a' is lost" in caplog.text
    storage.failing_writes = 0
    remembering.flush()
    assert [thread.id for thread in remembering.history.list_threads()] == ["b", "c"]


def test_what_waits_is_stored_when_the_process_ends(server: OpenAIServer, tmp_path: Path) -> None:
    program = """
import sys
from openai import OpenAI
from memexllm import SQLiteStorage, with_history

class FailsTwice(SQLiteStorage):
    left = 2
    def append_messages(self, *args, **kwargs):
        if self.left:
            self.left -= 1
            raise OSError("locked")
        return super().append_messages(*args, **kwargs)

with OpenAI(base_url=sys.argv[1], api_key="local") as original:
    client = with_history(original, storage=FailsTwice(sys.argv[2]))
    client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], thread_id="t")
"""
    path = str(tmp_path / "chat.db")
    subprocess.run([sys.executable, "-c", program, server.base_url, path], check=True, capture_output=True)
    with HistoryManager(path) as manager:
        assert [message.content for message in manager.get_messages("t")] == ["hi", "You said: hi"]


def test_a_client_that_is_gone_still_stores_its_turns_at_the_end_of_the_process(
    server: OpenAIServer, tmp_path: Path
) -> None:
    program = """
import gc, sqlite3, sys
from openai import OpenAI
from memexllm import SQLiteStorage, with_history

original = OpenAI(base_url=sys.argv[1], api_key="local", max_retries=0)
storage = SQLiteStorage(sys.argv[2], busy_timeout_s=0.01)
storage.list_threads()
other = sqlite3.connect(sys.argv[2], isolation_level=None)
other.execute("BEGIN IMMEDIATE")
with_history(original, storage=storage).chat.completions.create(
    model="m", messages=[{"role": "user", "content": "hi"}], thread_id="t"
)
other.execute("ROLLBACK")
gc.collect()
"""
    path = str(tmp_path / "chat.db")
    subprocess.run([sys.executable, "-c", program, server.base_url, path], check=True, capture_output=True)
    with HistoryManager(path) as manager:
        assert [message.content for message in manager.get_messages("t")] == ["hi", "You said: hi"]


def test_streams_that_cannot_be_stored_at_the_end_of_the_process_are_counted(server: OpenAIServer) -> None:
    program = """
import asyncio, gc, sys
from openai import AsyncOpenAI
from memexllm import with_history
from tests.openai.storages import AsyncMemoryStorage

async def begin():
    client = with_history(AsyncOpenAI(base_url=sys.argv[1], api_key="local"), storage=AsyncMemoryStorage())
    stream = await client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "Tell me a story"}], thread_id="t", stream=True
    )
    for _ in range(3):
        await anext(stream)
    return stream

loop = asyncio.new_event_loop()
stream = loop.run_until_complete(begin())
del stream
gc.collect()
"""
    command = [sys.executable, "-c", program, server.base_url]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert "1 turns could not be stored before the process ended" in done.stderr


def test_a_thread_that_was_deleted_stays_deleted(server: OpenAIServer) -> None:
    storage = FailingStorage()
    with sdk_client(server) as original:
        client: Any = with_history(original, storage=storage)
        client.chat.completions.create(model="m", messages=[user("keep")], thread_id="t")
        storage.failing_writes = 2
        client.chat.completions.create(model="m", messages=[user("one")], thread_id="t")
        client.history.delete_thread("t")
        client.flush()
        assert client.history.list_threads() == []
