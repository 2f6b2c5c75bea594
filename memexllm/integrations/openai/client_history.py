"""What a wrapped client and all its copies share: the manager, the options, and the turns not stored yet."""

from __future__ import annotations

import atexit
import logging
import sys
import threading
import warnings
import weakref
from collections import deque
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Literal

from pydantic_core import to_json

from memexllm.algorithms.base import BaseAlgorithm
from memexllm.algorithms.token_window import TokenWindowAlgorithm
from memexllm.core.errors import MemexLLMError, StorageError, ValidationError
from memexllm.core.exchanges import Orphans
from memexllm.core.flow import Flow, run
from memexllm.core.models import Message
from memexllm.core.wire import MessageRow
from memexllm.history.binding import bound_thread
from memexllm.history.flows import checked_thread_id
from memexllm.history.manager import AsyncHistoryManager, HistoryManager
from memexllm.history.observing import show_new
from memexllm.integrations.openai.info import HistoryInfo, ThreadNotGivenWarning
from memexllm.integrations.openai.merge import MergeMode
from memexllm.integrations.openai.wire import LEFT_OUT, ReplayReasoning

OnMissingThread = Literal["create", "ignore", "error"]
Inject = Literal["auto", "early", "late"]

THREAD_HEADER = "x-memexllm-thread-id"
MAX_PENDING_TURNS = 1000
MAX_PENDING_BYTES = 64 * 2**20

DEFAULT_ALGORITHM = TokenWindowAlgorithm(max_tokens=0.8)
_LIBRARIES = ("memexllm", "openai", "asyncio")

logger = logging.getLogger("memexllm.integrations.openai")


class _NotGiven:
    def __repr__(self) -> str:
        return "NOT_GIVEN"


NOT_GIVEN: Any = _NotGiven()
"""`thread_id` was left out; an explicit None means no history for this call."""


@dataclass(frozen=True)
class Options:
    thread_id: str | None = None
    on_missing_thread: OnMissingThread = "create"
    merge: MergeMode = "auto"
    orphans: Orphans = "drop"
    on_read_error: Literal["raise", "ignore"] = "raise"
    on_write_error: Literal["warn", "raise"] = "warn"
    replay_reasoning: ReplayReasoning = "auto"
    inject: Inject = "auto"


@dataclass(slots=True, eq=False)
class Turn:
    """One call's write: what `append_messages` is given, or a message that takes the place of `replaces`."""

    thread_id: str
    rows: list[MessageRow]
    changes: dict[str, Any]
    info: HistoryInfo
    replaces: str | None = None
    attempted: bool = False

    @property
    def size_bytes(self) -> int:
        return sum(len(to_json(row["wire"])) for row in self.rows)


@dataclass
class Scope:
    """What `with_thread` and `for_user` bind a client to."""

    thread_id: str | None = None
    user_id: str | None = None


