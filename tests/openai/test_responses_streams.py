"""Streams of the Responses API: whatever ends one, what was said is kept, and the next call is valid."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import openai
import pydantic
import pytest
from openai import AsyncStream, Stream
from openai.lib.streaming.responses import AsyncResponseStream, ResponseStream

from memexllm import HistoryManager, history_of, with_history
from memexllm.testing.server import Answer, Drop, Failed, Gate, Hold, OpenAIServer, StreamError
from tests.openai.responding import FUNCTIONS, answered, function_call, items, kinds, reasoning, texts
from tests.openai.storages import CountingStorage
from tests.openai.surfaces import each, entered, got
from tests.openai.talking import BROKEN_STREAM, async_sdk_client, sdk_client

if TYPE_CHECKING:
    from collections.abc import Iterator

STORY = "Once upon a time there was a fox who learned to read."
WAYS = ("create", "stream", "async create", "async stream")


class LeftError(Exception):
    """What an application's loop raises."""


class Reader:
    """A client whose streams are read in one of four ways: to the end, or until `enough` says so of an event."""

    def __init__(self, way: str, client: Any, drive: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self.way = way
        self.client = client
        self.drive = drive
        self.stream: Any = None

    def read(
        self, text: Any = "Tell me a story", enough: Callable[[Any], bool] | None = None, **params: Any
    ) -> list[Any]:
        given = {"model": "gpt-4o", "input": text, "thread_id": "t", **params}
        events: list[Any] = self.drive(self._read(given, enough))
        return events

    def opened(self, given: dict[str, Any]) -> Any:
        responses = self.client.responses
        return responses.stream(**given) if self.way.endswith("stream") else responses.create(stream=True, **given)

    async def _read(self, given: dict[str, Any], enough: Callable[[Any], bool] | None) -> list[Any]:
        events = []
        begun = self.opened(given)
        async with entered(begun if self.way.endswith("stream") else await got(begun)) as self.stream:
            async for event in each(self.stream):
                events.append(event)
                if enough is not None and enough(event):
                    break
        return events


def driven(coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("a synchronous client's call waited for an event loop")


@pytest.fixture
def storage() -> CountingStorage:
    return CountingStorage()


@pytest.fixture
def manager(storage: CountingStorage) -> HistoryManager:
    return HistoryManager(storage)


@pytest.fixture(params=WAYS)
def reader(request: pytest.FixtureRequest, server: OpenAIServer, manager: HistoryManager) -> Iterator[Reader]:
    if not request.param.startswith("async"):
        with sdk_client(server) as plain:
            yield Reader(request.param, with_history(plain, history_manager=manager), driven)
        return
    with asyncio.Runner() as runner:
        async_plain = async_sdk_client(server)
        yield Reader(request.param, with_history(async_plain, history_manager=manager), runner.run)
        runner.run(async_plain.close())


def stored(manager: HistoryManager) -> list[tuple[str, str]]:
    if not manager.list_threads():
        return []
    return [(message.text, message.status) for message in manager.get_messages("t")]


def deltas(events: list[Any]) -> str:
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


def said_something(event: Any) -> bool:
    return bool(event.type == "response.output_text.delta")


class TestWhole:
    def test_the_stream_is_the_sdks_own(self, reader: Reader) -> None:
        reader.read()
        assert type(reader.stream) in (Stream, AsyncStream, ResponseStream, AsyncResponseStream)
        assert history_of(reader.stream).thread_id == "t"
        assert history_of(reader.stream).saved

    def test_it_is_one_write_before_the_last_event_is_handed_out(
        self, server: OpenAIServer, reader: Reader, manager: HistoryManager, storage: CountingStorage
    ) -> None:
        server.answer(STORY)
        seen: list[tuple[str, Any]] = []

        def note(event: Any) -> bool:
            seen.append((event.type, stored(manager)))
            return False

        reader.read(enough=note)
        whole = [("Tell me a story", "complete"), (STORY, "complete")]
        assert [(kind, at) for kind, at in seen if at] == [("response.completed", whole)]
        assert (storage.n_appends, storage.n_replaced) == (1, 0)

    def test_it_is_stored_as_the_same_answer_in_one_piece(
        self, server: OpenAIServer, reader: Reader, manager: HistoryManager
    ) -> None:
        output = [reasoning(id="rs_1"), {**answered("Wait."), "id": "msg_1"}, function_call("c1", id="fc_1")]
        server.plan(Answer(items=output), Answer(items=output))
        reader.read("Look", tools=FUNCTIONS)
        reader.drive(_ask(reader.client, "Look", "other"))
        streamed, whole = (manager.get_messages(thread_id)[-1] for thread_id in ("t", "other"))
        assert streamed.items == whole.items
        assert streamed.wire == whole.wire
        assert streamed.call is not None
        assert streamed.call.usage

    @pytest.mark.parametrize("reader", ["stream", "async stream"], indirect=True)
    def test_a_parsed_answer_is_kept_as_it_was_said(
        self, server: OpenAIServer, reader: Reader, manager: HistoryManager
    ) -> None:
        class City(pydantic.BaseModel):
            name: str

        server.plan('{"name": "Rome"}', "Yes.")
        reader.read("Which city?", text_format=City)
        reader.read("Really?")
        assert items(server)[1]["content"] == [{"type": "output_text", "text": '{"name": "Rome"}', "annotations": []}]

    def test_the_conversation_goes_on(self, server: OpenAIServer, reader: Reader) -> None:
        reader.read("My name is Ada.")
        assert deltas(reader.read("What is my name?")) == "Your name is Ada."


async def _ask(client: Any, text: str, thread_id: str) -> None:
    await got(client.responses.create(model="gpt-4o", input=text, thread_id=thread_id))


def _at_number(number: int, event: Any) -> bool:
    return bool(event.sequence_number >= number)


class TestInterrupted:
    def test_left_it_keeps_what_was_said(self, server: OpenAIServer, reader: Reader, manager: HistoryManager) -> None:
        server.answer(STORY)
        said = deltas(reader.read(enough=said_something))
        assert stored(manager) == [("Tell me a story", "complete"), (said, "incomplete")]
        assert said
        assert STORY.startswith(said)
        assert said != STORY

    def test_an_error_in_the_loop_keeps_what_was_said(
        self, server: OpenAIServer, reader: Reader, manager: HistoryManager
    ) -> None:
        server.answer(STORY)

        def fall_over(event: Any) -> bool:
            if said_something(event):
                raise LeftError
            return False

        with pytest.raises(LeftError):
            reader.read(enough=fall_over)
        (_, question_status), (said, status) = stored(manager)
        assert (question_status, status) == ("complete", "incomplete")
        assert STORY.startswith(said)

    def test_the_next_call_goes_on_after_it(self, server: OpenAIServer, reader: Reader) -> None:
        server.answer(STORY)
        said = deltas(reader.read(enough=said_something))
        reader.read("Go on.")
        assert texts(server) == ["Tell me a story", said, "Go on."]
        assert items(server)[1]["role"] == "assistant"

    def test_asked_again_it_is_superseded(self, server: OpenAIServer, reader: Reader, manager: HistoryManager) -> None:
        server.plan(STORY, STORY)
        reader.read(enough=said_something)
        reader.read()
        assert texts(server) == ["Tell me a story"]
        assert stored(manager) == [("Tell me a story", "complete"), (STORY, "complete")]

    @pytest.mark.parametrize("broken", [Drop, StreamError])
    def test_a_stream_that_breaks_keeps_what_was_said(
        self, server: OpenAIServer, reader: Reader, manager: HistoryManager, broken: Any
    ) -> None:
        server.plan(broken(after_chunks=7, answer=STORY))
        with suppress(*BROKEN_STREAM, RuntimeError):
            reader.read()
        (_, _), (said, status) = stored(manager)
        assert status == "incomplete"
        assert said
        assert STORY.startswith(said)
        reader.read("Go on.")
        assert texts(server) == ["Tell me a story", said, "Go on."]

    @pytest.mark.parametrize("n_events", [0, 1, 2, 3])
    def test_broken_before_it_says_anything_nothing_is_stored(
        self, server: OpenAIServer, reader: Reader, manager: HistoryManager, n_events: int
    ) -> None:
        server.plan(Drop(after_chunks=n_events, answer=STORY))
        with suppress(*BROKEN_STREAM):
            reader.read()
        assert stored(manager) == []

    def test_finished_items_are_kept_whole_and_unfinished_calls_are_not(
        self, server: OpenAIServer, reader: Reader, manager: HistoryManager
    ) -> None:
        output = [reasoning(id="rs_1", encrypted_content="gAAAAAx"), {**answered("Wait."), "id": "msg_1"}]
        output += [function_call("c1", '{"at":1}', id="fc_1"), function_call("c2", '{"at":2}', id="fc_2")]
        server.plan(Answer(items=output))

        def in_the_last(event: Any) -> bool:
            return bool(event.type == "response.function_call_arguments.delta" and event.output_index == 3)

        reader.read("Look", enough=in_the_last, tools=FUNCTIONS)
        answer = manager.get_messages("t")[-1]
        assert answer.status == "incomplete"
        assert [item.get("id") for item in answer.items or []] == ["rs_1", "msg_1", "fc_1"]
        reader.read("And?", tools=FUNCTIONS, model="o3")
        assert kinds(server) == ["user", "assistant", "user"]
        assert texts(server) == ["Look", "Wait.", "And?"]

    @pytest.mark.parametrize("store", [True, False])
    def test_left_anywhere_the_next_call_is_valid(self, server: OpenAIServer, reader: Reader, store: bool) -> None:
        """Encrypted reasoning or not, text, refusal, calls: the strict server refuses nothing that is sent."""
        output = [reasoning(), answered("Wait."), reasoning("Hm?"), function_call("c1", '{"at":1}')]
        for n_events in range(1, 40, 3):
            server.plan(Answer(items=output))
            enough = partial(_at_number, n_events)
            reader.read("Look", enough=enough, tools=FUNCTIONS, store=store, model="o4-mini")
            reader.read("Never mind.", store=store, model="o4-mini")
        assert {request.status for request in server.requests} == {200}

    def test_a_failed_response_stores_nothing(
        self, server: OpenAIServer, reader: Reader, manager: HistoryManager
    ) -> None:
        server.plan(Failed(answer=STORY))
        reader.read()
        assert stored(manager) == []

    def test_a_response_that_ran_out_of_tokens_is_whole(
        self, server: OpenAIServer, reader: Reader, manager: HistoryManager
    ) -> None:
        server.answer("Once", finish_reason="length")
        reader.read()
        assert stored(manager) == [("Tell me a story", "complete"), ("Once", "complete")]

    def test_read_on_after_the_next_call_it_replaces_its_partial(
        self, server: OpenAIServer, client: Any, manager: HistoryManager, storage: CountingStorage
    ) -> None:
        server.answer(STORY)
        stream = client.responses.create(model="gpt-4o", input="Tell me a story", stream=True, thread_id="t")
        said = ""
        while not said:
            event = next(stream)
            said += event.delta if said_something(event) else ""
        client.responses.create(model="gpt-4o", input="And you?", thread_id="t")
        assert texts(server) == ["Tell me a story", said, "And you?"]
        list(stream)
        assert [text for text, _ in stored(manager)] == ["Tell me a story", STORY, "And you?", "You said: And you?"]


async def test_a_cancelled_reader_keeps_what_was_said(server: OpenAIServer, manager: HistoryManager) -> None:
    with Gate() as gate:
        server.plan(Hold(gate, STORY, before_chunk=8))
        async with async_sdk_client(server) as plain:
            client: Any = with_history(plain, history_manager=manager)
            said: list[str] = []
            heard = asyncio.Event()

            async def read() -> None:
                async with client.responses.stream(model="gpt-4o", input="Go", thread_id="t") as stream:
                    async for event in stream:
                        if said_something(event):
                            said.append(event.delta)
                            heard.set()

            reading = asyncio.create_task(read())
            await heard.wait()
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
        assert stored(manager) == [("Go", "complete"), ("".join(said), "incomplete")]


def test_what_is_resumed_by_its_id_is_not_stored_again(
    server: OpenAIServer, client: Any, manager: HistoryManager
) -> None:
    with client.responses.stream(model="gpt-4o", input="one", thread_id="t") as stream:
        response = stream.get_final_response()
    # The local server streams nothing that it has stored.
    with suppress(openai.APIError), client.responses.stream(response_id=response.id) as stream:
        stream.until_done()
    assert [text for text, _ in stored(manager)] == ["one", "You said: one"]
