"""`FactExtraction`: what a user says that is worth keeping becomes long-term memory, behind the conversation's back."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Hashable
from contextvars import Context
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Any, Self

from memexllm.core.errors import ConfigurationError, MemexLLMError, ValidationError
from memexllm.core.flow import Flow, arun, run
from memexllm.core.models import Message
from memexllm.core.plugins import Plugin
from memexllm.memory._extracting import (
    PROMPT,
    FailedError,
    Keeper,
    Owner,
    as_extractor,
    asked,
    is_answer,
    turn_of,
    turns,
)
from memexllm.memory._lanes import Lanes
from memexllm.memory.manager import AsyncMemoryManager, MemoryManager
from memexllm.storage.port import StoragePort

logger = logging.getLogger("memexllm.memory.extraction")

_INTAKE: Hashable = ("intake",)
_LINGER_S = 10.0
"""How long a thread waits for the next turn: a conversation comes back to it."""


@dataclass(frozen=True)
class ExtractionCounts:
    """What an extraction has done since it was made.

    `turns` that an extractor answered for, the `facts` that were new and those `updated`; turns that `failed`, and
    those `dropped` because too many waited.
    """

    turns: int = 0
    facts: int = 0
    updated: int = 0
    failed: int = 0
    dropped: int = 0


class _Extraction(Plugin):
    _asynchronous = False

    def __init__(
        self,
        memory: Any,
        extractor: Any,
        *,
        model: str | None = None,
        prompt: str = PROMPT,
        known: int = 10,
        timeout_s: float = 30.0,
        at_once: int = 4,
        max_waiting: int = 1000,
    ) -> None:
        wanted = AsyncMemoryManager if self._asynchronous else MemoryManager
        if not isinstance(memory, wanted):
            raise ConfigurationError(
                f"{type(self).__name__} keeps facts in a {wanted.__name__}; got {type(memory).__name__}"
            )
        for name, value, least in (("known", known, 0), ("at_once", at_once, 1), ("max_waiting", max_waiting, 1)):
            if value < least:
                raise ValidationError(f"{name} is a number from {least} on; got {value!r}")
        if not timeout_s > 0:
            raise ValidationError(f"timeout_s is how long an extractor may take, more than 0; got {timeout_s!r}")
        self.memory = memory
        self.known = known
        self.timeout_s = timeout_s
        self._extractor = as_extractor(extractor, model, prompt, asynchronous=self._asynchronous)
        self._keeper = Keeper(memory, self._asynchronous)
        self._lanes = Lanes(at_once, max_waiting, self._start)
        self._port: StoragePort | None = None
        self._closed = False
        self._counting = threading.Lock()
        self._counts = ExtractionCounts()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def counts(self) -> ExtractionCounts:
        return self._counts

    @property
    def waiting(self) -> int:
        """Turns handed over that are not done."""
        return self._lanes.waiting

    def on_loaded(self, manager: Any) -> None:
        """Turns are read from the manager's storage; an extraction is of one storage."""
        port = getattr(manager, "port", None)
        name = type(self).__name__
        if not isinstance(port, StoragePort):
            raise ConfigurationError(
                f"{name} is told of threads: load it into with_history() or a history manager, "
                f"not {type(manager).__name__}"
            )
        if port.asynchronous and not self._asynchronous:
            raise ConfigurationError(f"{name} cannot read an asynchronous storage; use AsyncFactExtraction")
        if self._port is not None and self._port.storage is not port.storage:
            raise ConfigurationError(f"this {name} is loaded over another storage already; make one for each")
        self._port = port

    def _start(self, runner: Any) -> None:
        raise NotImplementedError

    def _heard(self, thread_id: str, message: Message) -> None:
        if is_answer(message.wire, message.status):
            self._put(thread_id, message.id)

    def _put(self, thread_id: str, answer_id: str | None) -> bool:
        if self._port is None:
            raise ConfigurationError(f"this {type(self).__name__} is not loaded: with_history(..., plugins=[it])")
        taken = not self._closed and self._lanes.put(_INTAKE, partial(self._sort, self._port, thread_id, answer_id))
        if not taken:
            self._count(dropped=1)
            why = "it is closed" if self._closed else "too many turns wait"
            logger.warning("facts of thread %r are not extracted: %s", thread_id, why)
        return taken

    def _count(self, **more: int) -> None:
        with self._counting:
            now = {name: getattr(self._counts, name) + by for name, by in more.items()}
            self._counts = replace(self._counts, **now)

    def _sort(self, port: StoragePort, thread_id: str, answer_id: str | None) -> Flow[None]:
        """Put a turn into the lane of whose it is. That is done in the order in which turns were stored."""
        lane: Hashable = None
        try:
            reader = yield from port.read(thread_id)
            if reader is None:
                return
            lane = Owner(reader.head.user_id, thread_id).lane
        except MemexLLMError as error:
            self._failed(thread_id, error)
            return
        self._lanes.put_on(lane, partial(self._extract, port, thread_id, answer_id))

    def _extract(self, port: StoragePort, thread_id: str, answer_id: str | None) -> Flow[None]:
        """The facts of one turn, or of all that the thread has; as the thread is now, not as it was when told."""
        try:
            reader = yield from port.read(thread_id)
            if reader is None:
                return
            owner = Owner(reader.head.user_id, thread_id)
            if answer_id is None:
                rows = yield reader.rows()
                all_said = [said for _, said in turns(rows)]
            else:
                all_said = [(yield from turn_of(reader, answer_id))]
        except MemexLLMError as error:
            self._failed(thread_id, error)
            return
        for said in filter(None, all_said):
            yield from self._extract_turn(owner, said)

    def _extract_turn(self, owner: Owner, said: list[Message]) -> Flow[None]:
        try:
            known = yield from self._keeper.known(owner, said, self.known)
            facts = yield from asked(self._extractor, said, known, self.timeout_s)
            new, updated = yield from self._keeper.keep(owner, facts)
        except MemexLLMError as error:
            self._failed(owner.thread_id, error)
            return
        self._count(turns=1, facts=new, updated=updated)

    def _failed(self, thread_id: str, error: MemexLLMError) -> None:
        # The text of others may hold what somebody said.
        why = str(error) if isinstance(error, FailedError) else type(error).__name__
        self._count(failed=1)
        logger.warning("facts of a turn of thread %r were not extracted (%s); the turn is stored", thread_id, why)


