"""Writing records to PostgreSQL, each function within one transaction of its caller's.

Of two transactions that add the same at once, the later one fails on a unique index and is carried out again; then it
finds what is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from memexllm.core import jsontext
from memexllm.core.moments import to_micros
from memexllm.memory._postgres_filters import where
from memexllm.memory._postgres_tables import (
    as_value,
    create_index,
    create_vectors,
    has_records,
    lock_vectors,
    needs_index,
    state,
)
from memexllm.memory._postgres_texts import key_of, lookup_of, read, stored
from memexllm.memory.base_database import Written
from memexllm.memory.filters import Condition, Filter
from memexllm.memory.records import MemoryRecord
from memexllm.memory.refusals import check_dimensions, refuse_taken, said_already, unknown_memory

if TYPE_CHECKING:
    from memexllm.memory._postgres_server import Db

_AT_ONCE = 500
_COLUMNS = {
    "identity": "bytea",
    "kind_key": "bytea",
    "kind": "text",
    "agent_id": "text",
    "thread_id": "text",
    "text": "text",
    "metadata": "text",
    "lookup": "jsonb",
    "created_at": "bigint",
    "updated_at": "bigint",
}
_ADDED = {"n": "bigint", "id_key": "bytea", "user_key": "bytea", "id": "text", "user_id": "text", **_COLUMNS}


def insert(
    db: Db, records: Sequence[MemoryRecord], vectors: Mapping[int, Any], place: str, index_from: int
) -> Written | None:
    """None, and nothing is written, when the index has to be made before more vectors are added."""
    ids, new = _told_apart(db, records)
    if wanting := [each for each in new if each not in vectors]:
        return Written(ids, wanting)
    if not new:
        return Written(ids)
    dimensions = take_dimensions(db, [vectors[each] for each in new], place)
    if needs_index(db, db.tables.vectors, dimensions, index_from):
        return None
    sequence = "nextval(pg_get_serial_sequence(:records, 'n'))"
    reserved = f"SELECT {sequence} FROM generate_series(1, :size)"
    numbers = sorted(int(n) for (n,) in db.all(reserved, records=as_value(db.tables.records), size=len(new)))
    # In one order for all: two transactions that add the same then wait for each other in one direction only.
    numbered = sorted(zip(numbers, new, strict=True), key=lambda each: new[each[1]])
    rows = [{"n": n, "vector": vector_text(vectors[each]), **_added(records[each], new[each])} for n, each in numbered]
    for some in _portions(rows):
        names = ", ".join(_ADDED)
        listed, values = _arrays(_ADDED, some)
        db.run(f"INSERT INTO {db.tables.records} ({names}) SELECT * FROM {listed}", **values)
        listed, values = _arrays({"n": "bigint", "user_key": "bytea", "vector": "text"}, some)
        db.run(
            f"INSERT INTO {db.tables.vectors} (n, user_key, revision, vector) "
            f"SELECT g.n, g.user_key, 0, CAST(g.vector AS vector) FROM {listed} AS g (n, user_key, vector)",
            **values,
        )
    return Written(ids, new=list(new))


def replace(db: Db, records: Sequence[MemoryRecord], vectors: Mapping[int, Any], place: str) -> Written:
    state(db)
    rows = _own_rows(db, records)
    said_anew = [each for each, (_, text) in enumerate(rows) if text != records[each].text]
    if wanting := [each for each in said_anew if each not in vectors]:
        return Written([], wanting)
    identities = _new_identities(db, records)
    if vectors:
        take_dimensions(db, list(vectors.values()), place)
    changed = [
        {"n": n, "said_anew": text != record.text} | _columns(record, identity)
        for (n, text), record, identity in zip(rows, records, identities, strict=True)
    ]
    # In one statement: two records may take each other's text.
    given = {"n": "bigint", "said_anew": "boolean", **_COLUMNS}
    listed, values = _arrays(given, changed)
    setting = ", ".join(f"{name} = g.{name}" for name in _COLUMNS)
    db.run(
        f"UPDATE {db.tables.records} AS r SET {setting}, revision = r.revision + CAST(g.said_anew AS integer) "
        f"FROM {listed} AS g ({', '.join(given)}) WHERE r.n = g.n",
        **values,
    )
    embedded = [{"n": rows[each][0], "vector": vector_text(vector)} for each, vector in vectors.items()]
    for some in _portions(embedded):
        listed, values = _arrays({"n": "bigint", "vector": "text"}, some)
        db.run(
            f"UPDATE {db.tables.vectors} AS v SET vector = CAST(g.vector AS vector), revision = r.revision "
            f"FROM {listed} AS g (n, vector) JOIN {db.tables.records} AS r ON r.n = g.n WHERE v.n = g.n",
            **values,
        )
    return Written([record.id for record in records])


def remove(db: Db, ids: Sequence[str] | None, wanted: Filter) -> int:
    """Delete the records of these ids (None: of any) that match; how many there were."""
    state(db)
    if ids is not None:
        if not ids:
            return 0
        wanted = Filter((*wanted.conditions, Condition(("id",), "any", list(ids))))
    chosen = where(wanted)
    sql = (
        f"WITH gone AS (DELETE FROM {db.tables.records} AS r WHERE {chosen.records} RETURNING r.n), "
        f"bare AS (DELETE FROM {db.tables.vectors} AS v USING gone WHERE v.n = gone.n) SELECT count(*) FROM gone"
    )
    return int(db.one(sql, **chosen.values)[0])


def make_index(db: Db, index_from: int) -> None:
    """Readers go on, other writers wait. Of two who are about to make it, one does."""
    lock_vectors(db, "SHARE ROW EXCLUSIVE")
    dimensions = state(db).dimensions
    if dimensions is not None and needs_index(db, db.tables.vectors, dimensions, index_from):
        create_index(db, db.tables.vectors, dimensions)


def take_dimensions(db: Db, vectors: Sequence[Any], place: str) -> int:
    """Have the table of vectors made for these, and nobody replace it until this transaction ends."""
    dimensions = len(vectors[0])
    for vector in vectors:
        check_dimensions(dimensions, len(vector), place)
    if state(db).dimensions == dimensions:
        lock_vectors(db, "ROW EXCLUSIVE")
        if state(db).dimensions == dimensions:
            return dimensions
    lock_vectors(db, "ACCESS EXCLUSIVE")
    found = state(db).dimensions
    if found != dimensions:
        if has_records(db):
            check_dimensions(found, dimensions, place)
        db.run(f"DROP TABLE {db.tables.vectors}")
        create_vectors(db, db.tables.vectors, dimensions)
        db.run(f"UPDATE {db.tables.state} SET dimensions = :dimensions", dimensions=dimensions)
    return dimensions


def vector_text(vector: Any) -> str:
    """All that a float32 holds: nine digits."""
    numbers = vector.tolist()
    return "[" + ",".join(["%.9g"] * len(numbers)) % tuple(numbers) + "]"


def _told_apart(db: Db, records: Sequence[MemoryRecord]) -> tuple[list[str], dict[int, bytes]]:
    """The id of each, and by place the identity of those that are not there yet."""
    identities = [record.identity() for record in records]
    sql = (
        f"SELECT identity, id FROM {db.tables.records} WHERE identity = ANY (CAST(:identities AS bytea[])) "
        "OR id_key = ANY (CAST(:keys AS bytea[]))"
    )
    rows = db.all(sql, identities=identities, keys=[key_of(record.id) for record in records])
    known = {bytes(identity): read(memory_id) for identity, memory_id in rows}
    taken = set(known.values())
    ids: list[str] = []
    new: dict[int, bytes] = {}
    for place, (record, identity) in enumerate(zip(records, identities, strict=True)):
        if identity not in known:
            refuse_taken(record.id, record.id in taken)
            taken.add(record.id)
            known[identity], new[place] = record.id, identity
        ids.append(known[identity])
    return ids, new


def _own_rows(db: Db, records: Sequence[MemoryRecord]) -> list[tuple[int, str]]:
    """`n` and text of each stored record, when it is of the same user; nobody else changes them until this is done."""
    sql = (
        f"SELECT id, user_id, n, text FROM {db.tables.records} WHERE id_key = ANY (CAST(:keys AS bytea[])) "
        "ORDER BY n FOR UPDATE"
    )
    rows = db.all(sql, keys=[key_of(record.id) for record in records])
    found = {(read(memory_id), user_id): (int(n), read(text)) for memory_id, user_id, n, text in rows}
    own: list[tuple[int, str]] = []
    for record in records:
        row = found.get((record.id, None if record.user_id is None else stored(record.user_id)))
        if row is None:
            raise unknown_memory(record.id)
        own.append(row)
    return own


def _new_identities(db: Db, records: Sequence[MemoryRecord]) -> list[bytes]:
    identities = [record.identity() for record in records]
    sql = f"SELECT identity, id FROM {db.tables.records} WHERE identity = ANY (CAST(:identities AS bytea[]))"
    replaced = {record.id for record in records}
    stored_ids = {bytes(identity): read(memory_id) for identity, memory_id in db.all(sql, identities=identities)}
    said = {identity: memory_id for identity, memory_id in stored_ids.items() if memory_id not in replaced}
    for record, identity in zip(records, identities, strict=True):
        if identity in said:
            raise said_already(record.id, said[identity])
        said[identity] = record.id
    return identities


def _added(record: MemoryRecord, identity: bytes) -> dict[str, Any]:
    user_id = record.user_id
    return {
        "id_key": key_of(record.id),
        "user_key": None if user_id is None else key_of(user_id),
        "id": stored(record.id),
        "user_id": None if user_id is None else stored(user_id),
        **_columns(record, identity),
    }


def _columns(record: MemoryRecord, identity: bytes) -> dict[str, Any]:
    named = {name: getattr(record, name) for name in ("kind", "agent_id", "thread_id", "text")}
    return {
        **{name: None if value is None else stored(value) for name, value in named.items()},
        "identity": identity,
        "kind_key": key_of(record.kind),
        "metadata": jsontext.dumps(record.metadata, "metadata"),
        "lookup": lookup_of(record.metadata),
        "created_at": to_micros(record.created_at),
        "updated_at": to_micros(record.updated_at),
    }


def _arrays(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> tuple[str, dict[str, Any]]:
    """A table of the rows, whose values are bound as one list a column."""
    listed = ", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in columns.items())
    return f"unnest({listed})", {name: [row[name] for row in rows] for name in columns}


def _portions(rows: Sequence[Any]) -> list[Sequence[Any]]:
    return [rows[start : start + _AT_ONCE] for start in range(0, len(rows), _AT_ONCE)]
