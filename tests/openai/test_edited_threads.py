"""Edits and answers taken back through the manager, and the calls that follow, however their messages are passed."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pytest

from memexllm import FIFOAlgorithm, MemoryStorage, SQLiteStorage, with_history
from tests.notes_in_state import cut_in
from tests.openai.responding import texts
from tests.openai.storages import AsyncMemoryStorage, FourMethodStorage
from tests.openai.talking import TOOLS, Talk, assistant, call, said, sent, system, tool, user

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from memexllm import HistoryManager, Message
    from memexllm.testing.server import OpenAIServer

STORAGES: dict[str, Callable[[Path], Any]] = {
    "memory": lambda folder: MemoryStorage(),
    "sqlite": lambda folder: SQLiteStorage(folder / "chat.db"),
    "four methods": lambda folder: FourMethodStorage(),
}


def messages(talk: Talk) -> list[Message]:
    found: list[Message] = talk.run("get_messages", "t")
    return found


class TestRegenerate:
    @pytest.mark.parametrize("kind", STORAGES)
    def test_a_call_without_messages_gives_one_new_answer(
        self, server: OpenAIServer, talking: Callable[..., Talk], tmp_path: Path, kind: str
    ) -> None:
        talk = talking(storage=STORAGES[kind](tmp_path))
        talk.say(user("one"))
        talk.say(user("two"))
        for answer in ("another", "a third"):
            talk.run("regenerate", "t")
            server.answer(answer)
            assert talk.say() == answer
            assert said(server) == ["one", "You said: one", "two"]
            assert talk.stored_contents() == ["one", "You said: one", "two", answer]
        assert talk.superseded() == ["You said: two", "another"]
        talk.say(user("three"))
        assert said(server) == ["one", "You said: one", "two", "a third", "three"]
        talk.run("close")

    def test_the_instructions_go_along(self, server: OpenAIServer, talk: Talk) -> None:
        talk.say(system("Be brief."), user("one"))
        talk.say(system("Be long."), user("two"))
        talk.run("regenerate", "t")
        talk.say()
        assert said(server) == ["Be long.", "one", "You said: one", "two"]
        talk.run("edit_message", "t", messages(talk)[0].id, "ONE")
        talk.say()
        assert said(server) == ["Be long.", "ONE"]
        talk.run("regenerate", "t")
        talk.say(system("Be kind."))
        assert said(server) == ["Be kind.", "ONE"]
        talk.say(user("two"))
        assert said(server) == ["Be kind.", "ONE", "You said: ONE", "two"]

    @pytest.mark.parametrize("times", [1, 2])
    def test_the_whole_list_up_to_the_question_is_recognised(
        self, server: OpenAIServer, talk: Talk, times: int
    ) -> None:
        talk.say(user("one"))
        talk.say(user("two"))
        whole = [user("one"), assistant("You said: one"), user("two")]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for number in range(times):
                talk.run("regenerate", "t")
                server.answer(f"answer {number}")
                talk.say(*whole)
                assert sent(server) == whole
        assert talk.stored_contents() == ["one", "You said: one", "two", f"answer {times - 1}"]
        assert len(talk.superseded()) == times

    def test_the_question_alone_is_recognised(self, server: OpenAIServer, talk: Talk) -> None:
        talk.say(user("one"))
        talk.run("regenerate", "t")
        talk.say(user("one"))
        assert said(server) == ["one"]
        assert talk.stored_contents() == ["one", "You said: one"]

    def test_another_question_goes_after_the_one_without_an_answer(self, server: OpenAIServer, talk: Talk) -> None:
        talk.say(user("one"))
        talk.run("regenerate", "t")
        talk.say(user("two"))
        assert said(server) == ["one", "two"]

    def test_a_run_of_tools_begins_again(self, server: OpenAIServer, talk: Talk) -> None:
        talk.say(user("Hello."))
        server.answer({"content": None, "tool_calls": [call("c1"), call("c2")]})
        talk.say(user("Look."), tools=TOOLS)
        talk.say(tool("c1"), tool("c2"), tools=TOOLS)
        talk.run("regenerate", "t")
        server.answer("Nothing to see.")
        talk.say(tools=TOOLS)
        assert said(server) == ["Hello.", "You said: Hello.", "Look."]
        assert talk.stored_contents() == [*said(server), "Nothing to see."]
        assert len(talk.superseded()) == 4

    def test_an_answer_that_broke_off_is_taken_back_too(
        self, server: OpenAIServer, client: Any, manager: HistoryManager
    ) -> None:
        for chunk in client.chat.completions.create(model="m", messages=[user("one")], stream=True, thread_id="t"):
            if chunk.choices[0].delta.content:
                break
        (taken,) = manager.regenerate("t")
        assert taken.status == "incomplete"
        client.chat.completions.create(model="m", messages=[], thread_id="t")
        assert said(server) == ["one"]
        assert [message.content for message in manager.get_messages("t")] == ["one", "You said: one"]

    async def test_what_was_said_and_is_not_stored_yet_is_stored_first(
        self, server: OpenAIServer, async_client: Any
    ) -> None:
        create, manager = async_client.chat.completions.create, async_client.history
        await create(model="m", messages=[user("one")], thread_id="t")
        stream = await create(model="m", messages=[user("two")], stream=True, thread_id="t")
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        (taken,) = await manager.regenerate("t")
        assert taken.status == "incomplete"
        await create(model="m", messages=[], thread_id="t")
        assert said(server) == ["one", "You said: one", "two"]

    @pytest.mark.parametrize("change", ["regenerate", "edit"])
    def test_a_stream_that_is_read_on_does_not_bring_its_answer_back(
        self, server: OpenAIServer, client: Any, manager: HistoryManager, change: str
    ) -> None:
        stream = client.chat.completions.create(model="m", messages=[user("one")], stream=True, thread_id="t")
        pieces = iter(stream)
        while not next(pieces).choices[0].delta.content:
            pass
        if change == "regenerate":
            manager.regenerate("t")
        else:
            client.flush()
            client.chat.completions.create(model="m", messages=[user("zero")], thread_id="t")
            manager.edit_message("t", manager.get_messages("t")[0].id, "one")
        list(pieces)
        client.chat.completions.create(model="m", messages=[], thread_id="t")
        assert said(server) == ["one"]
        assert [message.content for message in manager.get_messages("t")] == ["one", "You said: one"]
        kept = [message for message in manager.get_messages("t", include_superseded=True) if message.superseded]
        assert "You said: one" in [message.content for message in kept]

    def test_a_window_takes_its_cut_back(self, server: OpenAIServer, talking: Callable[..., Talk]) -> None:
        talk = talking(storage=MemoryStorage(), algorithm=FIFOAlgorithm(4, keep=1))
        for number in range(6):
            talk.say(user(f"q{number}"))
        first = messages(talk)[2]
        assert cut_in(talk.run("get_thread", "t").state) > 2
        talk.run("edit_message", "t", first.id, "Q1")
        talk.say()
        assert said(server) == ["q0", "You said: q0", "Q1"]
        talk.run("regenerate", "t")
        talk.say()
        assert said(server) == ["q0", "You said: q0", "Q1"]


class TestEdit:
    def test_a_call_without_messages_answers_the_edited_message(self, server: OpenAIServer, talk: Talk) -> None:
        for text in ("one", "two", "three"):
            talk.say(user(text))
        talk.run("edit_message", "t", messages(talk)[2].id, "TWO")
        talk.say()
        assert said(server) == ["one", "You said: one", "TWO"]
        assert talk.stored_contents() == ["one", "You said: one", "TWO", "You said: TWO"]
        assert talk.superseded() == ["two", "You said: two", "three", "You said: three"]

    def test_the_whole_list_with_the_edited_message_is_recognised(self, server: OpenAIServer, talk: Talk) -> None:
        whole: list[Any] = []
        for text in ("one", "two", "three"):
            whole.append(user(text))
            whole.append(assistant(talk.say(*whole)))
        for edited in ("TWO", "Two!"):
            talk.run("edit_message", "t", messages(talk)[2].id, edited)
            whole = [*whole[:2], user(edited)]
            whole.append(assistant(talk.say(*whole)))
            assert sent(server) == whole[:3]
            assert talk.stored() == whole
        talk.say(*whole, user("three"))
        assert said(server) == ["one", "You said: one", "Two!", "You said: Two!", "three"]
        assert talk.superseded() == ["two", "You said: two", "three", "You said: three", "TWO", "You said: TWO"]

    def test_a_caller_who_has_not_heard_of_the_edit_takes_it_back(self, server: OpenAIServer, talk: Talk) -> None:
        talk.say(user("one"))
        talk.say(user("two"))
        talk.run("edit_message", "t", messages(talk)[2].id, "TWO")
        talk.say(user("one"), assistant("You said: one"), user("two"))
        assert said(server) == ["one", "You said: one", "two"]
        assert talk.stored_contents() == ["one", "You said: one", "two", "You said: two"]

    def test_a_corrected_answer_is_what_is_sent(self, server: OpenAIServer, talk: Talk) -> None:
        talk.say(user("one"))
        talk.run("correct_message", "t", messages(talk)[1].id, "ONE!")
        talk.say(user("two"))
        assert said(server) == ["one", "ONE!", "two"]

    def test_a_result_edited_is_answered_with_the_other_results(self, server: OpenAIServer, talk: Talk) -> None:
        server.answer({"content": None, "tool_calls": [call("c1"), call("c2")]})
        talk.say(user("Look."), tools=TOOLS)
        talk.say(tool("c1", "rain"), tool("c2", "sun"), tools=TOOLS)
        talk.run("edit_message", "t", messages(talk)[2].id, "snow")
        talk.say(tools=TOOLS)
        assert [message["role"] for message in sent(server)] == ["user", "assistant", "tool", "tool"]
        assert {message["tool_call_id"]: message["content"] for message in sent(server)[2:]} == {
            "c1": "snow",
            "c2": "sun",
        }


class TestSelect:
    def test_the_chosen_answer_is_what_is_sent(self, server: OpenAIServer, talk: Talk) -> None:
        talk.say(user("hi"), n=3)
        answer = messages(talk)[1]
        talk.run("select_alternative", "t", answer.id, 1)
        talk.say(user("next"))
        assert said(server) == ["hi", "You said: hi (choice 3)", "next"]
        assert b"choice 2" not in server.requests[-1].raw
        talk.run("select_alternative", "t", answer.id, 1)
        talk.say(user("more"))
        assert said(server) == ["hi", "You said: hi", "next", "You said: next", "more"]

    def test_the_whole_list_with_the_chosen_answer_is_recognised(self, server: OpenAIServer, talk: Talk) -> None:
        talk.say(user("hi"), n=2)
        chosen = talk.run("select_alternative", "t", messages(talk)[1].id, 0)
        talk.say(user("hi"), chosen.wire, user("next"))
        assert talk.stored_contents() == ["hi", "You said: hi (choice 2)", "next", "You said: next"]
        assert talk.superseded() == []

    def test_calls_of_a_chosen_answer_are_run(self, server: OpenAIServer, talk: Talk) -> None:
        server.answer("No.", alternatives=[{"content": None, "tool_calls": [call("c1")]}])
        talk.say(user("Look."), n=2, tools=TOOLS)
        talk.run("select_alternative", "t", messages(talk)[1].id, 0)
        talk.say(tool("c1"), tools=TOOLS)
        assert [message["role"] for message in sent(server)] == ["user", "assistant", "tool"]


class TestTheResponsesAPI:
    def test_an_input_of_nothing_answers_again_and_answers_an_edit(
        self, server: OpenAIServer, client: Any, manager: HistoryManager
    ) -> None:
        create = client.responses.create
        create(model="gpt-4o", input="one", thread_id="t")
        create(model="gpt-4o", input="two", thread_id="t")
        (taken,) = manager.regenerate("t")
        assert taken.content == "You said: two"
        create(model="gpt-4o", input=[], thread_id="t")
        assert texts(server) == ["one", "You said: one", "two"]
        manager.edit_message("t", manager.get_messages("t")[0].id, "ONE")
        create(model="gpt-4o", input=[], thread_id="t")
        assert texts(server) == ["ONE"]
        assert [message.content for message in manager.get_messages("t")] == ["ONE", "You said: ONE"]

    def test_a_corrected_answer_is_sent_in_its_new_words(
        self, server: OpenAIServer, client: Any, manager: HistoryManager
    ) -> None:
        client.responses.create(model="gpt-4o", input="one", thread_id="t")
        manager.correct_message("t", manager.get_messages("t")[1].id, "ONE!")
        client.responses.create(model="gpt-4o", input="two", thread_id="t")
        assert texts(server) == ["one", "ONE!", "two"]


async def test_an_asynchronous_storage_does_all_of_it(server: OpenAIServer) -> None:
    from tests.openai.talking import async_sdk_client

    async with async_sdk_client(server) as original:
        client: Any = with_history(original, storage=AsyncMemoryStorage())
        create, manager = client.chat.completions.create, client.history
        await create(model="m", messages=[user("one")], n=2, thread_id="t")
        (question, answer) = await manager.get_messages("t")
        await manager.select_alternative("t", answer.id, 0)
        await manager.pin("t", question.id)
        await manager.regenerate("t")
        await create(model="m", messages=[], thread_id="t")
        await manager.edit_message("t", question.id, "ONE")
        await create(model="m", messages=[], thread_id="t")
        found = await manager.get_messages("t", include_superseded=True)
        assert [message.content for message in found if not message.superseded] == ["ONE", "You said: ONE"]
        assert [message.content for message in found if message.superseded] == [
            "one",
            "You said: one (choice 2)",
            "You said: one",
        ]
