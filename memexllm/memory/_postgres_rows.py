"""Reading records from PostgreSQL. The records are `r` in every statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from memexllm.core import jsontext
from memexllm.core.errors import IntegrityError
from memexllm.core.moments import from_micros
from memexllm.core.trusted import trusted
from memexllm.memory._postgres_filters import Where
from memexllm.memory._postgres_texts import key_of, read
from memexllm.memory.base_database import Found
from memexllm.memory.records import MemoryRecord, MemoryRecordResult

if TYPE_CHECKING:
    from memexllm.memory._postgres_server import Db

COLUMNS = "r.id, r.text, r.kind, r.user_id, r.agent_id, r.thread_id, r.metadata, r.created_at, r.updated_at"


def fetch(db: Db, ids: Sequence[str]) -> list[MemoryRecord]:
    keys = {each: key_of(each) for each in ids}
    sql = f"SELECT {COLUMNS} FROM {db.tables.records} AS r WHERE r.id_key = ANY (CAST(:keys AS bytea[]))"
    rows = {read(row[0]): row for row in db.all(sql, keys=list(keys.values()))}
    return [record_of(rows[each]) for each in ids if each in rows]


def page(db: Db, wanted: Where, limit: int, offset: int) -> Found:
    chosen = f"FROM {db.tables.records} AS r WHERE {wanted.records} ORDER BY r.n LIMIT :limit OFFSET :offset"
    rows = db.all(f"SELECT {COLUMNS} {chosen}", **wanted.values, limit=limit, offset=offset)
    return Found([record_of(row) for row in rows], count(db, wanted))


def count(db: Db, wanted: Where) -> int:
    return int(db.one(f"SELECT {counted(db, wanted)}", **wanted.values)[0])


def counted(db: Db, wanted: Where) -> str:
    return f"(SELECT count(*) FROM {db.tables.records} AS r WHERE {wanted.records})"


def record_of(row: Sequence[Any]) -> MemoryRecord:
    return trusted(MemoryRecord, _fields(row, None))


def result_of(row: Sequence[Any], score: float) -> MemoryRecordResult:
    return trusted(MemoryRecordResult, _fields(row, score))


def _fields(row: Sequence[Any], score: float | None) -> dict[str, Any]:
    memory_id, text, kind, user_id, agent_id, thread_id, metadata, created_at, updated_at = row
    try:
        held = jsontext.loads(metadata)
    except ValueError:
        raise IntegrityError(f"memory {read(memory_id)!r} is damaged: its metadata is no JSON") from None
    return {
        "text": read(text),
        "id": read(memory_id),
        "kind": read(kind),
        "user_id": _read(user_id),
        "agent_id": _read(agent_id),
        "thread_id": _read(thread_id),
        "metadata": held,
        "created_at": from_micros(created_at),
        "updated_at": from_micros(updated_at),
        "score": score,
        "embedding": None,
    }


def _read(text: str | None) -> str | None:
    return None if text is None else read(text)
