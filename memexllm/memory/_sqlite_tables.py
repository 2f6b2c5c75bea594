"""What is in a SQLite file of long-term memory. `PRAGMA user_version` holds the format's number.

- `memory_state`: one row. `version` counts writes; `removed_at` is the last one after which what was read before cannot
  be added to, because vectors went away or were replaced. `dimensions` is the length of all vectors, NULL for none.
- `memory_owners`: one row a user who ever had a record (NULL: records of nobody), with the same two numbers for his.
- `memory_records`: `n` is the order of adding. `identity` is `MemoryRecord.identity()`; `changed` is the version that
  last wrote the record. `metadata` is JSON. Times are microseconds since 1970.
- `memory_vectors`: unit vectors of little-endian float32, apart from the records so that lists do not read them.
- `memory_new_vectors`: those of an embedding anew that is under way, or was broken off.
"""

from __future__ import annotations

import sqlite3
from typing import NoReturn

from memexllm.core.errors import StorageError
from memexllm.storage._sqlite_kinds import FileKind

EMPTY = 0
FORMAT = 1
OUR_TABLES = frozenset({"memory_state", "memory_owners", "memory_records", "memory_vectors", "memory_new_vectors"})

TABLES = """
CREATE TABLE memory_state (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    version INTEGER NOT NULL,
    removed_at INTEGER NOT NULL,
    dimensions INTEGER
);
INSERT INTO memory_state VALUES (1, 0, 0, NULL);
CREATE TABLE memory_owners (
    n INTEGER PRIMARY KEY,
    user_id TEXT,
    version INTEGER NOT NULL,
    removed_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX memory_owner_of_user ON memory_owners (user_id) WHERE user_id IS NOT NULL;
CREATE TABLE memory_records (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    owner INTEGER NOT NULL REFERENCES memory_owners (n),
    identity BLOB NOT NULL UNIQUE,
    changed INTEGER NOT NULL,
    text TEXT NOT NULL,
    kind TEXT NOT NULL,
    agent_id TEXT,
    thread_id TEXT,
    metadata TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE INDEX memory_records_of_owner ON memory_records (owner);
CREATE INDEX memory_records_of_kind ON memory_records (owner, kind);
CREATE INDEX memory_records_changed ON memory_records (changed);
CREATE TABLE memory_vectors (n INTEGER PRIMARY KEY, vector BLOB NOT NULL);
CREATE TABLE memory_new_vectors (n INTEGER PRIMARY KEY, vector BLOB NOT NULL);
"""


def checked_format(connection: sqlite3.Connection, where: str) -> int:
    """`EMPTY` or `FORMAT`; `StorageError` for a newer file and for one that holds something else."""
    connection.execute("BEGIN")
    try:
        return _format_of(connection, where)
    finally:
        connection.execute("COMMIT")


def prepare(connection: sqlite3.Connection, where: str) -> None:
    """Make the tables of an empty file; another process may be first."""
    if checked_format(connection, where) == FORMAT:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        if _format_of(connection, where) == EMPTY:
            for statement in TABLES.split(";\n"):
                if statement.strip():
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def refuse_format(connection: sqlite3.Connection, where: str) -> NoReturn:
    found = _format_of(connection, where)
    raise StorageError(
        f"{where} had format {FORMAT} when it was opened and has {found} now: another file lies in its place. "
        "Nothing was written"
    )


def _format_of(connection: sqlite3.Connection, where: str) -> int:
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if found == EMPTY and not tables:
        return EMPTY
    if not tables >= OUR_TABLES:
        raise StorageError(
            f"{where} holds something other than memory (it has the tables {', '.join(sorted(tables)[:5])}); "
            "give memory a file of its own. Nothing was changed"
        )
    if found > FORMAT:
        raise StorageError(
            f"{where} has memory's format {found}; this release of memexllm reads formats up to {FORMAT}: upgrade "
            "memexllm. Nothing was changed"
        )
    return int(found)


MEMORIES = FileKind("SQLiteVectorDatabase", FORMAT, checked_format, prepare, refuse_format)
