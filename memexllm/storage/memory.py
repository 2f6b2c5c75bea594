"""MemoryStorage: threads in a dict, for tests and for conversations that need not outlive the process."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from memexllm.core import jsontext
from memexllm.core.hits import MessageHit
from memexllm.core.models import Message, Thread
from memexllm.core.moments import utc_now
from memexllm.core.wire import MessageRow, plain
from memexllm.storage._defaults import (
    UNSET,
    check_names,
    check_patch,
    check_user,
    check_version,
    resolve_new,
    unknown_message,
    unknown_thread,
)
from memexllm.storage._forking import fork_head, refuse_superseded, taken
from memexllm.storage._listing import PREVIEW_LOOKS_BACK, CursorLike, OrderBy, list_query, page_of, preview_of
from memexllm.storage._locks import held_across_fork
from memexllm.storage._restoring import refuse_seqs
from memexllm.storage._rows import Encoded, decode_messages, decode_wire, positions, with_marks, with_seq
from memexllm.storage._searching import checked_query, ranked
from memexllm.storage.base import BaseStorage, checked_message_limit, refuse_partial


@dataclass
class _Entry:
    """One message. The texts are immutable, so what is handed out shares nothing with what is kept."""

    seq: int
    id: str
    wire_text: str
    extra_text: str | None
    tokens_text: str | None
    superseded: bool

    def marked(self) -> str:
        return with_marks(self.wire_text, self.superseded, self.tokens_text)


@dataclass
class _Log:
    head: Thread
    entries: list[_Entry] = field(default_factory=list["_Entry"])
    next_seq: int = 0
    live: int = 0


class MemoryStorage(BaseStorage):
    """Threads in this object. Safe from any thread; nothing is shared with what callers hold."""

    blocking = False
    takes_rows = True

    def __init__(self, max_messages: int | None = None) -> None:
        super().__init__(max_messages=max_messages)
        self._logs: dict[str, _Log] = {}
        self._places = count(1)
        self._lock = held_across_fork()

    def save_thread(self, thread: Thread) -> None:
        refuse_partial(thread)
        log = _Log(_head_of(thread))
        for seq, message in zip(positions(thread.messages), thread.messages, strict=True):
            self._add(log, message, seq)
        with self._lock:
            replaced = self._logs.get(thread.id)
            log.head.place = next(self._places) if replaced is None else replaced.head.place
            if replaced is not None:
                log.head.version = max(log.head.version, replaced.head.version + 1)
                log.next_seq = max(log.next_seq, replaced.next_seq)
            self._drop_oldest(log)
            self._logs[thread.id] = log

    @property
    def threads(self) -> dict[str, Thread]:
        """Every thread by its id: copies, made anew each time."""
        with self._lock:
            return {thread_id: thread for thread_id in self._logs if (thread := self.get_thread(thread_id)) is not None}

    def get_thread(self, thread_id: str, message_limit: int | None = None) -> Thread | None:
        checked_message_limit(message_limit)
        with self._lock:
            thread = self.read_head(thread_id)
            if thread is None:
                return None
            thread.messages = self.read_messages(
                thread_id, limit=message_limit, include_superseded=message_limit is None
            )
        thread.partial = message_limit is not None
        return thread

    def list_threads(
        self,
        limit: int = 100,
        offset: int = 0,
        *,
        user_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        order_by: OrderBy = "created",
        before: CursorLike = None,
        after: CursorLike = None,
        preview: bool = False,
    ) -> list[Thread]:
        """As `HistoryManager.list_threads`, without messages (`partial`)."""
        query = list_query(limit, offset, user_id, metadata, order_by, before, after, preview)
        with self._lock:
            page = page_of(query, (log.head for log in self._logs.values()))
            return [_listed(self._logs[head.id], preview) for head in page]

    def delete_thread(self, thread_id: str) -> bool:
        with self._lock:
            return self._logs.pop(thread_id, None) is not None

    def append_messages(
        self,
        thread_id: str,
        messages: Sequence[Message],
        *,
        expected_version: int | None = None,
        supersede_from: int | None = None,
        supersede: Collection[int] = (),
        state: Mapping[str, Any] | None = None,
        create: Mapping[str, Any] | None = None,
        counts: Mapping[int, tuple[int, str]] | None = None,
    ) -> int:
        with self._lock:
            log = self._logs.get(thread_id)
            if log is None:
                if create is None:
                    raise unknown_thread(thread_id)
                log = _Log(_head_of(Thread(thread_id, **create)))
            elif create is not None:
                check_user(thread_id, log.head.user_id, create)
            check_version(thread_id, log.head.version, expected_version)
            first = log.next_seq
            added = _Log(log.head, next_seq=first)
            for message in messages:
                self._add(added, message, added.next_seq)
            patch = resolve_new(state, first) if state else {}
            jsontext.dumps(patch, "state")
            # Nothing below can fail: a refused batch has changed nothing.
            if supersede_from is not None or supersede or counts:
                _mark(log, supersede_from, supersede, counts)
            log.entries.extend(added.entries)
            log.next_seq = added.next_seq
            log.live += added.live
            log.head.state = {**log.head.state, **patch}
            _touch(log)
            self._drop_oldest(log)
            if log.head.place is None:
                log.head.place = next(self._places)
            self._logs[thread_id] = log
            return log.head.version

    def replace_message(
        self,
        thread_id: str,
        message_id: str,
        message: Message,
        *,
        expected_version: int | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        patch = _checked(state or {}, "state")
        with self._lock:
            log = self._found(thread_id)
            check_version(thread_id, log.head.version, expected_version)
            for index in range(len(log.entries) - 1, -1, -1):
                entry = log.entries[index]
                if entry.id == message_id:
                    replacement = _Log(log.head)
                    self._add(replacement, message, entry.seq)
                    log.entries[index] = replacement.entries[0]
                    log.live += replacement.live - (not entry.superseded)
                    log.head.state = {**log.head.state, **patch}
                    _touch(log)
                    return
            raise unknown_message(thread_id, message_id)

    def fork_thread(
        self, thread_id: str, new_id: str, *, at: str | None = None, create: Mapping[str, Any] | None = None
    ) -> Thread:
        with self._lock:
            parent = self._found(thread_id)
            end = len(parent.entries) if at is None else _place(parent, at) + 1
            last_seq = None if end == len(parent.entries) else parent.entries[end - 1].seq
            log = _Log(fork_head(parent.head, new_id, last_seq, create))
            if new_id in self._logs:
                raise taken(new_id)
            log.entries = [replace(entry) for entry in parent.entries[:end]]
            log.next_seq = parent.next_seq if last_seq is None else last_seq + 1
            log.live = sum(not entry.superseded for entry in log.entries)
            log.head.place = next(self._places)
            self._drop_oldest(log)
            self._logs[new_id] = log
            return _handed_out(log)

    def restore_messages(self, thread: Thread, messages: Sequence[Message]) -> None:
        head = _head_of(thread)
        with self._lock:
            log, added = self._logs.get(thread.id, _Log(head)), _Log(head)
            for seq, message in zip(refuse_seqs(thread.id, messages, log.next_seq - 1), messages, strict=True):
                self._add(added, message, seq)
            head.place = log.head.place or next(self._places)
            log.head = head
            log.entries.extend(added.entries)
            log.next_seq = max(log.next_seq, added.next_seq)
            log.live += added.live
            self._drop_oldest(log)
            self._logs[thread.id] = log

    def read_head(self, thread_id: str) -> Thread | None:
        with self._lock:
            log = self._logs.get(thread_id)
            return None if log is None else _handed_out(log)

    def read_messages(
        self,
        thread_id: str,
        *,
        limit: int | None = None,
        before: int | None = None,
        after: int | None = None,
        include_superseded: bool = False,
        wire: bool = False,
    ) -> Any:
        with self._lock:
            log = self._logs.get(thread_id)
            entries = [] if log is None else _between(log.entries, before, after)
            found = _taken(entries, limit, include_superseded, oldest=after is not None)
            texts = [(entry.marked(), entry.extra_text or "null") for entry in found]
        if wire:
            return decode_wire(thread_id, ",".join([text for text, _ in texts]))
        return decode_messages(thread_id, ",".join([f"{text},{extra}" for text, extra in texts]))

    def patch_thread(
        self,
        thread_id: str,
        *,
        title: str | None = UNSET,
        metadata: Mapping[str, Any] = UNSET,
        user_id: str | None = UNSET,
        state: Mapping[str, Any] = UNSET,
    ) -> None:
        check_patch(thread_id, title=title, metadata=metadata, user_id=user_id)
        with self._lock:
            log = self._found(thread_id)
            head = log.head.model_copy()
            if title is not UNSET:
                head.title = title
            if metadata is not UNSET:
                head.metadata = _checked(metadata, "metadata")
            if user_id is not UNSET:
                head.user_id = user_id
            if state is not UNSET:
                head.state = {**head.state, **_checked(state, "state")}
            log.head = head
            if any(value is not UNSET for value in (title, metadata, user_id)):
                _touch(log)

    def search_messages(
        self, text: str, *, thread_id: str | None = None, user_id: str | None = None, limit: int = 10
    ) -> list[MessageHit]:
        """`BaseStorage.search_messages` by looking at every message there is."""
        query = checked_query(text, thread_id, user_id, limit)
        with self._lock:
            wanted = [
                each
                for each, log in reversed(self._logs.items())
                if thread_id in (None, each) and user_id in (None, log.head.user_id)
            ]
            messages = [(each, self.read_messages(each)) for each in wanted]
        return ranked(query, messages)

    def _found(self, thread_id: str) -> _Log:
        log = self._logs.get(thread_id)
        if log is None:
            raise unknown_thread(thread_id)
        return log

    def _add(self, log: _Log, message: Message | MessageRow, seq: int) -> None:
        encoded = Encoded(message)
        text = with_seq(encoded.wire_text, seq)
        log.entries.append(_Entry(seq, encoded.id, text, encoded.extra_text, encoded.tokens_text, encoded.superseded))
        log.next_seq = max(log.next_seq, seq + 1)
        log.live += not encoded.superseded

    def _drop_oldest(self, log: _Log) -> None:
        if self.max_messages is None or log.live <= self.max_messages:
            return
        live = [index for index, entry in enumerate(log.entries) if not entry.superseded]
        del log.entries[: live[-self.max_messages]]
        log.live = self.max_messages


def _checked(value: Mapping[str, Any], what: str) -> dict[str, Any]:
    jsontext.dumps(value, what)
    return dict(plain(value))


def _head_of(thread: Thread) -> Thread:
    """A copy without messages that can be stored; refuses names that have no UTF-8 form and state that is not JSON."""
    check_names(thread)
    return thread.changed(
        messages=[],
        partial=False,
        stored_messages=None,
        place=None,
        preview=None,
        metadata=_checked(thread.metadata, "metadata"),
        state=_checked(thread.state, "state"),
    )


def _handed_out(log: _Log) -> Thread:
    return log.head.changed(
        messages=[],
        metadata=plain(log.head.metadata),
        state=plain(log.head.state),
        partial=True,
        stored_messages=log.live,
    )


def _listed(log: _Log, preview: bool) -> Thread:
    thread = _handed_out(log)
    if not preview:
        return thread
    newest = _taken(log.entries, max(PREVIEW_LOOKS_BACK), include_superseded=False, oldest=False)
    wires = (decode_wire(thread.id, entry.wire_text)[0]["wire"] for entry in reversed(newest))
    return thread.changed(preview=preview_of(wires))


def _place(log: _Log, message_id: str) -> int:
    """Where the newest message of this id is, which must be live."""
    for place in range(len(log.entries) - 1, -1, -1):
        if log.entries[place].id == message_id:
            refuse_superseded(log.head.id, message_id, superseded=log.entries[place].superseded)
            return place
    raise unknown_message(log.head.id, message_id)


def _touch(log: _Log) -> None:
    log.head.version += 1
    log.head.updated_at = utc_now()


def _mark(
    log: _Log,
    supersede_from: int | None,
    supersede: Collection[int],
    counts: Mapping[int, tuple[int, str]] | None,
) -> None:
    entries = log.entries
    tail = entries[bisect_left(entries, supersede_from, key=_seq) :] if supersede_from is not None else []
    for entry in [*tail, *_at(entries, supersede)]:
        log.live -= not entry.superseded
        entry.superseded = True
    for entry in _at(entries, counts or ()):
        entry.tokens_text = jsontext.dumps(list((counts or {})[entry.seq]))


def _seq(entry: _Entry) -> int:
    return entry.seq


def _at(entries: list[_Entry], seqs: Collection[int]) -> list[_Entry]:
    places = [(bisect_left(entries, seq, key=_seq), seq) for seq in seqs]
    return [entries[place] for place, seq in places if place < len(entries) and entries[place].seq == seq]


def _between(entries: list[_Entry], before: int | None, after: int | None) -> list[_Entry]:
    if before is None and after is None:
        return entries
    start = 0 if after is None else bisect_right(entries, after, key=_seq)
    stop = len(entries) if before is None else bisect_left(entries, before, key=_seq)
    return entries[start:stop]


def _taken(entries: list[_Entry], limit: int | None, include_superseded: bool, *, oldest: bool) -> list[_Entry]:
    """The first (`oldest`) or last `limit` of the entries wanted, in order; stops as soon as it has them."""
    if limit is None:
        return [entry for entry in entries if include_superseded or not entry.superseded]
    found: list[_Entry] = []
    for entry in entries if oldest else reversed(entries):
        if len(found) >= limit:
            break
        if include_superseded or not entry.superseded:
            found.append(entry)
    return found if oldest else found[::-1]
