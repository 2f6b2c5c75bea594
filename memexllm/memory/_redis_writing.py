"""What the Redis databases write, as flows of scripts.

Python decides what a write does and the script whether that still holds; if not, it is decided anew (`again`). A write
carries a token, so one whose answer was lost is sent again without being done twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from memexllm.core.flow import Flow
from memexllm.core.moments import new_id
from memexllm.memory import _redis_writes as writes
from memexllm.memory._redis_asking import Asking, Row, blob_of
from memexllm.memory._redis_filters import decider, fields_of, marks_of, sieve_of
from memexllm.memory._redis_searching import Reading
from memexllm.memory.base_database import Written
from memexllm.memory.filters import Filter
from memexllm.memory.records import MemoryRecord
from memexllm.memory.refusals import refuse_taken, said_already, unknown_memory
from memexllm.storage._redis_keys import owner_of

_AGAIN = "embed memories again"


class Writing:
    """The flows of writes, and of embedding all of it again."""

    def __init__(self, asking: Asking, reading: Reading) -> None:
        self._ask = asking
        self._reading = reading
        self._run = ""

    def insert(self, records: Sequence[MemoryRecord], vectors: Mapping[int, Any]) -> Flow[Written]:
        doing = "add memories"
        identities = [record.identity().hex() for record in records]
        while True:
            taken, said = yield from self._ask.look(doing, [record.id for record in records], [], identities)
            ids, new = _told_apart(records, identities, [row is not None for row in taken], said)
            if wanting := [place for place in new if place not in vectors]:
                return Written(ids, wanting)
            if not new:
                return Written(ids)
            dimensions = self._ask.one_length([vectors[place] for place in new])
            args: list[Any] = [dimensions, len(new)]
            for place in new:
                record = records[place]
                args += [record.id, identities[place], owner_of(record.user_id), blob_of(vectors[place])]
                args += [*marks_of(record), *_hash_of(record)]
            reply = yield from self._ask.write(doing, writes.INSERT, args, dimensions)
            if reply[0] == b"ok":
                return Written(ids, new=list(new))

    def replace(self, records: Sequence[MemoryRecord], vectors: Mapping[int, Any]) -> Flow[Written]:
        doing = "update memories"
        identities = [record.identity().hex() for record in records]
        ids = [record.id for record in records]
        while True:
            found, said = yield from self._ask.look(doing, ids, ["owner", "text"], identities)
            rows = [_own(record, row) for record, row in zip(records, found, strict=True)]
            said_anew = [place for place, row in enumerate(rows) if row[3].decode() != records[place].text]
            if wanting := [place for place in said_anew if place not in vectors]:
                return Written([], wanting)
            _refuse_twice(records, identities, said)
            dimensions = self._ask.one_length([vectors[place] for place in said_anew]) if said_anew else 0
            args: list[Any] = [dimensions, len(records)]
            for place, record in enumerate(records):
                other = said[place]
                args += [*rows[place][:2], record.id, identities[place], "-" if other is None else f"={other}"]
                args += [blob_of(vectors[place]) if place in said_anew else b"", *marks_of(record), *_hash_of(record)]
            reply = yield from self._ask.write(doing, writes.REPLACE, args, dimensions)
            if reply[0] == b"ok":
                return Written(ids)

    def remove(self, ids: Sequence[str] | None, wanted: Filter) -> Flow[int]:
        doing = "delete memories"
        while True:
            if ids is None:
                rows = yield from self._reading.candidates(doing, sieve_of(wanted))
            else:
                rows = yield from self._named(doing, ids, wanted)
            if not rows:
                return 0
            args = [len(rows), *(each for row in rows for each in row[:2])]
            reply = yield from self._ask.write(doing, writes.REMOVE, args)
            if reply[0] == b"ok":
                return int(reply[1])

    def begin_reembedding(self) -> Flow[None]:
        self._run = new_id()
        yield from self._ask.write(_AGAIN, writes.BEGIN_AGAIN, [self._run])

    def texts_to_embed(self, limit: int) -> Flow[list[tuple[str, str]]]:
        reply = yield from self._ask.asked(_AGAIN, writes.LEFT, [self._run, limit])
        return [(record_id.decode(), text.decode()) for record_id, text in reply[1]]

    def keep_new_vectors(self, texts: Mapping[str, str], vectors: Mapping[str, Any]) -> Flow[None]:
        dimensions = self._ask.one_length(list(vectors.values()))
        args: list[Any] = [self._run, dimensions, len(vectors)]
        for record_id, vector in vectors.items():
            args += [record_id, texts[record_id], blob_of(vector)]
        yield from self._ask.write(_AGAIN, writes.KEEP, args, dimensions)

    def use_new_vectors(self) -> Flow[bool]:
        reply = yield from self._ask.write(_AGAIN, writes.USE, [self._run])
        return int(reply[1]) == 1

    def _named(self, doing: str, ids: Sequence[str], wanted: Filter) -> Flow[list[Row]]:
        """The rows of these ids that match."""
        accepts = decider(wanted.conditions)
        found, _ = yield from self._ask.look(doing, list(dict.fromkeys(ids)), fields_of(wanted.conditions), [])
        return [row for row in found if row is not None and accepts(row[2:])]


def _told_apart(
    records: Sequence[MemoryRecord], identities: Sequence[str], taken: Sequence[bool], known: Sequence[str | None]
) -> tuple[list[str], list[int]]:
    """The id of each, and the places of those that are not there yet."""
    ids: list[str] = []
    new: list[int] = []
    said: dict[str, str] = {}
    said_ids: set[str] = set()
    for place, record in enumerate(records):
        stored = known[place]
        if stored is None:
            stored = said.get(identities[place])
        if stored is None:
            refuse_taken(record.id, taken[place] or record.id in said_ids)
            new.append(place)
            stored = said[identities[place]] = record.id
            said_ids.add(stored)
        ids.append(stored)
    return ids, new


def _own(record: MemoryRecord, row: Row | None) -> Row:
    if row is None or row[2].decode() != owner_of(record.user_id):
        raise unknown_memory(record.id)
    return row


def _refuse_twice(records: Sequence[MemoryRecord], identities: Sequence[str], known: Sequence[str | None]) -> None:
    """No two records say the same after the update; those that are updated may trade their texts."""
    replaced = {record.id for record in records}
    said: dict[str, str] = {}
    for record, identity, stored in zip(records, identities, known, strict=True):
        other = said.get(identity) if stored is None or stored in replaced else stored
        if other is not None:
            raise said_already(record.id, other)
        said[identity] = record.id


def _hash_of(record: MemoryRecord) -> list[Any]:
    """How many fields the record's hash has, then each with its value."""
    fields = record.changed(score=None).to_dict()
    return [len(fields), *(each for pair in fields.items() for each in pair)]
