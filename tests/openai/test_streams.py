"""Streams stay the SDK's own, and what they said is stored however they end."""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai import AsyncStream, Stream

from memexllm import HistoryManager, history_of, with_history
from memexllm.testing.server import Answer, Drop, Gate, Hold, OpenAIServer, StreamError
from tests.openai.storages import AsyncMemoryStorage, CollectingStorage, CountingStorage
from tests.openai.talking import BROKEN_STREAM, async_sdk_client, call, said, sdk_client, sent, user

if TYPE_CHECKING:
    from collections.abc import Iterator

STORY = "Once upon a time there was a fox who learned to read."


def begin(client: Any, text: str = "Tell me a story", **params: Any) -> Any:
    kwargs: dict[str, Any] = {"model": "gpt-4o", "messages": [user(text)], "stream": True, "thread_id": "t", **params}
    return client.chat.completions.create(**kwargs)


def say(client: Any, text: str, **params: Any) -> Any:
    return client.chat.completions.create(**{"model": "gpt-4o", "messages": [user(text)], "thread_id": "t", **params})


def read_some(stream: Any, n_chunks: int = 4) -> str:
    return "".join(next(stream).choices[0].delta.content or "" for _ in range(n_chunks))


async def aread_some(stream: Any, n_chunks: int = 4) -> str:
    return "".join([(await anext(stream)).choices[0].delta.content or "" for _ in range(n_chunks)])


def hear(stream: Any, heard: list[str]) -> None:
    heard.extend(chunk.choices[0].delta.content or "" for chunk in stream)


async def ahear(stream: Any, heard: list[str]) -> None:
    async for chunk in stream:
        text = chunk.choices[0].delta.content or ""
        heard.append(text)


def stored(manager: HistoryManager) -> list[tuple[Any, str]]:
    if not manager.list_threads():
        return []
    return [(message.content, message.status) for message in manager.get_messages("t")]


def partial_of(manager: HistoryManager, text: str) -> None:
    """The thread holds the question and `text`, once."""
    assert text
    assert STORY.startswith(text)
    assert stored(manager) == [("Tell me a story", "complete"), (text, "incomplete")]


@pytest.fixture(autouse=True)
def _story(server: OpenAIServer) -> None:
    server.answer(STORY)


