"""SQLiteVectorDatabase: processes, forks, threads, and the vectors it keeps at hand."""

from __future__ import annotations

import multiprocessing
import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memexllm import MemoryManager
from memexllm.core.errors import DimensionMismatchError, MemexLLMError
from memexllm.memory import InMemoryVectorDatabase, MemoryRecord, SQLiteVectorDatabase
from memexllm.memory.embeddings import HashingEmbeddings
from memexllm.memory.filters import parsed_filters

WORDS = ("tea", "bread", "dog", "tide", "salt", "lamp")
HELD: tuple[dict[str, Any], ...] = ({}, {"n": 1}, {"n": 2.5, "tags": ["a", "b"]}, {"n": {"m": "x"}}, {"n": None})
WISHES: tuple[dict[str, Any], ...] = (
    {},
    {"kind": "fact", "agent_id": {"eq": None}},
    {"metadata": {"n": {"gte": 1}}},
    {"metadata": {"n": {"ne": 1}, "tags": {"any": ["a"]}}},
    {"metadata": {"n": {"m": "x"}}, "agent_id": "a"},
    {"metadata": {"n": None}, "created_at": {"gt": "2020-01-01"}},
)
SCALE = int(os.environ.get("MEMEXLLM_TEST_SCALE", "1"))


def opened(path: Path, **options: Any) -> MemoryManager:
    return MemoryManager(SQLiteVectorDatabase(path, HashingEmbeddings(32), **options))


def found(memory: MemoryManager, **filters: Any) -> list[tuple[str, str]]:
    return [(record.id, record.text) for record in memory.search("tea bread", limit=50, **filters)]


@pytest.mark.parametrize("seed", range(4 * SCALE))
@pytest.mark.parametrize("cache_bytes", [0, 3000, 1 << 20])
def test_two_managers_on_one_file_see_what_one_in_memory_sees(tmp_path: Path, seed: int, cache_bytes: int) -> None:
    """Adds, updates and deletes through either; every search answers as a database that keeps nothing at hand."""
    rng = random.Random(seed)
    files = [opened(tmp_path / "memory.db", cache_bytes=cache_bytes), opened(tmp_path / "memory.db")]
    model = MemoryManager(InMemoryVectorDatabase(HashingEmbeddings(32)))
    known: list[MemoryRecord] = []
    for step in range(60):
        writer, action = rng.choice(files), rng.random()
        if action < 0.5 or not known:
            user_id = rng.choice(["ada", "bob", None])
            text, held = f"{' '.join(rng.choices(WORDS, k=3))} {step}", rng.choice(HELD)
            record = MemoryRecord(text, user_id=user_id, metadata=held, agent_id=rng.choice(["a", None]))
            for memory in (writer, model):
                memory.add_many([record])
            known.append(record)
        elif action < 0.6:
            record, held = rng.choice(known), rng.choice(HELD)
            for memory in (writer, model):
                memory.update(record.id, metadata=held)
        elif action < 0.7:
            record, text = rng.choice(known), f"{' '.join(rng.choices(WORDS, k=3))} {step}"
            for memory in (writer, model):
                memory.update(record.id, text=text)
        elif action < 0.8:
            record = known.pop(rng.randrange(len(known)))
            for memory in (writer, model):
                assert memory.delete(record.id) is True
        whose: list[dict[str, Any]] = [{}, {"user_id": "ada"}, {"user_id": {"eq": None}}, {"user_id": {"ne": "ada"}}]
        reader, filters = rng.choice(files), {**rng.choice(whose), **rng.choice(WISHES)}
        assert sorted(found(reader, **filters)) == sorted(found(model, **filters))
        assert sorted(found(reader, **filters)) == sorted((each.id, each.text) for each in reader.list(**filters))
        assert [record.id for record in reader.list(**filters)] == [record.id for record in model.list(**filters)]
    for memory in files:
        memory.close()


def test_a_search_sees_the_file_as_it_was_when_it_began(tmp_path: Path) -> None:
    """A vector that changes, and rows that come, while an older state is read: nothing of it reaches the older one."""
    memory = opened(tmp_path / "memory.db")
    memory.add_many([MemoryRecord(f"tea {n}", id=str(n), metadata={"n": n % 2}) for n in range(80)])
    database = memory.vector_database
    memory.search("tea", metadata={"n": 1})
    wanted = parsed_filters({"metadata": {"n": 1}})
    query = database.embeddings.embed("tea")

    def older(db: Any) -> Any:
        moment, _ = database._scope(db, wanted)
        before = [part.copy() for part in database._scopes.scores(db, moment, query, wanted)]
        memory.update("1", text="bread")
        memory.update("2", metadata={"n": 1})
        memory.add("more tea", metadata={"n": 1})
        assert memory.search("tea", metadata={"n": 1}).total == 42
        return before, database._scopes.scores(db, moment, query, wanted)

    before, after = database._connections.snapshot("test", older)
    assert [part.tolist() for part in before] == [part.tolist() for part in after]
    memory.close()