class FactExtraction(_Extraction):
    """A plugin that keeps what users say as facts: `with_history(..., plugins=[FactExtraction(memory, extractor)])`.

    `extractor(messages, known)` gets what user and assistant said in a turn that was answered, and up to `known` facts
    of the same user that are nearest to it. It returns a list of texts and records, or None. A text is a new fact; a
    record with the id of a fact of this user changes that one's text, and its metadata if it has any; any other record
    is new. Whatever a record says, all belong to the user of the thread; facts of a thread without a user are the
    thread's own. What is known already is not stored twice. Or it is an OpenAI client (not a wrapped one), with the
    `model` that writes and a `prompt` of your own, which asks for the same JSON.

    No call waits for it: a turn is handed over when it is stored, and threads in the background do at most `at_once`,
    one at a time for each user, in order. An extractor that raises, answers with anything else, or takes longer than
    `timeout_s` is logged and counted in `counts`, and so is a turn that comes while `max_waiting` wait; the turn itself
    is stored all the same, and `extract(thread_id)` does it again. Answers superseded meanwhile, imports and copies are
    left out. The process does not wait for what is under way when it ends: `close()` does.
    """

    def on_message_added(self, thread_id: str, message: Message) -> None:
        self._heard(thread_id, message)

    def extract(self, thread_id: str) -> bool:
        """Hand over all turns of a thread, such as one that was imported; False when too much waits for that."""
        return self._put(thread_id, None)

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until everything handed over is done; whether it is."""
        idle = threading.Event()
        self._lanes.when_idle(idle.set)
        try:
            return idle.wait(timeout_s)
        finally:
            self._lanes.forget(idle.set)

    def close(self) -> None:
        """`flush()`, and take nothing more. The memory stays open."""
        self._closed = True
        self.flush()
        self._lanes.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, runner: Any) -> None:
        threading.Thread(target=self._work, args=(runner,), name="memexllm-extraction", daemon=True).start()

    def _work(self, runner: Any) -> None:
        try:
            while (taken := self._lanes.take(runner, _LINGER_S)) is not None:
                lane, work = taken
                try:
                    run(work())
                finally:
                    self._lanes.done(lane)
        finally:
            self._lanes.left(runner)
            self._lanes.resume()


class AsyncFactExtraction(_Extraction):
    """Async `FactExtraction`, over an `AsyncMemoryManager`, for asynchronous clients and `AsyncHistoryManager`.

    The extractor may be `async def` or an `AsyncOpenAI` client. It works in tasks of the loop in which turns are
    stored; what a loop that is closed leaves undone goes on with the next turn, or with `flush()`.
    """

    _asynchronous = True

    async def on_message_added(self, thread_id: str, message: Message) -> None:
        self._heard(thread_id, message)

    async def extract(self, thread_id: str) -> bool:
        """Async `FactExtraction.extract`."""
        return self._put(thread_id, None)

    async def flush(self, timeout_s: float | None = None) -> bool:
        """Async `FactExtraction.flush`."""
        loop = asyncio.get_running_loop()
        idle = asyncio.Event()

        def tell() -> None:
            loop.call_soon_threadsafe(idle.set)

        self._lanes.when_idle(tell)
        self._lanes.resume()
        try:
            await asyncio.wait_for(idle.wait(), timeout_s)
        except TimeoutError:
            return False
        finally:
            self._lanes.forget(tell)
        return True

    async def close(self) -> None:
        """Async `FactExtraction.close`."""
        self._closed = True
        await self.flush()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _start(self, runner: Any) -> None:
        # Of no call's context: a runner goes on with the turns of other users.
        task = asyncio.get_running_loop().create_task(self._work(runner), context=Context())
        # Also of a task that was cancelled before it began.
        task.add_done_callback(lambda _: self._lanes.left(runner))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, runner: Any) -> None:
        while (taken := self._lanes.take(runner)) is not None:
            lane, work = taken
            try:
                await arun(work())
            except asyncio.CancelledError:
                # The loop is being closed: no task may begin in it.
                self._count(failed=1)
                self._lanes.done(lane, resume=False)
                raise
            self._lanes.done(lane)
