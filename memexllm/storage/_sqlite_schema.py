"""What is in a SQLite file, and how one comes to be. `PRAGMA user_version` holds the format's number.

- `threads`: one row a thread; `n` is the creation order. `updated_minute` orders lists by update and changes at most
  once a minute, so that an append need not touch its indexes.
- `logs`: where messages lie, with what changes on every append (`next_seq` is what the next message gets). Each thread
  has one; a fork's log names its parent and the last seq it reads from it (`hidden`: seqs of the parent that the fork
  has superseded).
- `messages`: `position` is `log_id << 32 | seq`, so a thread's messages lie side by side in the table itself and
  reading the newest needs no index. `wire_text` and `extra_text` are JSON (see `_rows.py`); `tokens_text` is
  `[count, encoding]`.

Times are microseconds since 1970.
"""

from __future__ import annotations

import sqlite3

from memexllm.core.errors import StorageError
from memexllm.storage import _sqlite_legacy

FORMAT = 1
LEGACY = -1
SEQ_BITS = 32
SEQ_MASK = (1 << SEQ_BITS) - 1

_TABLES = """
CREATE TABLE logs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    next_seq INTEGER NOT NULL,
    message_count INTEGER NOT NULL,
    version INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    parent_id INTEGER REFERENCES logs (id),
    fork_seq INTEGER,
    hidden TEXT
);
CREATE INDEX logs_of_parent ON logs (parent_id) WHERE parent_id IS NOT NULL;
CREATE TABLE threads (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    log_id INTEGER NOT NULL REFERENCES logs (id),
    user_id TEXT,
    title TEXT,
    metadata TEXT NOT NULL,
    state TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_minute INTEGER NOT NULL
);
CREATE INDEX threads_by_update ON threads (updated_minute);
CREATE INDEX threads_of_user ON threads (user_id, updated_minute) WHERE user_id IS NOT NULL;
CREATE TABLE messages (
    position INTEGER PRIMARY KEY,
    superseded INTEGER NOT NULL DEFAULT 0,
    wire_text TEXT NOT NULL,
    extra_text TEXT,
    tokens_text TEXT
);
"""


def prepare(connection: sqlite3.Connection, where: str) -> None:
    """Make the tables in an empty file; leave a current one as it is; refuse anything else unchanged."""
    if checked_format(connection, where) == FORMAT:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        if _format_of(connection, where) != FORMAT:  # another process may have been first
            if _format_of(connection, where) == LEGACY:
                _sqlite_legacy.convert(connection)
            else:
                for statement in _TABLES.split(";"):
                    if statement.strip():
                        connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def checked_format(connection: sqlite3.Connection, where: str) -> int:
    """0 or `FORMAT`; `StorageError` for a newer format and for another program's database. Reads only."""
    # In a transaction, so that format and tables are of one moment: another connection may be making them.
    connection.execute("BEGIN")
    try:
        return _format_of(connection, where)
    finally:
        connection.execute("COMMIT")


def _format_of(connection: sqlite3.Connection, where: str) -> int:
    """0 for an empty file, else the format this release reads."""
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found > FORMAT:
        raise StorageError(
            f"{where} has format {found}; this release of memexllm reads formats up to {FORMAT}: upgrade memexllm. "
            "Nothing was changed"
        )
    if found == FORMAT:
        return FORMAT
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' LIMIT 5")]
    if found == 0 and _sqlite_legacy.is_legacy(connection):
        return LEGACY
    if found < 0 or tables:
        raise StorageError(
            f"{where} is a SQLite database of another program (it has the tables {', '.join(sorted(tables))}); "
            "give memexllm a file of its own. Nothing was changed"
        )
    return 0
