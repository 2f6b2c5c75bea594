"""SQLStorage on PostgreSQL against the raw driver, and on PostgreSQL and MariaDB at scale: `python -m benchmarks.sql`.

A minute with the numbers it has by itself; `--threads 100000 --messages 100000 threads search` is for the large ones.
Starts servers of its own, as the tests do, or uses `MEMEXLLM_TEST_POSTGRES` and `…_MARIADB`. The raw floor is psycopg
on one open connection and the obvious table, `messages(thread_id, seq, role, content, PRIMARY KEY (thread_id, seq))`,
its texts in variables:

- *raw rows*: two rows by `executemany`, `COMMIT`; the program knows the next seq.
- *raw rows and thread*: the same, and in the transaction one `UPDATE` of the thread's version and updated_at.
- *raw select*: role and content of the newest 20 by `fetchall`, in autocommit.

Ours stores what a call stores: the question and the answer with its `CallInfo`, as `Message`s made beforehand. Times
are wall times, because a server's work is another process's; neither waits for the disk.

Forks are of whole threads of 100 and 100,000 messages; what a fork costs afterwards is an append to one and a read of
its newest 20, over the same of a thread that is none. Many threads and search are in `_sql_scale.py`.
"""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from functools import partial
from itertools import count
from typing import Any

import psycopg
import sqlalchemy as sa

from benchmarks._pairs import Batch, line, measured, ratio
from benchmarks._sql_scale import many_threads, searching
from benchmarks.storage import CALL, N_NEWEST, TEXT
from memexllm.core.models import Message, Thread
from memexllm.storage import SQLStorage
from tests.sql_servers import Running, sql_servers

LENGTHS = (10, 1_000, 100_000)
FORKED = (100, 100_000)
_TABLES = """
    CREATE TABLE IF NOT EXISTS raw_threads (id TEXT PRIMARY KEY, version BIGINT NOT NULL, updated_at BIGINT NOT NULL);
    CREATE TABLE IF NOT EXISTS raw_messages (
        thread_id TEXT NOT NULL, seq BIGINT NOT NULL, role TEXT NOT NULL, content TEXT NOT NULL,
        PRIMARY KEY (thread_id, seq)
    )
"""
_INSERT = "INSERT INTO raw_messages VALUES (%s, %s, %s, %s)"
_SELECT = "SELECT role, content FROM raw_messages WHERE thread_id = %s ORDER BY seq DESC LIMIT %s"
_TOUCH = "UPDATE raw_threads SET version = version + 1, updated_at = %s WHERE id = %s"