class TestSync:
    def test_the_stream_is_the_sdks_own(self, client: Any) -> None:
        with begin(client) as stream:
            assert type(stream) is Stream
            assert history_of(stream).thread_id == "t"
            assert not history_of(stream).saved
            list(stream)
            assert history_of(stream).saved

    def test_it_is_stored_before_its_last_chunk_is_handed_out(self, client: Any, manager: HistoryManager) -> None:
        with begin(client) as stream:
            while not next(stream).choices[0].finish_reason:
                assert stored(manager) == []
            assert stored(manager) == [("Tell me a story", "complete"), (STORY, "complete")]
            assert history_of(stream).saved

    def test_with_usage_asked_for_it_is_stored_with_the_usage(self, client: Any, manager: HistoryManager) -> None:
        with begin(client, stream_options={"include_usage": True}) as stream:
            for chunk in stream:
                if chunk.usage:
                    break
        message = manager.get_messages("t")[-1]
        assert message.content == STORY
        assert message.call
        assert message.call.usage
        assert message.call.usage["completion_tokens"]

    def test_with_usage_asked_for_and_left_before_it_the_answer_is_complete(
        self, client: Any, manager: HistoryManager
    ) -> None:
        with begin(client, stream_options={"include_usage": True}) as stream:
            for chunk in stream:
                if chunk.choices[0].finish_reason:
                    break
        assert stored(manager) == [("Tell me a story", "complete"), (STORY, "complete")]

    def test_one_write_for_a_whole_stream(self, server: OpenAIServer) -> None:
        storage = CountingStorage()
        with sdk_client(server) as original:
            list(begin(with_history(original, storage=storage)))
        assert (storage.n_appends, storage.n_replaced) == (1, 0)

    def test_a_loop_that_is_left_keeps_what_was_said(self, client: Any, manager: HistoryManager) -> None:
        stream = begin(client)
        said_so_far = ""
        for chunk in stream:
            said_so_far += chunk.choices[0].delta.content or ""
            if len(said_so_far) > 8:
                break
        partial_of(manager, said_so_far)
        stream.close()
        partial_of(manager, said_so_far)

    @pytest.mark.parametrize("closing", ["stream", "response", "with"])
    def test_closed_early_it_keeps_what_was_said(self, client: Any, manager: HistoryManager, closing: str) -> None:
        stream = begin(client)
        text = read_some(stream)
        if closing == "with":
            with stream:
                pass
        else:
            (stream if closing == "stream" else stream.response).close()
        partial_of(manager, text)

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
    def test_an_error_in_the_loop_keeps_what_was_said(
        self, client: Any, manager: HistoryManager, error: type[BaseException]
    ) -> None:
        heard: list[str] = []

        def read() -> None:
            with begin(client) as stream:
                heard.append(read_some(stream))
                raise error

        with pytest.raises(error):
            read()
        partial_of(manager, heard[0])

    def test_collected_as_garbage_it_keeps_what_was_said(self, client: Any, manager: HistoryManager) -> None:
        stream = begin(client)
        text = read_some(stream)
        response = stream.response
        del stream
        gc.collect()
        partial_of(manager, text)
        response.close()

    def test_left_while_its_frame_lives_it_is_stored_by_the_next_call(
        self, server: OpenAIServer, client: Any, manager: HistoryManager
    ) -> None:
        stream = begin(client)
        text = read_some(stream)
        assert stored(manager) == []
        say(client, "and then?")
        assert said(server) == ["Tell me a story", text, "and then?"]
        assert manager.get_messages("t")[-1].call.repairs is None  # type: ignore[union-attr]  # an answer has one
        stream.close()
        assert [text for text, _ in stored(manager)] == ["Tell me a story", text, "and then?", "You said: and then?"]

    def test_read_on_after_the_next_call_it_replaces_its_partial_in_place(
        self, client: Any, manager: HistoryManager
    ) -> None:
        with begin(client) as stream:
            read_some(stream)
            say(client, "and then?")
            ids = [message.id for message in manager.get_messages("t")]
            for _ in stream:
                pass
        assert stored(manager) == [
            ("Tell me a story", "complete"),
            (STORY, "complete"),
            ("and then?", "complete"),
            ("You said: and then?", "complete"),
        ]
        assert [message.id for message in manager.get_messages("t")] == ids

    def test_read_a_little_further_the_call_after_sends_all_of_it(self, server: OpenAIServer, client: Any) -> None:
        with begin(client) as stream:
            first = read_some(stream)
            say(client, "and then?")
            more = read_some(stream, 2)
            say(client, "go on")
            assert said(server)[:2] == ["Tell me a story", first + more]

    def test_a_dropped_line_keeps_what_was_said(
        self, server: OpenAIServer, client: Any, manager: HistoryManager
    ) -> None:
        server.clear()
        server.plan(Drop(after_chunks=4, answer=STORY))
        stream = begin(client)
        heard: list[str] = []
        with pytest.raises(BROKEN_STREAM):
            hear(stream, heard)
        partial_of(manager, "".join(heard))

    def test_an_error_in_the_stream_keeps_what_was_said(
        self, server: OpenAIServer, client: Any, manager: HistoryManager
    ) -> None:
        server.clear()
        server.plan(StreamError(after_chunks=4, answer=STORY))
        stream = begin(client)
        heard: list[str] = []
        with pytest.raises(openai.APIError):
            hear(stream, heard)
        partial_of(manager, "".join(heard))

    def test_broken_before_anything_was_said_nothing_is_stored(
        self, server: OpenAIServer, client: Any, manager: HistoryManager
    ) -> None:
        server.clear()
        server.plan(Drop(after_chunks=0, answer=STORY), Drop(after_chunks=1, answer=STORY), StreamError(after_chunks=1))
        for _ in range(3):
            with pytest.raises(BROKEN_STREAM), begin(client) as stream:
                list(stream)
        assert stored(manager) == []

    def test_a_stream_that_ends_without_done_is_complete_when_it_said_so(
        self, server: OpenAIServer, client: Any, manager: HistoryManager
    ) -> None:
        server.clear()
        server.plan(Answer(STORY, done=False))
        list(begin(client))
        assert stored(manager)[-1] == (STORY, "complete")

    def test_unfinished_tool_calls_are_not_replayed(
        self, server: OpenAIServer, client: Any, manager: HistoryManager
    ) -> None:
        server.clear()
        server.answer({"content": "Let me look.", "tool_calls": [call("c1", arguments='{"city": "Oslo, Norway"}')]})
        stream = begin(client)
        for chunk in stream:
            if chunk.choices[0].delta.tool_calls:
                break
        stream.close()
        assert manager.get_messages("t")[-1].tool_calls
        say(client, "never mind")
        assert sent(server)[1] == {"role": "assistant", "content": "Let me look."}
        assert said(server) == ["Tell me a story", "Let me look.", "never mind"]

    def test_a_partial_of_nothing_but_tool_calls_is_left_out(self, server: OpenAIServer, client: Any) -> None:
        server.clear()
        server.answer({"content": None, "tool_calls": [call("c1", arguments='{"city": "Oslo, Norway"}')]})
        stream = begin(client)
        for chunk in stream:
            if chunk.choices[0].delta.tool_calls:
                break
        stream.close()
        say(client, "never mind")
        assert said(server) == ["Tell me a story", "never mind"]

    def test_abandoned_in_the_middle_of_a_write_it_waits_for_the_next_one(self, server: OpenAIServer) -> None:
        storage = CollectingStorage()
        manager = HistoryManager(storage)
        with sdk_client(server) as original:
            client: Any = with_history(original, history_manager=manager)
            gc.disable()
            try:
                stream = begin(client)
                text = read_some(stream)
                del stream
                say(client, "elsewhere", thread_id="other")
            finally:
                gc.enable()
            assert storage.deepest_write == 1
            assert [thread.id for thread in manager.list_threads()] == ["other"]
            client.flush()
            partial_of(manager, text)

    def test_abandoned_in_the_middle_of_a_write_it_outlives_its_client(self, server: OpenAIServer) -> None:
        storage = CollectingStorage()
        with sdk_client(server) as original:
            client: Any = with_history(original, storage=storage)
            gc.disable()
            try:
                stream = begin(client)
                text = read_some(stream)
                del stream
                say(client, "elsewhere", thread_id="other")
            finally:
                gc.enable()
            del client
            gc.collect()
            client = with_history(original, storage=storage)
            client.flush()
            partial_of(client.history, text)

    def test_finished_streams_leave_nothing_behind(self, server: OpenAIServer, client: Any) -> None:
        def tracked() -> int:
            gc.collect()
            return len(gc.get_objects())

        for warm_up in range(20):
            list(begin(client, thread_id=f"warm {warm_up}"))
        client.history.storage._logs.clear()
        server.clear()
        before = tracked()
        for number in range(100):
            list(begin(client, thread_id=f"thread {number}"))
        client.history.storage._logs.clear()
        server.clear()
        assert tracked() - before < 100


