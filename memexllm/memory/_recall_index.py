"""Vectors of past turns: derived from the stored threads, brought up to date when somebody searches.

What a record's id says (its thread, its seq, and a mark of what the record was made of) is compared with what is
stored, so whatever went wrong in between is set right by comparing once more; nothing is noted about the index outside
of it. What was seen of a thread is kept in this object, so that a thread that only grew is read from where it ended.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from memexllm.core import jsontext
from memexllm.core.flow import Flow
from memexllm.core.models import Message, Thread
from memexllm.memory.base_database import EmbeddingVectorDatabase
from memexllm.memory.ports import Port
from memexllm.memory.records import MemoryRecord
from memexllm.storage._listing import ListQuery
from memexllm.storage._searching import said
from memexllm.storage.port import Reader, StoragePort

KIND = "message"
THREADS_AT_ONCE = 100
TURNS_AT_ONCE = 200
"""How many turns are embedded and written together; what is cut off in between loses no more."""
MOST_CHARS = 2000
"""How much of a turn is embedded: models take no endless text, and a vector of one says little."""
_COMPARED_EVERY = 50
_NO_LIMIT = 1 << 61


@dataclass(slots=True)
class _Seen:
    """A thread as it was when its turns were last looked at; `compared` is the version at the last whole look."""

    version: int
    user_id: str | None
    created_at: datetime
    last_seq: int
    n_live: int | None
    compared: int


@dataclass
class TurnIndex:
    """`owned`: nothing else is in the database. `most` turns are embedded by one search, the rest by the next."""

    storage: StoragePort
    database: Port
    owned: bool
    most: int
    _seen: dict[str, _Seen] = field(default_factory=dict[str, _Seen])
    _walked: set[str | None] = field(default_factory=set[str | None])
    """Users all of whose threads were looked at; None for everybody's."""

    def catch_up(self, thread_id: str | None, user_id: str | None, *, all_of_it: bool = False) -> Flow[int]:
        """Bring the turns of a thread, a user or everybody up to date; how many were embedded."""
        most = _NO_LIMIT if all_of_it else self.most
        n_embedded = 0
        for each in (yield from self._changed(thread_id, user_id)):
            if n_embedded >= most:
                return n_embedded
            n_embedded += yield from self._look_at(each, most - n_embedded)
        if thread_id is None and n_embedded < most:
            self._walked.add(user_id)
        return n_embedded

    def nearest(self, text: str, thread_id: str | None, user_id: str | None, limit: int) -> Flow[list[MemoryRecord]]:
        """The turns nearest to a text, as they were indexed, each with its score."""
        filters: dict[str, Any] = {} if self.owned else {"kind": KIND}
        if thread_id is not None:
            filters["thread_id"] = thread_id
            # Whose thread it is spares the database a look through everybody's vectors.
            seen = self._seen.get(thread_id)
            if seen is not None and seen.user_id is not None:
                filters["user_id"] = seen.user_id
            elif seen is not None and isinstance(self.database, EmbeddingVectorDatabase):
                filters["user_id"] = {"eq": None}
        if user_id is not None:
            filters["user_id"] = user_id
        found = yield from self.database.searching(text[:MOST_CHARS], limit, **filters)
        return [record for record in found.memories if seq_of(record) is not None]

    def live(self, record: MemoryRecord, readers: dict[str, Reader | None]) -> Flow[Message | None]:
        """The turn of a record, or None, and the record gone, when turn or owner are not what it was made of.

        `readers` are those of this search, by thread.
        """
        thread_id, seq = record.thread_id or "", seq_of(record) or 0
        if thread_id not in readers:
            readers[thread_id] = yield from self.storage.read(thread_id)
        reader = readers[thread_id]
        if reader is not None:
            messages: list[Message] = yield reader.messages(after=seq - 1, before=seq + 1)
            for message in messages:
                if record.id == record_id(reader.head, message):
                    return message
        self._seen.pop(thread_id, None)
        yield from self.database.deleting([record.id])
        return None

    def _changed(self, thread_id: str | None, user_id: str | None) -> Flow[list[str]]:
        """Ids of threads that are not as they were seen, and of those that are gone."""
        if thread_id is not None:
            reader = yield from self.storage.read(thread_id)
            return [] if reader is not None and self._is_seen(reader.head) else [thread_id]
        changed: list[str] = []
        listed: set[str] = set()
        while True:
            query = ListQuery(THREADS_AT_ONCE, len(listed), user_id, order_by="-updated")
            page: list[Thread] = yield from self.storage.list_threads(query)
            n_before = len(listed)
            listed.update(head.id for head in page)
            changed += [head.id for head in page if not self._is_seen(head)]
            if len(listed) < n_before + THREADS_AT_ONCE:
                break
            if user_id in self._walked and all(map(self._is_seen, page)):
                return changed  # the others were not written to since
        changed += [
            each
            for each, seen in list(self._seen.items())
            if each not in listed and (user_id is None or seen.user_id == user_id)
        ]
        if user_id not in self._walked:
            changed += sorted((yield from self._threads_in_index(user_id)) - listed - set(changed))
        return changed

    def _threads_in_index(self, user_id: str | None) -> Flow[set[str]]:
        records = yield from self._records({} if user_id is None else {"user_id": user_id})
        return {record.thread_id for record in records.values() if record.thread_id is not None}

    def _is_seen(self, head: Thread) -> bool:
        seen = self._seen.get(head.id)
        return seen is not None and seen.version == head.version and _is_same(seen, head)

    def _look_at(self, thread_id: str, room: int) -> Flow[int]:
        """Index what a thread has to be indexed, at most `room` turns of it; how many were embedded."""
        reader = yield from self.storage.read(thread_id)
        if reader is None:
            self._seen.pop(thread_id, None)
            yield from self._remove((yield from self._records({"thread_id": thread_id})))
            return 0
        seen = self._seen.get(thread_id)
        if seen is not None and _is_same(seen, reader.head):
            added: list[Message] = yield reader.messages(after=seen.last_seq)
            if _explains(seen, reader.head, added):
                return (yield from self._add(reader.head, added, seen.compared, room))
        return (yield from self._compare(reader, room))

    def _compare(self, reader: Reader, room: int) -> Flow[int]:
        """Make the index of a thread what the thread is, whatever it was."""
        head = reader.head
        messages: list[Message] = yield reader.messages()
        wanted = {record_id(head, message) for message in messages}
        present = yield from self._records({"thread_id": head.id})
        yield from self._remove({each: record for each, record in present.items() if each not in wanted})
        return (yield from self._add(head, messages, head.version, room, frozenset(present)))

    def _add(
        self, head: Thread, messages: list[Message], compared: int, room: int, present: frozenset[str] = frozenset()
    ) -> Flow[int]:
        found = [(message, record) for message in messages if (record := _record(head, message)) is not None]
        records = [(message, record) for message, record in found if record.id not in present]
        for start in range(0, min(len(records), room), TURNS_AT_ONCE):
            batch = records[start : min(start + TURNS_AT_ONCE, room)]
            yield from self.database.adding([record for _, record in batch])
        if len(records) > room:
            # The next look compares, and finds what is there already.
            self._seen.pop(head.id, None)
            return room
        before = self._seen.get(head.id)
        last_seq = messages[-1].seq if messages else None
        if last_seq is None:
            last_seq = -1 if before is None else before.last_seq
        self._seen[head.id] = _Seen(
            head.version, head.user_id, head.created_at, last_seq, head.stored_messages, compared
        )
        return len(records)

    def _records(self, filters: Mapping[str, Any]) -> Flow[dict[str, MemoryRecord]]:
        """Those of the index that match, by id."""
        found: dict[str, MemoryRecord] = {}
        offset: int | None = 0
        while offset is not None:
            page = yield from self.database.listing(offset, 1000, kind=KIND, **filters)
            found.update({record.id: record for record in page.memories if seq_of(record) is not None})
            offset = page.next_offset
        return found

    def _remove(self, records: Mapping[str, MemoryRecord]) -> Flow[None]:
        if records:
            yield from self.database.deleting(list(records))


