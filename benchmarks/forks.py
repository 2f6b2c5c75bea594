"""Forks in SQLite: `python -m benchmarks.forks`.

A fork of a thread of 40, 1,000 and 100,000 messages, at its end and in its middle: time, rows and bytes written. Then
what a fork costs afterwards: appends and reads of the newest 20 of a fork, over the same of a thread that is none.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks._pairs import Batch, measured, ratio
from memexllm.core.models import Message, Thread
from memexllm.storage import SQLiteStorage

TEXT = "x" * 400
LENGTHS = (40, 1_000, 100_000)
N_FORKS = 15


def filled(path: Path) -> SQLiteStorage:
    storage = SQLiteStorage(path)
    for length in LENGTHS:
        messages = [Message(TEXT, "user", id=f"m{seq}", seq=seq) for seq in range(length)]
        storage.save_thread(Thread(f"t{length}", messages=messages))
    return storage


def timed(use: Callable[[int], object]) -> float:
    times: list[float] = []
    for number in range(N_FORKS):
        started_at = time.process_time_ns()
        use(number)
        times.append((time.process_time_ns() - started_at) / 1000)
    return median(times)


def rows(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return sum(
            db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("threads", "logs", "messages")
        )


def log_bytes(path: Path) -> int:
    return path.with_name(f"{path.name}-wal").stat().st_size


def appending(storage: SQLiteStorage, thread_id: str) -> Batch:
    messages = [Message(TEXT, "user"), Message(TEXT, "assistant")]

    def append(n_operations: int) -> None:
        for _ in range(n_operations):
            storage.append_messages(thread_id, messages)

    return append


def reading(storage: SQLiteStorage, thread_id: str) -> Batch:
    def read(n_operations: int) -> None:
        for _ in range(n_operations):
            storage.read_messages(thread_id, limit=20, wire=True)

    return read


def fork(storage: SQLiteStorage, length: int, at: str | None, number: int) -> None:
    storage.fork_thread(f"t{length}", f"{length} at {at} {number}", at=at)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chat.db"
        with filled(path) as storage:
            for length in LENGTHS:
                before = rows(path)
                with closing(sqlite3.connect(path)) as db:
                    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                storage.fork_thread(f"t{length}", f"first of {length}")
                size_bytes, n_rows = log_bytes(path), rows(path) - before
                whole = timed(partial(fork, storage, length, None))
                middle = timed(partial(fork, storage, length, f"m{length // 2}"))
                print(
                    f"fork of {length:7,} messages: {whole:8.0f} us, {n_rows} rows, {size_bytes:,} bytes of log; "
                    f"in the middle {middle:8.0f} us"
                )
            storage.append_messages("t1000", [Message(TEXT, "user")])
            storage.fork_thread("t100000", "fork")
            storage.save_thread(Thread("plain", messages=[Message(TEXT, "user", seq=seq) for seq in range(1000)]))
            reads = {"fork": reading(storage, "fork"), "plain": reading(storage, "plain")}
            found = measured(reads, n_rounds=20, n_operations=100)
            print(f"newest 20 of a fresh fork over those of a thread: {ratio(found['fork'], found['plain'])}")
            found = measured(
                {name: appending(storage, name) for name in ("fork", "plain")}, n_rounds=20, n_operations=100
            )
            print(f"append to a fork over an append to a thread:      {ratio(found['fork'], found['plain'])}")
            found = measured(reads, n_rounds=20, n_operations=100)
            print(f"newest 20 of a fork that went on, over a thread's: {ratio(found['fork'], found['plain'])}")


if __name__ == "__main__":
    main()
