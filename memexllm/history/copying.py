"""`copy_threads`: threads from one storage to another, verified, and gone on with where it was broken off.

A long thread is copied in batches where the target can restore messages in batches, so a few of them are in memory at
a time; until its last batch is there, its state says so (`COPYING`). Any other is stored in one write. What was stored
is read back and compared with the source: every message to the byte, and every field of the thread.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, get_args, overload

from memexllm.core import jsontext
from memexllm.core.errors import ConfigurationError, StorageError
from memexllm.core.flow import Flow, arun, run
from memexllm.core.models import Message, Thread
from memexllm.history import flows
from memexllm.history.async_manager import AsyncHistoryManager
from memexllm.history.base import opened
from memexllm.history.manager import HistoryManager
from memexllm.history.transfer import Asynchronous, Synchronous, all_ids
from memexllm.storage.opening import refuse_missing
from memexllm.storage.port import Reader, StoragePort

Existing = Literal["keep", "update", "replace"]
Progress = Callable[[int, int], None]
"""Called with the threads that are done, and all there are."""

COPYING = "copying"
"""Key of the state of a thread that is not whole yet: its copy was broken off, or goes on."""
_BATCH = 500
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Conflict:
    """A thread that was left as it is in the target, and why."""

    thread_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Copied:
    """What came of a copy; `n_messages` counts superseded ones as well."""

    n_threads: int = 0
    """Threads that were copied, in whole or in part, and are whole now."""
    n_messages: int = 0
    """Messages that were written for that."""
    n_finished: int = 0
    """Of these threads, those of which a part was there."""
    n_skipped: int = 0
    """Threads that were there already, equal."""
    conflicts: tuple[Conflict, ...] = ()


@overload
def copy_threads(
    source: Synchronous,
    target: Synchronous,
    thread_ids: Sequence[str] | None = None,
    *,
    existing: Existing = "keep",
    progress: Progress | None = None,
) -> Copied: ...
@overload
def copy_threads(
    source: Synchronous | Asynchronous,
    target: Synchronous | Asynchronous,
    thread_ids: Sequence[str] | None = None,
    *,
    existing: Existing = "keep",
    progress: Progress | None = None,
) -> Copied | Coroutine[Any, Any, Copied]: ...
def copy_threads(
    source: Synchronous | Asynchronous,
    target: Synchronous | Asynchronous,
    thread_ids: Sequence[str] | None = None,
    *,
    existing: Existing = "keep",
    progress: Progress | None = None,
) -> Copied | Coroutine[Any, Any, Copied]:
    """Copy threads, all in creation order or those named, with everything that is stored of them.

    `source` and `target` are managers, storages, paths or URLs; when one of them is asynchronous, the result is to be
    awaited. A copy that was broken off is called again: what is there and equal is skipped, a thread that is there in
    part is finished. A fork arrives as a thread of its own.

    A thread whose id the target has for something else is left alone and is among the `conflicts`, also when it was
    copied before and has changed in the source since. `existing="update"` brings the latter up to date (nothing may
    have been said in it in the target), `"replace"` puts the source's in the place of either. A named thread that does
    not exist is a `ThreadNotFoundError` before anything is written, a source file that does not is a `ConnectionError`;
    what comes back different from what was stored is a `StorageError`.
    """
    if existing not in get_args(Existing):
        raise ConfigurationError(f'existing is "keep", "update" or "replace", not {existing!r}')
    ports: list[StoragePort] = []
    ours: list[StoragePort] = []
    for given in (source, target):
        is_manager = isinstance(given, HistoryManager | AsyncHistoryManager)
        storage = given.storage if is_manager else opened(given)  # type: ignore[union-attr]  # a manager has one
        if storage is not given and given is source and not is_manager:
            refuse_missing(storage)
        ports.append(StoragePort(storage))
        if not is_manager and storage is not given:
            ours.append(ports[-1])
    if ports[0].storage is ports[1].storage:
        raise ConfigurationError("the source of a copy and its target are the same storage")
    flow = _then_closed(ours, _copy(ports[0], ports[1], thread_ids, existing, progress))
    awaited = isinstance(source, AsyncHistoryManager) or isinstance(target, AsyncHistoryManager)
    return arun(flow) if awaited or any(port.asynchronous for port in ports) else run(flow)


def _then_closed(ports: Sequence[StoragePort], flow: Flow[Copied]) -> Flow[Copied]:
    try:
        return (yield from flow)
    finally:
        for port in ports:
            yield from port.close()


def _copy(
    source: StoragePort,
    target: StoragePort,
    thread_ids: Sequence[str] | None,
    existing: Existing,
    progress: Progress | None,
) -> Flow[Copied]:
    ids = (yield from all_ids(source)) if thread_ids is None else list(dict.fromkeys(thread_ids))
    for thread_id in ids if thread_ids is not None else ():
        yield from flows.found(source, thread_id)
    done = Copied()
    for number, thread_id in enumerate(ids, start=1):
        done = yield from _Copy(source, target, thread_id, existing).made(done)
        if progress is not None:
            progress(number, len(ids))
    return done


class _Shared(NamedTuple):
    """How far two threads are the same, from their first message on."""

    n_messages: int
    last_seq: int
    source_ends: bool
    target_ends: bool

    @property
    def all(self) -> bool:
        return self.source_ends and self.target_ends


class _Copy:
    """The copy of one thread."""

    def __init__(self, source: StoragePort, target: StoragePort, thread_id: str, existing: Existing) -> None:
        self._source = source
        self._target = target
        self._id = thread_id
        self._existing = existing

    def made(self, done: Copied) -> Flow[Copied]:
        """`done` with what became of this thread. What was written is compared like what was there before."""
        n_written, torn = 0, False
        written: Thread | None = None
        for _ in range(_ATTEMPTS):
            source = yield from self._source.read(self._id)
            if source is None:  # it was deleted meanwhile
                return done
            target = yield from self._target.read(self._id)
            shared = _Shared(0, -1, False, True) if target is None else (yield from _shared(source, target))
            if target is not None and shared.all and _same_head(source.head, target.head):
                return _counted(done, n_written, torn=torn) if written else replace(done, n_skipped=done.n_skipped + 1)
            if written is None:
                torn = target is not None and COPYING in target.head.state
                if refusal := (yield from self._refusal(source, target, shared)):
                    return replace(done, conflicts=(*done.conflicts, Conflict(self._id, refusal)))
            elif (written.version, written.state) == (source.head.version, source.head.state):
                kind = type(self._target.storage).__name__
                raise StorageError(f"thread {self._id!r} came back from {kind} different from what was stored there")
            written = source.head
            n_written += yield from self._written(source, target, shared)
        raise StorageError(f"thread {self._id!r} was written to all the time, so no copy of it is like it")

    def _refusal(self, source: Reader, target: Reader | None, shared: _Shared) -> Flow[str | None]:
        """Why nothing is to be written to the target."""
        if target is None or self._existing == "replace":
            return self._too_long(source.head)
        newer = target.head.version < source.head.version
        if COPYING in target.head.state or (self._existing == "update" and newer):
            if shared.target_ends or (yield from _ids_of(target)) <= (yield from _ids_of(source)):
                return self._too_long(source.head)
        elif shared.target_ends and newer:
            return "it was copied before, and the source has changed since"
        return "the target has another thread of this id"

    def _too_long(self, head: Thread) -> str | None:
        limit = getattr(self._target.storage, "max_messages", None)
        if limit is None or head.message_count <= limit:
            return None
        return f"the target keeps {limit} messages of a thread, and this one has {head.message_count}"

    def _written(self, source: Reader, target: Reader | None, shared: _Shared) -> Flow[int]:
        """How many messages were written. What is there and the same is gone on with; anything else is replaced."""
        n_kept, last_seq = (shared.n_messages, shared.last_seq) if shared.target_ends else (0, -1)
        page: list[Message] = yield source.messages(after=last_seq, limit=_BATCH, include_superseded=True)
        if not self._target.restores_in_batches or n_kept + len(page) < _BATCH:
            thread = yield from self._source.whole_thread(self._id)
            if thread is None:
                return 0
            yield self._target.save_thread(thread)
            return len(thread.messages)
        if target is not None and not shared.target_ends:
            yield self._target.delete_thread(self._id)
        return (yield from self._restored(source, page))

    def _restored(self, source: Reader, page: list[Message]) -> Flow[int]:
        head = source.head.changed(partial=False, stored_messages=None)
        torn = head.changed(state={COPYING: True}, version=0)
        n_written = 0
        while page:
            yield self._target.restore_messages(torn, page)
            n_written += len(page)
            page = yield source.messages(after=page[-1].seq, limit=_BATCH, include_superseded=True)
        now = yield from self._source.read(self._id)
        if now is not None and now.head.version == head.version:
            yield self._target.restore_messages(head, [])
        return n_written


def _counted(done: Copied, n_written: int, *, torn: bool) -> Copied:
    return replace(
        done,
        n_threads=done.n_threads + 1,
        n_messages=done.n_messages + n_written,
        n_finished=done.n_finished + torn,
    )


def _shared(source: Reader, target: Reader) -> Flow[_Shared]:
    n_messages, last_seq = 0, -1
    while True:
        bounds = {"after": last_seq, "limit": _BATCH, "include_superseded": True}
        ours: list[Message] = yield source.messages(**bounds)
        theirs: list[Message] = yield target.messages(**bounds)
        for one, other in zip(ours, theirs, strict=False):
            if _text(one) != _text(other):
                return _Shared(n_messages, last_seq, False, False)
            n_messages += 1
            last_seq = last_seq if one.seq is None else one.seq
        if len(ours) != len(theirs) or len(ours) < _BATCH:
            n_pairs = min(len(ours), len(theirs))
            return _Shared(n_messages, last_seq, len(ours) == n_pairs, len(theirs) == n_pairs)


def _ids_of(reader: Reader) -> Flow[set[str]]:
    ids: set[str] = set()
    after = -1
    while True:
        page: list[Message] = yield reader.messages(after=after, limit=_BATCH, include_superseded=True)
        ids.update(message.id for message in page)
        if len(page) < _BATCH:
            return ids
        after = page[-1].seq or 0


def _text(message: Message) -> str:
    """All of it, its wire form with the order of its keys."""
    return jsontext.dumps(message.row(), "message")


def _same_head(source: Thread, target: Thread) -> bool:
    """A thread that was put in the place of another has a higher version."""
    names = ("user_id", "title", "created_at", "updated_at")
    if any(getattr(source, name) != getattr(target, name) for name in names) or target.version < source.version:
        return False
    return jsontext.dumps([source.metadata, source.state]) == jsontext.dumps([target.metadata, target.state])
