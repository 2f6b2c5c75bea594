"""SQLiteStorage against the raw rows: `python -m benchmarks.storage`.

The raw floor is the obvious table, `messages(thread_id, seq, role, content, PRIMARY KEY (thread_id, seq))`, on one open
connection with the same durability (WAL, synchronous NORMAL), its texts in variables:

- *raw rows*: `BEGIN IMMEDIATE`, two rows by `executemany`, `COMMIT`; the program knows the next seq.
- *raw rows and thread*: the same, and in the transaction one `UPDATE` of the thread's version and updated_at.
- *raw select*: role and content of the newest 20 by `fetchall`.

Ours stores what a call stores: the question and the answer with its `CallInfo`, as `Message`s made beforehand.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Iterator
from itertools import count, cycle
from pathlib import Path

from benchmarks._pairs import Batch, line, measured, ratio
from memexllm.core.models import CallInfo, Message, Thread
from memexllm.storage import SQLiteStorage

TEXT = "x" * 400
N_NEWEST = 20
SHORT, LONG = 10, 100_000
N_THREADS_IN_TURN = 200
CALL = CallInfo(
    model="gpt-4o",
    server="https://api.openai.com/v1/",
    usage={"prompt_tokens": 100, "completion_tokens": 80, "total_tokens": 180},
    finish_reason="stop",
    response_id="chatcmpl-0123456789",
    latency_s=0.5,
)

_TABLES = """
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    CREATE TABLE threads (id TEXT PRIMARY KEY, version INTEGER NOT NULL, updated_at INTEGER NOT NULL);
    CREATE TABLE messages (
        thread_id TEXT NOT NULL, seq INTEGER NOT NULL, role TEXT NOT NULL, content TEXT NOT NULL,
        PRIMARY KEY (thread_id, seq)
    );
"""
_INSERT = "INSERT INTO messages VALUES (?, ?, ?, ?)"


def raw(path: Path, threads: list[str], length: int) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(_TABLES)
    connection.execute("BEGIN")
    for thread in threads:
        connection.execute("INSERT INTO threads VALUES (?, 0, 0)", (thread,))
        connection.executemany(_INSERT, ((thread, seq, "user", TEXT) for seq in range(length)))
    connection.execute("COMMIT")
    return connection


def raw_append(connection: sqlite3.Connection, threads: list[str], length: int, *, touch: bool) -> Batch:
    places = endless(threads, length)

    def append(n_operations: int) -> None:
        for _ in range(n_operations):
            thread, seq = next(places)
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_INSERT, ((thread, seq, "user", TEXT), (thread, seq + 1, "assistant", TEXT)))
            if touch:
                now = time.time_ns() // 1000
                connection.execute(
                    "UPDATE threads SET version = version + 1, updated_at = ? WHERE id = ?", (now, thread)
                )
            connection.execute("COMMIT")

    return append


def endless(threads: list[str], length: int) -> Iterator[tuple[str, int]]:
    """The threads in turn, each with the seq its next call begins at."""
    for seq in count(length, 2):
        for thread in threads:
            yield thread, seq


def ours(path: Path, threads: list[str], length: int) -> SQLiteStorage:
    storage = SQLiteStorage(path)
    for thread in threads:
        storage.save_thread(Thread(thread, messages=[Message(TEXT, "user", seq=seq) for seq in range(length)]))
    return storage


def our_append(storage: SQLiteStorage, threads: list[str]) -> Batch:
    places = cycle(threads)
    messages = [Message(TEXT, "user"), Message(TEXT, "assistant", call=CALL)]

    def append(n_operations: int) -> None:
        for _ in range(n_operations):
            storage.append_messages(next(places), messages, create={})

    return append


def compare(folder: Path, length: int, n_threads: int, *, n_rounds: int) -> None:
    threads = [f"thread-{number}" for number in range(n_threads)]
    rows = raw(folder / "rows.db", threads, length)
    touched = raw(folder / "touched.db", threads, length)
    storage = ours(folder / "memexllm.db", threads, length)
    thread = threads[0]

    def raw_select(n_operations: int) -> None:
        for _ in range(n_operations):
            rows.execute(
                "SELECT role, content FROM messages WHERE thread_id = ? ORDER BY seq DESC LIMIT ?", (thread, N_NEWEST)
            ).fetchall()

    def wire(n_operations: int) -> None:
        for _ in range(n_operations):
            storage.read_messages(thread, limit=N_NEWEST, wire=True)

    def messages(n_operations: int) -> None:
        for _ in range(n_operations):
            storage.read_messages(thread, limit=N_NEWEST)

    print(
        f"{n_threads} threads in turn, of {length:,} messages" if n_threads > 1 else f"a thread of {length:,} messages"
    )
    found = measured(
        {
            "raw rows": raw_append(rows, threads, length, touch=False),
            "raw rows and thread": raw_append(touched, threads, length, touch=True),
            "append_messages": our_append(storage, threads),
        },
        n_rounds=n_rounds,
        n_operations=25,
    )
    for name, samples in found.items():
        print(line(name, samples))
    print("  append over raw rows:           ", ratio(found["append_messages"], found["raw rows"]))
    print("  append over raw rows and thread:", ratio(found["append_messages"], found["raw rows and thread"]))
    found = measured(
        {"raw select": raw_select, "read_messages(wire=True)": wire, "read_messages()": messages},
        n_rounds=n_rounds,
        n_operations=50,
    )
    for name, samples in found.items():
        print(line(name, samples))
    print("  wire over raw select:           ", ratio(found["read_messages(wire=True)"], found["raw select"]))
    print("  messages over raw select:       ", ratio(found["read_messages()"], found["raw select"]))
    rows.close()
    touched.close()
    storage.close()


def main() -> None:
    for length, n_threads in ((SHORT, 1), (LONG, 1), (SHORT, N_THREADS_IN_TURN)):
        with tempfile.TemporaryDirectory() as folder:
            compare(Path(folder), length, n_threads, n_rounds=150)


if __name__ == "__main__":
    main()
