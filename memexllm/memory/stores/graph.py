"""`VectorGraphStore`: triples are records whose metadata says what is subject, predicate and object."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from memexllm.core.errors import ValidationError
from memexllm.core.flow import Flow, arun, run
from memexllm.core.refusals import checked_positive
from memexllm.memory import flows
from memexllm.memory.records import ENDS, TRIPLE, MemoryRecord
from memexllm.memory.stores.place import Place, VectorStore, refuse_unscoped
from memexllm.memory.stores.triples import GraphResult, Triple

_PAGE = 1000
_MAX_PATHS_LOOKED_AT = 10_000

Path = list[Triple]


class VectorGraphStore(VectorStore):
    """`GraphStore` over a vector database. A triple that a user has already is not kept twice.

    Besides the contract it walks: `neighbours` and `paths`, against the arrows too. `delete_all` without a user is
    refused unless `allow_delete_all`.
    """

    def sync(self) -> SyncVectorGraphStore:
        """The same triples for callers who cannot await."""
        return SyncVectorGraphStore.at(self._place_without_waiting())

    async def add(self, *, triples: Sequence[Triple], user_id: str | None = None) -> list[Triple]:
        """Remember triples, all or none; in order those stored, or there before."""
        return await arun(_add(self._place, triples, user_id))

    async def get(self, *, entity: str, user_id: str | None = None) -> GraphResult:
        """The triples whose subject or object this is."""
        return await arun(_get(self._place, entity, user_id))

    async def get_all(self, *, user_id: str | None = None, limit: int = 100) -> GraphResult:
        return await arun(_get_all(self._place, user_id, limit))

    async def search(self, *, query: str, user_id: str | None = None, limit: int = 10) -> GraphResult:
        """At most `limit` triples, the best first, each with its `score`."""
        return await arun(_search(self._place, query, user_id, limit))

    async def delete(
        self, *, entity: str | None = None, triple_id: str | None = None, user_id: str | None = None
    ) -> None:
        """Delete one triple, or all in which an entity stands."""
        await arun(_delete(self._place, entity, triple_id, user_id))

    async def delete_all(self, *, user_id: str | None = None) -> None:
        await arun(_delete_all(self._place, user_id))

    async def neighbours(self, *, entity: str, depth: int = 1, user_id: str | None = None) -> GraphResult:
        """The triples that can be reached from an entity in `depth` steps, the nearest first."""
        return await arun(_neighbours(self._place, [entity], depth, user_id))

    async def paths(
        self, *, start: str, end: str, max_depth: int = 3, limit: int = 10, user_id: str | None = None
    ) -> list[Path]:
        """Ways of at most `max_depth` triples from one entity to another, the shortest first; none visits one twice."""
        return await arun(_paths(self._place, start, end, max_depth, limit, user_id))


class SyncVectorGraphStore(VectorStore):
    """`VectorGraphStore` without waiting."""

    _asynchronous = False

    def add(self, *, triples: Sequence[Triple], user_id: str | None = None) -> list[Triple]:
        return run(_add(self._place, triples, user_id))

    def get(self, *, entity: str, user_id: str | None = None) -> GraphResult:
        return run(_get(self._place, entity, user_id))

    def get_all(self, *, user_id: str | None = None, limit: int = 100) -> GraphResult:
        return run(_get_all(self._place, user_id, limit))

    def search(self, *, query: str, user_id: str | None = None, limit: int = 10) -> GraphResult:
        return run(_search(self._place, query, user_id, limit))

    def delete(self, *, entity: str | None = None, triple_id: str | None = None, user_id: str | None = None) -> None:
        run(_delete(self._place, entity, triple_id, user_id))

    def delete_all(self, *, user_id: str | None = None) -> None:
        run(_delete_all(self._place, user_id))

    def neighbours(self, *, entity: str, depth: int = 1, user_id: str | None = None) -> GraphResult:
        return run(_neighbours(self._place, [entity], depth, user_id))

    def paths(
        self, *, start: str, end: str, max_depth: int = 3, limit: int = 10, user_id: str | None = None
    ) -> list[Path]:
        return run(_paths(self._place, start, end, max_depth, limit, user_id))


def _add(place: Place, triples: Any, user_id: str | None) -> Flow[list[Triple]]:
    if isinstance(triples, Triple | str) or not isinstance(triples, Iterable):
        raise ValidationError(f"triples are given as a list of Triple, not as a {type(triples).__name__}")
    records = [_record(place, each, user_id) for each in triples]
    return [_triple(record) for record in (yield from flows.add(place.opening, place.plugins, records))]


def _get(place: Place, entity: str, user_id: str | None) -> Flow[GraphResult]:
    return GraphResult((yield from _touching(place, [entity], user_id)))


def _get_all(place: Place, user_id: str | None, limit: int) -> Flow[GraphResult]:
    wanted = {"user_id": user_id, "kind": TRIPLE}
    return _result((yield from flows.list_memories(place.opening, limit, 0, wanted)))


def _search(place: Place, query: str, user_id: str | None, limit: int) -> Flow[GraphResult]:
    wanted = {"user_id": user_id, "kind": TRIPLE}
    return _result((yield from flows.search(place.opening, place.plugins, query, limit, 0, None, wanted)))


def _delete(place: Place, entity: str | None, triple_id: str | None, user_id: str | None) -> Flow[None]:
    if (entity is None) == (triple_id is None):
        raise ValidationError("delete() is told what to delete: entity= or triple_id=")
    ids = [triple_id] if triple_id is not None else []
    if entity is not None:
        ids = [triple.id for triple in (yield from _touching(place, [entity], user_id))]
    yield from flows.delete_matching(place.opening, ids, {"user_id": user_id, "kind": TRIPLE})


def _delete_all(place: Place, user_id: str | None) -> Flow[None]:
    refuse_unscoped(place, user_id)
    filters = {"user_id": user_id, "kind": TRIPLE}
    yield from flows.delete_matching(place.opening, None, filters, operation="delete_all")


def _neighbours(place: Place, entities: Sequence[str], depth: int, user_id: str | None) -> Flow[GraphResult]:
    checked_positive(depth, "depth")
    found: dict[str, Triple] = {}
    reached, edge = set(entities), list(entities)
    for _ in range(depth):
        near = yield from _touching(place, edge, user_id)
        found.update({triple.id: triple for triple in near if triple.id not in found})
        edge = [entity for entity in GraphResult(near).entities if entity not in reached]
        reached.update(edge)
        if not edge:
            break
    return GraphResult(list(found.values()))


def _paths(place: Place, start: str, end: str, max_depth: int, limit: int, user_id: str | None) -> Flow[list[Path]]:
    checked_positive(max_depth, "max_depth")
    checked_positive(limit, "limit")
    near = yield from _neighbours(place, [start], max_depth, user_id)
    edges: dict[str, list[tuple[str, Triple]]] = {}
    for triple in near:
        edges.setdefault(triple.subject, []).append((triple.object, triple))
        edges.setdefault(triple.object, []).append((triple.subject, triple))
    found: list[Path] = []
    begun: list[tuple[str, tuple[str, ...], Path]] = [(start, (start,), [])]
    n_looked_at = 0
    for _ in range(max_depth):
        longer: list[tuple[str, tuple[str, ...], Path]] = []
        for entity, visited, path in begun:
            for other, triple in edges.get(entity, ()):
                n_looked_at += 1
                if n_looked_at > _MAX_PATHS_LOOKED_AT:
                    raise ValidationError(
                        f"more than {_MAX_PATHS_LOOKED_AT} ways lead on from here; ask for a smaller max_depth"
                    )
                if other == end and other not in visited:
                    found.append([*path, triple])
                elif other not in visited:
                    longer.append((other, (*visited, other), [*path, triple]))
        begun = longer
        if len(found) >= limit:
            break
    return found[:limit]


def _touching(place: Place, entities: Sequence[str], user_id: str | None) -> Flow[list[Triple]]:
    """The triples in which one of these stands, each once."""
    found: dict[str, Triple] = {}
    for end in (ENDS[0], ENDS[2]):
        wanted = {"user_id": user_id, "kind": TRIPLE, "metadata": {end: {"any": list(entities)}}}
        offset: int | None = 0
        while offset is not None:
            page = yield from flows.list_memories(place.opening, _PAGE, offset, wanted)
            found.update({record.id: _triple(record) for record in page})
            offset = page.next_offset
    return list(found.values())


def _record(place: Place, triple: Any, user_id: str | None) -> MemoryRecord:
    if not isinstance(triple, Triple):
        raise ValidationError(f"a graph is made of Triple, not of {type(triple).__name__}")
    if triple.user_id is not None and triple.user_id != user_id:
        raise ValidationError("this triple is another user's; make a new one from its subject, predicate and object")
    ends = dict(zip(ENDS, (triple.subject, triple.predicate, triple.object), strict=True))
    about = {"about": dict(triple.metadata)} if triple.metadata else {}
    return MemoryRecord(
        triple.text, id=triple.id, kind=TRIPLE, user_id=user_id, metadata={**ends, **about}, created_at=place.clock()
    )


def _result(records: Iterable[MemoryRecord]) -> GraphResult:
    """Records somebody else called triples, and which are none, are left out."""
    return GraphResult([_triple(record) for record in records if all(record.metadata.get(end) for end in ENDS)])


def _triple(record: MemoryRecord) -> Triple:
    said = record.metadata
    subject, predicate, object_ = (said[end] for end in ENDS)
    return Triple(
        subject,
        predicate,
        object_,
        id=record.id,
        user_id=record.user_id,
        metadata=said.get("about", {}),
        created_at=record.created_at,
        score=record.score,
    )
