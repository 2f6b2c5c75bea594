"""What the memory managers do, step by step. Each function is a flow; the managers are one line a method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from memexllm.core.errors import ConfigurationError, ProviderError, StorageError, ValidationError
from memexllm.core.flow import Flow
from memexllm.core.moments import Clock
from memexllm.core.plugins import Plugins
from memexllm.memory.doors import provider_name
from memexllm.memory.filters import parsed_filters
from memexllm.memory.opening import Opening
from memexllm.memory.ports import ForeignDatabase, Port
from memexllm.memory.records import MemoryRecord, MemoryRecordResults
from memexllm.memory.refusals import unknown_memory

R = TypeVar("R")
UNSET: Any = object()


def add(opening: Opening, plugins: Plugins, memories: Any) -> Flow[list[MemoryRecord]]:
    """All or none; of what was stored already, the stored record."""
    records = _records(memories)
    if not records:
        return []
    port = yield from opening.port()
    written = yield from _asked(port, "add", port.adding(records))
    new = {place: records[place].changed(id=written.ids[place], embedding=None) for place in written.new}
    known = [memory_id for place, memory_id in enumerate(written.ids) if place not in new]
    stored = {record.id: record for record in (yield from _got(port, known))}
    for record in new.values():
        yield from plugins.tell("on_memory_added", partial(_copies, record))
    return [new[place] if place in new else _found(stored, each) for place, each in enumerate(written.ids)]


def get(opening: Opening, memory_id: str, user_id: str | None) -> Flow[MemoryRecord]:
    port = yield from opening.port()
    return (yield from _of_user(port, memory_id, user_id))


def search(
    opening: Opening,
    plugins: Plugins,
    query: str,
    limit: int,
    offset: int,
    min_score: float | None,
    filters: Mapping[str, Any],
    *,
    hybrid: bool = False,
) -> Flow[MemoryRecordResults]:
    port = yield from opening.port()
    found = yield from _asked(port, "search", port.searching(query, limit, offset, min_score, hybrid, **filters))
    yield from plugins.tell("on_query_executed", lambda: (query, [record.changed() for record in found.memories]))
    return found


def update(
    opening: Opening, clock: Clock, memory_id: str, text: Any, metadata: Any, user_id: str | None
) -> Flow[MemoryRecord]:
    changes = {name: value for name, value in (("text", text), ("metadata", metadata)) if value is not UNSET}
    if not changes:
        raise ConfigurationError("update() changes what it is given: text=, metadata=")
    port = yield from opening.port()
    stored = yield from _of_user(port, memory_id, user_id)
    record = stored.changed(**changes, updated_at=clock())
    yield from _asked(port, "update", port.updating([record]))
    return record


def delete(opening: Opening, memory_id: str, user_id: str | None) -> Flow[bool]:
    return (yield from delete_matching(opening, [memory_id], {"user_id": user_id})) > 0


def delete_all(opening: Opening, filters: Mapping[str, Any], *, unscoped: bool) -> Flow[int]:
    refuse_unscoped(parsed_filters(filters).conditions, unscoped=unscoped)
    return (yield from delete_matching(opening, None, filters, operation="delete_all"))


def refuse_unscoped(scopes: Iterable[Any], *, unscoped: bool) -> None:
    if not unscoped and all(value is None for value in scopes):
        raise ValidationError(
            "delete_all() without a filter would delete everybody's memories; name whose, or build the manager or the "
            "store with allow_delete_all=True"
        )


def delete_matching(
    opening: Opening, ids: Sequence[str] | None, filters: Mapping[str, Any], *, operation: str = "delete"
) -> Flow[int]:
    """Delete the records of these ids (None: of any id) that match; how many there were."""
    port = yield from opening.port()
    return (yield from _asked(port, operation, port.deleting(ids, **filters)))


def replace_records(opening: Opening, records: Sequence[MemoryRecord]) -> Flow[None]:
    port = yield from opening.port()
    yield from _asked(port, "update", port.updating(records))


def list_memories(opening: Opening, limit: int, offset: int, filters: Mapping[str, Any]) -> Flow[MemoryRecordResults]:
    port = yield from opening.port()
    return (yield from _asked(port, "list", port.listing(offset, limit, **filters)))


def count(opening: Opening, filters: Mapping[str, Any]) -> Flow[int]:
    port = yield from opening.port()
    return (yield from _asked(port, "count", port.counting(**filters)))


def reembed(opening: Opening, embeddings: Any, batch_size: int) -> Flow[int]:
    port = yield from opening.port()
    if embeddings is None and not isinstance(port, ForeignDatabase):
        embeddings = port.embeddings
    return (yield from _asked(port, "reembed", port.reembedding(embeddings, batch_size)))


def close(opening: Opening) -> Flow[None]:
    if opening.database is not None:
        port = yield from opening.port()
        yield from _asked(port, "close", port.closing())


def _copies(record: MemoryRecord) -> tuple[MemoryRecord]:
    return (record.changed(),)


def _asked(port: Port, operation: str, flow: Flow[R]) -> Flow[R]:
    """What fails in a database reaches the caller as a `ProviderError`, our own databases' errors too."""
    try:
        return (yield from flow)
    except StorageError as error:
        database = port.database if isinstance(port, ForeignDatabase) else port
        raise ProviderError(provider_name(database), operation, error) from error


def _got(port: Port, ids: Sequence[str]) -> Flow[list[MemoryRecord]]:
    if not ids:
        return []
    return (yield from _asked(port, "get", port.getting(list(dict.fromkeys(ids)))))


def _of_user(port: Port, memory_id: Any, user_id: str | None) -> Flow[MemoryRecord]:
    """The record; another user's counts as unknown."""
    if not isinstance(memory_id, str):
        raise ValidationError(f"a memory's id is a text, not a value of type {type(memory_id).__name__}")
    stored = {record.id: record for record in (yield from _got(port, [memory_id]))}
    record = _found(stored, memory_id)
    if user_id is not None and record.user_id != user_id:
        raise unknown_memory(memory_id)
    return record


def _found(stored: Mapping[str, MemoryRecord], memory_id: str) -> MemoryRecord:
    if memory_id not in stored:
        raise unknown_memory(memory_id)
    return stored[memory_id]


def _records(memories: Any) -> list[MemoryRecord]:
    if isinstance(memories, str | MemoryRecord):
        raise ValidationError("add_many() is given several memories; add() takes one")
    return list(memories)
