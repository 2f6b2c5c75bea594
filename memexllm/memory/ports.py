"""A manager's one way to a database: whichever it is, it answers the flows of `EmbeddingVectorDatabase`.

Our own databases have them. `ForeignDatabase` gives them to a `MemoryVectorDatabase` of somebody else, and holds it to
its contract: what it returns is looked at, and a record the filters exclude is an error and not an answer.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from memexllm.core.errors import NotSupportedError, ProviderError
from memexllm.core.flow import Flow, Step
from memexllm.memory.base_database import (
    EmbeddingVectorDatabase,
    Written,
    check_least,
    checked_page,
    checked_query,
    checked_records,
)
from memexllm.memory.doors import provider_call, provider_name
from memexllm.memory.filters import Filter, parsed_filters
from memexllm.memory.records import MemoryRecord, MemoryRecordResults
from memexllm.memory.vector_database import REQUIRED

_PAGE = 500
_PRIMITIVES = ("insert_rows", "replace_rows", "fetch_rows", "nearest_rows", "page_of_rows", "count_rows", "remove_rows")


class ForeignDatabase:
    """A database of somebody else's as the flows see it."""

    def __init__(self, database: Any) -> None:
        self.database = database

    def adding(self, memories: Sequence[MemoryRecord]) -> Flow[Written]:
        """Which records are new only the database knows; all are taken to be."""
        records = checked_records(memories)
        ids = yield from self._call("add_memories", records, write=True)
        return Written(self._checked_ids("add_memories", ids, len(records)), new=range(len(records)))

    def updating(self, memories: Sequence[MemoryRecord]) -> Flow[Written]:
        records = checked_records(memories)
        yield from self._call("update_memories", records, write=True)
        return Written([record.id for record in records])

    def searching(
        self,
        query: str,
        limit: int = 10,
        offset: int = 0,
        min_score: float | None = None,
        hybrid: bool = False,
        **filters: Any,
    ) -> Flow[MemoryRecordResults]:
        wanted = parsed_filters(filters)
        limit, offset = checked_page(limit, offset)
        check_least(min_score)
        # A database of the seeds' shape knows no offset, and need not as long as the first page is wanted.
        more: dict[str, Any] = {"limit": limit, "offset": offset} if offset else {"limit": limit}
        if hybrid:
            more["hybrid"] = True
        found = yield from self._call("search_memories", checked_query(query), **more, **_given(filters))
        results = self._checked_results("search_memories", found, wanted)
        if min_score is None:
            return results
        kept = [record for record in results.memories if record.score is not None and record.score >= min_score]
        if len(kept) == len(results.memories):
            return results
        return MemoryRecordResults(kept, offset + len(kept), None)

    def listing(self, offset: int = 0, limit: int = 100, **filters: Any) -> Flow[MemoryRecordResults]:
        wanted = parsed_filters(filters)
        limit, offset = checked_page(limit, offset)
        found = yield from self._call("list_memories", offset=offset, limit=limit, **_given(filters))
        return self._checked_results("list_memories", found, wanted)

    def counting(self, **filters: Any) -> Flow[int]:
        parsed_filters(filters)
        count = yield from self._call("count_memories", **_given(filters))
        if not isinstance(count, int):
            raise self._broken("count_memories", f"returned a {type(count).__name__}, not a number")
        return count

    def getting(self, memory_ids: Sequence[str]) -> Flow[list[MemoryRecord]]:
        if hasattr(self.database, "get_memories"):
            records = yield from self._call("get_memories", list(memory_ids))
            return self._checked_results("get_memories", records, Filter()).memories
        wanted, found, offset = set(memory_ids), dict[str, MemoryRecord](), 0
        while len(found) < len(wanted):
            page = yield from self.listing(offset, _PAGE)
            found.update({record.id: record for record in page if record.id in wanted})
            if page.next_offset is None:
                break
            offset = page.next_offset
        return [found[each] for each in memory_ids if each in found]

    def deleting(self, memory_ids: Sequence[str] | None, **filters: Any) -> Flow[int]:
        if memory_ids is not None:
            wanted = parsed_filters(filters)
            stored = yield from self.getting(memory_ids)
            meant = [record.id for record in stored if wanted.matches(record)]
            if meant:
                yield from self._call("delete_memories", meant, write=True)
            return len(meant)
        deleted: set[str] = set()
        while ids := [record.id for record in (yield from self.listing(0, _PAGE, **filters))]:
            if not deleted.isdisjoint(ids):
                raise self._broken("delete_memories", "left records in place that it was told to delete")
            yield from self._call("delete_memories", ids, write=True)
            deleted.update(ids)
        return len(deleted)

    def reembedding(self, embeddings: Any, batch_size: int = 256) -> Flow[int]:
        hint = "it embeds by itself; make the database anew with the other provider, and add the records to it"
        yield from self._refused("reembed", hint)
        return 0

    def closing(self) -> Flow[None]:
        if hasattr(self.database, "close"):
            yield from self._call("close")

    def _call(self, operation: str, *args: Any, write: bool = False, **kwargs: Any) -> Flow[Any]:
        method = getattr(self.database, operation)
        return (yield from provider_call(self.database, operation, method, *args, write=write, **kwargs))

    def _refused(self, operation: str, hint: str) -> Flow[None]:
        """A step that raises, as one of the database's own would."""

        def refuse() -> None:
            raise NotSupportedError(provider_name(self.database), operation, hint)

        yield Step(refuse, (), blocking=False)

    def _checked_ids(self, operation: str, ids: Any, n_records: int) -> list[str]:
        if not isinstance(ids, list | tuple) or not all(isinstance(each, str) for each in ids):
            raise self._broken(operation, f"returned a {type(ids).__name__}, not a list of ids")
        if len(ids) != n_records:
            raise self._broken(operation, f"returned {len(ids)} ids for {n_records} memories")
        return list(ids)

    def _checked_results(self, operation: str, found: Any, wanted: Filter) -> MemoryRecordResults:
        if isinstance(found, list | tuple):
            found = MemoryRecordResults(list(found))
        memories = getattr(found, "memories", None)
        if not isinstance(memories, list) or not all(isinstance(each, MemoryRecord) for each in memories):
            raise self._broken(operation, f"returned a {type(found).__name__}, not MemoryRecordResults")
        for condition in wanted.conditions:
            if not all(condition.holds(record) for record in memories):
                raise self._broken(operation, f"returned records that the filter {'.'.join(condition.path)} excludes")
        total, next_offset = getattr(found, "total", len(memories)), getattr(found, "next_offset", None)
        return MemoryRecordResults([record.changed() for record in memories], total, next_offset)

    def _broken(self, operation: str, reason: str) -> ProviderError:
        return ProviderError(provider_name(self.database), operation, f"{operation}() {reason}")


Port = EmbeddingVectorDatabase | ForeignDatabase


def asynchronous_part(port: Port) -> str | None:
    """What of the database is `async def`, so that a synchronous manager cannot call it."""
    if isinstance(port, EmbeddingVectorDatabase):
        if port.awaitable:
            return f"{type(port).__name__}.{_PRIMITIVES[0]}"
        return asynchronous_method(port, _PRIMITIVES) or asynchronous_method(port.embeddings, ("embed_batch", "embed"))
    return asynchronous_method(port.database, REQUIRED)


def asynchronous_method(owner: Any, names: Sequence[str]) -> str | None:
    for name in names:
        if inspect.iscoroutinefunction(getattr(owner, name, None)):
            return f"{type(owner).__name__}.{name}"
    return None


def _given(filters: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in filters.items() if value is not None}
