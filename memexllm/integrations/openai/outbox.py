"""What was said and is not stored yet: turns that wait for their storage, and streams that are being read.

It belongs to the storage, not to a client: a client that is wrapped anew for each request finds what the one before
could not store.
"""

from __future__ import annotations

import atexit
import logging
import threading
import weakref
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Any

from pydantic_core import to_json

from memexllm.algorithms.base import BaseAlgorithm
from memexllm.algorithms.notes import WINDOWS, rebased
from memexllm.core.errors import ConcurrencyError, MemexLLMError, StorageError
from memexllm.core.flow import Flow, run
from memexllm.core.models import Message
from memexllm.core.plugins import Plugins
from memexllm.core.wire import MessageRow
from memexllm.history.compacting import Ahead
from memexllm.history.editing import finish_message
from memexllm.history.observing import show_new
from memexllm.history.settling import settled_by
from memexllm.integrations.openai.info import HistoryInfo
from memexllm.integrations.openai.turnstile import Turnstile
from memexllm.storage._telling import tell_stored
from memexllm.storage.port import StoragePort

MAX_PENDING_TURNS = 1000
MAX_PENDING_BYTES = 64 * 2**20
_ATTEMPTS = 20

logger = logging.getLogger("memexllm.integrations.openai")


@dataclass(slots=True, eq=False)
class Turn:
    """One call's write: what `append_messages` is given, or a message that takes the place of `replaces`."""

    thread_id: str
    rows: list[MessageRow]
    changes: dict[str, Any]
    info: HistoryInfo
    replaces: str | None = None
    chooser: BaseAlgorithm | None = None
    """Is shown what was stored, when it wants to be (`process_thread`), and plans the next call (`works_ahead`)."""
    model: str | None = None
    now: int = 0
    before: Mapping[str, Any] | None = None
    """The thread's state as the call found it; its notes on windows rest on that."""
    asynchronous: bool = False
    plugins: Plugins | None = None
    attempted: bool = False

    @property
    def size_bytes(self) -> int:
        return sum(len(to_json(row["wire"])) for row in self.rows)


