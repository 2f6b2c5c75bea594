"""The full-text index of a file of memory: derived data, made by the first search that asks for words.

- `memory_words` (FTS5): the text of each record under its `n`, and a token of its user.
- `memory_worded`: up to which record, by (`changed`, `n`), and which `version` of the file it is caught up.

Adding costs nothing; a search indexes what was written since. What is deleted or says something else leaves the index
in the transaction that does it, also where FTS5 is missing, so that no deleted text stays behind.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from memexllm.memory._fusing import FOUND_BY_WORDS, asked_phrases, scanned, stems_in
from memexllm.memory.embeddings.vectors import numpy_for
from memexllm.storage._sqlite_search_tables import CAN_DELETE_SECURELY, drop_full_text
from memexllm.storage._words import indexed_text

INDEX = "memory_words"
RECORDS_AT_ONCE = 10_000
"""How many records one transaction indexes; other writers take their turn in between."""

_TABLE = f"CREATE VIRTUAL TABLE {INDEX} USING fts5 (text, owner, tokenize = 'porter unicode61')"
_HASH_BYTES = 32 << 20
_MOST_BOUND = 500
_AT_ONCE = 256


def is_behind(db: Any) -> bool:
    """Whether something was written that waits to be looked at."""
    if not _exists(db):
        return True
    (behind,) = db.execute("SELECT worded.version < state.version FROM memory_worded AS worded, memory_state AS state")
    return bool(behind[0])


def catch_up(db: Any) -> bool:
    """Index what waits, at most `RECORDS_AT_ONCE` records of it; whether that was all."""
    if not _exists(db):
        _create(db)
    changed, n = db.execute("SELECT changed, n FROM memory_worded").fetchone()
    rows = db.execute(
        "SELECT changed, n, text, owner FROM memory_records WHERE (changed, n) > (?, ?) ORDER BY changed, n LIMIT ?",
        (changed, n, RECORDS_AT_ONCE),
    ).fetchall()
    db.executemany(f"DELETE FROM {INDEX} WHERE rowid = ?", [(n,) for _, n, _, _ in rows] if changed else [])
    db.executemany(
        f"INSERT INTO {INDEX} (rowid, text, owner) VALUES (?, ?, ?)",
        [(n, indexed_text(text), _token(owner)) for _, n, text, owner in rows],
    )
    if len(rows) == RECORDS_AT_ONCE:
        db.execute("UPDATE memory_worded SET changed = ?, n = ?", rows[-1][:2])
        return False
    # A version is written whole, so nothing comes after the last row of this one.
    db.execute("UPDATE memory_worded SET (version, changed, n) = (SELECT version, version, 1 << 62 FROM memory_state)")
    return True


def take_out(db: Any, ns: Sequence[int]) -> None:
    """Forget the texts of these records, in the transaction that deletes or changes them."""
    if not ns or not _exists(db):
        return
    # What a damaged index did half is undone, or it would fail again with the next statement.
    db.execute("SAVEPOINT words")
    try:
        for start in range(0, len(ns), _MOST_BOUND):
            some = ns[start : start + _MOST_BOUND]
            db.execute(f"DELETE FROM {INDEX} WHERE rowid IN ({', '.join('?' * len(some))})", some)
        if not CAN_DELETE_SECURELY:
            db.execute(f"INSERT INTO {INDEX} ({INDEX}) VALUES ('optimize')")
    except sqlite3.Error:
        # No FTS5 here, or the index is damaged: a deletion must not fail for it, and the text must go nevertheless.
        db.execute("ROLLBACK TO words")
        _forget(db)
    db.execute("RELEASE words")


def found(db: Any, owner: int | None, query: str, ns: Any) -> list[tuple[int, float]]:
    """The best records of these numbers by words, as places in `ns` with their scores; the index is caught up."""
    numpy = numpy_for("SQLiteVectorDatabase")
    phrases = asked_phrases(query)
    best: list[tuple[int, float]] = []
    if not phrases or not len(ns):
        return best
    quoted = ['"' + " ".join(phrase).replace('"', '""') + '"' for phrase in phrases]
    match = f"{{text}} : ({' OR '.join(quoted)})"
    if owner is not None:
        match = f'owner : "{_token(owner)}" AND {match}'
    ranked = f"bm25({INDEX}, 1.0, 0.0) AS cost"
    cursor = db.execute(f"SELECT rowid, {ranked} FROM {INDEX} WHERE {INDEX} MATCH ? ORDER BY cost, rowid", (match,))
    while len(best) < FOUND_BY_WORDS and (rows := cursor.fetchmany(_AT_ONCE)):
        places = numpy.searchsorted(ns, [n for n, _ in rows])
        for (n, cost), place in zip(rows, places.tolist(), strict=True):
            if place < len(ns) and ns[place] == n:
                best.append((place, -cost))
    return best[:FOUND_BY_WORDS]


def found_without_index(db: Any, owner: int | None, query: str, ns: Any) -> list[tuple[int, float]]:
    """The same by reading the texts, for a file that can only be read and a SQLite without FTS5."""
    chosen, bound = ("", ()) if owner is None else (" WHERE owner = ?", (owner,))
    wanted = set(ns.tolist())
    rows = db.execute(f"SELECT n, text FROM memory_records{chosen} ORDER BY n", bound)
    return scanned(query, [stems_in(text) for n, text in rows if n in wanted])[:FOUND_BY_WORDS]


def _exists(db: Any) -> bool:
    return db.execute("SELECT 1 FROM sqlite_master WHERE name = 'memory_worded'").fetchone() is not None


def _create(db: Any) -> None:
    _forget(db)
    db.execute(_TABLE)
    db.execute(f"INSERT INTO {INDEX} ({INDEX}, rank) VALUES ('hashsize', {_HASH_BYTES})")
    if CAN_DELETE_SECURELY:
        db.execute(f"INSERT INTO {INDEX} ({INDEX}, rank) VALUES ('secure-delete', 1)")
    db.execute("CREATE TABLE memory_worded (version INTEGER NOT NULL, changed INTEGER NOT NULL, n INTEGER NOT NULL)")
    db.execute("INSERT INTO memory_worded VALUES (0, 0, 0)")


def _forget(db: Any) -> None:
    """The next search that asks for words makes the index anew."""
    db.execute("DROP TABLE IF EXISTS memory_worded")
    drop_full_text(db, INDEX, _TABLE)


def _token(owner: int) -> str:
    return f"o{owner}"
