"""Reading records from SQLite. The statements' FROM is the one that `_sqlite_filters.where` speaks of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from memexllm.core import jsontext
from memexllm.core.errors import IntegrityError
from memexllm.core.moments import from_micros
from memexllm.core.trusted import trusted
from memexllm.memory._sqlite_filters import Where, where
from memexllm.memory.base_database import Found
from memexllm.memory.filters import Filter
from memexllm.memory.records import MemoryRecord, MemoryRecordResult

FROM = "FROM memory_records AS r JOIN memory_owners AS o ON o.n = r.owner"
COLUMNS = "r.n, r.id, r.text, r.kind, o.user_id, r.agent_id, r.thread_id, r.metadata, r.created_at, r.updated_at"
_MOST_BOUND = 500


def record_of(row: Sequence[Any]) -> MemoryRecord:
    return trusted(MemoryRecord, _fields(row, None))


def state(db: Any) -> tuple[int, int, int | None]:
    """`version`, `removed_at` and `dimensions` of the file."""
    found: tuple[int, int, int | None] = db.execute(
        "SELECT version, removed_at, dimensions FROM memory_state"
    ).fetchone()
    return found


def owner_of(db: Any, user_id: str | None) -> tuple[int, int, int] | None:
    """`n`, `version` and `removed_at` of the user's row."""
    known = "user_id = ?" if user_id is not None else "user_id IS NULL"
    found: tuple[int, int, int] | None = db.execute(
        f"SELECT n, version, removed_at FROM memory_owners WHERE {known}", () if user_id is None else (user_id,)
    ).fetchone()
    return found


def where_in(db: Any, wanted: Filter) -> Where:
    user_id = wanted.value_of("user_id")
    owner = None if user_id is None else owner_of(db, user_id)
    return where(wanted, None if owner is None else owner[0])


def matching_numbers(db: Any, wanted: Where) -> list[int]:
    """`n` of the records that match, in order."""
    if not wanted.left:
        return [n for (n,) in db.execute(f"SELECT r.n {FROM} WHERE {wanted.sql} ORDER BY r.n", wanted.bound)]
    rows = db.execute(f"SELECT r.n, r.metadata {FROM} WHERE {wanted.sql} ORDER BY r.n", wanted.bound)
    return [n for n, metadata in rows if wanted.accepts(metadata)]


def count(db: Any, wanted: Where) -> int:
    if wanted.left:
        return len(matching_numbers(db, wanted))
    return int(db.execute(f"SELECT count(*) {FROM} WHERE {wanted.sql}", wanted.bound).fetchone()[0])


def page(db: Any, wanted: Where, limit: int, offset: int) -> Found:
    """Records in order, from `offset` on."""
    if wanted.left:
        ns = matching_numbers(db, wanted)
        chosen = ns[offset : offset + limit]
        rows = _rows_of(db, chosen)
        return Found([record_of(rows[n]) for n in chosen], len(ns))
    sql = f"SELECT {COLUMNS} {FROM} WHERE {wanted.sql} ORDER BY r.n LIMIT ? OFFSET ?"
    rows = db.execute(sql, (*wanted.bound, limit, offset)).fetchall()
    return Found([record_of(row) for row in rows], count(db, wanted))


def of_numbers(db: Any, scored: Sequence[tuple[int, float]]) -> list[MemoryRecord]:
    """The records of these numbers, in this order, each with its score."""
    rows = _rows_of(db, [n for n, _ in scored])
    return [trusted(MemoryRecordResult, _fields(rows[n], score)) for n, score in scored]


def _rows_of(db: Any, ns: Sequence[int]) -> dict[int, Sequence[Any]]:
    rows: dict[int, Sequence[Any]] = {}
    for start in range(0, len(ns), _MOST_BOUND):
        some = ns[start : start + _MOST_BOUND]
        marks = ", ".join("?" * len(some))
        rows.update((row[0], row) for row in db.execute(f"SELECT {COLUMNS} {FROM} WHERE r.n IN ({marks})", some))
    return rows


def _fields(row: Sequence[Any], score: float | None) -> dict[str, Any]:
    _, memory_id, text, kind, user_id, agent_id, thread_id, metadata, created_at, updated_at = row
    try:
        held = jsontext.loads(metadata)
    except ValueError:
        raise IntegrityError(f"memory {memory_id!r} is damaged: its metadata is no JSON") from None
    return {
        "text": text,
        "id": memory_id,
        "kind": kind,
        "user_id": user_id,
        "agent_id": agent_id,
        "thread_id": thread_id,
        "metadata": held,
        "created_at": from_micros(created_at),
        "updated_at": from_micros(updated_at),
        "score": score,
        "embedding": None,
    }