class Outbox:
    """Of one storage, shared by every client over it."""

    def __init__(self, port: StoragePort) -> None:
        self.port = port
        self._pending: deque[Turn] = deque()
        self._open_streams: weakref.WeakSet[Any] = weakref.WeakSet()
        # A SimpleQueue may be put to from a finaliser, whatever this thread is doing.
        self._abandoned: SimpleQueue[Any] = SimpleQueue()
        self._lock = threading.Lock()
        self.turnstile = Turnstile()
        self._ahead = Ahead(port)

    def watch(self, stream: Any) -> None:
        """Remember a stream that is being read, so that the next call on its thread can store what it has said."""
        with self._lock:
            self._open_streams.add(stream)

    def abandon(self, stream: Any) -> None:
        """Hold a stream nobody reads any more until the next call or `flush()` stores what it has said."""
        self._abandoned.put(stream)
        _unsettled.add(self)

    def settle(self, thread_id: str) -> Flow[None]:
        """Before a call reads its thread: what earlier calls on it have said, and could not store, is stored."""
        yield from self.interrupt_streams(thread_id)
        yield from self._store_abandoned()
        if self._pending:
            yield from self.flush(thread_id)

    def interrupt_streams(self, thread_id: str) -> Flow[None]:
        """What the streams of a thread have said is stored, or kept when it cannot be."""
        if self._open_streams:
            with self._lock:
                streams = [stream for stream in self._open_streams if stream.thread_id == thread_id]
            for stream in streams:
                yield from stream.interrupt()

    def _store_abandoned(self) -> Flow[None]:
        while not self._abandoned.empty():
            yield from self._abandoned.get().interrupt()
        self._forget_when_settled()

    def write(self, turn: Turn) -> Flow[None]:
        """Store a turn after those of its thread that wait; one that fails twice is kept, logged, and said so."""
        try:
            try:
                yield from self._store(turn)
            except ConcurrencyError:
                raise
            except StorageError:
                yield from self._store(turn)
        except ConcurrencyError as error:
            _note_failure(turn, error, "is not stored: another version was expected")
        except StorageError as error:
            _note_failure(turn, error, "is kept for the next call")
            self._keep(turn)
        except MemexLLMError as error:
            _note_failure(turn, error, "is lost")

    def flush(self, thread_id: str | None = None) -> Flow[None]:
        """Store pending turns, oldest first; one that fails stays with those after it, and raises."""
        yield from self._store_abandoned()
        # A turn is taken while it is being stored: two calls that flush at once do not store it twice.
        while (turn := self._take_pending(thread_id)) is not None:
            settled = False
            try:
                yield from self._append(turn)
                settled = True
            except ConcurrencyError as error:
                _note_failure(turn, error, "is not stored: another version was expected")
                settled = True
            except StorageError:
                raise
            except MemexLLMError as error:
                _note_failure(turn, error, "is lost")
                settled = True
            finally:
                if not settled:
                    with self._lock:
                        self._pending.appendleft(turn)
                        _unsettled.add(self)

    def finish(self) -> Flow[None]:
        """`flush()`, and what goes on in the background is waited for."""
        yield from self.flush()
        yield from self._ahead.finish()

    def _take_pending(self, thread_id: str | None) -> Turn | None:
        with self._lock:
            for index, turn in enumerate(self._pending):
                if thread_id is None or turn.thread_id == thread_id:
                    del self._pending[index]
                    return turn
        self._forget_when_settled()
        return None

    def _forget_when_settled(self) -> None:
        """Nothing waits any more, so this need not outlive its clients."""
        with self._lock:
            if not self.has_pending:
                _unsettled.discard(self)

    def _keep(self, turn: Turn) -> None:
        """Keep a turn that could not be stored for the next call, `flush()`, or the end of the process."""
        dropped: list[Turn] = []
        with self._lock:
            self._pending.append(turn)
            _unsettled.add(self)
            while len(self._pending) > 1 and (
                len(self._pending) > MAX_PENDING_TURNS
                or sum(kept.size_bytes for kept in self._pending) > MAX_PENDING_BYTES
            ):
                dropped.append(self._pending.popleft())
        for lost in dropped:
            logger.error("what was said in thread %r is lost: more waits for the storage than is kept", lost.thread_id)

    def _store(self, turn: Turn) -> Flow[None]:
        if self._pending:
            yield from self.flush(turn.thread_id)
        yield from self._append(turn)

    def _append(self, turn: Turn) -> Flow[None]:
        """Store a turn once, also when an earlier attempt may have reached the storage."""
        port = self.port
        if turn.replaces is not None:
            yield from finish_message(port, turn.thread_id, Message.from_row(turn.rows[0]))
        else:
            already_there = turn.attempted and (yield from self._is_stored(turn))
            turn.attempted = True
            if not already_there:
                turn.info.version = yield from self._appended(turn)
                yield from show_new(port, turn.chooser, turn.thread_id, [row["id"] for row in turn.rows])
                if turn.chooser is not None and turn.chooser.works_ahead:
                    self._ahead.start(turn.chooser, turn.thread_id, turn.model, turn.now, in_task=turn.asynchronous)
            if turn.plugins is not None:
                created = "create" in turn.changes and turn.info.version == 1
                yield from tell_stored(turn.plugins, port, turn.thread_id, turn.rows, created=created)
        turn.info.saved = True
        turn.info.error = None

    def _appended(self, turn: Turn) -> Flow[int]:
        """The thread's version with `turn`; what it noted of a window is written over notes made meanwhile."""
        changes = turn.changes
        append = partial(self.port.append_messages, turn.thread_id, turn.rows)
        version: int
        if turn.before is None or WINDOWS not in changes.get("state", ()) or "expected_version" in changes:
            version = yield append(changes)
            return version
        for _ in range(_ATTEMPTS):
            reader = yield from self.port.read(turn.thread_id)
            if reader is None:
                version = yield append(changes)
                return version
            state = rebased(changes["state"], turn.before, reader.head.state)
            try:
                version = yield append({**changes, "state": state, "expected_version": reader.head.version})
            except ConcurrencyError:
                continue
            return version
        without = {key: value for key, value in changes["state"].items() if key != WINDOWS}
        version = yield append({**changes, "state": without})
        return version

    def _is_stored(self, turn: Turn) -> Flow[bool]:
        reader = yield from self.port.read(turn.thread_id)
        if reader is None or not turn.rows:
            return False
        newest: list[MessageRow] = yield reader.rows(limit=len(turn.rows) + MAX_PENDING_TURNS)
        return turn.rows[0]["id"] in {row["id"] for row in newest}

    @property
    def has_unsettled(self) -> bool:
        return bool(self._open_streams or self._pending) or not self._abandoned.empty()

    @property
    def has_pending(self) -> bool:
        return bool(self._pending) or not self._abandoned.empty()


_outboxes: weakref.WeakValueDictionary[int, Outbox] = weakref.WeakValueDictionary()
"""By the id of the storage, which an outbox keeps alive."""
# Those with turns or streams that wait: their clients may be gone before the process ends.
_unsettled: set[Outbox] = set()
_making = threading.Lock()


def outbox_of(port: StoragePort) -> Outbox:
    with _making:
        found = _outboxes.get(id(port.storage))
        if found is None:
            found = _outboxes[id(port.storage)] = _left_waiting(port) or Outbox(port)
            settled_by(port, found)
        return found


def _left_waiting(port: StoragePort) -> Outbox | None:
    """One that was collected together with its streams: their finalisers gave them to it when weak references to it
    were gone already."""
    return next((outbox for outbox in list(_unsettled) if outbox.port.storage is port.storage), None)


def _note_failure(turn: Turn, error: MemexLLMError, fate: str) -> None:
    turn.info.error = error
    turn.info.saved = False
    logger.error(
        "what was said in thread %r could not be stored (%s); it %s", turn.thread_id, type(error).__name__, fate
    )


@atexit.register
def _flush_at_exit() -> None:
    for outbox in {*_outboxes.values(), *_unsettled}:
        if not outbox.has_pending:
            continue
        count = len(outbox._pending) + outbox._abandoned.qsize()
        if outbox.port.asynchronous:
            logger.error("%d turns could not be stored before the process ended", count)
            continue
        try:
            run(outbox.flush())
        except MemexLLMError as error:
            logger.error("%d turns could not be stored before the process ended: %s", count, error)  # noqa: TRY400
