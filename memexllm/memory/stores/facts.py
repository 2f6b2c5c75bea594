"""`VectorFactStore`: facts are the records of kind "fact" of a vector database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from memexllm.core.flow import Flow, arun, run
from memexllm.memory import flows
from memexllm.memory.flows import UNSET
from memexllm.memory.records import Fact
from memexllm.memory.refusals import unknown_memory
from memexllm.memory.stores.place import Place, VectorStore, refuse_unscoped, scoped

Metadata = Mapping[str, Any]

FACT = "fact"


class VectorFactStore(VectorStore):
    """`FactStore` over a vector database. What a user has said already is one fact.

    With `user_id`, `get`, `update` and `delete` know that user's facts only. `delete_all` without a user or agent is
    refused unless `allow_delete_all`.
    """

    def sync(self) -> SyncVectorFactStore:
        """The same facts for callers who cannot await."""
        return SyncVectorFactStore.at(self._place_without_waiting())

    async def add(
        self,
        *,
        content: str,
        user_id: str | None = None,
        agent_id: str | None = None,
        metadata: Metadata | None = None,
    ) -> Fact:
        return await arun(_add(self._place, content, user_id, agent_id, metadata))

    async def get(self, *, fact_id: str, user_id: str | None = None) -> Fact:
        """The fact; `MemoryNotFoundError` when there is none."""
        return await arun(_get(self._place, fact_id, user_id))

    async def search(
        self,
        *,
        query: str,
        user_id: str | None = None,
        agent_id: str | None = None,
        limit: int = 10,
        filters: Metadata | None = None,
    ) -> list[Fact]:
        """At most `limit` facts, the best first, each with its `score`."""
        return await arun(_search(self._place, query, user_id, agent_id, limit, filters))

    async def update(
        self, *, fact_id: str, content: str, metadata: Metadata | None = None, user_id: str | None = None
    ) -> Fact:
        return await arun(_update(self._place, fact_id, content, metadata, user_id))

    async def delete(self, *, fact_id: str, user_id: str | None = None) -> None:
        """Delete a fact for good; one that is not there is none too many."""
        await arun(_delete(self._place, fact_id, user_id))

    async def delete_all(self, *, user_id: str | None = None, agent_id: str | None = None) -> None:
        await arun(_delete_all(self._place, user_id, agent_id))

    async def get_all(self, *, user_id: str | None = None, agent_id: str | None = None, limit: int = 100) -> list[Fact]:
        """At most `limit` facts, in the order in which they were added."""
        return await arun(_get_all(self._place, user_id, agent_id, limit))


class SyncVectorFactStore(VectorStore):
    """`VectorFactStore` without waiting."""

    _asynchronous = False

    def add(
        self,
        *,
        content: str,
        user_id: str | None = None,
        agent_id: str | None = None,
        metadata: Metadata | None = None,
    ) -> Fact:
        return run(_add(self._place, content, user_id, agent_id, metadata))

    def get(self, *, fact_id: str, user_id: str | None = None) -> Fact:
        return run(_get(self._place, fact_id, user_id))

    def search(
        self,
        *,
        query: str,
        user_id: str | None = None,
        agent_id: str | None = None,
        limit: int = 10,
        filters: Metadata | None = None,
    ) -> list[Fact]:
        return run(_search(self._place, query, user_id, agent_id, limit, filters))

    def update(
        self, *, fact_id: str, content: str, metadata: Metadata | None = None, user_id: str | None = None
    ) -> Fact:
        return run(_update(self._place, fact_id, content, metadata, user_id))

    def delete(self, *, fact_id: str, user_id: str | None = None) -> None:
        run(_delete(self._place, fact_id, user_id))

    def delete_all(self, *, user_id: str | None = None, agent_id: str | None = None) -> None:
        run(_delete_all(self._place, user_id, agent_id))

    def get_all(self, *, user_id: str | None = None, agent_id: str | None = None, limit: int = 100) -> list[Fact]:
        return run(_get_all(self._place, user_id, agent_id, limit))


def _add(place: Place, content: str, user_id: str | None, agent_id: str | None, metadata: Any) -> Flow[Fact]:
    record = place.record(content, kind=FACT, user_id=user_id, agent_id=agent_id, metadata=metadata)
    return (yield from flows.add(place.opening, place.plugins, [record]))[0]


def _get(place: Place, fact_id: str, user_id: str | None) -> Flow[Fact]:
    record = yield from flows.get(place.opening, fact_id, user_id)
    if record.kind != FACT:
        raise unknown_memory(fact_id)
    return record


def _search(
    place: Place, query: str, user_id: str | None, agent_id: str | None, limit: int, filters: Any
) -> Flow[list[Fact]]:
    wanted = scoped({"user_id": user_id, "agent_id": agent_id, "kind": FACT}, filters)
    found = yield from flows.search(place.opening, place.plugins, query, limit, 0, None, wanted)
    return list(found)


def _update(place: Place, fact_id: str, content: str, metadata: Any, user_id: str | None) -> Flow[Fact]:
    yield from _get(place, fact_id, user_id)
    kept = UNSET if metadata is None else metadata
    return (yield from flows.update(place.opening, place.clock, fact_id, content, kept, user_id))


def _delete(place: Place, fact_id: str, user_id: str | None) -> Flow[None]:
    yield from flows.delete_matching(place.opening, [fact_id], {"user_id": user_id, "kind": FACT})


def _delete_all(place: Place, user_id: str | None, agent_id: str | None) -> Flow[None]:
    refuse_unscoped(place, user_id, agent_id)
    filters = {"user_id": user_id, "agent_id": agent_id, "kind": FACT}
    yield from flows.delete_matching(place.opening, None, filters, operation="delete_all")


def _get_all(place: Place, user_id: str | None, agent_id: str | None, limit: int) -> Flow[list[Fact]]:
    wanted = {"user_id": user_id, "agent_id": agent_id, "kind": FACT}
    return list((yield from flows.list_memories(place.opening, limit, 0, wanted)))
