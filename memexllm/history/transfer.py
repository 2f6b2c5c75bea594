"""Export and import of threads: `export_threads`, `import_threads`. The format: `_transfer_lines.py`.

Both hold one thread at a time (and the ids), whatever the length of the file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import IO, Any, Literal, overload

from memexllm.core.errors import ConfigurationError, ValidationError
from memexllm.core.flow import Flow, Step, arun, run
from memexllm.core.models import Thread
from memexllm.history import flows
from memexllm.history._transfer_files import Damage, Source, Target
from memexllm.history._transfer_lines import end_line, header_line, thread_lines
from memexllm.history.async_manager import AsyncHistoryManager
from memexllm.history.base import opened
from memexllm.history.manager import HistoryManager
from memexllm.storage._listing import list_query
from memexllm.storage.base import AsyncBaseStorage, BaseStorage
from memexllm.storage.opening import refuse_missing
from memexllm.storage.port import StoragePort

File = str | os.PathLike[str] | IO[bytes]
Progress = Callable[[int, int], None]
"""Called with (done, total): threads of an export, bytes of an import."""
Existing = Literal["refuse", "skip", "replace"]
Synchronous = HistoryManager | BaseStorage | str | os.PathLike[str]
Asynchronous = AsyncHistoryManager | AsyncBaseStorage

_PAGE = 100
_MAX_TOLD = 10


@dataclass(frozen=True, slots=True)
class Transfer:
    """What was exported or imported; `n_messages` counts superseded ones as well."""

    n_threads: int = 0
    n_messages: int = 0
    n_skipped: int = 0
    """Threads of an import that were there already."""

    def with_thread(self, thread: Thread) -> Transfer:
        return replace(self, n_threads=self.n_threads + 1, n_messages=self.n_messages + len(thread.messages))


@overload
def export_threads(
    history: Synchronous, file: File, thread_ids: Sequence[str] | None = None, *, progress: Progress | None = None
) -> Transfer: ...
@overload
def export_threads(
    history: Asynchronous, file: File, thread_ids: Sequence[str] | None = None, *, progress: Progress | None = None
) -> Coroutine[Any, Any, Transfer]: ...
def export_threads(
    history: Synchronous | Asynchronous,
    file: File,
    thread_ids: Sequence[str] | None = None,
    *,
    progress: Progress | None = None,
) -> Transfer | Coroutine[Any, Any, Transfer]:
    """Write threads to `file`, all in creation order or those named, with everything that is stored of them.

    `history` is a manager, a storage, or a path or URL of one; for an asynchronous one the result is to be awaited.
    `file` is a path, which is written beside and put in its place when it is whole, readable for its owner only; or a
    file open for writing bytes, which stays open. Each thread is as it was at one moment. A named thread that does not
    exist is a `ThreadNotFoundError` before anything is written.
    """
    return _driven(history, lambda port: _export(port, Target(file), thread_ids, progress), reads=True)


@overload
def import_threads(
    history: Synchronous, file: File, *, existing: Existing = "refuse", progress: Progress | None = None
) -> Transfer: ...
@overload
def import_threads(
    history: Asynchronous, file: File, *, existing: Existing = "refuse", progress: Progress | None = None
) -> Coroutine[Any, Any, Transfer]: ...
def import_threads(
    history: Synchronous | Asynchronous,
    file: File,
    *,
    existing: Existing = "refuse",
    progress: Progress | None = None,
) -> Transfer | Coroutine[Any, Any, Transfer]:
    """Store the threads of an export as they were: ids, times, seqs, versions, state, superseded messages.

    The whole file is read and verified first. A file that is damaged, cut off or of a newer format is a
    `ValidationError` that names the lines, and so is a thread id that exists (`existing="skip"` leaves that thread as
    it is, `"replace"` puts the imported one in its place, with a higher version); nothing is stored then. After that
    every thread is stored in one write. `file` is a path, or a file open for reading bytes; one that cannot be read
    twice is copied to a temporary file first.
    """
    if existing not in ("refuse", "skip", "replace"):
        raise ConfigurationError(f'existing is "refuse", "skip" or "replace", not {existing!r}')
    return _driven(history, lambda port: _import(port, Source(file), existing, progress))


def _driven(
    history: Any, work: Callable[[StoragePort], Flow[Transfer]], *, reads: bool = False
) -> Transfer | Coroutine[Any, Any, Transfer]:
    """`reads` refuses the path of a file that is not there, which opening it would make."""
    if isinstance(history, HistoryManager | AsyncHistoryManager):
        flow = work(history.port)
        return arun(flow) if isinstance(history, AsyncHistoryManager) else run(flow)
    storage = opened(history)
    if reads and storage is not history:
        refuse_missing(storage)
    port = StoragePort(storage)
    flow = work(port) if storage is history else _then_closed(port, work(port))
    return arun(flow) if port.asynchronous else run(flow)


def _then_closed(port: StoragePort, flow: Flow[Transfer]) -> Flow[Transfer]:
    try:
        return (yield from flow)
    finally:
        yield from port.close()


def _export(
    port: StoragePort, target: Target, thread_ids: Sequence[str] | None, progress: Progress | None
) -> Flow[Transfer]:
    ids = (yield from all_ids(port)) if thread_ids is None else list(thread_ids)
    if thread_ids is not None:
        if len(set(ids)) < len(ids):
            raise ValidationError("a thread is named twice; an export holds it once")
        for thread_id in ids:
            yield from flows.found(port, thread_id)
    done = Transfer()
    with target:
        yield Step(target.write, ([header_line()],))
        for number, thread_id in enumerate(ids, start=1):
            thread = yield from port.whole_thread(thread_id)
            if thread is not None:  # else it was deleted meanwhile
                yield Step(_write_thread, (target, thread))
                done = done.with_thread(thread)
            if progress is not None:
                progress(number, len(ids))
        yield Step(target.write, ([end_line(done.n_threads)],))
        yield Step(target.finish, ())
    return done


def _write_thread(target: Target, thread: Thread) -> None:
    target.write(thread_lines(thread))


def all_ids(port: StoragePort) -> Flow[list[str]]:
    ids: list[str] = []
    last: Thread | None = None
    while page := (yield from port.list_threads(list_query(_PAGE, 0, after=last))):
        ids.extend(thread.id for thread in page)
        last = page[-1]
    return ids


def _import(port: StoragePort, source: Source, existing: Existing, progress: Progress | None) -> Flow[Transfer]:
    with source:
        yield Step(source.open, ())
        yield from _verify(port, source, existing, progress)
        done = Transfer()
        found: Iterator[Thread | Damage] = source.threads()
        while (thread := (yield Step(next, (found, None)))) is not None:
            if isinstance(thread, Damage):
                raise ValidationError(_refusal(source, done, [f"{thread}; it was changed while it was read"]))
            if existing == "replace" or not (yield from _exists(port, thread.id)):
                yield port.save_thread(thread)
                done = done.with_thread(thread)
            elif existing == "skip":
                done = replace(done, n_skipped=done.n_skipped + 1)
            else:
                raise ValidationError(_refusal(source, done, [f"thread {thread.id!r} was created meanwhile"]))
            _tell(progress, source, 1)
    return done


def _verify(port: StoragePort, source: Source, existing: Existing, progress: Progress | None) -> Flow[None]:
    damages: list[str] = []
    there: list[str] = []
    found: Iterator[Thread | Damage] = source.threads()
    while (thread := (yield Step(next, (found, None)))) is not None:
        if isinstance(thread, Damage):
            damages.append(str(thread))
        elif existing == "refuse" and (yield from _exists(port, thread.id)):
            there.append(repr(thread.id))
        _tell(progress, source, 0)
    if damages:
        raise ValidationError(_refusal(source, Transfer(), damages))
    if there:
        threads = f"{len(there)} of its threads exist" if len(there) > 1 else "one of its threads exists"
        raise ValidationError(
            _refusal(source, Transfer(), [f"{threads} already ({_some(there)}); skip or replace what is there"])
        )


def _exists(port: StoragePort, thread_id: str) -> Flow[bool]:
    return (yield from port.read(thread_id)) is not None


def _refusal(source: Source, done: Transfer, reasons: list[str]) -> str:
    stored = f"{done.n_threads} threads were stored before" if done.n_threads else "nothing was changed"
    return f"{source.name} cannot be imported: {_some(reasons, '; ')}. {stored.capitalize()}"


def _some(items: list[str], between: str = ", ") -> str:
    told = between.join(items[:_MAX_TOLD])
    return told if len(items) <= _MAX_TOLD else f"{told}{between}and {len(items) - _MAX_TOLD} more"


def _tell(progress: Progress | None, source: Source, n_times_read: int) -> None:
    if progress is not None:
        progress(n_times_read * source.size_bytes + source.position, 2 * source.size_bytes)