def test_an_open_database_notices_that_all_was_embedded_again(tmp_path: Path) -> None:
    here, there = opened(tmp_path / "memory.db"), opened(tmp_path / "memory.db")
    here.add("tea")
    assert len(there.search("tea")) == 1
    here.reembed(HashingEmbeddings(64))
    with pytest.raises(DimensionMismatchError):
        there.search("tea")
    here.reembed(HashingEmbeddings(32))
    assert there.search("tea")[0].score == pytest.approx(1)


def test_what_is_added_while_all_is_embedded_again_is_embedded_too(tmp_path: Path) -> None:
    memory, meanwhile = opened(tmp_path / "memory.db"), opened(tmp_path / "memory.db")
    memory.add_many([MemoryRecord(f"tea {n}", id=str(n)) for n in range(6)])

    class Adding(HashingEmbeddings):
        def embed_batch(self, texts: Any) -> Any:
            if meanwhile.count() == 6:
                meanwhile.add("bread")
                meanwhile.update("0", text="salt")
                meanwhile.delete("5")
            return super().embed_batch(texts)

    assert memory.reembed(Adding(64), batch_size=2) >= 6
    assert memory.search("salt", limit=1)[0].id == "0"
    assert memory.search("bread", limit=1)[0].text == "bread"
    assert memory.search("tea").total == 6


def add_some(path: str, worker: int, n_memories: int) -> None:
    memory = opened(Path(path))
    for n in range(n_memories):
        memory.add(f"tea {n}", user_id="ada")
        memory.add(f"bread of {worker} {n}", user_id="ada")
        assert memory.search(f"tea {n}", user_id="ada", limit=1)[0].text.startswith("tea")
    memory.close()


def test_processes_that_say_the_same_leave_it_said_once(tmp_path: Path) -> None:
    path, n_memories = tmp_path / "memory.db", 10 * SCALE
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=add_some, args=(str(path), worker, n_memories)) for worker in range(2)]
    for process in workers:
        process.start()
    for process in workers:
        process.join()
    assert [process.exitcode for process in workers] == [0, 0]
    assert opened(path).count(user_id="ada") == 3 * n_memories


def test_threads_add_and_search_at_once(tmp_path: Path) -> None:
    memory = opened(tmp_path / "memory.db")

    def work(worker: int) -> None:
        for n in range(25):
            memory.add(f"tea {worker} {n}", user_id=f"user {worker % 2}")
            mine = memory.search("tea", user_id=f"user {worker % 2}", limit=1000)
            assert {record.user_id for record in mine} == {f"user {worker % 2}"}
            assert mine.total == len(mine) >= n + 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert memory.count() == 100
    memory.close()


def test_a_closed_database_is_opened_again(tmp_path: Path) -> None:
    memory = opened(tmp_path / "memory.db")
    memory.add("tea")
    memory.close()
    assert memory.search("tea")[0].text == "tea"
    memory.close()
    (tmp_path / "memory.db").unlink()
    assert memory.search("tea").total == 0
    memory.add("bread")
    assert memory.search("tea")[0].text == "bread"
    memory.close()


def test_vectors_of_whoever_was_not_asked_for_longest_are_given_up(tmp_path: Path) -> None:
    memory = opened(tmp_path / "memory.db", cache_bytes=20_000)
    for user in range(10):
        memory.add_many([MemoryRecord(f"tea {n}", user_id=f"user {user}") for n in range(40)])
    for _ in range(2):
        for user in range(10):
            assert memory.search("tea", user_id=f"user {user}", limit=100).total == 40
    scopes = memory.vector_database._scopes
    assert 1 <= len(scopes._scopes) < 10
    assert sum(scope.n_bytes for scope in scopes._scopes.values()) <= 20_000


class Counting:
    """Vectors drawn at random, as cheap as can be."""

    dimensions = 384

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)

    def embed(self, text: str) -> Any:
        return self.embed_batch([text])[0]

    def embed_batch(self, texts: Any) -> Any:
        return self._random.standard_normal((len(texts), self.dimensions), dtype="float32")


def test_a_search_reads_the_vectors_of_its_user_and_of_nobody_else(tmp_path: Path) -> None:
    memory = MemoryManager(tmp_path / "memory.db", embeddings=Counting())
    for user in range(3):
        memory.add_many([MemoryRecord(f"{user} {n}", user_id=f"user {user}") for n in range(100)])
    assert memory.search("x", user_id="user 1", limit=3).total == 100
    (scope,) = memory.vector_database._scopes._scopes.values()
    assert scope.size == 100
    memory.close()


def test_an_error_holds_nothing_that_was_said(tmp_path: Path) -> None:
    memory = opened(tmp_path / "memory.db")
    memory.add("a secret", memory_id="x")
    for wrong in (
        lambda: memory.add("another secret", memory_id="x"),
        lambda: memory.add("a secret \ud83d"),
        lambda: memory.get("y"),
        lambda: memory.search("secret", metadata={"k": {"any": "secret"}}),
    ):
        with pytest.raises(MemexLLMError) as caught:
            wrong()
        assert "secret" not in str(caught.value)
    assert "secret" not in repr(memory)
