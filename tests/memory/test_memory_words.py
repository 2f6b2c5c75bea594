"""Hybrid search in SQLite: an index that is caught up, holds no deleted text, and can be done without."""

from __future__ import annotations

import os
import random
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from memexllm import AsyncMemoryManager, MemoryManager
from memexllm.core.errors import NotSupportedError
from memexllm.memory import (
    InMemoryVectorDatabase,
    MemoryRecord,
    MemoryRecordResults,
    SQLiteVectorDatabase,
    StorageBackend,
)
from memexllm.memory._fusing import scanned, stems_in
from memexllm.memory._sqlite_words import INDEX
from memexllm.memory.embeddings import HashingEmbeddings
from memexllm.memory.vector_database import REQUIRED

if TYPE_CHECKING:
    from pathlib import Path

WORDS = ("tea", "bread", "dog", "tide", "salt", "Zorblax", "Grüße", "你好")
SCALE = int(os.environ.get("MEMEXLLM_TEST_SCALE", "1"))


def opened(path: Path) -> MemoryManager:
    return MemoryManager(SQLiteVectorDatabase(path, HashingEmbeddings(32)))


def found(memory: MemoryManager, query: str, **asked: Any) -> list[tuple[str, float]]:
    page = memory.search(query, hybrid=True, **{"limit": 100, **asked})
    return [(record.text, round(record.score or 0.0, 4)) for record in page]


