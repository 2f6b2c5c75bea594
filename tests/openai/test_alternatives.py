"""Answers asked for with `n=`: the first choice is history, the others are kept with it and never sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from memexllm import MemoryStorage, Message, SQLiteStorage, Thread, history_of
from memexllm.core.parts import WireDict
from tests.openai.storages import FourMethodStorage
from tests.openai.talking import Talk, assistant, call, said, sent, user

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from memexllm.testing.server import OpenAIServer

STORAGES: dict[str, Callable[[Path], Any]] = {
    "memory": lambda folder: MemoryStorage(),
    "sqlite": lambda folder: SQLiteStorage(folder / "chat.db"),
    "four methods": lambda folder: FourMethodStorage(),
}


def answer(talk: Talk) -> Message:
    found: Message = talk.run("get_messages", "t")[-1]
    return found


@pytest.mark.parametrize("kind", STORAGES)
def test_the_other_choices_are_read_from_the_stored_answer(
    talking: Callable[..., Talk], tmp_path: Path, kind: str
) -> None:
    talk = talking(storage=STORAGES[kind](tmp_path))
    talk.say(user("hi"), n=3)
    assert answer(talk).wire == assistant("You said: hi")
    assert answer(talk).alternatives == [
        assistant("You said: hi (choice 2)"),
        assistant("You said: hi (choice 3)"),
    ]
    assert [other.content for other in answer(talk).alternatives][-1] == "You said: hi (choice 3)"
    talk.run("close")


def test_they_are_never_sent(server: OpenAIServer, talk: Talk) -> None:
    talk.say(user("one"), n=2)
    talk.say(user("two"), n=2)
    talk.say(user("three"))
    assert said(server) == ["one", "You said: one", "two", "You said: two", "three"]
    assert b"choice 2" not in server.requests[-1].raw


def test_they_keep_their_tool_calls_and_need_no_results(server: OpenAIServer, talk: Talk) -> None:
    asked = [call("c1", arguments='{"at": "Rome"}')]
    server.answer("It is sunny.", alternatives=[{"content": None, "tool_calls": asked}])
    talk.say(user("How is the weather?"), n=2)
    (other,) = answer(talk).alternatives
    assert other.tool_calls[0].function.arguments == '{"at": "Rome"}'
    talk.say(user("And now?"))
    assert sent(server) == [user("How is the weather?"), assistant("It is sunny."), user("And now?")]


def test_a_call_stores_one_answer_whatever_n_is(talk: Talk) -> None:
    talk.say(user("hi"), n=3)
    assert talk.info is not None
    assert talk.info.message_ids == [message.id for message in talk.run("get_messages", "t")]
    assert talk.stored_contents() == ["hi", "You said: hi"]


def test_an_answer_asked_for_once_has_none(talk: Talk) -> None:
    talk.say(user("hi"))
    assert answer(talk).alternatives == []
    assert answer(talk).metadata == {}


def test_a_caller_may_go_on_with_another_choice(server: OpenAIServer, talk: Talk) -> None:
    talk.say(user("hi"), n=2)
    talk.say(user("hi"), answer(talk).alternatives[0], user("next"))
    assert said(server) == ["hi", "You said: hi (choice 2)", "next"]
    assert talk.stored_contents() == ["hi", "You said: hi (choice 2)", "next", "You said: next"]
    assert talk.superseded() == ["You said: hi"]


def test_parse_keeps_them_too(server: OpenAIServer, client: Any) -> None:
    parsed = client.chat.completions.parse(model="gpt-4o", messages=[user("hi")], n=2, thread_id="t")
    assert history_of(parsed).saved
    (other,) = client.history.get_messages("t")[-1].alternatives
    assert other == assistant("You said: hi (choice 2)")


class TestOfAMessage:
    def test_they_are_views_on_the_metadata(self) -> None:
        message = Message("a", "assistant", metadata={"alternatives": [{"role": "assistant", "content": "b"}]})
        message.alternatives[0].content = "c"
        assert message.metadata == {"alternatives": [{"role": "assistant", "content": "c"}]}
        assert isinstance(message.alternatives[0], WireDict)

    @pytest.mark.parametrize("theirs", [None, "jazz", 7, {"a": 1}, ["rock", 7], []])
    def test_what_else_a_user_keeps_by_that_name_is_none(self, theirs: Any) -> None:
        assert Message("hi", "user", metadata={"alternatives": theirs}).alternatives == []

    @pytest.mark.parametrize("kind", STORAGES)
    def test_a_thread_that_was_looked_at_can_be_saved(self, tmp_path: Path, kind: str) -> None:
        storage = STORAGES[kind](tmp_path)
        message = Message("a", "assistant", metadata={"alternatives": [{"role": "assistant", "content": "b"}]})
        thread = Thread("t", messages=[message])
        assert thread.messages[0].alternatives[0].content == "b"
        storage.save_thread(thread)
        assert storage.get_thread("t").messages[0].alternatives == [{"role": "assistant", "content": "b"}]
        storage.close()
