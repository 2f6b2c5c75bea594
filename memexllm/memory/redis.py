"""`RedisVectorDatabase`: records on a Redis server from version 8 on, found by its vector sets.

Each user has a vector set of their own, so that a search goes through what this user said and nothing else. Filters and
totals are exact, and so is the order of what is found in a set of up to `exact_up_to` records; larger ones are searched
through their graph, which may now and then miss one of the nearest. A `min_score` is always exact, and slow where most
of a large set reaches it. A search without `user_id` asks each user's set.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from memexllm.core.errors import ConfigurationError
from memexllm.core.flow import Flow, arun, run
from memexllm.core.refusals import checked_not_negative, checked_positive
from memexllm.memory._redis_asking import Asking
from memexllm.memory._redis_searching import Reading
from memexllm.memory._redis_writing import Writing
from memexllm.memory.base_database import EmbeddingVectorDatabase
from memexllm.memory.embeddings.vectors import numpy_for
from memexllm.memory.filters import Filter
from memexllm.memory.records import MemoryRecord
from memexllm.storage._redis_calls import AsyncCalls, Calls, driver_for
from memexllm.storage._redis_keys import checked_prefix

__all__ = ["RedisVectorDatabase", "AsyncRedisVectorDatabase"]


class _OnRedis(EmbeddingVectorDatabase):
    """What the two have in common; they differ in how a flow is driven."""

    provider_name = "redis"
    _by: ClassVar[str]
    _calls_kind: ClassVar[Any]

    def __init__(
        self,
        url: str | None = None,
        embeddings: Any = None,
        *,
        client: Any = None,
        prefix: str = "memory",
        dimensions: int | None = None,
        exact_up_to: int = 10_000,
        max_connections: int = 50,
        timeout_s: float = 20.0,
        retry_timeout_s: float = 10.0,
    ) -> None:
        if embeddings is None:
            raise ConfigurationError(f"{self._by} needs embeddings=, such as HashingEmbeddings()")
        super().__init__(embeddings)
        numpy_for(self._by)
        if dimensions is not None:
            checked_positive(dimensions, "dimensions")
        checked_not_negative(exact_up_to, "exact_up_to")
        self.prefix = checked_prefix(prefix)
        driver = driver_for(self._by, url, client, max_connections, timeout_s, retry_timeout_s)
        self._place = driver.place
        self._calls = self._calls_kind(driver, client)
        asking = Asking(self._calls, driver.place, self.prefix, dimensions, retry_timeout_s)
        self._reads = Reading(asking, exact_up_to)
        self._writes = Writing(asking, self._reads)

    def __repr__(self) -> str:
        return f"{self._by}({str(self._place)!r}, {self.embeddings!r}, prefix={self.prefix!r})"

    @abstractmethod
    def _drive(self, flow: Flow[Any]) -> Any:
        """What the flow returns, or an awaitable of it."""

    def insert_rows(self, records: Sequence[MemoryRecord], vectors: Mapping[int, Any]) -> Any:
        return self._drive(self._writes.insert(records, vectors))

    def replace_rows(self, records: Sequence[MemoryRecord], vectors: Mapping[int, Any]) -> Any:
        return self._drive(self._writes.replace(records, vectors))

    def remove_rows(self, ids: Sequence[str] | None, wanted: Filter) -> Any:
        return self._drive(self._writes.remove(ids, wanted))

    def fetch_rows(self, ids: Sequence[str]) -> Any:
        return self._drive(self._reads.fetch(ids))

    def page_of_rows(self, wanted: Filter, limit: int, offset: int) -> Any:
        return self._drive(self._reads.page(wanted, limit, offset))

    def count_rows(self, wanted: Filter) -> Any:
        return self._drive(self._reads.count(wanted))

    def nearest_rows(self, vector: Any, wanted: Filter, limit: int, offset: int, min_score: float | None) -> Any:
        return self._drive(self._reads.nearest(vector, wanted, limit, offset, min_score))

    def begin_reembedding(self) -> Any:
        return self._drive(self._writes.begin_reembedding())

    def texts_to_embed(self, limit: int) -> Any:
        return self._drive(self._writes.texts_to_embed(limit))

    def keep_new_vectors(self, texts: Mapping[str, str], vectors: Mapping[str, Any]) -> Any:
        return self._drive(self._writes.keep_new_vectors(texts, vectors))

    def use_new_vectors(self, dimensions: int | None) -> Any:
        return self._drive(self._writes.use_new_vectors())

    def close_rows(self) -> Any:
        return self._calls.close()


class RedisVectorDatabase(_OnRedis):
    """Records on a server at `url` (`redis://`, `rediss://`, `unix://`) or a cluster; both managers take it.

    On a cluster (`redis+cluster://`) a database lies on one of the servers. A `client` of redis-py is used as it is and
    never closed. `prefix` begins every key. Vectors of another length than `dimensions`, where it is given, are
    refused. The other options are those of `RedisStorage`. An older server, or Valkey, is a `NotSupportedError` at
    first use.

    What one call adds, changes or deletes is one step of the server, which answers nobody else meanwhile: add thousands
    of memories in several calls.
    """

    _by = "RedisVectorDatabase"
    _calls_kind = Calls

    def _drive(self, flow: Flow[Any]) -> Any:
        return run(flow)


class AsyncRedisVectorDatabase(_OnRedis):
    """Async `RedisVectorDatabase`, on the event loop instead of worker threads; for `AsyncMemoryManager`.

    A `client` handed in is one of `redis.asyncio` and belongs to the loop it was first used on.
    """

    blocking = False
    awaitable = True
    _by = "AsyncRedisVectorDatabase"
    _calls_kind = AsyncCalls

    def _drive(self, flow: Flow[Any]) -> Any:
        return arun(flow)