@pytest.mark.parametrize("seed", range(3 * SCALE))
def test_an_index_that_was_caught_up_finds_what_one_made_anew_finds(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    files = [opened(tmp_path / "memory.db"), opened(tmp_path / "memory.db")]
    known: list[str] = []
    for step in range(40):
        memory, action = rng.choice(files), rng.random()
        text = f"{' '.join(rng.choices(WORDS, k=rng.randint(1, 6)))} {step}"
        if action < 0.6 or not known:
            known.append(memory.add(text, user_id=rng.choice(["ada", "bob"])).id)
        elif action < 0.75:
            memory.update(rng.choice(known), text=text)
        elif action < 0.85:
            memory.update(rng.choice(known), metadata={"n": step})
        else:
            memory.delete(known.pop(rng.randrange(len(known))))
        if rng.random() < 0.5:
            memory.search(rng.choice(WORDS), hybrid=True)
    asked: list[dict[str, Any]] = [{"user_id": "ada"}, {"user_id": "bob"}, {}]
    caught_up = [found(files[0], word, **each) for word in WORDS for each in asked]
    with closing(sqlite3.connect(tmp_path / "memory.db", isolation_level=None)) as db:
        db.execute("DROP TABLE memory_worded")
    assert [found(files[1], word, **each) for word in WORDS for each in asked] == caught_up
    for memory in files:
        memory.close()


def test_a_file_and_a_list_agree_about_who_answers_best(tmp_path: Path) -> None:
    rng = random.Random(1)
    texts = [f"{' '.join(rng.choices(WORDS, k=6))} {n}" for n in range(60)]
    file, listed = opened(tmp_path / "memory.db"), MemoryManager(InMemoryVectorDatabase(HashingEmbeddings(32)))
    for memory in (file, listed):
        memory.add_many([MemoryRecord(text, id=text, user_id="ada") for text in texts])
    for query in ("tea Zorblax", "the dog and the tide", "你好", "salt 17"):
        one, other = (memory.search(query, limit=5, user_id="ada", hybrid=True) for memory in (file, listed))
        assert one[0].text == other[0].text
        assert one[0].score == pytest.approx(other[0].score, abs=0.05)
    file.close()


def test_what_is_deleted_or_said_otherwise_is_not_in_the_file(tmp_path: Path) -> None:
    memory = opened(tmp_path / "memory.db")
    memory.add_many([MemoryRecord(f"tea {n}") for n in range(50)])
    memory.add("qwertzsecret", memory_id="a")
    memory.add("asdfghsecret", memory_id="b")
    memory.search("tea", hybrid=True)
    memory.update("a", text="nothing")
    memory.delete("b")
    memory.close()
    with closing(sqlite3.connect(tmp_path / "memory.db")) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    data = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"tea" in data
    assert b"qwertz" not in data
    assert b"asdfgh" not in data


@pytest.mark.parametrize(
    "damage",
    [
        f"UPDATE {INDEX}_data SET block = x'00'",
        f"DELETE FROM {INDEX}_data",
        f"DROP TABLE {INDEX}_config",
        f"UPDATE {INDEX}_config SET v = 99 WHERE k = 'version'",
        f"DROP TABLE {INDEX}",
    ],
)
def test_a_damaged_index_is_done_without_and_goes_with_the_next_deletion(tmp_path: Path, damage: str) -> None:
    memory = opened(tmp_path / "memory.db")
    memory.add_many([MemoryRecord(f"tea {n}", id=str(n)) for n in range(20)])
    memory.add_many([MemoryRecord("Zorblax"), MemoryRecord("qwertzsecret", id="a")])
    assert found(memory, "Zorblax", limit=1)[0][0] == "Zorblax"
    memory.close()
    with closing(sqlite3.connect(tmp_path / "memory.db", isolation_level=None)) as db:
        db.execute(damage)
    assert found(memory, "Zorblax", limit=1)[0][0] == "Zorblax"
    assert memory.delete("a") is True
    assert found(memory, "Zorblax", limit=1)[0][0] == "Zorblax"
    memory.close()
    assert b"qwertz" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_a_file_that_can_only_be_read_is_searched_by_words(tmp_path: Path) -> None:
    memory = opened(tmp_path / "memory.db")
    memory.add_many([MemoryRecord("tea"), MemoryRecord("Zorblax", user_id="ada"), MemoryRecord("Zorblax too")])
    memory.vector_database._connections.read("set up", lambda db: db.execute("PRAGMA query_only = ON").fetchall())
    assert [text for text, _ in found(memory, "Zorblax", user_id="ada")] == ["Zorblax"]
    assert [text for text, _ in found(memory, "Zorblax", limit=1)] == ["Zorblax"]
    memory.close()


def test_many_memories_are_indexed_in_several_portions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memexllm.memory._sqlite_words.RECORDS_AT_ONCE", 7)
    memory = opened(tmp_path / "memory.db")
    memory.add_many([MemoryRecord(f"{word} {n}") for n in range(5) for word in WORDS])
    assert [text for text, _ in found(memory, "Zorblax 4", limit=1)] == ["Zorblax 4"]
    memory.add("Zorblax 44")
    assert [text for text, _ in found(memory, "44", limit=1)] == ["Zorblax 44"]
    memory.close()


def test_rarer_words_and_shorter_texts_weigh_more() -> None:
    texts = [stems_in(text) for text in ("green tea", "green tea with milk and much else", "green", "green sea", "x")]
    assert [place for place, _ in scanned("green tea", texts)] == [0, 1, 2, 3]
    assert scanned("the", texts) == []


def test_a_database_without_full_text_says_so() -> None:
    class Bare(StorageBackend):
        def store_memory(self, memory: MemoryRecord) -> str:
            return memory.id

        def retrieve_memory(self, memory_id: str) -> None:
            return None

        def search_memories(self, embedding: Any, limit: int) -> list[MemoryRecord]:
            return []

    with pytest.raises(NotSupportedError, match="full text"):
        MemoryManager(storage_backend=Bare()).search("tea", hybrid=True)


def test_a_least_score_holds_for_the_score_of_both(tmp_path: Path) -> None:
    memory = opened(tmp_path / "memory.db")
    memory.add_many([MemoryRecord(f"tea {n}") for n in range(150)])
    memory.add("Zorblax drinks")
    whole = memory.search("Zorblax", hybrid=True, limit=200)
    few = memory.search("Zorblax", hybrid=True, limit=200, min_score=0.4)
    assert (whole.total, len(whole)) == (151, 151)
    assert [record.id for record in few] == [record.id for record in whole if (record.score or 0) >= 0.4]
    assert 1 <= few.total == len(few) < 151
    memory.close()


class Remembering(InMemoryVectorDatabase):
    """`asked` is what the last search was given besides the query."""

    asked: dict[str, Any]

    async def search_memories(self, query: str, limit: int = 10, **kwargs: Any) -> MemoryRecordResults:
        self.asked = kwargs
        return await super().search_memories(query, limit, **kwargs)


class SixMethods:
    """A database of somebody else's, as far as managers can tell: nothing but the six methods."""

    def __init__(self, database: Any) -> None:
        for name in REQUIRED:
            setattr(self, name, getattr(database, name))


async def test_a_database_of_somebody_elses_is_asked_for_words_only_when_they_are_wanted() -> None:
    database = Remembering(HashingEmbeddings(32))
    foreign: Any = SixMethods(database)
    memory = AsyncMemoryManager(foreign)
    await memory.add("Zorblax", user_id="ada")
    await memory.search("tea", user_id="ada")
    assert "hybrid" not in database.asked
    assert (await memory.search("Zorblax", user_id="ada", hybrid=True))[0].score == 1.0
    assert database.asked["hybrid"] is True
