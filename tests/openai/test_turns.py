"""`turn_id=`, `expected_version=`, `serialize=` and `journal=`: who may say what, and when it is kept."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import openai
import pytest

from memexllm import (
    ConcurrencyError,
    FIFOAlgorithm,
    HistoryManager,
    HistoryReadError,
    HistoryWriteError,
    MemoryStorage,
    history_of,
    with_history,
)
from memexllm.core.errors import OperationError, ValidationError
from memexllm.testing.server import Answer, Failed, Gate, Hold, ServerError
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
    from collections.abc import Callable, Sequence

    from memexllm.core.models import Message
    from memexllm.testing.server import OpenAIServer
    from tests.openai.responding import Respond


class TestTurns:
    def test_a_turn_that_is_said_again_is_there_once(self, talk: Talk, server: OpenAIServer) -> None:
        talk.say(user("Hello"))
        first = talk.say(user("What is two and two?"), turn_id="turn-2")
        again = talk.say(user("What is two and two?"), turn_id="turn-2")
        assert said(server)[:1] == ["Hello"]
        assert said(server).count("What is two and two?") == 1
        assert talk.stored_contents()[2:] == ["What is two and two?", again]
        assert talk.superseded() == ["What is two and two?", first]

    def test_without_a_turn_id_the_same_words_are_said_twice(self, talk: Talk) -> None:
        talk.say(user("yes"))
        talk.say(user("yes"))
        assert talk.stored_contents().count("yes") == 2

    def test_results_carry_on_the_turn_they_belong_to(self, talk: Talk, server: OpenAIServer) -> None:
        server.plan(Answer(calling("c1")))
        talk.say(user("Look."), turn_id="t1", tools=TOOLS)
        talk.say(tool("c1"), turn_id="t1", tools=TOOLS)
        assert [wire["role"] for wire in talk.stored()] == ["user", "assistant", "tool", "assistant"]
        assert talk.superseded() == []

    def test_a_long_turn_is_found_behind_the_window(self, talk: Talk, server: OpenAIServer) -> None:
        for number in range(130):
            server.plan(Answer(calling(f"c{number}")))
        talk.say(user("Begin."))
        talk.say(user("Look around."), turn_id="long", tools=TOOLS)
        for number in range(60):
            talk.say(tool(f"c{number + 1}"), turn_id="long", tools=TOOLS)
        talk.say(user("Look around."), turn_id="long", tools=TOOLS)
        assert talk.stored_contents().count("Look around.") == 1

    def test_one_said_again_late_leaves_later_turns_alone(self, talk: Talk, server: OpenAIServer) -> None:
        talk.say(user("first"), turn_id="t1")
        talk.say(user("second"), turn_id="t2")
        talk.run("add_message", "t", "A note.", "user")
        talk.say(user("first"), turn_id="t1")
        assert said(server) == ["second", "You said: second", "A note.", "first"]
        assert talk.stored_contents() == [*said(server), "You said: first"]
        assert talk.superseded() == ["first", "You said: first"]
        assert talk.info is not None
        assert [entry.preview for entry in talk.info.context.superseded] == ["first", "You said: first"]

    def test_one_said_again_late_is_found_behind_the_window(
        self, talking: Callable[..., Talk], server: OpenAIServer
    ) -> None:
        talk = talking(algorithm=FIFOAlgorithm(max_messages=3))
        talk.say(user("first"), turn_id="t1")
        pinned = talk.run("get_messages", "t")[0]
        talk.run("pin", "t", pinned.id)
        for number in range(5):
            talk.say(user(f"question {number}"), turn_id=f"later {number}")
        talk.say(user("first"), turn_id="t1")
        assert said(server) == ["question 4", "You said: question 4", "first"]
        assert talk.stored_contents().count("first") == 1
        assert talk.superseded() == ["first", "You said: first"]

    def test_a_long_turn_is_found_behind_a_pinned_message(
        self, talking: Callable[..., Talk], server: OpenAIServer
    ) -> None:
        talk = talking(algorithm=FIFOAlgorithm(max_messages=4))
        for number in range(12):
            server.plan(Answer(calling(f"c{number}")))
        talk.say(user("Begin."))
        talk.run("pin", "t", talk.run("get_messages", "t")[0].id)
        talk.say(user("Look around."), turn_id="long", tools=TOOLS)
        for number in range(9):
            talk.say(tool(f"c{number + 1}"), turn_id="long", tools=TOOLS)
        talk.say(user("Look around."), turn_id="long", tools=TOOLS)
        assert talk.stored_contents().count("Look around.") == 1

    @pytest.mark.parametrize("merge", ["auto", "append"])
    def test_it_is_there_once_whatever_is_compared(self, talk: Talk, server: OpenAIServer, merge: str) -> None:
        talk.say(user("Hello"), merge=merge)
        for _ in range(2):
            talk.say(user("What is two and two?"), turn_id="turn-2", merge=merge)
        assert talk.stored_contents().count("What is two and two?") == 1
        assert said(server) == ["Hello", "You said: Hello", "What is two and two?"]

    def test_an_answer_that_is_read_on_still_belongs_to_it(self, client: Any, server: OpenAIServer) -> None:
        server.answer("Once upon a time there was a fox.")
        stream = client.chat.completions.create(
            model="gpt-4o", messages=[user("Tell me a story")], thread_id="t", turn_id="t1", stream=True
        )
        for _ in range(3):
            next(stream)
        client.chat.completions.create(model="gpt-4o", messages=[user("Hello?")], thread_id="t", turn_id="t2")
        assert list(stream)
        assert [message.turn_id for message in client.history.get_messages("t")] == ["t1", "t1", "t2", "t2"]

    def test_its_messages_carry_it(self, talk: Talk) -> None:
        talk.say(system("Be brief."), user("Hello"), turn_id="turn-1")
        found: Sequence[Message] = talk.run("get_messages", "t")
        assert [message.turn_id for message in found] == [None, "turn-1", "turn-1"]

    @pytest.mark.parametrize("turn_id", ["", 5])
    def test_one_that_is_none_is_refused_before_the_request(
        self, talk: Talk, server: OpenAIServer, turn_id: Any
    ) -> None:
        with pytest.raises(ValidationError, match="turn_id"):
            talk.say(user("Hello"), turn_id=turn_id)
        assert server.requests == []


class TestExpectedVersions:
    def test_a_thread_that_is_at_another_version_is_refused_before_the_request(
        self, talk: Talk, server: OpenAIServer
    ) -> None:
        talk.say(user("Hello"))
        assert talk.info is not None
        version = talk.info.version
        talk.say(user("Somebody else"))
        n_requests = len(server.requests)
        with pytest.raises(ConcurrencyError, match="expected"):
            talk.say(user("What is my name?"), expected_version=version)
        assert len(server.requests) == n_requests

    def test_the_version_of_one_call_may_be_expected_by_the_next(self, talk: Talk) -> None:
        talk.say(user("Hello"), expected_version=0)
        for _ in range(3):
            assert talk.info is not None
            talk.say(user("Go on"), expected_version=talk.info.version)
        assert talk.info is not None
        assert talk.info.saved

    def test_an_answer_that_comes_too_late_is_handed_out_and_not_stored(self, server: OpenAIServer) -> None:
        manager = HistoryManager(MemoryStorage())
        client: Any = with_history(sdk_client(server), history_manager=manager)
        gate = Gate()
        server.plan(Hold(gate))
        answers: list[Any] = []

        def ask() -> None:
            message = user("What is my name?")
            answers.append(
                client.chat.completions.create(model="gpt-4o", messages=[message], thread_id="t", expected_version=0)
            )

        asking = threading.Thread(target=ask)
        asking.start()
        gate.wait_until_reached()
        manager.create_thread(thread_id="t")
        gate.open()
        asking.join()
        info = history_of(answers[0])
        assert isinstance(info.error, ConcurrencyError)
        assert not info.saved
        assert manager.get_messages("t") == []
        client.flush()
        assert manager.get_messages("t") == []


class TestOneAtATime:
    def test_calls_on_a_thread_wait_for_each_other(self, server: OpenAIServer) -> None:
        client: Any = with_history(sdk_client(server), storage=MemoryStorage(), serialize=True)

        def ask(number: int) -> None:
            client.chat.completions.create(model="gpt-4o", messages=[user(f"{number}")], thread_id="t")

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [len(request.messages) for request in server.chat_requests] == [1, 3, 5, 7, 9, 11, 13, 15]

    async def test_so_do_tasks_however_many(self, server: OpenAIServer) -> None:
        async with async_sdk_client(server) as original:
            client: Any = with_history(original, storage=MemoryStorage(), serialize=True)

            async def ask(number: int) -> None:
                await client.chat.completions.create(model="gpt-4o", messages=[user(f"{number}")], thread_id="t")

            await asyncio.gather(*(ask(number) for number in range(60)))
        assert [len(request.messages) for request in server.chat_requests] == list(range(1, 120, 2))

    def test_calls_on_other_threads_do_not_wait(self, server: OpenAIServer) -> None:
        client: Any = with_history(sdk_client(server), storage=MemoryStorage(), serialize=True)
        gate = Gate()
        server.plan(Hold(gate))

        def ask(thread_id: str) -> None:
            client.chat.completions.create(model="gpt-4o", messages=[user("Hello")], thread_id=thread_id)

        held = threading.Thread(target=ask, args=("a",))
        held.start()
        gate.wait_until_reached()
        ask("b")
        gate.open()
        held.join()
        assert len(server.chat_requests) == 2

    def test_past_a_stream_left_unread_a_storage_that_is_down_costs_nothing(self, server: OpenAIServer) -> None:
        storage = FailingStorage()
        with sdk_client(server) as original:
            client: Any = with_history(original, storage=storage, serialize=True)
            create = client.chat.completions.create
            stream = create(model="gpt-4o", messages=[user("Tell me a story")], stream=True, thread_id="t")
            for _ in range(3):
                next(stream)
            storage.failing_writes = -1
            with pytest.raises(HistoryReadError):
                create(model="gpt-4o", messages=[user("Never mind")], thread_id="t")
            assert len(server.requests) == 1
            storage.failing_writes = 0
            stream.close()
            create(model="gpt-4o", messages=[user("Never mind")], thread_id="t")
        assert said(server)[0] == "Tell me a story"

    def test_a_failed_call_lets_the_next_one_in(self, talk_one_at_a_time: Talk, server: OpenAIServer) -> None:
        server.plan(ServerError(500))
        with pytest.raises(openai.InternalServerError):
            talk_one_at_a_time.say(user("Hello"))
        talk_one_at_a_time.say(user("Hello again"))

    def test_a_stream_that_is_left_lets_the_same_caller_in(self, server: OpenAIServer) -> None:
        client: Any = with_history(sdk_client(server), storage=MemoryStorage(), serialize=True)
        server.plan(Answer("Once upon a time there was a very long story."))
        stream = client.chat.completions.create(
            model="gpt-4o", messages=[user("Tell me a story")], stream=True, thread_id="t"
        )
        for _ in range(3):
            next(stream)
        client.chat.completions.create(model="gpt-4o", messages=[user("Never mind")], thread_id="t")
        assert client.history.get_messages("t")[1].status == "incomplete"
        stream.close()

    async def test_one_who_gives_up_waiting_does_not_hold_up_the_rest(self, server: OpenAIServer) -> None:
        gate = Gate()
        server.plan(Hold(gate))
        async with async_sdk_client(server) as original:
            client: Any = with_history(original, storage=MemoryStorage(), serialize=True)

            async def ask(text: str) -> None:
                await client.chat.completions.create(model="gpt-4o", messages=[user(text)], thread_id="t")

            first = asyncio.create_task(ask("first"))
            await asyncio.to_thread(gate.wait_until_reached)
            second, third = asyncio.create_task(ask("second")), asyncio.create_task(ask("third"))
            await asyncio.sleep(0)
            second.cancel()
            gate.open()
            await asyncio.gather(first, third)
            with pytest.raises(asyncio.CancelledError):
                await second
        assert said(server)[0] == "first"
        assert said(server)[-1] == "third"


class TestJournals:
    def test_what_a_call_brings_is_there_before_its_answer(self, server: OpenAIServer) -> None:
        manager = HistoryManager(MemoryStorage())
        client: Any = with_history(sdk_client(server), history_manager=manager, journal=True)
        gate = Gate()
        server.plan(Hold(gate))

        def ask() -> None:
            client.chat.completions.create(model="gpt-4o", messages=[user("Hello")], thread_id="t")

        asking = threading.Thread(target=ask)
        asking.start()
        gate.wait_until_reached()
        written = manager.get_messages("t")
        assert [(message.content, message.status) for message in written] == [("Hello", "pending")]
        assert manager.context("t") == []
        gate.open()
        asking.join()
        assert [(message.role, message.status) for message in manager.get_messages("t")] == [
            ("user", "complete"),
            ("assistant", "complete"),
        ]

    def test_a_conversation_is_the_same_as_without(self, journaled_talk: Talk, server: OpenAIServer) -> None:
        journaled_talk.say(system("Be brief."), user("My name is Ada."))
        assert journaled_talk.say(user("What is my name?")).count("Ada") == 1
        assert [wire["role"] for wire in journaled_talk.stored()] == ["system", *["user", "assistant"] * 2]
        assert [wire["role"] for wire in sent(server)] == ["system", "user", "assistant", "user"]
        assert [message.status for message in journaled_talk.run("get_messages", "t")] == ["complete"] * 5

    def test_a_failed_request_leaves_the_conversation_as_it_was(
        self, journaled_talk: Talk, server: OpenAIServer
    ) -> None:
        journaled_talk.say(user("Hello"))
        before = journaled_talk.stored()
        server.plan(ServerError(400))
        with pytest.raises(openai.BadRequestError):
            journaled_talk.say(user("Hello again"))
        assert journaled_talk.stored() == before

    def test_a_response_that_failed_leaves_the_conversation_as_it_was(
        self, responding: Callable[..., Respond], server: OpenAIServer
    ) -> None:
        respond = responding(journal=True)
        respond.say("Hello")
        before = respond.stored()
        server.plan(Failed())
        respond.say("Hello again")
        assert respond.stored() == before

    @pytest.mark.parametrize("awaited", [False, True], ids=["sync", "awaitable"])
    def test_a_client_of_others_that_fails_leaves_the_conversation_as_it_was(self, awaited: bool) -> None:
        async def broken() -> Any:
            raise TimeoutError

        def create(**params: Any) -> Any:
            if awaited:
                return broken()
            raise TimeoutError

        manager = HistoryManager(MemoryStorage())
        other = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))
        client: Any = with_history(other, history_manager=manager, journal=True)

        async def ask() -> None:
            found = client.chat.completions.create(model="m", messages=[user("Hello")], thread_id="t")
            if awaited:
                await found

        with pytest.raises(TimeoutError):
            asyncio.run(ask())
        assert manager.get_messages("t") == []

    async def test_a_call_cancelled_anywhere_leaves_the_conversation_as_it_was(self, server: OpenAIServer) -> None:
        statuses: set[str] = set()
        async with async_sdk_client(server) as original:
            for n_turns_of_the_loop in range(12):
                client: Any = with_history(original, storage=AsyncMemoryStorage(), journal=True)
                await client.history.create_thread(thread_id="t")
                asking = asyncio.create_task(
                    client.chat.completions.create(model="gpt-4o", messages=[user("Hello")], thread_id="t")
                )
                for _ in range(n_turns_of_the_loop):
                    await asyncio.sleep(0)
                asking.cancel()
                with suppress(asyncio.CancelledError):
                    await asking
                statuses.update(message.status for message in await client.history.get_messages("t"))
        assert statuses <= {"complete"}

    def test_versions_can_be_expected_all_the_same(self, journaled_talk: Talk) -> None:
        journaled_talk.say(user("Hello"), expected_version=0)
        assert journaled_talk.info is not None
        journaled_talk.say(user("Go on"), expected_version=journaled_talk.info.version)
        assert journaled_talk.info.saved

    def test_another_version_is_told_as_such_when_it_comes_while_writing_down(self, server: OpenAIServer) -> None:
        class Overtaken(MemoryStorage):
            """Somebody else writes after the read of a call."""

            def append_messages(self, thread_id: str, messages: Sequence[Message], **changes: Any) -> int:
                if changes.get("expected_version") is not None:
                    super().append_messages(thread_id, [], create={})
                return super().append_messages(thread_id, messages, **changes)

        client: Any = with_history(sdk_client(server), storage=Overtaken(), journal=True)
        with pytest.raises(ConcurrencyError):
            client.chat.completions.create(model="gpt-4o", messages=[user("Hello")], thread_id="t", expected_version=0)
        assert server.requests == []

    @pytest.mark.parametrize("streamed", [False, True])
    def test_an_answer_that_comes_too_late_leaves_nothing_written_down(
        self, server: OpenAIServer, *, streamed: bool
    ) -> None:
        class Overtaken(MemoryStorage):
            """Somebody else writes while an answer is on its way."""

            def append_messages(self, thread_id: str, messages: Sequence[Message], **changes: Any) -> int:
                if changes.get("supersede") and "expected_version" in changes:
                    super().append_messages(thread_id, [])
                return super().append_messages(thread_id, messages, **changes)

        with sdk_client(server) as original:
            client: Any = with_history(original, storage=Overtaken(), journal=True)
            answer = client.chat.completions.create(
                model="gpt-4o", messages=[user("Hello")], thread_id="t", expected_version=0, stream=streamed
            )
            if streamed:
                list(answer)
        assert isinstance(history_of(answer).error, ConcurrencyError)
        assert client.history.get_messages("t") == []

    def test_a_storage_that_cannot_write_is_told_before_the_request(self, server: OpenAIServer) -> None:
        class Full(MemoryStorage):
            def append_messages(self, *args: Any, **kwargs: Any) -> int:
                raise OperationError("the disk is full")

        client: Any = with_history(sdk_client(server), storage=Full(), journal=True)
        with pytest.raises(HistoryWriteError, match="the disk is full"):
            client.chat.completions.create(model="gpt-4o", messages=[user("Hello")], thread_id="t")
        assert server.requests == []

    def test_what_a_crash_left_is_no_history(self, server: OpenAIServer) -> None:
        storage = MemoryStorage()
        client: Any = with_history(sdk_client(server), storage=storage)
        client.chat.completions.create(model="gpt-4o", messages=[user("Hello")], thread_id="t")
        crash(storage, user("Are you there?"))
        client.chat.completions.create(model="gpt-4o", messages=[user("Hello again")], thread_id="t")
        assert "Are you there?" not in said(server)

    def test_what_a_crash_left_takes_no_room_in_the_window(self, server: OpenAIServer) -> None:
        storage = MemoryStorage()
        client: Any = with_history(sdk_client(server), storage=storage, algorithm=FIFOAlgorithm(max_messages=3))
        client.chat.completions.create(model="gpt-4o", messages=[user("Hello")], thread_id="t")
        crash(storage, *[user("Are you there?")] * 4)
        client.chat.completions.create(model="gpt-4o", messages=[user("Hello again")], thread_id="t")
        assert said(server) == ["Hello", "You said: Hello", "Hello again"]

    def test_what_a_crash_left_does_not_open_a_window(self, server: OpenAIServer) -> None:
        storage = MemoryStorage()
        client: Any = with_history(sdk_client(server), storage=storage, algorithm=FIFOAlgorithm(max_messages=2))
        server.plan(*(Answer(calling(f"c{number}")) for number in range(4)))
        ask = partial(client.chat.completions.create, model="gpt-4o", tools=TOOLS, thread_id="t")
        ask(messages=[user("Look around.")])
        left = [{"id": "x", "created_at": 0, "wire": user("Are you there?"), "status": "pending"}]
        storage.append_messages("t", left)  # type: ignore[arg-type]  # rows, as the library writes them
        for number in range(4):
            ask(messages=[tool(f"c{number}")])
        assert said(server)[0] == "Look around."

    def test_what_a_crash_left_does_not_hide_an_edit(self, server: OpenAIServer) -> None:
        storage = MemoryStorage()
        left = [{"id": "x", "created_at": 0, "wire": user("Are you there?"), "status": "pending"}]
        storage.append_messages("t", left, create={})  # type: ignore[arg-type]  # rows, as the library writes them
        client: Any = with_history(sdk_client(server), storage=storage, algorithm=FIFOAlgorithm(max_messages=2))
        conversation = [user("one"), assistant("You said: one"), user("two"), assistant("You said: two"), user("three")]
        ask = partial(client.chat.completions.create, model="gpt-4o", thread_id="t")
        for index in (1, 3, 5):
            ask(messages=conversation[:index])
        ask(messages=[*conversation[:2], user("other")])
        assert [message.content for message in client.history.get_messages("t")][1:] == [
            "one",
            "You said: one",
            "other",
            "You said: other",
        ]

    def test_what_a_crash_left_is_not_what_is_answered_again(self, server: OpenAIServer) -> None:
        storage = MemoryStorage()
        client: Any = with_history(sdk_client(server), storage=storage)
        client.chat.completions.create(model="gpt-4o", messages=[user("Hello")], thread_id="t")
        crash(storage, user("Are you there?"))
        (taken,) = client.history.regenerate("t")[:1]
        assert taken.content == "You said: Hello"
        client.chat.completions.create(model="gpt-4o", messages=[], thread_id="t")
        assert said(server) == ["Hello"]

    def test_what_a_crash_left_is_picked_up_by_saying_it_anew(self, server: OpenAIServer) -> None:
        storage = MemoryStorage()
        client: Any = with_history(sdk_client(server), storage=storage)
        client.chat.completions.create(model="gpt-4o", messages=[user("Hello")], thread_id="t")
        crash(storage, user("Are you there?"))
        left = client.history.get_messages("t")[-1]
        client.history.edit_message("t", left.id, left.content)
        client.chat.completions.create(model="gpt-4o", messages=[], thread_id="t")
        assert said(server) == ["Hello", "You said: Hello", "Are you there?"]
        assert [message.status for message in client.history.get_messages("t")] == ["complete"] * 4


def crash(storage: MemoryStorage, *wires: dict[str, Any]) -> None:
    """What a process leaves behind that ends while its request is under way."""
    rows = [
        {"id": f"{wire['content']}{n}", "created_at": 0, "wire": wire, "status": "pending"}
        for n, wire in enumerate(wires)
    ]
    storage.append_messages("t", rows)  # type: ignore[arg-type]  # rows, as the library writes them


@pytest.fixture
def talk_one_at_a_time(server: OpenAIServer) -> Talk:
    return Talk("sync", sdk_client(server), None, storage=MemoryStorage(), serialize=True)


@pytest.fixture(params=["sync", "sync stream"])
def journaled_talk(request: pytest.FixtureRequest, server: OpenAIServer) -> Talk:
    return Talk(request.param, sdk_client(server), None, storage=MemoryStorage(), journal=True)
