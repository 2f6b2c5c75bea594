"""Vector databases that are broken in one way each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from memexllm.memory import InMemoryVectorDatabase, MemoryRecord, MemoryRecordResults
from memexllm.memory.base_database import Found, Written
from memexllm.memory.filters import Filter, parsed_filters


class ForgetsWhoseItIs(InMemoryVectorDatabase):
    async def search_memories(self, query: str, limit: int = 10, **kwargs: Any) -> MemoryRecordResults:
        kwargs.pop("user_id", None)
        return await super().search_memories(query, limit, **kwargs)


class CountsEveryone(InMemoryVectorDatabase):
    async def count_memories(self, **filters: Any) -> int:
        filters.pop("user_id", None)
        return await super().count_memories(**filters)


class OneRecordForAllWhoSayIt(InMemoryVectorDatabase):
    def insert_rows(self, records: Sequence[MemoryRecord], vectors: Mapping[int, Any]) -> Written:
        known = {row.record.text: each for each, row in self._rows.items()}
        new = [place for place, record in enumerate(records) if record.text not in known]
        written = super().insert_rows(
            [records[place] for place in new], {new.index(place): row for place, row in vectors.items()}
        )
        if written.wanting:
            return Written([], [new[place] for place in written.wanting])
        return Written([known.get(record.text, record.id) for record in records])


class UpdatesAnyonesRecord(InMemoryVectorDatabase):
    def _own_row(self, record: MemoryRecord) -> Any:
        if record.id in self._rows:
            record.user_id = self._rows[record.id].record.user_id
        return super()._own_row(record)


class IgnoresMetadata(InMemoryVectorDatabase):
    async def list_memories(self, offset: int = 0, limit: int = 100, **filters: Any) -> MemoryRecordResults:
        filters.pop("metadata", None)
        return await super().list_memories(offset, limit, **filters)


class TotalsOfThePage(InMemoryVectorDatabase):
    async def list_memories(self, offset: int = 0, limit: int = 100, **filters: Any) -> MemoryRecordResults:
        page = await super().list_memories(offset, limit, **filters)
        return MemoryRecordResults(page.memories)


class EndsAtTheFirstWrong(InMemoryVectorDatabase):
    async def add_memories(self, memories: Sequence[MemoryRecord]) -> list[str]:
        return [each for memory in memories for each in await super(EndsAtTheFirstWrong, self).add_memories([memory])]


class WorstFirst(InMemoryVectorDatabase):
    async def search_memories(self, query: str, limit: int = 10, **kwargs: Any) -> MemoryRecordResults:
        found = await super().search_memories(query, limit, **kwargs)
        return MemoryRecordResults(found.memories[::-1], found.total, found.next_offset)


class KeepsTheOldVector(InMemoryVectorDatabase):
    def replace_rows(self, records: Sequence[MemoryRecord], vectors: Mapping[int, Any]) -> Written:
        stale = {place: self._own_row(record).vector for place, record in enumerate(records)}
        return super().replace_rows(records, stale)


class DeletesNothing(InMemoryVectorDatabase):
    async def delete_memories(self, memory_ids: Sequence[str]) -> int:
        return len(memory_ids)


class HandsOutItsOwn(InMemoryVectorDatabase):
    def fetch_rows(self, ids: Sequence[str]) -> list[MemoryRecord]:
        return [self._rows[each].record for each in ids]

    async def list_memories(self, offset: int = 0, limit: int = 100, **filters: Any) -> MemoryRecordResults:
        page = await super().list_memories(offset, limit, **filters)
        return MemoryRecordResults([self._rows[record.id].record for record in page], page.total, page.next_offset)


class IgnoresWords(InMemoryVectorDatabase):
    async def search_memories(self, query: str, limit: int = 10, **kwargs: Any) -> MemoryRecordResults:
        kwargs.pop("hybrid", None)
        return await super().search_memories(query, limit, **kwargs)


class FiltersTheBestOnly(InMemoryVectorDatabase):
    def fused_rows(self, vector: Any, query: str, wanted: Filter, limit: int, offset: int, min_score: Any) -> Found:
        user = parsed_filters({"user_id": wanted.value_of("user_id")})
        found = super().fused_rows(vector, query, user, 100, 0, min_score).records
        kept = [record for record in found if wanted.matches(record)]
        return Found(kept[offset : offset + limit], len(kept))


class KeepsTheOldWords(InMemoryVectorDatabase):
    def replace_rows(self, records: Sequence[MemoryRecord], vectors: Mapping[int, Any]) -> Written:
        stale = [self._own_row(record).stems() for record in records]
        written = super().replace_rows(records, vectors)
        for record, stems in zip(records, stale, strict=True):
            self._rows[record.id]._stems = stems
        return written