class TestAsync:
    async def test_the_stream_is_the_sdks_own(self, async_client: Any) -> None:
        async with await begin(async_client) as stream:
            assert type(stream) is AsyncStream
            assert history_of(stream).thread_id == "t"
            async for _ in stream:
                pass
            assert history_of(stream).saved

    async def test_it_is_stored_before_its_last_chunk_is_handed_out(
        self, async_client: Any, manager: HistoryManager
    ) -> None:
        async with await begin(async_client) as stream:
            while not (await anext(stream)).choices[0].finish_reason:
                assert stored(manager) == []
            assert stored(manager) == [("Tell me a story", "complete"), (STORY, "complete")]

    @pytest.mark.parametrize("closing", ["stream", "response", "with"])
    async def test_closed_early_it_keeps_what_was_said(
        self, async_client: Any, manager: HistoryManager, closing: str
    ) -> None:
        stream = await begin(async_client)
        text = await aread_some(stream)
        if closing == "with":
            async with stream:
                pass
        elif closing == "stream":
            await stream.close()
        else:
            await stream.response.aclose()
        partial_of(manager, text)

    @pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError])
    async def test_an_error_in_the_loop_keeps_what_was_said(
        self, async_client: Any, manager: HistoryManager, error: type[BaseException]
    ) -> None:
        heard: list[str] = []

        async def read() -> None:
            async with await begin(async_client) as stream:
                heard.append(await aread_some(stream))
                raise error

        with pytest.raises(error):
            await read()
        partial_of(manager, heard[0])

    async def test_a_cancelled_task_keeps_what_was_said(
        self, server: OpenAIServer, async_client: Any, manager: HistoryManager
    ) -> None:
        server.clear()
        gate, heard, waiting = Gate(), list[str](), asyncio.Event()
        server.plan(Hold(gate, STORY, before_chunk=4))

        async def read() -> None:
            async for chunk in await begin(async_client):
                heard.append(chunk.choices[0].delta.content or "")
                if len(heard) == 4:
                    waiting.set()

        with gate:
            task = asyncio.create_task(read())
            await waiting.wait()
            await asyncio.to_thread(gate.wait_until_reached)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        partial_of(manager, "".join(heard))

    async def test_a_timeout_keeps_what_was_said(
        self, server: OpenAIServer, async_client: Any, manager: HistoryManager
    ) -> None:
        server.clear()
        gate, heard = Gate(), list[str]()
        server.plan(Hold(gate, STORY, before_chunk=4))
        with gate:
            stream = await begin(async_client)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ahear(stream, heard), 0.3)
        partial_of(manager, "".join(heard))
        await stream.close()

    async def test_cancelled_before_the_answer_nothing_is_stored(
        self, server: OpenAIServer, async_client: Any, manager: HistoryManager
    ) -> None:
        server.clear()
        with Gate() as gate:
            server.plan(Hold(gate, STORY))
            task = asyncio.create_task(begin(async_client))
            await asyncio.to_thread(gate.wait_until_reached)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert stored(manager) == []

    async def test_left_while_its_frame_lives_it_is_stored_by_the_next_call(
        self, server: OpenAIServer, async_client: Any, manager: HistoryManager
    ) -> None:
        stream = await begin(async_client)
        text = await aread_some(stream)
        await say(async_client, "and then?")
        assert said(server) == ["Tell me a story", text, "and then?"]
        async for _ in stream:
            pass
        assert [text for text, _ in stored(manager)] == ["Tell me a story", STORY, "and then?", "You said: and then?"]

    async def test_a_dropped_line_keeps_what_was_said(
        self, server: OpenAIServer, async_client: Any, manager: HistoryManager
    ) -> None:
        server.clear()
        server.plan(Drop(after_chunks=4, answer=STORY), StreamError(after_chunks=4, answer=STORY))
        for _ in range(2):
            heard: list[str] = []
            stream = await begin(async_client)
            with pytest.raises(BROKEN_STREAM):
                await ahear(stream, heard)
            partial_of(manager, "".join(heard))

    async def test_collected_as_garbage_it_keeps_what_was_said(
        self, async_client: Any, manager: HistoryManager
    ) -> None:
        stream = await begin(async_client)
        text = await aread_some(stream)
        response = stream.response
        del stream
        gc.collect()
        partial_of(manager, text)
        await response.aclose()


