"""The contracts of what keeps records: `MemoryVectorDatabase`, and the simpler `StorageBackend`.

Six asynchronous methods make a database. It is given its embedding provider by whoever makes it, and embeds texts and
queries itself. The laws are tests: `memexllm.testing.VectorDatabaseConformance`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from memexllm.memory.records import MemoryRecord, MemoryRecordResults

REQUIRED = (
    "add_memories",
    "search_memories",
    "delete_memories",
    "update_memories",
    "count_memories",
    "list_memories",
)
_PAGE = 500


class MemoryVectorDatabase(ABC):
    """Where records are searched by meaning. Filters are those of `memexllm.memory.filters`.

    A database honours every filter or refuses it; a record of one user is never seen, changed or counted through
    another's filter.
    """

    @abstractmethod
    async def add_memories(self, memories: list[MemoryRecord]) -> list[str]:
        """Store the records, all or none; their ids in order.

        Of a record that says what a stored one of its user says already (`MemoryRecord.identity`), the stored one's id
        is returned, and nothing is changed.
        """

    @abstractmethod
    async def search_memories(self, query: str, limit: int = 10, **kwargs: Any) -> MemoryRecordResults:
        """The records nearest to `query`, the best first, each with its `score`; `kwargs` are filters and `offset`.

        With `hybrid=True`, by their words as well; a database without full text refuses it, as it does an unknown
        filter.
        """

    @abstractmethod
    async def delete_memories(self, memory_ids: list[str]) -> Any:
        """Delete the records; an id that is not there is none too many. May return how many there were."""

    @abstractmethod
    async def update_memories(self, memories: list[MemoryRecord]) -> Any:
        """Replace stored records by those of the same id and user, all or none; their ids in order.

        One that is not there is a `MemoryNotFoundError`.
        """

    @abstractmethod
    async def count_memories(self, **filters: Any) -> int:
        """How many records match."""

    @abstractmethod
    async def list_memories(self, offset: int = 0, limit: int = 100, **filters: Any) -> MemoryRecordResults:
        """The records that match, in the order in which they were added."""

    async def get_memories(self, memory_ids: Sequence[str]) -> list[MemoryRecord]:
        """The records of these ids, in order, without those that are not there. This default lists all there are."""
        wanted = set(memory_ids)
        found: dict[str, MemoryRecord] = {}
        offset: int | None = 0
        while offset is not None and len(found) < len(wanted):
            page = await self.list_memories(offset=offset, limit=_PAGE)
            found.update({record.id: record for record in page.memories if record.id in wanted})
            offset = page.next_offset
        return [found[memory_id] for memory_id in memory_ids if memory_id in found]

    async def close(self) -> None:
        """Close what this database opened."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


class StorageBackend(ABC):
    """Three synchronous methods over any store; `MemoryManager(storage_backend=...)` makes a memory of it.

    The manager embeds: `memory.embedding` is the text's vector when a record is stored, `embedding` the query's. Store
    a record under its `memory.id`, or return another id for it. Methods `delete_memory(memory_id)`,
    `update_memory(memory)` and `list_memories()` (all records, in order) are used when a backend has them; what needs
    one that is missing raises `NotSupportedError`.
    """

    @abstractmethod
    def store_memory(self, memory: MemoryRecord) -> str:
        """Store the record; its id, by which `retrieve_memory` finds it."""

    @abstractmethod
    def retrieve_memory(self, memory_id: str) -> MemoryRecord | None:
        """The record, or None when there is none; a `MemoryNotFoundError` says so too."""

    @abstractmethod
    def search_memories(self, embedding: Any, limit: int) -> list[MemoryRecord] | None:
        """The `limit` records nearest to the vector, the best first; None when the backend cannot search.

        Of all users: what is not meant is left out by the manager, which asks again for more where needed.
        """
