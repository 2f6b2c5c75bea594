"""The tables of the full-text index of a SQLite file: made when somebody first searches, dropped and made anew at will.

- `search_1_index` (FTS5): a row for each live message that says something, at its position: the text with its speaker,
  what was said just before and after, and a token of its user.
- `search_1_logs`: up to which seq (`upto`) a log is indexed; `stale` when its user changed.
- `search_1_due`: positions below `upto` to be indexed anew; `gone` when their text was deleted and may still lie here.

Triggers note what changes below `upto`; they touch no FTS5 table, so a program without FTS5 can write to the file.
Appends have none.

The number in the names is this layout's: another one gets other tables. `threads.log_id` has an index here because
only hits are looked up that way.
"""

from __future__ import annotations

import sqlite3

from memexllm.core.errors import MemexLLMError
from memexllm.storage._sqlite_schema import SEQ_BITS, SEQ_MASK, Executor

INDEX = "search_1_index"
# So much of the index is collected in memory before it is written; the default of 1 MB costs a third of the speed.
_HASH_BYTES = 32 << 20
# Since this version FTS5 can take a deleted row's words out of the file at once.
CAN_DELETE_SECURELY = sqlite3.sqlite_version_info >= (3, 42)
_UPTO = f"(SELECT upto FROM search_1_logs WHERE log_id = old.position >> {SEQ_BITS})"
_INDEXED = f"(old.position & {SEQ_MASK}) < {_UPTO}"
_TABLE = f"CREATE VIRTUAL TABLE {INDEX} USING fts5 (turn, neighbours, owner, tokenize = 'porter unicode61')"
_TABLES = f"""
CREATE TABLE search_1_logs (log_id INTEGER PRIMARY KEY, upto INTEGER NOT NULL, stale INTEGER NOT NULL DEFAULT 0);
CREATE INDEX search_1_stale ON search_1_logs (log_id) WHERE stale;
CREATE TABLE search_1_due (position INTEGER PRIMARY KEY, gone INTEGER NOT NULL);
CREATE INDEX search_1_threads ON threads (log_id);
{_TABLE};
INSERT INTO {INDEX} ({INDEX}, rank) VALUES ('hashsize', {_HASH_BYTES})
"""
_TRIGGERS = (
    f"""
    CREATE TRIGGER search_1_deleted AFTER DELETE ON messages WHEN {_INDEXED}
    BEGIN INSERT OR REPLACE INTO search_1_due VALUES (old.position, 1); END""",
    f"""
    CREATE TRIGGER search_1_changed AFTER UPDATE OF superseded, wire_text, extra_text ON messages WHEN {_INDEXED}
    BEGIN INSERT OR IGNORE INTO search_1_due VALUES (old.position, 0); END""",
    """
    CREATE TRIGGER search_1_log_deleted AFTER DELETE ON logs
    BEGIN DELETE FROM search_1_logs WHERE log_id = old.id; END""",
    """
    CREATE TRIGGER search_1_user AFTER UPDATE OF user_id ON threads WHEN old.user_id IS NOT new.user_id
    BEGIN UPDATE search_1_logs SET stale = 1 WHERE log_id = new.log_id; END""",
)


def exists(db: Executor) -> bool:
    return db.execute("SELECT 1 FROM sqlite_master WHERE name = 'search_1_due'").fetchone() is not None


def create(db: Executor) -> None:
    forget(db)
    for statement in _TABLES.split(";"):
        db.execute(statement)
    if CAN_DELETE_SECURELY:
        db.execute(f"INSERT INTO {INDEX} ({INDEX}, rank) VALUES ('secure-delete', 1)")
    for statement in _TRIGGERS:
        db.execute(statement)


def forget_log(db: Executor, log_id: int) -> None:
    """Note that the log has no thread any more, so that its rows go when what was deleted is settled."""
    if exists(db):
        db.execute("DELETE FROM search_1_logs WHERE log_id = ?", (log_id,))
        db.execute("INSERT OR REPLACE INTO search_1_due VALUES (?, 1)", (log_id << SEQ_BITS,))


def forget(db: Executor) -> None:
    """Drop the index with everything about it; the next search makes it anew."""
    for name in ("search_1_deleted", "search_1_changed", "search_1_log_deleted", "search_1_user"):
        db.execute(f"DROP TRIGGER IF EXISTS {name}")
    db.execute("DROP INDEX IF EXISTS search_1_threads")
    db.execute("DROP TABLE IF EXISTS search_1_logs")
    db.execute("DROP TABLE IF EXISTS search_1_due")
    drop_full_text(db, INDEX, _TABLE)


def drop_full_text(db: Executor, index: str, statement: str) -> None:
    """Drop the FTS5 table that `statement` makes, be it damaged or FTS5 missing here; its text goes in any case."""
    try:
        db.execute(f"DROP TABLE IF EXISTS {index}")
    except sqlite3.Error:
        _drop_by_force(db, index, statement)


def index_failed(error: MemexLLMError) -> bool:
    """Whether SQLite failed at something other than waiting for its turn."""
    cause = error.__cause__
    busy = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    return isinstance(cause, sqlite3.Error) and getattr(cause, "sqlite_errorcode", 0) & 0xFF not in busy


def _drop_by_force(db: Executor, index: str, statement: str) -> None:
    """For an index FTS5 cannot open: its parts, which are plain tables, are made those of an empty one first.

    Without FTS5 only the parts are emptied; who has it goes on from there.
    """
    spare = f"spare_{index}"
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE name GLOB ?", (f"{index}_*",)).fetchall():
        db.execute(f"DELETE FROM {name}")
    try:
        db.execute(statement.replace(index, spare))
    except sqlite3.Error:
        return
    for name, made_by in db.execute(
        "SELECT name, sql FROM sqlite_master WHERE name GLOB ?", (f"{spare}_*",)
    ).fetchall():
        part = name.replace(spare, index)
        db.execute(f"DROP TABLE IF EXISTS {part}")
        db.execute(made_by.replace(spare, index))
        db.execute(f"INSERT INTO {part} SELECT * FROM {name}")
    db.execute(f"DROP TABLE {spare}")
    db.execute(f"DROP TABLE {index}")
