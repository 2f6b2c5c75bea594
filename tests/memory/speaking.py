"""Managers whose methods are called the same way, whichever they are; and databases and plugins of somebody else."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from memexllm.memory import AsyncMemoryManager, MemoryManager, MemoryRecord, MemoryRecordResults, MemoryVectorDatabase
from memexllm.memory.filters import parsed_filters
from memexllm.memory.vector_database import StorageBackend


class Spoken:
    """A manager of either kind, called synchronously."""

    def __init__(self, manager: MemoryManager | AsyncMemoryManager, runner: asyncio.Runner) -> None:
        self.manager = manager
        self.runner = runner

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.manager, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            return self.runner.run(_awaited(result)) if inspect.isawaitable(result) else result

        return call


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


class ListDatabase(MemoryVectorDatabase):
    """As somebody would write one in an afternoon: a list, and words in common instead of vectors."""

    def __init__(self, embeddings: Any = None) -> None:
        self.embeddings = embeddings
        self.records: list[MemoryRecord] = []

    async def add_memories(self, memories: list[MemoryRecord]) -> list[str]:
        self.records.extend(memories)
        return [memory.id for memory in memories]

    async def search_memories(self, query: str, limit: int = 10, **kwargs: Any) -> MemoryRecordResults:
        wanted = set(query.split())
        found = [record for record in self._matching(kwargs) if wanted & set(record.text.split())]
        scored = [record.changed(score=len(wanted & set(record.text.split())) / len(wanted)) for record in found]
        best = sorted(scored, key=lambda record: -(record.score or 0))
        return MemoryRecordResults(best[:limit], total=len(best), next_offset=None)

    async def delete_memories(self, memory_ids: list[str]) -> None:
        self.records = [record for record in self.records if record.id not in memory_ids]

    async def update_memories(self, memories: list[MemoryRecord]) -> list[str]:
        new = {memory.id: memory for memory in memories}
        self.records = [new.get(record.id, record) for record in self.records]
        return list(new)

    async def count_memories(self, **filters: Any) -> int:
        return len(self._matching(filters))

    async def list_memories(self, offset: int = 0, limit: int = 100, **filters: Any) -> MemoryRecordResults:
        found = self._matching(filters)
        end = offset + limit
        return MemoryRecordResults(found[offset:end], total=len(found), next_offset=end if end < len(found) else None)

    def _matching(self, filters: dict[str, Any]) -> list[MemoryRecord]:
        wanted = parsed_filters(filters)
        return [record for record in self.records if wanted.matches(record)]


class DictBackend(StorageBackend):
    """The three methods, over a dict and numpy."""

    def __init__(self) -> None:
        self.stored: dict[str, MemoryRecord] = {}

    def store_memory(self, memory: MemoryRecord) -> str:
        self.stored[memory.id] = memory
        return memory.id

    def retrieve_memory(self, memory_id: str) -> MemoryRecord | None:
        return self.stored.get(memory_id)

    def search_memories(self, embedding: Any, limit: int) -> list[MemoryRecord] | None:
        scored = [memory.changed(score=float(memory.embedding @ embedding)) for memory in self.stored.values()]
        return sorted(scored, key=lambda memory: -(memory.score or 0))[:limit]


class WholeBackend(DictBackend):
    """With the methods a backend may have."""

    def delete_memory(self, memory_id: str) -> None:
        del self.stored[memory_id]

    def update_memory(self, memory: MemoryRecord) -> None:
        self.stored[memory.id] = memory

    def list_memories(self) -> list[MemoryRecord]:
        return list(self.stored.values())
