"""The memory managers: one behaviour, spoken synchronously and asynchronously, over any database."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from memexllm import AsyncMemoryManager, Memio, MemoryManager, OpenMemory
from memexllm.core.errors import (
    ConfigurationError,
    DimensionMismatchError,
    MemoryNotFoundError,
    NotSupportedError,
    ProviderError,
    ValidationError,
)
from memexllm.memory import (
    AsyncRedisVectorDatabase,
    InMemoryVectorDatabase,
    MemoryRecord,
    RedisVectorDatabase,
    SQLiteVectorDatabase,
)
from memexllm.memory.embeddings import HashingEmbeddings
from memexllm.memory.stores import VectorFactStore
from memexllm.testing import FakeClock, FakeIds
from tests.memory.speaking import DictBackend, ListDatabase, Spoken, WholeBackend

KINDS = [
    "sync memory",
    "sync sqlite",
    "sync backend",
    "async memory",
    "async sqlite",
    "async backend",
    "async foreign",
    "sync redis",
    "async redis",
]


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(params=KINDS)
def manager(request: pytest.FixtureRequest, tmp_path: Path, runner: asyncio.Runner) -> Iterator[Spoken]:
    speaking, _, kind = request.param.partition(" ")
    made: dict[str, Callable[[], dict[str, Any]]] = {
        "memory": lambda: {"vector_database": InMemoryVectorDatabase(HashingEmbeddings())},
        "sqlite": lambda: {"vector_database": tmp_path / "memory.db"},
        "backend": lambda: {"storage_backend": WholeBackend()},
        "foreign": lambda: {"vector_database": ListDatabase()},
        "redis": lambda: {"vector_database": on_redis(request, asynchronous=speaking == "async")},
    }
    manager_class: Any = MemoryManager if speaking == "sync" else AsyncMemoryManager
    spoken = Spoken(manager_class(**made[kind](), clock=FakeClock(), id_source=FakeIds()), runner)
    yield spoken
    spoken.close()


def on_redis(request: pytest.FixtureRequest, *, asynchronous: bool) -> Any:
    redis8, prefix = request.getfixturevalue("redis8"), request.getfixturevalue("prefix")
    kind = AsyncRedisVectorDatabase if asynchronous else RedisVectorDatabase
    return kind(embeddings=HashingEmbeddings(), prefix=prefix, **redis8.place(asynchronous=asynchronous))


def knows_duplicates(manager: Spoken) -> bool:
    kinds = (InMemoryVectorDatabase, SQLiteVectorDatabase, RedisVectorDatabase, AsyncRedisVectorDatabase)
    return isinstance(manager.manager.vector_database, kinds)


def test_what_is_added_is_got_found_listed_and_counted(manager: Spoken) -> None:
    tea = manager.add("likes green tea", user_id="ada", metadata={"n": 1}, agent_id="a", thread_id="t", kind="fact")
    manager.add("has a dog", user_id="ada")
    manager.add("likes green tea", user_id="bob")
    assert (tea.id, tea.text, tea.metadata, tea.thread_id) == ("id-000001", "likes green tea", {"n": 1}, "t")
    assert manager.get(tea.id) == tea
    found = manager.search("green tea", user_id="ada", limit=1)
    assert (found[0], found[0].score > 0) == (tea, True)
    assert [record.text for record in manager.list(user_id="ada")] == ["likes green tea", "has a dog"]
    assert (manager.count(), manager.count(user_id="ada"), manager.count(metadata={"n": 1})) == (3, 2, 1)
    assert manager.list(limit=2).next_offset == 2


def test_many_are_added_at_once(manager: Spoken) -> None:
    records = [MemoryRecord(f"number {n}") for n in range(5)]
    assert manager.add_many(iter(records)) == records
    assert manager.add_many([]) == []
    assert manager.list().memories == records


def test_what_the_user_has_said_is_not_added_again(manager: Spoken) -> None:
    if not knows_duplicates(manager):
        pytest.skip("only a database that looks for it knows what was said already")
    first = manager.add("likes tea", user_id="ada", metadata={"n": 1})
    assert manager.add("likes tea", user_id="ada", metadata={"n": 2}) == first
    assert manager.add("likes tea", user_id="bob") != first
    assert manager.count() == 2


def test_an_update_keeps_what_it_is_not_given(manager: Spoken) -> None:
    added = manager.add("likes tea", user_id="ada", metadata={"n": 1})
    clock: Any = manager.manager.clock
    clock.advance(60)
    updated = manager.update(added.id, text="likes coffee")
    assert updated == manager.get(added.id)
    assert (updated.text, updated.metadata, updated.user_id) == ("likes coffee", {"n": 1}, "ada")
    assert (updated.created_at, updated.updated_at) == (added.created_at, added.created_at + timedelta(seconds=60))
    assert manager.update(added.id, metadata={"m": 2}).text == "likes coffee"
    assert manager.get(added.id).metadata == {"m": 2}
    assert manager.search("coffee")[0].id == added.id
    with pytest.raises(ConfigurationError):
        manager.update(added.id)


def test_another_users_memory_counts_as_unknown(manager: Spoken) -> None:
    added = manager.add("likes tea", user_id="ada")
    for call in (manager.get, lambda *args, **kwargs: manager.update(*args, text="x", **kwargs)):
        with pytest.raises(MemoryNotFoundError, match=added.id):
            call(added.id, user_id="bob")
        with pytest.raises(MemoryNotFoundError):
            call("not there")
    assert manager.delete(added.id, user_id="bob") is False
    assert manager.delete_all(user_id="bob") == 0
    assert [
        manager.count(user_id="bob"),
        len(manager.list(user_id="bob")),
        len(manager.search("tea", user_id="bob")),
    ] == [0, 0, 0]
    assert manager.get(added.id, user_id="ada").text == "likes tea"


def test_what_is_deleted_is_gone(manager: Spoken) -> None:
    ids = [manager.add(f"tea {n}", user_id="ada").id for n in range(3)]
    assert (manager.delete(ids[0]), manager.delete(ids[0]), manager.delete(ids[1], user_id="ada")) == (
        True,
        False,
        True,
    )
    assert [record.id for record in manager.list()] == [ids[2]]


def test_delete_all_needs_to_be_told_whose(manager: Spoken) -> None:
    for user_id in ("ada", "ada", "bob"):
        manager.add(f"tea of {user_id} {manager.count()}", user_id=user_id)
    unscoped: Any
    for unscoped in ({}, {"user_id": None}, {"metadata": {}}):
        with pytest.raises(ValidationError, match="allow_delete_all"):
            manager.delete_all(**unscoped)
    assert manager.delete_all(user_id="ada") == 2
    manager.manager.allow_delete_all = True
    assert (manager.delete_all(), manager.count()) == (1, 0)


def test_an_unknown_filter_is_refused(manager: Spoken) -> None:
    manager.add("tea")
    for call in (manager.list, manager.count, manager.delete_all, partial(manager.search, "tea")):
        with pytest.raises(ValidationError, match="session"):
            call(session="x")


def test_nothing_below_the_score_is_found(manager: Spoken) -> None:
    manager.add_many([MemoryRecord("tea"), MemoryRecord("tea with milk and sugar and salt and bread and wine")])
    scores = [record.score for record in manager.search("tea milk")]
    assert len(scores) == 2
    best = manager.search("tea milk", min_score=max(scores))
    assert (len(best), best.total, best.next_offset) == (1, 1, None)


def test_a_least_score_that_is_no_number_is_refused(manager: Spoken) -> None:
    manager.add("tea")
    for min_score in ("high", True, float("nan")):
        with pytest.raises(ValidationError, match="min_score"):
            manager.search("tea", min_score=min_score)


def test_what_is_returned_is_the_callers(manager: Spoken) -> None:
    manager.add("tea", metadata={"tags": ["a"]}).metadata["tags"].append("b")
    manager.get("id-000001").metadata["tags"].append("b")
    manager.search("tea")[0].metadata["tags"].append("b")
    assert manager.get("id-000001").metadata == {"tags": ["a"]}


def test_both_managers_have_the_same_methods_and_parameters() -> None:
    names = [name for name in vars(MemoryManager) if not name.startswith("_")]
    assert names == [name for name in vars(AsyncMemoryManager) if not name.startswith("_")]
    assert len(names) > 10
    for name in names:
        mine, theirs = getattr(MemoryManager, name), getattr(AsyncMemoryManager, name)
        assert inspect.signature(mine) == inspect.signature(theirs), name
        assert inspect.iscoroutinefunction(theirs), name


# What a manager is made over.


def test_the_embedded_default_is_a_file_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MEMORY_VECTOR_DB_FACTORY", raising=False)
    with OpenMemory() as memory:
        assert list(tmp_path.iterdir()) == []
        memory.add("likes tea")
    assert (tmp_path / "memory.db").stat().st_mode & 0o077 == 0
    with MemoryManager() as memory:
        assert [record.text for record in memory.search("tea")] == ["likes tea"]


@pytest.mark.parametrize("place", ["memory:", ":memory:", "sqlite://", "sqlite:///x.db", "x.db", Path("x.db")], ids=str)
def test_a_path_or_url_is_a_database(place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with MemoryManager(place) as memory:
        memory.add("tea")
        assert memory.count() == 1
    assert (tmp_path / "x.db").exists() is ("x.db" in str(place))


class EmptyStore(VectorFactStore):
    def __len__(self) -> int:
        return 0


def test_the_asynchronous_manager_has_no_default(monkeypatch: pytest.MonkeyPatch, runner: asyncio.Runner) -> None:
    monkeypatch.delenv("MEMORY_VECTOR_DB_FACTORY", raising=False)
    with pytest.raises(ValueError, match="facts="):
        Memio()
    store = EmptyStore("memory:")
    memory = Memio(facts=store)
    assert memory.facts is store
    assert (memory.history, memory.documents, memory.graph) == (None, None, None)
    with pytest.raises(ConfigurationError, match="vector_database="):
        runner.run(memory.count())
    runner.run(memory.close())


class AsyncEmbeddings:
    dimensions = 2

    async def embed(self, text: str) -> list[float]:
        return [1.0, float(len(text))]

    async def embed_batch(self, texts: list[str]) -> list[list[float]]:
        return [await self.embed(text) for text in texts]


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda: MemoryManager(ListDatabase()), "AsyncMemoryManager"),
        (lambda: MemoryManager("memory:", embeddings=AsyncEmbeddings()), "embed_batch.*AsyncMemoryManager"),
        (lambda: MemoryManager("memory:").register_embedding_provider("a", AsyncEmbeddings()), "AsyncMemoryManager"),
        (lambda: MemoryManager(ListDatabase), "class"),  # type: ignore[arg-type]  # what is refused
        (lambda: MemoryManager(object()), "lacks add_memories"),  # type: ignore[arg-type]  # what is refused
        (lambda: MemoryManager(storage_backend=DictBackend), "class"),  # type: ignore[arg-type]  # what is refused
        (lambda: MemoryManager(storage_backend=object()), "lacks store_memory"),  # type: ignore[arg-type]  # refused
        (lambda: MemoryManager("memory:", storage_backend=DictBackend()), "not both"),
        (lambda: MemoryManager("mysql://x/y"), "'mysql'"),
        (lambda: MemoryManager("memory:", embeddings=lambda text: [1.0]), "CallableEmbeddings"),
        (
            lambda: MemoryManager(InMemoryVectorDatabase(HashingEmbeddings()), embeddings=HashingEmbeddings()),
            "too much",
        ),
        (lambda: MemoryManager("memory:").set_embedding_provider("none"), "'none'.*register_embedding_provider"),
        (lambda: MemoryManager("memory:").register_chunking_strategy("a", "text"), "chunk"),
        (lambda: SQLiteVectorDatabase("x.db"), "embeddings="),
    ],
    ids=range(14),
)
def test_what_cannot_work_is_refused_when_it_is_put_together(made: Callable[[], Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        made()


def test_an_asynchronous_provider_works_under_the_asynchronous_manager(runner: asyncio.Runner) -> None:
    memory = Spoken(AsyncMemoryManager("memory:", embeddings=AsyncEmbeddings()), runner)
    memory.add("tea")
    assert memory.search("tea")[0].score == pytest.approx(1)


def test_an_empty_name_in_the_environment_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_VECTOR_DB_FACTORY", " ")
    assert isinstance(MemoryManager().vector_database, SQLiteVectorDatabase)


# Embedding providers.


@pytest.mark.parametrize("place", ["memory:", ":memory:"])
def test_another_provider_needs_the_stored_ones_embedded_again(place: str) -> None:
    memory = MemoryManager(place, embeddings=HashingEmbeddings(16))
    memory.add_many([MemoryRecord(f"text number {n}") for n in range(10)])
    memory.register_embedding_provider("wider", HashingEmbeddings(64))
    memory.set_embedding_provider("wider")
    with pytest.raises(DimensionMismatchError, match=r"16 .*64.*reembed\(\)"):
        memory.search("number")
    with pytest.raises(DimensionMismatchError):
        memory.add("another")
    assert memory.count() == 10
    assert memory.reembed(batch_size=3) == 10
    assert memory.search("text number 7")[0].text == "text number 7"
    memory.add("another")


def test_an_empty_database_takes_any_provider() -> None:
    memory = MemoryManager(":memory:", embeddings=HashingEmbeddings(16))
    memory.register_embedding_provider("wider", HashingEmbeddings(64))
    memory.delete(memory.add("tea").id)
    memory.set_embedding_provider("wider")
    memory.add("tea")
    assert memory.search("tea")[0].text == "tea"
    assert memory.reembed("wider") == 1


def test_a_database_of_somebody_else_embeds_by_itself(runner: asyncio.Runner) -> None:
    memory = Spoken(AsyncMemoryManager(ListDatabase()), runner)
    memory.manager.register_embedding_provider("a", HashingEmbeddings())
    with pytest.raises(NotSupportedError, match="ListDatabase"):
        memory.manager.set_embedding_provider("a")
    with pytest.raises(NotSupportedError, match="ListDatabase"):
        memory.reembed()


class FailingEmbeddings(HashingEmbeddings):
    def __init__(self) -> None:
        super().__init__()
        self.fails_after = 0

    def embed_batch(self, texts: Any) -> Any:
        self.fails_after -= 1
        if self.fails_after < 0:
            raise OSError("no route to the model")
        return super().embed_batch(texts)


@pytest.mark.parametrize("place", ["memory:", ":memory:"])
def test_embedding_again_is_whole_or_leaves_everything_as_it_was(place: str) -> None:
    memory = MemoryManager(place, embeddings=HashingEmbeddings(16))
    memory.add_many([MemoryRecord(f"text number {n}") for n in range(10)])
    failing = FailingEmbeddings()
    failing.fails_after = 2
    with pytest.raises(ProviderError, match="no route"):
        memory.reembed(failing, batch_size=3)
    assert memory.search("text number 7")[0].text == "text number 7"
    failing.fails_after = 100
    assert memory.reembed(failing, batch_size=3) == 10
    assert memory.search("text number 7")[0].text == "text number 7"


def test_a_record_may_bring_its_own_embedding() -> None:
    embeddings = HashingEmbeddings(16)
    memory = MemoryManager("memory:", embeddings=embeddings)
    memory.add_many([MemoryRecord("unlike", embedding=embeddings.embed("tea") * 3), MemoryRecord("bread")])
    assert memory.search("tea")[0].text == "unlike"
    assert memory.search("tea")[0].score == pytest.approx(1)
    with pytest.raises(DimensionMismatchError):
        memory.add_many([MemoryRecord("x", embedding=[1.0]), MemoryRecord("y")])
    assert memory.count() == 2
