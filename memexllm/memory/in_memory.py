"""`InMemoryVectorDatabase`: records in this object, for tests, demos and what need not survive."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memexllm.memory._fusing import FOUND_BY_WORDS, fused, scanned, stems_in
from memexllm.memory._nearest import best_places
from memexllm.memory.base_database import EmbeddingVectorDatabase, Found, Written, result_of
from memexllm.memory.embeddings.vectors import numpy_for
from memexllm.memory.filters import Filter
from memexllm.memory.records import MemoryRecord
from memexllm.memory.refusals import check_dimensions, refuse_taken, said_already, unknown_memory

_EVERYONE: Any = object()


@dataclass
class _Row:
    record: MemoryRecord
    vector: Any
    identity: bytes
    _stems: list[str] | None = None

    def stems(self) -> list[str]:
        if self._stems is None:
            self._stems = stems_in(self.record.text)
        return self._stems


class InMemoryVectorDatabase(EmbeddingVectorDatabase):
    """Exact search over numpy arrays, without a file. Safe from any thread."""

    blocking = False
    provider_name = "in-memory"

    def __init__(self, embeddings: Any) -> None:
        super().__init__(embeddings)
        self._numpy = numpy_for("InMemoryVectorDatabase")
        self._lock = threading.RLock()
        self._rows: dict[str, _Row] = {}
        self._ids: dict[bytes, str] = {}
        self._of_user: dict[str | None, dict[str, _Row]] = {}
        self._matrices: dict[Any, tuple[list[_Row], Any]] = {}
        self._dimensions: int | None = None
        self._new_vectors: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"InMemoryVectorDatabase({len(self._rows)} records)"

    def insert_rows(self, records: Sequence[MemoryRecord], vectors: Mapping[int, Any]) -> Written:
        with self._lock:
            ids, new = self._told_apart(records)
            if wanting := [place for place in new if place not in vectors]:
                return Written(ids, wanting)
            for place in new:
                check_dimensions(self._dimensions, len(vectors[place]), "this database")
            for place, identity in new.items():
                self._put(records[place].changed(embedding=None), vectors[place], identity)
            return Written(ids, new=list(new))

    def replace_rows(self, records: Sequence[MemoryRecord], vectors: Mapping[int, Any]) -> Written:
        with self._lock:
            rows = [self._own_row(record) for record in records]
            pairs = list(enumerate(zip(rows, records, strict=True)))
            if wanting := [p for p, (row, new) in pairs if row.record.text != new.text and p not in vectors]:
                return Written([], wanting)
            identities = self._new_identities(records)
            for place in vectors:
                check_dimensions(self._dimensions, len(vectors[place]), "this database")
            for row in rows:
                self._ids.pop(row.identity, None)
            for place, (row, record) in pairs:
                self._put(record.changed(embedding=None), vectors.get(place, row.vector), identities[place])
            return Written([record.id for record in records])

    def fetch_rows(self, ids: Sequence[str]) -> list[MemoryRecord]:
        with self._lock:
            return [self._rows[each].record.changed() for each in ids if each in self._rows]

    def nearest_rows(self, vector: Any, wanted: Filter, limit: int, offset: int, min_score: float | None) -> Found:
        with self._lock:
            rows, scores = self._scored(vector, wanted)
            best, total = best_places(scores, limit, offset, min_score)
            return Found([result_of(rows[place].record, float(scores[place])) for place in best], total)

    def fused_rows(
        self, vector: Any, query: str, wanted: Filter, limit: int, offset: int, min_score: float | None
    ) -> Found:
        """By a look at every text of the user's."""
        with self._lock:
            rows, scores = self._scored(vector, wanted)
            words = scanned(query, [row.stems() for row in rows])[:FOUND_BY_WORDS]
            best, total = fused(scores, words, limit, offset, min_score)
            return Found([result_of(rows[place].record, score) for place, score in best], total)

    def _scored(self, vector: Any, wanted: Filter) -> tuple[list[_Row], Any]:
        """The rows that match, in order, and the similarity of each."""
        check_dimensions(self._dimensions, len(vector), "this database")
        of_one, user_id, rest = wanted.scope()
        rows, matrix = self._matrix(user_id if of_one else _EVERYONE)
        if rest.conditions:
            places = [place for place, row in enumerate(rows) if rest.matches(row.record)]
            rows, matrix = [rows[place] for place in places], matrix[places]
        return rows, matrix @ vector if rows else self._numpy.empty(0, "float32")

    def page_of_rows(self, wanted: Filter, limit: int, offset: int) -> Found:
        with self._lock:
            found = list(self._matching(wanted))
        return Found([row.record.changed() for row in found[offset : offset + limit]], len(found))

    def count_rows(self, wanted: Filter) -> int:
        with self._lock:
            return sum(1 for _ in self._matching(wanted))

    def remove_rows(self, ids: Sequence[str] | None, wanted: Filter) -> int:
        with self._lock:
            meant: Iterable[_Row] = self._matching(wanted)
            if ids is not None:
                named = [self._rows[each] for each in dict.fromkeys(ids) if each in self._rows]
                meant = [row for row in named if wanted.matches(row.record)]
            removed = list(meant)
            for row in removed:
                del self._rows[row.record.id], self._of_user[row.record.user_id][row.record.id]
                self._ids.pop(row.identity, None)
                self._new_vectors.pop(row.record.id, None)
                self._forget_matrix(row.record.user_id)
            if not self._rows:
                self._dimensions = None
            return len(removed)

    def begin_reembedding(self) -> None:
        with self._lock:
            self._new_vectors.clear()

    def texts_to_embed(self, limit: int) -> list[tuple[str, str]]:
        with self._lock:
            left = [(each, row.record.text) for each, row in self._rows.items() if each not in self._new_vectors]
        return left[:limit]

    def keep_new_vectors(self, texts: Mapping[str, str], vectors: Mapping[str, Any]) -> None:
        with self._lock:
            for each, vector in vectors.items():
                if each in self._rows and self._rows[each].record.text == texts[each]:
                    self._new_vectors[each] = vector

    def use_new_vectors(self, dimensions: int | None) -> bool:
        with self._lock:
            if not self._rows.keys() <= self._new_vectors.keys():
                return False
            for each, row in self._rows.items():
                row.vector = self._new_vectors[each]
            self._new_vectors.clear()
            self._matrices.clear()
            self._dimensions = dimensions if self._rows else None
            return True

    def _told_apart(self, records: Sequence[MemoryRecord]) -> tuple[list[str], dict[int, bytes]]:
        """The id of each, and the identity of those that are not there yet."""
        ids: list[str] = []
        new: dict[int, bytes] = {}
        said: dict[bytes, str] = {}
        for place, record in enumerate(records):
            identity = record.identity()
            known = self._ids.get(identity) or said.get(identity)
            if known is None:
                refuse_taken(record.id, record.id in self._rows or record.id in said.values())
                new[place] = identity
                known = said[identity] = record.id
            ids.append(known)
        return ids, new

    def _own_row(self, record: MemoryRecord) -> _Row:
        row = self._rows.get(record.id)
        if row is None or row.record.user_id != record.user_id:
            raise unknown_memory(record.id)
        return row

    def _new_identities(self, records: Sequence[MemoryRecord]) -> list[bytes]:
        replaced = {record.id for record in records}
        said: dict[bytes, str] = {}
        for record in records:
            identity = record.identity()
            other = self._ids.get(identity)
            if other is None or other in replaced:
                other = said.get(identity)
            if other is not None:
                raise said_already(record.id, other)
            said[identity] = record.id
        return list(said)

    def _put(self, record: MemoryRecord, vector: Any, identity: bytes) -> None:
        old = self._rows.get(record.id)
        if old is not None and old.record.text != record.text:
            self._new_vectors.pop(record.id, None)
        row = _Row(record, vector, identity)
        self._rows[record.id] = row
        self._of_user.setdefault(record.user_id, {})[record.id] = row
        self._ids[identity] = record.id
        self._dimensions = len(vector)
        self._forget_matrix(record.user_id)

    def _forget_matrix(self, user_id: str | None) -> None:
        self._matrices.pop(user_id, None)
        self._matrices.pop(_EVERYONE, None)

    def _matrix(self, user: Any) -> tuple[list[_Row], Any]:
        if user not in self._matrices:
            rows = list((self._rows if user is _EVERYONE else self._of_user.get(user, {})).values())
            matrix = self._numpy.array([row.vector for row in rows], dtype=self._numpy.float32)
            self._matrices[user] = (rows, matrix)
        return self._matrices[user]

    def _matching(self, wanted: Filter) -> Iterator[_Row]:
        user_id = wanted.value_of("user_id")
        rows = self._rows if user_id is None else self._of_user.get(user_id, {})
        return (row for row in rows.values() if wanted.matches(row.record))