@dataclass(eq=False)
class ClientHistory:
    manager: HistoryManager | AsyncHistoryManager
    options: Options
    _pending: deque[Turn] = field(default_factory=deque[Turn])
    _open_streams: weakref.WeakSet[Any] = field(default_factory=lambda: weakref.WeakSet[Any]())
    # A SimpleQueue may be put to from a finaliser, whatever this thread is doing.
    _abandoned: SimpleQueue[Any] = field(default_factory=lambda: SimpleQueue[Any]())
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _warned: bool = False

    def __post_init__(self) -> None:
        _histories.add(self)

    @property
    def algorithm(self) -> BaseAlgorithm:
        """The manager's, or the wrapper's default: everything, up to 80 % of the model's window."""
        chooser = self.manager.chooser
        return DEFAULT_ALGORITHM if chooser is None else chooser

    @property
    def is_async(self) -> bool:
        return isinstance(self.manager, AsyncHistoryManager)

    def resolve(self, thread_id: Any, header: str | None, scope: Scope) -> str | None:
        """The call's thread: keyword, header, `with_thread`, `manager.thread()`, `with_history(thread_id=)`, else new.

        None is a call without history.
        """
        if thread_id is None:
            return None
        if thread_id is NOT_GIVEN or type(thread_id).__name__ in LEFT_OUT:
            named = (header, scope.thread_id, bound_thread(self.manager.storage), self.options.thread_id)
            thread_id = next((name for name in named if name is not None), None)
        if thread_id is not None:
            return checked_thread_id(thread_id)
        if self.options.on_missing_thread == "ignore":
            return None
        if self.options.on_missing_thread == "error":
            raise ValidationError(
                'this call names no thread and on_missing_thread="error"; give thread_id="…", or thread_id=None for a '
                "call without history"
            )
        return self._new_thread_id()

    def _new_thread_id(self) -> str:
        thread_id = self.manager.id_source()
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"this call names no thread, so its turn is stored in the new thread {thread_id!r} "
                "(history_of(response).thread_id). Give thread_id= to continue a conversation, thread_id=None for a "
                "call without history; this is said once",
                ThreadNotGivenWarning,
                stacklevel=_callers_level(),
            )
        return thread_id

    def watch(self, stream: Any) -> None:
        """Remember a stream that is being read, so that the next call on its thread can store what it has said."""
        with self._lock:
            self._open_streams.add(stream)

    def abandon(self, stream: Any) -> None:
        """Hold a stream nobody reads any more until the next call or `flush()` stores what it has said."""
        self._abandoned.put(stream)

    def settle(self, thread_id: str) -> Flow[None]:
        """Before a call reads its thread: what earlier calls on it have said, and could not store, is stored."""
        if self._open_streams:
            with self._lock:
                streams = [stream for stream in self._open_streams if stream.thread_id == thread_id]
            for stream in streams:
                yield from stream.interrupt()
        yield from self._store_abandoned()
        if self._pending:
            yield from self.flush(thread_id)

    def _store_abandoned(self) -> Flow[None]:
        while not self._abandoned.empty():
            yield from self._abandoned.get().interrupt()

    def write(self, turn: Turn) -> Flow[None]:
        """Store a turn after those of its thread that wait; one that fails twice is kept, logged, and said so."""
        try:
            try:
                yield from self._store(turn)
            except StorageError:
                yield from self._store(turn)
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

    def _take_pending(self, thread_id: str | None) -> Turn | None:
        with self._lock:
            for index, turn in enumerate(self._pending):
                if thread_id is None or turn.thread_id == thread_id:
                    del self._pending[index]
                    if not self._pending:
                        _unsettled.discard(self)
                    return turn
        return None

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
        port = self.manager.port
        if turn.replaces is not None:
            yield port.replace_message(turn.thread_id, turn.replaces, Message.from_row(turn.rows[0]))
        else:
            already_there = turn.attempted and (yield from self._is_stored(turn))
            turn.attempted = True
            if not already_there:
                yield port.append_messages(turn.thread_id, turn.rows, turn.changes)
                yield from show_new(port, self.manager.chooser, turn.thread_id, [row["id"] for row in turn.rows])
        turn.info.saved = True
        turn.info.error = None

    def _is_stored(self, turn: Turn) -> Flow[bool]:
        reader = yield from self.manager.port.read(turn.thread_id)
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


def _note_failure(turn: Turn, error: MemexLLMError, fate: str) -> None:
    turn.info.error = error
    turn.info.saved = False
    logger.error(
        "what was said in thread %r could not be stored (%s); it %s", turn.thread_id, type(error).__name__, fate
    )


def _callers_level() -> int:
    """The `stacklevel` at which a warning names the line of the application that made the call."""
    level = 2
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _LIBRARIES:
        frame = frame.f_back
        level += 1
    return level


def pop_header(params: dict[str, Any]) -> str | None:
    """The thread named by the header, which is ours and is not sent."""
    given = params.get("extra_headers")
    if not given:
        return None
    headers = {name: value for name, value in given.items() if name.lower() != THREAD_HEADER}
    if len(headers) == len(given):
        return None
    params["extra_headers"] = headers or None
    return next(value for name, value in given.items() if name.lower() == THREAD_HEADER)  # type: ignore[no-any-return]  # a header is text


_histories: weakref.WeakSet[ClientHistory] = weakref.WeakSet()
# Those with turns that wait: their clients may be gone before the process ends.
_unsettled: set[ClientHistory] = set()


@atexit.register
def _flush_at_exit() -> None:
    for history in list(_histories):
        if not history.has_pending:
            continue
        count = len(history._pending)
        if history.manager.port.asynchronous:
            logger.error("%d turns could not be stored before the process ended", count)
            continue
        try:
            run(history.flush())
        except MemexLLMError as error:
            logger.error("%d turns could not be stored before the process ended: %s", count, error)  # noqa: TRY400