def raw_append(connection: psycopg.Connection[Any], thread: str, places: count[int], *, touch: bool) -> Batch:
    cursor = connection.cursor()

    def append(n_operations: int) -> None:
        connection.autocommit = False
        for _ in range(n_operations):
            first, second = next(places), next(places)
            cursor.executemany(_INSERT, [(thread, first, "user", TEXT), (thread, second, "assistant", TEXT)])
            if touch:
                cursor.execute(_TOUCH, (time.time_ns() // 1000, thread))
            connection.commit()

    return append


def raw_select(connection: psycopg.Connection[Any], thread: str) -> Batch:
    def select(n_operations: int) -> None:
        connection.autocommit = True
        for _ in range(n_operations):
            connection.execute(_SELECT, (thread, N_NEWEST)).fetchall()

    return select


def our_append(storage: SQLStorage, thread: str, **changes: Any) -> Batch:
    messages = [Message(TEXT, "user"), Message(TEXT, "assistant", call=CALL)]

    def append(n_operations: int) -> None:
        for _ in range(n_operations):
            storage.append_messages(thread, messages, create={}, **changes)

    return append


def our_read(storage: SQLStorage, thread: str, *, wire: bool) -> Batch:
    def read(n_operations: int) -> None:
        for _ in range(n_operations):
            storage.read_messages(thread, limit=N_NEWEST, wire=True) if wire else storage.read_messages(
                thread, limit=N_NEWEST
            )

    return read


def compare(connection: psycopg.Connection[Any], storage: SQLStorage, length: int) -> None:
    thread = f"thread of {length}"
    connection.autocommit = True
    connection.execute("INSERT INTO raw_threads VALUES (%s, 0, 0)", (thread,))
    connection.cursor().executemany(_INSERT, [(thread, seq, "user", TEXT) for seq in range(length)])
    storage.save_thread(Thread(thread, messages=[Message(TEXT, "user", seq=seq) for seq in range(length)]))
    places = count(length)
    print(f"a thread of {length:,} messages")
    found = measured(
        {
            "raw rows": raw_append(connection, thread, places, touch=False),
            "raw rows and thread": raw_append(connection, thread, places, touch=True),
            "append_messages": our_append(storage, thread),
            "append_messages with state": our_append(storage, thread, state={"cut": 1}),
        },
        n_rounds=300,
        n_operations=3,
        clock=time.perf_counter_ns,
    )
    for name, samples in found.items():
        print(line(name, samples))
    print("  append over raw rows:           ", ratio(found["append_messages"], found["raw rows"]))
    print("  append over raw rows and thread:", ratio(found["append_messages"], found["raw rows and thread"]))
    print("  with state over raw rows:       ", ratio(found["append_messages with state"], found["raw rows"]))
    found = measured(
        {
            "raw select": raw_select(connection, thread),
            "read_messages(wire=True)": our_read(storage, thread, wire=True),
            "read_messages()": our_read(storage, thread, wire=False),
        },
        n_rounds=300,
        n_operations=3,
        clock=time.perf_counter_ns,
    )
    for name, samples in found.items():
        print(line(name, samples))
    print("  wire over raw select:           ", ratio(found["read_messages(wire=True)"], found["raw select"]))
    print("  messages over raw select:       ", ratio(found["read_messages()"], found["raw select"]))


def forking(storage: SQLStorage, thread: str, places: count[int]) -> Batch:
    def fork(n_operations: int) -> None:
        for _ in range(n_operations):
            storage.fork_thread(thread, f"fork {next(places)}")

    return fork


def compare_forks(storage: SQLStorage) -> None:
    places = count()
    for length in FORKED:
        messages = [Message(TEXT, "user", seq=seq) for seq in range(length)]
        storage.save_thread(Thread(f"to fork of {length}", messages=messages))
    print("forks")
    found = measured(
        {f"fork of {length:,}": forking(storage, f"to fork of {length}", places) for length in FORKED},
        n_rounds=50,
        n_operations=3,
        clock=time.perf_counter_ns,
    )
    for name, samples in found.items():
        print(line(name, samples))
    names = {"thread": f"to fork of {FORKED[-1]}", "fork": "measured fork"}
    storage.fork_thread(names["thread"], names["fork"])
    for what, make in (("newest 20", partial(our_read, wire=True)), ("append", our_append)):
        found = measured(
            {name: make(storage, thread) for name, thread in names.items()},
            n_rounds=100,
            n_operations=3,
            clock=time.perf_counter_ns,
        )
        print(f"  {what} of a fork over a thread's:", ratio(found["fork"], found["thread"]))


def compare_with_raw(url: str, storage: SQLStorage) -> None:
    raw_url = sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(raw_url, autocommit=True) as connection:
        for statement in _TABLES.split(";"):
            connection.execute(statement)
        for length in LENGTHS:
            compare(connection, storage, length)


def main() -> None:
    parser = argparse.ArgumentParser(description="SQLStorage against the raw driver, and at scale")
    parser.add_argument("parts", nargs="*", default=["raw", "forks", "threads", "search"])
    parser.add_argument("--threads", type=int, default=5_000, help="how many threads are listed; 100000 takes a minute")
    parser.add_argument("--messages", type=int, default=5_000, help="how many messages are searched")
    options = parser.parse_args()
    for server in sql_servers():
        with ExitStack() as stack:
            url = server.url or stack.enter_context(Running(server)).url
            storage = stack.enter_context(SQLStorage(url, table_prefix="benchmark_"))
            print(server)
            if "raw" in options.parts and server.id == "postgres":
                compare_with_raw(url, storage)
            if "forks" in options.parts and server.id == "postgres":
                compare_forks(storage)
            if "threads" in options.parts:
                many_threads(stack.enter_context(SQLStorage(url, table_prefix="many_")), options.threads)
            if "search" in options.parts:
                searching(stack.enter_context(SQLStorage(url, table_prefix="search_")), options.messages)


if __name__ == "__main__":
    main()
