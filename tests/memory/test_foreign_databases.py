"""Databases and backends of somebody else: what they raise, leave out, or get wrong."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

from memexllm import AsyncMemoryManager, MemoryManager
from memexllm.core.errors import NotSupportedError, ProviderError
from memexllm.memory import MemoryRecord, MemoryRecordResults, SQLiteVectorDatabase
from memexllm.memory.embeddings import HashingEmbeddings
from tests.memory.speaking import DictBackend, ListDatabase, Spoken, WholeBackend


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


class Faulty(ListDatabase):
    """One method returns, or raises, what it is told to."""

    def __init__(self, method: str, answer: Any) -> None:
        super().__init__()
        self.method, self.answer = method, answer

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_") or name != object.__getattribute__(self, "method"):
            return super().__getattribute__(name)

        async def answer(*_: Any, **__: Any) -> Any:
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

        return answer


OPERATIONS = {
    "add_memories": lambda memory: memory.add("tea"),
    "search_memories": lambda memory: memory.search("tea", user_id="ada"),
    "list_memories": lambda memory: memory.list(user_id="ada"),
    "count_memories": lambda memory: memory.count(),
    "get_memories": lambda memory: memory.get("x"),
    "update_memories": lambda memory: memory.update("x", text="y"),
    "delete_memories": lambda memory: memory.delete("x"),
}


@pytest.mark.parametrize("method", OPERATIONS)
def test_what_a_database_raises_names_it_and_its_method(method: str, runner: asyncio.Runner) -> None:
    cause = KeyError("x")
    database = Faulty(method, cause)
    database.records.append(MemoryRecord("tea", id="x"))
    with pytest.raises(ProviderError, match=f"\\[Faulty\\] {method} failed: 'x'") as caught:
        OPERATIONS[method](Spoken(AsyncMemoryManager(database), runner))
    error = caught.value
    assert (error.provider, error.operation, error.cause, error.__cause__) == ("Faulty", method, cause, cause)


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("add_memories", None),
        ("add_memories", []),
        ("add_memories", [1]),
        ("search_memories", None),
        ("search_memories", ["tea"]),
        ("search_memories", MemoryRecordResults([MemoryRecord("tea", user_id="bob")])),
        ("list_memories", {"memories": []}),
        ("list_memories", [MemoryRecord("tea")]),
        ("count_memories", None),
        ("get_memories", "tea"),
    ],
    ids=range(10),
)
def test_an_answer_against_the_contract_is_an_error_and_no_answer(
    method: str, answer: Any, runner: asyncio.Runner
) -> None:
    with pytest.raises(ProviderError, match=f"{method}\\(\\) returned"):
        OPERATIONS[method](Spoken(AsyncMemoryManager(Faulty(method, answer)), runner))


def test_records_are_found_by_id_where_only_lists_are_given(runner: asyncio.Runner) -> None:
    database = ListDatabase()
    database.records.extend(MemoryRecord(f"tea {n}", id=str(n)) for n in range(1200))
    memory = Spoken(AsyncMemoryManager(database), runner)
    assert memory.get("1199").text == "tea 1199"
    assert memory.delete("1199") is True
    assert memory.delete_all(kind="fact") == 1199


def test_deleting_what_will_not_go_ends(runner: asyncio.Runner) -> None:
    database = Faulty("delete_memories", None)
    database.records.append(MemoryRecord("tea"))
    with pytest.raises(ProviderError, match="left records in place"):
        Spoken(AsyncMemoryManager(database), runner).delete_all(kind="fact")


def test_our_own_databases_errors_are_provider_errors_too(tmp_path: Any) -> None:
    (tmp_path / "memory.db").write_bytes(b"no database at all, but long enough" * 100)
    with pytest.raises(ProviderError, match=r"\[sqlite\] add failed: .*no SQLite database") as caught:
        MemoryManager(tmp_path / "memory.db").add("tea")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301 - our own


@pytest.mark.parametrize("content", ["chat", "other"])
def test_a_file_that_holds_something_else_is_refused_unchanged(tmp_path: Any, content: str) -> None:
    import sqlite3

    from memexllm import HistoryManager

    path = tmp_path / "chat.db"
    if content == "chat":
        with HistoryManager(path) as threads:
            threads.create_thread()
    else:
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE mine (a)")
        db.close()
    before = path.read_bytes()
    with pytest.raises(ProviderError, match="a file of its own"):
        MemoryManager(path).add("tea")
    assert path.read_bytes() == before


def test_threads_are_not_put_into_a_file_of_memory(tmp_path: Any) -> None:
    from memexllm import HistoryManager, StorageError

    with MemoryManager(tmp_path / "memory.db") as memory:
        memory.add("tea")
    with pytest.raises(StorageError, match="memexllm a file of its own"):
        HistoryManager(tmp_path / "memory.db").create_thread()


# Backends of three methods.


def test_three_methods_make_a_memory() -> None:
    memory = MemoryManager(storage_backend=DictBackend())
    tea = memory.add("likes green tea", user_id="ada")
    for n in range(20):
        memory.add(f"likes green tea {n}", user_id="bob")
    assert memory.get(tea.id) == tea
    found = memory.search("green tea", user_id="ada", limit=5)
    assert (found.memories, found.total, found.next_offset) == ([tea], 1, None)
    page = memory.search("green tea", user_id="bob", limit=5, offset=5)
    assert (len(page), page.next_offset) == (5, 10)


@pytest.mark.parametrize(
    ("operation", "method"),
    [
        (lambda memory: memory.delete("id"), "delete_memory"),
        (lambda memory: memory.update("id", text="x"), "update_memory"),
        (lambda memory: memory.list(), "list_memories"),
        (lambda memory: memory.count(), "list_memories"),
    ],
    ids=["delete", "update", "list", "count"],
)
def test_what_a_backend_cannot_do_says_which_method_is_missing(operation: Any, method: str) -> None:
    memory = MemoryManager(storage_backend=DictBackend())
    memory.add("tea", memory_id="id")
    with pytest.raises(NotSupportedError, match=rf"\[DictBackend\].*{method}\(\)"):
        operation(memory)


class NamesItself(DictBackend):
    """Stores under an id of its own, as the seeds' backend does."""

    def store_memory(self, memory: MemoryRecord) -> str:
        self.stored["own id"] = memory
        return "own id"


