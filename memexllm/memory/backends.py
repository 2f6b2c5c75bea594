"""`StorageBackendDatabase`: a `StorageBackend`, three synchronous methods, as a vector database."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from memexllm.core.errors import ConfigurationError, MemoryNotFoundError, NotSupportedError, ProviderError
from memexllm.memory.base_database import EmbeddingVectorDatabase, Found, Written, result_of
from memexllm.memory.doors import provider_name, told_as_provider_error
from memexllm.memory.filters import Filter
from memexllm.memory.records import MemoryRecord
from memexllm.memory.refusals import unknown_memory

_REQUIRED = ("store_memory", "retrieve_memory", "search_memories")


class StorageBackendDatabase(EmbeddingVectorDatabase):
    """Whatever a backend has no method for is a `NotSupportedError` that says which method brings it.

    The same text twice is two records: a backend cannot be asked for what it says. `total` of a search counts what had
    to be looked at, which is all that match or more than the page holds.
    """

    def __init__(self, backend: Any, embeddings: Any) -> None:
        super().__init__(embeddings)
        missing = [name for name in _REQUIRED if not callable(getattr(backend, name, None))]
        if missing or isinstance(backend, type):
            what = "is a class; give an object of it" if isinstance(backend, type) else f"lacks {', '.join(missing)}"
            raise ConfigurationError(f"storage_backend: {provider_name(backend)} {what}")
        self.backend = backend
        self.blocking = getattr(backend, "blocking", True)

    def __repr__(self) -> str:
        return f"StorageBackendDatabase({self.backend!r})"

    def insert_rows(self, records: Sequence[MemoryRecord], vectors: Mapping[int, Any]) -> Written:
        if wanting := [place for place in range(len(records)) if place not in vectors]:
            return Written([], wanting)
        ids: list[str] = []
        try:
            for place, record in enumerate(records):
                stored = self._call("store_memory", record.changed(embedding=vectors[place]))
                if not isinstance(stored, str):
                    cause = f"store_memory() returned a {type(stored).__name__}, not the memory's id"
                    raise ProviderError(provider_name(self.backend), "store_memory", cause)
                ids.append(stored)
        except BaseException:
            self._take_back(ids)
            raise
        return Written(ids, new=range(len(records)))

    def replace_rows(self, records: Sequence[MemoryRecord], vectors: Mapping[int, Any]) -> Written:
        self._needs("update_memory", "update")
        wanting: list[int] = []
        for place, record in enumerate(records):
            stored = self.fetch_rows([record.id])
            if not stored or stored[0].user_id != record.user_id:
                raise unknown_memory(record.id)
            if place not in vectors:
                wanting.append(place)
        if wanting:
            return Written([], wanting)
        for place, record in enumerate(records):
            self._call("update_memory", record.changed(embedding=vectors[place]))
        return Written([record.id for record in records])

    def fetch_rows(self, ids: Sequence[str]) -> list[MemoryRecord]:
        found: list[MemoryRecord] = []
        for memory_id in ids:
            with contextlib.suppress(MemoryNotFoundError):
                record = self._call("retrieve_memory", memory_id)
                if record is not None:
                    # It is known by the id that store_memory() returned, whatever it calls itself.
                    found.append(self._checked("retrieve_memory", [record])[0].changed(id=memory_id))
        return found

    def nearest_rows(self, vector: Any, wanted: Filter, limit: int, offset: int, min_score: float | None) -> Found:
        needed, asked = offset + limit + 1, offset + limit + 1
        while True:
            found = self._call("search_memories", vector, asked)
            if found is None:
                hint = "its search_memories() returned None, which says that it cannot; use a MemoryVectorDatabase"
                raise NotSupportedError(provider_name(self.backend), "search", hint)
            records = self._checked("search_memories", found)
            kept = [record for record in records if wanted.matches(record) and _near(record, min_score)]
            if len(kept) >= needed or len(records) < asked:
                break
            asked *= 4
        return Found([result_of(record, record.score) for record in kept[offset : offset + limit]], len(kept))

    def page_of_rows(self, wanted: Filter, limit: int, offset: int) -> Found:
        found = [record for record in self._all("list") if wanted.matches(record)]
        return Found(found[offset : offset + limit], len(found))

    def count_rows(self, wanted: Filter) -> int:
        return sum(1 for record in self._all("count") if wanted.matches(record))

    def remove_rows(self, ids: Sequence[str] | None, wanted: Filter) -> int:
        self._needs("delete_memory", "delete")
        records = self._all("delete_all") if ids is None else self.fetch_rows(ids)
        meant = [record.id for record in records if wanted.matches(record)]
        for memory_id in meant:
            self._call("delete_memory", memory_id)
        return len(meant)

    def begin_reembedding(self) -> None:
        hint = "a StorageBackend keeps vectors as it likes; make a new one with the other provider"
        raise NotSupportedError(provider_name(self.backend), "reembed", hint)

    def texts_to_embed(self, limit: int) -> list[tuple[str, str]]:
        return []

    def keep_new_vectors(self, texts: Mapping[str, str], vectors: Mapping[str, Any]) -> None:
        self.begin_reembedding()

    def use_new_vectors(self, dimensions: int | None) -> bool:
        return True

    def close_rows(self) -> None:
        close: Callable[[], Any] | None = getattr(self.backend, "close", None)
        if close is not None:
            close()

    def _all(self, operation: str) -> list[MemoryRecord]:
        self._needs("list_memories", operation)
        return self._checked("list_memories", self._call("list_memories"))

    def _take_back(self, ids: Sequence[str]) -> None:
        if hasattr(self.backend, "delete_memory"):
            for memory_id in ids:
                self._call("delete_memory", memory_id)

    def _needs(self, method: str, operation: str) -> None:
        if not hasattr(self.backend, method):
            raise NotSupportedError(provider_name(self.backend), operation, f"it has no method {method}()")

    def _call(self, method: str, *args: Any) -> Any:
        with told_as_provider_error(self.backend, method):
            return getattr(self.backend, method)(*args)

    def _checked(self, operation: str, found: Any) -> list[MemoryRecord]:
        if not isinstance(found, list | tuple) or not all(isinstance(each, MemoryRecord) for each in found):
            cause = f"{operation}() returned something other than memories"
            raise ProviderError(provider_name(self.backend), operation, cause)
        return [record.changed() for record in found]


def _near(record: MemoryRecord, min_score: float | None) -> bool:
    return min_score is None or (record.score is not None and record.score >= min_score)
