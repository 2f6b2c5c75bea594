"""`MemoryManager` and `AsyncMemoryManager`: the flows of `flows.py` and `ingesting.py`, run and awaited."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self, Unpack

from memexllm.core.flow import arun, run
from memexllm.memory import flows, ingesting
from memexllm.memory.documents import Ingested
from memexllm.memory.filters import Filters
from memexllm.memory.flows import UNSET
from memexllm.memory.ingest.document import Progress
from memexllm.memory.ingesting import IngestResult
from memexllm.memory.manager_base import MemoryManagerBase
from memexllm.memory.records import MemoryRecord, MemoryRecordResults

Records = list[MemoryRecord]


class MemoryManager(MemoryManagerBase):
    """Long-term memory: records that are found again by what they mean. `OpenMemory` is another name of it.

    Over a database object, the path of a SQLite file or a URL; over three methods of yours with `storage_backend=`;
    over what `MEMORY_VECTOR_DB_FACTORY` names; else in the file `memory.db`. `embeddings` is the provider for a
    database made here, by default `HashingEmbeddings()`, which knows words and no meanings. What is returned is the
    caller's.
    """

    def add(
        self,
        text: str,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        thread_id: str | None = None,
        kind: str = "fact",
        metadata: Mapping[str, Any] | None = None,
        memory_id: str | None = None,
    ) -> MemoryRecord:
        """Remember a text; the record that was stored.

        What the user has among his memories already (same agent, kind and text) is not stored twice: the record that is
        there is returned, unchanged.
        """
        record = self._record(text, user_id, agent_id, thread_id, kind, metadata, memory_id)
        return run(flows.add(self._opening, self._plugins, [record]))[0]

    def add_many(self, memories: Iterable[MemoryRecord]) -> Records:
        """Remember records, all or none; in order those stored, or there before."""
        return run(flows.add(self._opening, self._plugins, memories))

    def get(self, memory_id: str, *, user_id: str | None = None) -> MemoryRecord:
        """The record; `MemoryNotFoundError` when there is none, or when it is not this user's."""
        return run(flows.get(self._opening, memory_id, user_id))

    def search(
        self,
        query: str,
        *,
        limit: int = 10,
        offset: int = 0,
        min_score: float | None = None,
        hybrid: bool = False,
        **filters: Unpack[Filters],
    ) -> MemoryRecordResults:
        """The memories nearest to `query`, the best first, each with its `score`; of one user with `user_id=`.

        With `hybrid` they are those that answer by their words as well as by their meaning, so that names and rare
        words are found exactly; `score` is then of both, from 0 to 1, where the best of this search are near 1. A
        database without full text refuses that. `min_score` leaves out those with less. The filters are those of
        `memexllm.memory.filters`.
        """
        flow = flows.search(self._opening, self._plugins, query, limit, offset, min_score, filters, hybrid=hybrid)
        return run(flow)

    def update(
        self,
        memory_id: str,
        *,
        text: str = UNSET,
        metadata: Mapping[str, Any] = UNSET,
        user_id: str | None = None,
    ) -> MemoryRecord:
        """Give a memory another text, or replace its metadata; what is not given stays. The record as it is now.

        With `user_id`, another user's memory is a `MemoryNotFoundError`.
        """
        return run(flows.update(self._opening, self.clock, memory_id, text, metadata, user_id))

    def delete(self, memory_id: str, *, user_id: str | None = None) -> bool:
        """Delete a memory for good; False when there was none, or it is not this user's."""
        return run(flows.delete(self._opening, memory_id, user_id))

    def delete_all(self, **filters: Unpack[Filters]) -> int:
        """Delete every memory that matches; how many there were.

        Without a filter this is refused, unless the manager was made with `allow_delete_all=True`.
        """
        return run(flows.delete_all(self._opening, filters, unscoped=self.allow_delete_all))

    def list(self, *, limit: int = 100, offset: int = 0, **filters: Unpack[Filters]) -> MemoryRecordResults:
        """The memories that match, in the order in which they were added."""
        return run(flows.list_memories(self._opening, limit, offset, filters))

    def count(self, **filters: Unpack[Filters]) -> int:
        """How many memories match."""
        return run(flows.count(self._opening, filters))

    def ingest_text(
        self,
        text: str,
        *,
        chunk_strategy: Any = None,
        source: str | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> IngestResult:
        """Cut a text into chunks and remember each, of kind "document", all or none.

        `chunk_strategy` is a name, registered or built in ("fixed", "sentence", "markdown", "code", "token",
        "semantic"), or an object with a method `chunk`; by default "sentence". Each chunk's metadata has
        `document_id`, `chunk` (its number), `start` and `end` where they are known, `source` if given, and
        `metadata`.
        A text that is there already is not stored again.
        """
        document = Ingested(text, source, user_id, agent_id, metadata)
        return run(ingesting.ingest_text(self._ingesting(chunk_strategy, progress), document))

    def ingest_file(
        self,
        path: str | os.PathLike[str],
        *,
        chunk_strategy: Any = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> IngestResult:
        """`ingest_text` of what a file says: text, Markdown, HTML, code or PDF, each cut in the way that suits it.

        `source` is its path; chunks of a PDF know their `page`. `progress(done, total)` is called while it is read, in
        bytes or pages, and then while it is embedded, in chunks. A file without text is an `UnreadableFileError`.
        """
        document = Ingested("", None, user_id, agent_id, metadata)
        return run(ingesting.ingest_file(self._ingesting(chunk_strategy, progress), path, document))

    def reembed(self, embeddings: Any = None, *, batch_size: int = 256) -> int:
        """Embed every memory again; how many there were. The vectors in use stay until the last one is done.

        `embeddings` is a provider or the name of a registered one, which is used from then on; without it, the one in
        use embeds. A break-off leaves everything as it was.
        """
        return run(flows.reembed(self._opening, self._provider(embeddings), batch_size))

    def close(self) -> None:
        """Close the database, and what was opened for a store; stores that were given are their giver's."""
        run(self._closing())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncMemoryManager(MemoryManagerBase):
    """Async `MemoryManager`, over an asynchronous or a synchronous database. `Memio` is another name of it.

    It has no default: without a database, a store or `MEMORY_VECTOR_DB_FACTORY` it is a `ConfigurationError`.
    """

    _asynchronous = True

    async def add(
        self,
        text: str,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        thread_id: str | None = None,
        kind: str = "fact",
        metadata: Mapping[str, Any] | None = None,
        memory_id: str | None = None,
    ) -> MemoryRecord:
        """Async `MemoryManager.add`."""
        record = self._record(text, user_id, agent_id, thread_id, kind, metadata, memory_id)
        return (await arun(flows.add(self._opening, self._plugins, [record])))[0]

    async def add_many(self, memories: Iterable[MemoryRecord]) -> Records:
        """Async `MemoryManager.add_many`."""
        return await arun(flows.add(self._opening, self._plugins, memories))

    async def get(self, memory_id: str, *, user_id: str | None = None) -> MemoryRecord:
        """Async `MemoryManager.get`."""
        return await arun(flows.get(self._opening, memory_id, user_id))

    async def search(
        self,
        query: str,
        *,
        limit: int = 10,
        offset: int = 0,
        min_score: float | None = None,
        hybrid: bool = False,
        **filters: Unpack[Filters],
    ) -> MemoryRecordResults:
        """Async `MemoryManager.search`."""
        flow = flows.search(self._opening, self._plugins, query, limit, offset, min_score, filters, hybrid=hybrid)
        return await arun(flow)

    async def update(
        self,
        memory_id: str,
        *,
        text: str = UNSET,
        metadata: Mapping[str, Any] = UNSET,
        user_id: str | None = None,
    ) -> MemoryRecord:
        """Async `MemoryManager.update`."""
        return await arun(flows.update(self._opening, self.clock, memory_id, text, metadata, user_id))

    async def delete(self, memory_id: str, *, user_id: str | None = None) -> bool:
        """Async `MemoryManager.delete`."""
        return await arun(flows.delete(self._opening, memory_id, user_id))

    async def delete_all(self, **filters: Unpack[Filters]) -> int:
        """Async `MemoryManager.delete_all`."""
        return await arun(flows.delete_all(self._opening, filters, unscoped=self.allow_delete_all))

    async def list(self, *, limit: int = 100, offset: int = 0, **filters: Unpack[Filters]) -> MemoryRecordResults:
        """Async `MemoryManager.list`."""
        return await arun(flows.list_memories(self._opening, limit, offset, filters))

    async def count(self, **filters: Unpack[Filters]) -> int:
        """Async `MemoryManager.count`."""
        return await arun(flows.count(self._opening, filters))

    async def ingest_text(
        self,
        text: str,
        *,
        chunk_strategy: Any = None,
        source: str | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> IngestResult:
        """Async `MemoryManager.ingest_text`."""
        document = Ingested(text, source, user_id, agent_id, metadata)
        return await arun(ingesting.ingest_text(self._ingesting(chunk_strategy, progress), document))

    async def ingest_file(
        self,
        path: str | os.PathLike[str],
        *,
        chunk_strategy: Any = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> IngestResult:
        """Async `MemoryManager.ingest_file`."""
        document = Ingested("", None, user_id, agent_id, metadata)
        return await arun(ingesting.ingest_file(self._ingesting(chunk_strategy, progress), path, document))

    async def reembed(self, embeddings: Any = None, *, batch_size: int = 256) -> int:
        """Async `MemoryManager.reembed`."""
        return await arun(flows.reembed(self._opening, self._provider(embeddings), batch_size))

    async def close(self) -> None:
        """Async `MemoryManager.close`."""
        await arun(self._closing())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


OpenMemory = MemoryManager
Memio = AsyncMemoryManager