def test_the_id_a_backend_returns_is_the_memorys() -> None:
    memory = MemoryManager(storage_backend=NamesItself())
    added = memory.add("tea")
    assert added.id == "own id"
    assert memory.get("own id") == added


class CannotSearch(DictBackend):
    def search_memories(self, embedding: Any, limit: int) -> None:
        pass


class Breaks(WholeBackend):
    def store_memory(self, memory: MemoryRecord) -> str:
        if memory.text == "breaks":
            raise OSError("no space left")
        return super().store_memory(memory)


class ReturnsNothing(DictBackend):
    def store_memory(self, memory: MemoryRecord) -> str:
        return None  # type: ignore[return-value]  # what is refused


def test_none_from_a_search_says_that_there_is_none() -> None:
    with pytest.raises(NotSupportedError, match=r"\[CannotSearch\] search failed: .*None"):
        MemoryManager(storage_backend=CannotSearch()).search("tea")


def test_a_batch_that_breaks_a_backend_is_taken_back() -> None:
    backend = Breaks()
    with pytest.raises(ProviderError, match=r"\[Breaks\] store_memory failed: no space left"):
        MemoryManager(storage_backend=backend).add_many([MemoryRecord("tea"), MemoryRecord("breaks")])
    assert backend.stored == {}


def test_a_backend_that_names_nothing_is_told() -> None:
    with pytest.raises(ProviderError, match="NoneType"):
        MemoryManager(storage_backend=ReturnsNothing()).add("tea")


class FailingEmbeddings(HashingEmbeddings):
    def embed_batch(self, texts: Any) -> Any:
        raise OSError("no route to the model")


@pytest.mark.parametrize("place", ["memory:", ":memory:"])
def test_what_an_embedding_provider_raises_names_it(place: str) -> None:
    memory = MemoryManager(place, embeddings=FailingEmbeddings())
    with pytest.raises(ProviderError, match=r"\[FailingEmbeddings\] embed_batch failed: no route to the model"):
        memory.add("tea")
    assert memory.count() == 0


def test_a_database_object_is_used_as_it_is(tmp_path: Any) -> None:
    database = SQLiteVectorDatabase(tmp_path / "memory.db", HashingEmbeddings())
    memory = MemoryManager(database)
    assert memory.vector_database is database
    memory.close()