def seq_of(record: MemoryRecord) -> int | None:
    """The seq of the turn a record was made of; None for a record of somebody else's."""
    seq = record.metadata.get("seq")
    ours = type(seq) is int and record.id.startswith(f"{record.thread_id}#{seq}#")
    return seq if ours else None


def record_id(head: Thread, message: Message) -> str:
    """Names thread, seq, and what the record is made of: another text or user makes another record."""
    made_of = jsontext.dumps([head.user_id, message.role, embedded_text(message)], "message")
    return f"{head.id}#{message.seq}#{hashlib.blake2b(made_of.encode(), digest_size=8).hexdigest()}"


def _record(head: Thread, message: Message) -> MemoryRecord | None:
    """What is indexed of a turn; None when it says nothing, or waits for its answer."""
    text = embedded_text(message)
    if not text.strip() or message.status == "pending" or message.superseded:
        return None
    return MemoryRecord(
        text,
        id=record_id(head, message),
        kind=KIND,
        user_id=head.user_id,
        thread_id=head.id,
        metadata={"seq": message.seq, "role": message.role, "speaker": speaker_of(message)},
        created_at=message.created_at,
    )


def embedded_text(message: Message) -> str:
    return said(message.wire, message.metadata)[:MOST_CHARS]


def speaker_of(message: Message) -> str | None:
    speaker = message.name or message.metadata.get("speaker")
    return speaker if isinstance(speaker, str) else None


def _is_same(seen: _Seen, head: Thread) -> bool:
    return seen.user_id == head.user_id and seen.created_at == head.created_at


def _explains(seen: _Seen, head: Thread, added: list[Message]) -> bool:
    """Whether the messages at the end are all that happened, as far as counting tells.

    A text changed in place counts for nothing where others were added as well; `live` finds it when it is hit, and the
    whole thread is compared again from time to time.
    """
    if seen.n_live is None or head.stored_messages != seen.n_live + len(added):
        return False
    writes = head.version - seen.version
    return 0 < writes <= len(added) and head.version - seen.compared <= max(_COMPARED_EVERY, seen.n_live // 4)
