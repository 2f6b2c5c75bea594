"""What is no store is refused when a manager is made, and what a store raises is told in one way."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest

from memexllm import AsyncMemoryManager, Memio, MemoryManager, MemoryStorage, ProviderError
from memexllm.core.errors import ConfigurationError, MemoryNotFoundError, NotSupportedError, StorageError
from memexllm.memory import DocumentStore, Fact, FactStore, GraphStore, HistoryStore
from memexllm.memory.stores import (
    ThreadHistoryStore,
    VectorDocumentStore,
    VectorFactStore,
    VectorGraphStore,
    check_store,
)
from tests.memory.speaking import ListDatabase


class Facts:
    """A whole fact store."""

    async def add(self, *, content: str, user_id: Any = None, agent_id: Any = None, metadata: Any = None) -> Fact:
        return Fact(content, user_id=user_id)

    async def get(self, *, fact_id: str) -> Fact:
        raise KeyError(fact_id)

    async def search(
        self, *, query: str, user_id: Any = None, agent_id: Any = None, limit: int = 10, filters: Any = None
    ) -> list[Fact]:
        raise NotSupportedError("mine", "search", "use get_all()")

    async def update(self, *, fact_id: str, content: str, metadata: Any = None) -> Fact:
        raise StorageError("the disk is full")

    async def delete(self, *, fact_id: str) -> None:
        raise MemoryNotFoundError(f"Memory not found: {fact_id}")

    async def delete_all(self, *, user_id: Any = None, agent_id: Any = None) -> None:
        raise asyncio.CancelledError

    async def get_all(self, *, user_id: Any = None, agent_id: Any = None, limit: int = 100) -> list[Fact]:
        return []

    extra = "its own"


class WithoutTwo(Facts):
    get = search = None  # type: ignore[assignment]  # what is refused


class AddsForNobody(Facts):
    async def add(self, *, content: str, agent_id: Any = None, metadata: Any = None) -> Fact:  # type: ignore[override]
        return Fact(content)


class PlainGet(Facts):
    def get(self, *, fact_id: str) -> Fact:  # type: ignore[override]  # what is refused
        return Fact(fact_id)


class WantsMore(Facts):
    async def get(self, *, fact_id: str, tenant: str) -> Fact:  # type: ignore[override]  # what is refused
        return Fact(fact_id)


class InsistsOnLimit(Facts):
    async def get_all(self, *, user_id: Any, agent_id: Any = None, limit: int) -> list[Fact]:  # type: ignore[override]
        return []


class ByPosition(Facts):
    async def get(self, fact_id: str, /) -> Fact:  # type: ignore[override]  # what is refused
        return Fact(fact_id)


class TakesAnything:
    """Every method of all four protocols, as a proxy has them."""

    async def _answer(self, **arguments: Any) -> Any:
        return arguments

    add = get = search = update = delete = delete_all = get_all = _answer


@pytest.mark.parametrize(
    ("store", "told"),
    [
        (WithoutTwo(), "missing get, search"),
        (AddsForNobody(), "add() lacks user_id"),
        (PlainGet(), "get() is not async def"),
        (WantsMore(), "get() requires tenant"),
        (InsistsOnLimit(), "get_all() requires user_id, limit"),
        (ByPosition(), "get() lacks fact_id"),
        (Facts, "Facts is a class; give an object of it"),
        ("memory.db", "missing add, get, search, update, delete, delete_all, get_all"),
        (type("Two", (AddsForNobody,), {"get": None, "search": None})(), "missing get, search; add() lacks user_id"),
    ],
    ids=range(9),
)
def test_what_a_store_lacks_is_told_when_it_is_given(store: Any, told: str) -> None:
    with pytest.raises(TypeError) as refused:
        Memio(facts=store)
    assert str(refused.value) == f"facts must implement FactStore protocol: {told}"
    assert isinstance(refused.value, ConfigurationError)


def test_the_protocols_are_told_apart() -> None:
    made: Any = Memio
    ours: dict[str, Any] = {
        "facts": (FactStore, VectorFactStore("memory:")),
        "history": (HistoryStore, ThreadHistoryStore(MemoryStorage())),
        "documents": (DocumentStore, VectorDocumentStore("memory:")),
        "graph": (GraphStore, VectorGraphStore("memory:")),
    }
    for slot, (protocol, mine) in ours.items():
        assert isinstance(mine, protocol)
        check_store(mine, protocol, slot)
        for other in set(ours) - {slot}:
            with pytest.raises(TypeError, match=f"{other} must implement"):
                made(**{other: mine})


def test_one_store_in_all_slots_has_all_their_methods() -> None:
    store = TakesAnything()
    memory: Any = Memio(facts=store, history=store, documents=store, graph=store)
    assert asyncio.run(memory.graph.get(entity="Ada")) == {"entity": "Ada"}
    facts: Any = Facts()
    with pytest.raises(TypeError, match=r"documents must implement DocumentStore protocol: add\(\) lacks doc_id"):
        Memio(facts=facts, documents=facts)


def test_a_store_in_a_slot_is_still_itself() -> None:
    store = Facts()
    facts: Any = Memio(facts=store).facts
    assert isinstance(facts, FactStore)
    facts = Memio(facts=store).facts
    assert (facts.store, facts.extra, repr(facts)) == (store, "its own", repr(store))
    assert asyncio.run(Memio(facts=store).facts.add(content="tea", user_id="ada")).content == "tea"


def test_what_a_store_raises_is_a_provider_error_that_names_it() -> None:
    facts = Memio(facts=Facts()).facts

    async def main() -> None:
        with pytest.raises(ProviderError, match=r"^\[Facts\] get failed: 'x'$") as missing:
            await facts.get(fact_id="x")
        error = missing.value
        assert (error.provider, error.operation, type(error.cause)) == ("Facts", "get", KeyError)
        assert error.__cause__ is error.cause
        assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301 - made one line above
        with pytest.raises(ProviderError, match=r"^\[Facts\] update failed: the disk is full$"):
            await facts.update(fact_id="x", content="y")
        with pytest.raises(NotSupportedError, match=r"^\[mine\] search failed") as unsupported:
            await facts.search(query="tea")
        assert unsupported.value.hint == "use get_all()"
        with pytest.raises(MemoryNotFoundError):
            await facts.delete(fact_id="x")
        with pytest.raises(asyncio.CancelledError):
            await facts.delete_all()

    asyncio.run(main())


class PlainFacts:
    """A fact store as a synchronous manager takes it."""

    def add(self, *, content: str, user_id: Any = None, agent_id: Any = None, metadata: Any = None) -> Fact:
        return Fact(content, user_id=user_id)

    def _missing(self, **arguments: Any) -> Any:
        raise KeyError("nothing")

    get = search = update = delete = delete_all = get_all = _missing


def test_a_synchronous_manager_takes_plain_functions_only() -> None:
    memory = MemoryManager("memory:", facts=PlainFacts())
    assert memory.facts.add(content="tea", user_id="ada").user_id == "ada"
    with pytest.raises(ProviderError, match=r"\[PlainFacts\] get_all failed"):
        memory.facts.get_all()
    with pytest.raises(TypeError, match=r"add\(\) is async def, which MemoryManager cannot call \(AsyncMemoryManager"):
        MemoryManager("memory:", facts=Facts())
    with pytest.raises(TypeError, match=r"add\(\) is not async def"):
        AsyncMemoryManager("memory:", facts=PlainFacts())


def test_a_synchronous_manager_takes_our_stores_where_nothing_waits() -> None:
    memory = MemoryManager("memory:", facts=VectorFactStore("memory:"), history=ThreadHistoryStore(MemoryStorage()))
    memory.facts.add(content="tea")
    memory.history.add(session_id="a", messages=[{"role": "user", "content": "tea"}])
    assert (len(memory.facts.get_all()), memory.history.get_all(), memory.count()) == (1, ["a"], 0)
    with pytest.raises(ConfigurationError, match="AsyncMemoryManager"):
        MemoryManager("memory:", facts=VectorFactStore(ListDatabase()))
