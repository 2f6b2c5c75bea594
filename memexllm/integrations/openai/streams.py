"""Streams stay the SDK's own; their iterator is replaced by one that listens.

A turn is stored when its stream is finished, before the last chunk is handed out. A stream that is left, closed,
cancelled or cut off keeps what it said as an `incomplete` answer; read on later, it replaces that in its place.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from memexllm.core.errors import HistoryWriteError
from memexllm.core.flow import Flow, Step, arun, in_step, run
from memexllm.core.wire import Status
from memexllm.integrations.openai.call import Call

_background: set[asyncio.Task[None]] = set()


class StreamRecorder:
    """Listens to one stream and stores its turn.

    The reader of the stream and the next call on the thread may both want to store what it said. Whoever comes second
    leaves the newer state with the first, who stores it as well: nobody waits, and the turn is there once.
    """

    def __init__(self, call: Call, request: Mapping[str, Any]) -> None:
        self.call = call
        self._said = call.surface.listener(request)
        self._n_stored = 0
        self._answer_id: str | None = None
        self._complete = False
        self._lock = threading.Lock()
        self._wanted: Status | None = None
        self._storing = False
        self._ending: asyncio.Task[None] | None = None
        call.outbox.watch(self)

    @property
    def thread_id(self) -> str:
        return self.call.thread_id

    def hear(self, chunk: Any) -> bool:
        """Whether the answer is complete with this chunk and has to be stored before it is handed out."""
        return self._said.add(chunk) and not self._complete

    def finish(self) -> Flow[None]:
        """Store the whole answer. What a server says after it replaces it when the stream ends."""
        self._complete = True
        yield from self._store("complete")
        self.call.leave()

    def interrupt(self) -> Flow[None]:
        """Store what was said so far; nothing when nothing was said, or nothing new."""
        ending = self._ending
        if ending is not None and not ending.done() and ending.get_loop() is _running_loop():
            # Whoever closed the stream, or calls again, has a right to find in the thread what it said.
            yield Step(asyncio.wait, ([ending],), blocking=False)
        yield from self._interrupted()

    def _interrupted(self) -> Flow[None]:
        try:
            if self._has_news:
                yield from self.finish() if self._said.finished else self._store("incomplete")
            elif self._answer_id is None:
                yield from self.call.withdraw()
        finally:
            self.call.leave()

    def end(self) -> None:
        """The stream was closed or its reader is gone: store what was said, with the next call when now is no time."""
        if not self._has_news and not self.call.under_way:
            return
        outbox = self.call.outbox
        if in_step():  # a finaliser can run in the middle of a storage's own work
            outbox.abandon(self)
        elif not outbox.port.asynchronous:
            run(self.interrupt())
        elif (loop := _running_loop()) is not None:
            task = self._ending = loop.create_task(arun(self._interrupted()))
            _background.add(task)
            task.add_done_callback(_background.discard)
        else:
            outbox.abandon(self)

    @property
    def _has_news(self) -> bool:
        return self._said.n_said > self._n_stored and self._said.said_something

    def raise_if_unsaved(self) -> None:
        """With `on_write_error="raise"`, after the last chunk: a failed write never takes a chunk from the caller."""
        error = self.call.info.error
        if error is not None and self.call.history.options.on_write_error == "raise":
            raise HistoryWriteError(f"thread {self.call.thread_id!r} could not be added to: {error}") from error

    def _store(self, status: Status) -> Flow[None]:
        with self._lock:
            self._wanted = status
            if self._storing:
                return
            self._storing = True
        try:
            while (wanted := self._next_wanted()) is not None:
                yield from self._store_once(wanted)
        finally:
            self._storing = False

    def _next_wanted(self) -> Status | None:
        with self._lock:
            wanted, self._wanted = self._wanted, None
            if wanted is None:
                self._storing = False
            return wanted

    def _store_once(self, status: Status) -> Flow[None]:
        self._n_stored = self._said.n_said
        answer = self._said.answer()
        if self._answer_id is None:
            turn = self.call.turn(answer, status)
            self._answer_id = self.call.info.message_ids[-1]
            yield from self.call.store(turn)
        else:
            yield from self.call.store(self.call.later_turn(answer, status, self._answer_id))


class ListeningIterator:
    """In the place of `Stream._iterator`.

    Each `for` gets an iterator of its own, which goes away when the loop is left: a `break` is noticed at once,
    although the stream itself stays alive in a reference cycle.
    """

    def __init__(self, inner: Iterator[Any], recorder: StreamRecorder) -> None:
        self._inner = inner
        self._recorder = recorder

    def __iter__(self) -> ListeningIterator:
        return ListeningIterator(self._inner, self._recorder)

    def __next__(self) -> Any:
        recorder = self._recorder
        try:
            chunk = next(self._inner)
        except StopIteration:
            run(recorder.interrupt())
            recorder.raise_if_unsaved()
            raise
        except BaseException:
            run(recorder.interrupt())
            raise
        if recorder.hear(chunk):
            run(recorder.finish())
        return chunk

    def close(self) -> None:
        close = getattr(self._inner, "close", None)
        if close is not None:
            close()
        self._recorder.end()

    def __del__(self) -> None:
        self._recorder.end()


class AsyncListeningIterator:
    """Async `ListeningIterator`.

    A class, not an async generator: one that is being read cannot be closed ("asynchronous generator is already
    running"), and its turn would be lost.
    """

    def __init__(self, inner: AsyncIterator[Any], recorder: StreamRecorder) -> None:
        self._inner = inner
        self._recorder = recorder

    def __aiter__(self) -> AsyncListeningIterator:
        return AsyncListeningIterator(self._inner, self._recorder)

    async def __anext__(self) -> Any:
        recorder = self._recorder
        try:
            chunk = await anext(self._inner)
        except StopAsyncIteration:
            await arun(recorder.interrupt())
            recorder.raise_if_unsaved()
            raise
        except BaseException:
            await arun(recorder.interrupt())
            raise
        if recorder.hear(chunk):
            await arun(recorder.finish())
        return chunk

    async def aclose(self) -> None:
        close = getattr(self._inner, "aclose", None)
        if close is not None:
            await close()
        await arun(self._recorder.interrupt())

    def __del__(self) -> None:
        self._recorder.end()


def listen(stream: Any, call: Call, request: Mapping[str, Any], *, asynchronous: bool) -> None:
    """Listen to the SDK stream of `request`. Its response is watched too: `.stream()` helpers close that one."""
    recorder = StreamRecorder(call, request)
    kind = AsyncListeningIterator if asynchronous else ListeningIterator
    stream._iterator = kind(stream._iterator, recorder)
    response = getattr(stream, "response", None)
    if response is not None:
        watch_close(response, recorder, asynchronous=asynchronous)


def watch_close(response: Any, recorder: StreamRecorder, *, asynchronous: bool) -> None:
    if asynchronous:
        inner_aclose = response.aclose

        async def aclose() -> None:
            try:
                await inner_aclose()
            finally:
                await arun(recorder.interrupt())

        response.aclose = aclose
        return
    inner_close = response.close

    def close() -> None:
        try:
            inner_close()
        finally:
            recorder.end()

    response.close = close


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
