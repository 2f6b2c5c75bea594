"""What is in a SQLite file. `PRAGMA user_version` holds the format's number; older ones: `_sqlite_migrations.py`.

- `threads`: one row a thread; `n` is the creation order. `listed_at` orders lists by update: it is the time of the
  write that moved the thread to where it stands. Further writes to it leave that time, and so the indexes, alone as
  long as no other thread came after. The spans from `listed_at` to the log's `updated_at` of all threads are disjoint:
  a write whose time falls into one ends it first. So the order by `listed_at` is that by `updated_at`; equal times go
  by `n`. `metadata` is the text that `jsontext.dumps` writes, byte for byte: lists that filter by it look into it.
- `logs`: where messages lie, with what changes on every append (`next_seq` is what the next message gets). Each thread
  has one. A fork's has a negative id, which nobody else's has, and names the log it was made of and the last seq it
  reads from it (`_sqlite_chains.py`); `hidden` is empty. Ids are never used twice.
- `messages`: `position` is `log_id << 32 | seq`, so a thread's messages lie side by side in the table itself and
  reading the newest needs no index. `wire_text` and `extra_text` are JSON (see `_rows.py`); `tokens_text` is
  `[count, encoding]`.

Times are microseconds since 1970.
"""

from __future__ import annotations

import sqlite3
from typing import NoReturn

from memexllm.core.errors import StorageError
from memexllm.storage import _sqlite_legacy

LEGACY = -1
"""The format of a file that memexllm 0.1 wrote, which has no number in it."""
EMPTY = 0
"""The format of a file in which there is nothing yet."""
FORMAT = 2
OUR_TABLES = frozenset({"logs", "threads", "messages"})
Executor = sqlite3.Connection | sqlite3.Cursor
"""What runs a statement: a connection, or one cursor for all statements of a transaction."""
SEQ_BITS = 32
SEQ_MASK = (1 << SEQ_BITS) - 1

TABLES = """
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
    listed_at INTEGER NOT NULL
);
CREATE INDEX threads_by_update ON threads (listed_at);
CREATE INDEX threads_of_user ON threads (user_id, listed_at) WHERE user_id IS NOT NULL;
CREATE INDEX threads_of_user_by_creation ON threads (user_id) WHERE user_id IS NOT NULL;
CREATE TABLE messages (
    position INTEGER PRIMARY KEY,
    superseded INTEGER NOT NULL DEFAULT 0,
    wire_text TEXT NOT NULL,
    extra_text TEXT,
    tokens_text TEXT
);
"""


def checked_format(connection: sqlite3.Connection, where: str) -> int:
    """As `format_of`, in a transaction of its own. Reads only."""
    # In a transaction, so that format and tables are of one moment: another connection may be making them.
    connection.execute("BEGIN")
    try:
        return format_of(connection, where)
    finally:
        connection.execute("COMMIT")


def format_of(connection: sqlite3.Connection, where: str) -> int:
    """`EMPTY`, `LEGACY` or a format this release reads; `StorageError` for a newer one and another program's file."""
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found > FORMAT:
        raise StorageError(
            f"{where} has format {found}; this release of memexllm reads formats up to {FORMAT}: upgrade memexllm. "
            "Nothing was changed"
        )
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if found > EMPTY and tables >= OUR_TABLES:
        return int(found)
    if found == EMPTY and _sqlite_legacy.is_legacy(connection):
        return LEGACY
    if found != EMPTY or tables:
        raise StorageError(
            f"{where} is a SQLite database of another program (it has the tables {', '.join(sorted(tables)[:5])}); "
            "give memexllm a file of its own. Nothing was changed"
        )
    return EMPTY


def refuse_format(connection: sqlite3.Connection, where: str) -> NoReturn:
    """The file changed its format under an open connection."""
    found = format_of(connection, where)
    raise StorageError(
        f"{where} had format {FORMAT} when it was opened and has {found} now: another version of memexllm is at work "
        "on it, or another file lies in its place. Nothing was written"
    )