class TestAsyncStorage:
    async def test_collected_as_garbage_it_is_stored_by_the_next_call(self, server: OpenAIServer) -> None:
        async with async_sdk_client(server) as original:
            client = with_history(original, storage=AsyncMemoryStorage())
            stream = await begin(client)
            text = await aread_some(stream)
            response = stream.response
            del stream
            gc.collect()
            await say(client, "and then?")
            assert said(server) == ["Tell me a story", text, "and then?"]
            await response.aclose()

    @pytest.mark.parametrize("closing", [False, True])
    async def test_what_a_left_stream_is_storing_is_waited_for(self, server: OpenAIServer, *, closing: bool) -> None:
        storage = AsyncMemoryStorage()
        async with async_sdk_client(server) as original:
            client = with_history(original, storage=storage)
            stream = await begin(client)
            text = await aread_some(stream)
            storage.may_write.clear()
            async for _ in stream:
                break
            await storage.writing.wait()
            next_one = asyncio.create_task(stream.close() if closing else say(client, "and then?"))
            for _ in range(20):
                await asyncio.sleep(0)
            assert not next_one.done()
            storage.may_write.set()
            await next_one
            thread = storage.inner.get_thread("t")
            assert thread
            assert (thread.messages[1].content or "").startswith(text)
            assert closing or said(server) == [*(message.content for message in thread.messages[:2]), "and then?"]

    def test_collected_after_its_loop_has_ended_it_is_stored_by_flush(self, server: OpenAIServer) -> None:
        storage = AsyncMemoryStorage()
        original = async_sdk_client(server)
        client: Any = with_history(original, storage=storage)
        held: list[Any] = []

        async def leave_it() -> str:
            held.append(await begin(client))
            return await aread_some(held[0])

        with asyncio.Runner() as runner:
            text = runner.run(leave_it())
            response = held[0].response
            held.clear()
            gc.collect()
            runner.run(client.flush())
            runner.run(response.aclose())
            runner.run(original.close())
        thread = storage.inner.get_thread("t")
        assert thread
        assert [message.content for message in thread.messages] == ["Tell me a story", text]

    def test_collected_together_with_its_client_it_is_stored_by_the_next_one(self, server: OpenAIServer) -> None:
        storage = AsyncMemoryStorage()

        async def leave_it(original: Any) -> tuple[Any, str]:
            stream = await begin(with_history(original, storage=storage))
            return stream, await aread_some(stream)

        with asyncio.Runner() as first, asyncio.Runner() as second:
            original = async_sdk_client(server)
            stream, text = first.run(leave_it(original))
            del stream
            gc.collect()
            other = async_sdk_client(server)
            second.run(with_history(other, storage=storage).flush())
            thread = storage.inner.get_thread("t")
            second.run(other.close())
            first.run(original.close())
        assert thread
        assert [message.content for message in thread.messages] == ["Tell me a story", text]

    @pytest.mark.parametrize("streamed", [False, True])
    async def test_cancelled_in_the_middle_of_its_write_the_call_is_stored_whole(
        self, server: OpenAIServer, *, streamed: bool
    ) -> None:
        storage = AsyncMemoryStorage()
        storage.may_write.clear()
        async with async_sdk_client(server) as original:
            client = with_history(original, storage=storage)

            async def talk() -> None:
                answer: Any = await begin(client, stream=streamed)
                if streamed:
                    async for _ in answer:
                        pass

            task = asyncio.create_task(talk())
            await storage.writing.wait()
            task.cancel()
            storage.may_write.set()
            with pytest.raises(asyncio.CancelledError):
                await task
            thread = storage.inner.get_thread("t")
            assert thread
            assert [message.content for message in thread.messages] == ["Tell me a story", STORY]


def test_reading_every_chunk_loses_none(client: Any) -> None:
    with begin(client) as stream:
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == STORY


@pytest.fixture(autouse=True)
def _no_garbage() -> Iterator[None]:
    yield
    with suppress(ReferenceError):
        gc.collect()
