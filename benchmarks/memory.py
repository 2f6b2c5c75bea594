"""Long-term memory, 100,000 records of ten users: `python -m benchmarks.memory` in SQLite, `--postgres` in PostgreSQL.

The floor of a search in SQLite is the product of the user's matrix with the query in bare NumPy, and the ten best of
it; in PostgreSQL, whose work is another process's, it is the bare query by psycopg: ten numbers and products of the
user's vectors, by the index or by comparing all, in wall time. Vectors are drawn at random, of 384 dimensions, which
are the hardest to index; no model is asked.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._pairs import Batch, line, measured, ratio
from memexllm import MemoryManager, MemoryRecord
from memexllm.memory import PostgresVectorDatabase

DIMENSIONS = 384
N_USERS, N_OF_EACH, BATCH = 10, 10_000, 1_000


class RandomEmbeddings:
    """A vector drawn anew for each text."""

    dimensions = DIMENSIONS

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)

    def embed(self, text: str) -> Any:
        return self._random.standard_normal(DIMENSIONS, dtype="float32")

    def embed_batch(self, texts: Sequence[str]) -> Any:
        return self._random.standard_normal((len(texts), DIMENSIONS), dtype="float32")


def fill(memory: MemoryManager) -> float:
    """Seconds of CPU that adding took, the making of the texts left out."""
    spent = 0.0
    for start in range(0, N_USERS * N_OF_EACH, BATCH):
        records = [
            MemoryRecord(text(n), user_id=f"user {n % N_USERS}", metadata={"lang": "en" if n % 3 else "de"})
            for n in range(start, start + BATCH)
        ]
        started_at = time.process_time()
        memory.add_many(records)
        spent += time.process_time() - started_at
    return spent


def text(n: int) -> str:
    """Eight words, of a vocabulary in which the word of rank r is said r times as seldom as the first."""
    random = np.random.default_rng(n)
    words = (random.pareto(1.0, 8) * 10).astype(int) % 20_000
    return f"record {n} {' '.join(f'w{word}' for word in words)}"


def floor() -> Batch:
    random = np.random.default_rng(1)
    matrix = random.standard_normal((N_OF_EACH, DIMENSIONS), dtype="float32")

    def search(n_operations: int) -> None:
        for _ in range(n_operations):
            scores = matrix @ random.standard_normal(DIMENSIONS, dtype="float32")
            np.argpartition(-scores, 10)[:10].tolist()

    return search


def searching(memory: MemoryManager, query: str = "anything", **asked: Any) -> Batch:
    def search(n_operations: int) -> None:
        for _ in range(n_operations):
            memory.search(query, **asked)

    return search


def adding(memory: MemoryManager) -> Batch:
    numbers = itertools.count()

    def add(n_operations: int) -> None:
        for _ in range(n_operations):
            memory.add(f"another {next(numbers)}")

    return add


def adding_and_searching(memory: MemoryManager) -> Batch:
    numbers = itertools.count()

    def add_and_search(n_operations: int) -> None:
        for _ in range(n_operations):
            memory.add(f"new {next(numbers)}", user_id="user 3")
            memory.search("anything", user_id="user 3")

    return add_and_search


def wall_ms(batch: Batch, n: int) -> str:
    taken: list[float] = []
    for _ in range(n):
        started_at = time.perf_counter()
        batch(1)
        taken.append((time.perf_counter() - started_at) * 1000)
    return f"{sorted(taken)[n // 2]:7.2f} ms median, {min(taken):6.2f} ms least"


def raw_searching(connection: Any, embeddings: RandomEmbeddings, *, along_the_index: bool) -> Batch:
    (key,) = connection.execute("SELECT user_key FROM memexllm_memory_records WHERE user_id = 'user 3'").fetchone()
    connection.execute("SET hnsw.ef_search = 100; SET hnsw.iterative_scan = relaxed_order; SET enable_sort = off")
    # There is no index for the order of the negated product.
    order = "vector <#> %(query)s::vector" if along_the_index else "score DESC"
    sql = (
        "SELECT n, -(vector <#> %(query)s::vector) AS score FROM memexllm_memory_vectors WHERE user_key = %(key)s "
        f"ORDER BY {order} LIMIT 10"
    )

    def search(n_operations: int) -> None:
        for _ in range(n_operations):
            query = f"[{','.join(map(str, embeddings.embed('').tolist()))}]"
            connection.execute(sql, {"query": query, "key": key}).fetchall()

    return search


def on_postgres() -> None:
    import psycopg

    from tests.sql_servers import Running, sql_servers

    (server,) = [each for each in sql_servers() if each.id == "postgres"]
    with Running(server) as own:
        url = own.url.replace("+psycopg", "")
        with psycopg.connect(url, autocommit=True) as connection:
            # Room for the vectors and their index, as a server has that is set up for them.
            connection.execute("ALTER SYSTEM SET shared_buffers = '1GB'")
            connection.execute("ALTER SYSTEM SET maintenance_work_mem = '512MB'")
        own.kill()
        own.start()
        database = PostgresVectorDatabase(url, RandomEmbeddings(), index_from=N_USERS * N_OF_EACH)
        with MemoryManager(database) as memory, psycopg.connect(url, autocommit=True) as connection:
            started_at = time.perf_counter()
            fill(memory)
            print(f"adding {memory.count():,} in batches of {BATCH:,}: {time.perf_counter() - started_at:.1f} s")
            connection.execute("VACUUM ANALYZE")
            compare("all compared", memory, raw_searching(connection, RandomEmbeddings(), along_the_index=False))
            started_at = time.perf_counter()
            memory.add("one more")
            print(f"making the index: {time.perf_counter() - started_at:.1f} s")
            compare("along the index", memory, raw_searching(connection, RandomEmbeddings(), along_the_index=True))
            added = measured({"add": adding(memory)}, n_rounds=5, n_operations=5, clock=time.perf_counter_ns)
            print(line("add one", added["add"]))


def compare(how: str, memory: MemoryManager, raw: Batch) -> None:
    contestants = {
        "bare query": raw,
        "search": searching(memory, user_id="user 3"),
        "search, kind=": searching(memory, user_id="user 3", kind="fact"),
        "search, metadata=": searching(memory, user_id="user 3", metadata={"lang": "de"}),
    }
    found = measured(contestants, n_rounds=10, n_operations=3, clock=time.perf_counter_ns)
    print(how)
    for name, samples in found.items():
        print(line(name, samples), ratio(samples, found["bare query"]))


def on_sqlite() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        MemoryManager(Path(folder) / "memory.db", embeddings=RandomEmbeddings()) as memory,
    ):
        print(f"adding {N_USERS * N_OF_EACH:,} in batches of {BATCH:,}: {fill(memory):.1f} s of CPU")
        started_at = time.perf_counter()
        memory.search("anything", user_id="user 3")
        print(f"first search of a user: {(time.perf_counter() - started_at) * 1000:.0f} ms")
        started_at = time.process_time()
        memory.search("anything", user_id="user 3", hybrid=True)
        print(f"first hybrid search, which indexes all words: {time.process_time() - started_at:.1f} s of CPU")
        contestants = {
            "bare NumPy": floor(),
            "search": searching(memory, user_id="user 3"),
            "search, kind=": searching(memory, user_id="user 3", kind="fact"),
            "search, hybrid=": searching(memory, query="what of w10, w40 and w500?", user_id="user 3", hybrid=True),
            "search, metadata=": searching(memory, user_id="user 3", metadata={"lang": "de"}),
            "add and search": adding_and_searching(memory),
        }
        cpu = measured(contestants, n_rounds=10, n_operations=5)
        for name, batch in contestants.items():
            print(f"{name:20} {wall_ms(batch, 30)}; CPU {cpu[name].minimum / 1000:6.2f} ms least")


if __name__ == "__main__":
    on_postgres() if "--postgres" in sys.argv else on_sqlite()
