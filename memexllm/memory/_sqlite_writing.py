"""Writing records to SQLite, each function within one transaction of its caller's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from memexllm.core import jsontext
from memexllm.core.moments import to_micros
from memexllm.memory import _sqlite_words as words
from memexllm.memory._sqlite_rows import matching_numbers, owner_of, state, where_in
from memexllm.memory.base_database import Written
from memexllm.memory.filters import Condition, Filter
from memexllm.memory.records import MemoryRecord
from memexllm.memory.refusals import check_dimensions, refuse_taken, said_already, unknown_memory

_MOST_BOUND = 500


def insert(db: Any, records: Sequence[MemoryRecord], vectors: Mapping[int, Any], path: str) -> Written:
    ids, new = _told_apart(db, records)
    if wanting := [place for place in new if place not in vectors]:
        return Written(ids, wanting)
    if not new:
        return Written(ids)
    _take_dimensions(db, [vectors[place] for place in new], path)
    version = _next_version(db)
    owners: dict[str | None, int] = {}
    for place, identity in new.items():
        record = records[place]
        if record.user_id not in owners:
            owners[record.user_id] = _written_owner(db, record.user_id, version)
        n = db.execute(
            "INSERT INTO memory_records (id, owner, identity, changed, text, kind, agent_id, thread_id, metadata, "
            "created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (record.id, owners[record.user_id], identity, version, *_columns(record)),
        ).lastrowid
        db.execute("INSERT INTO memory_vectors VALUES (?, ?)", (n, _blob(vectors[place])))
    return Written(ids, new=list(new))


def replace(db: Any, records: Sequence[MemoryRecord], vectors: Mapping[int, Any], path: str) -> Written:
    rows = [_own_row(db, record) for record in records]
    said_anew = [place for place, (_, _, text) in enumerate(rows) if text != records[place].text]
    if wanting := [place for place in said_anew if place not in vectors]:
        return Written([], wanting)
    identities = _new_identities(db, records)
    if vectors:
        _take_dimensions(db, list(vectors.values()), path)
    version = _next_version(db)
    words.take_out(db, [rows[place][0] for place in said_anew])
    # Two records may take each other's text, and no two may say the same in between.
    db.executemany("UPDATE memory_records SET identity = ? WHERE n = ?", [(f"of {n}", n) for n, _, _ in rows])
    for place, (n, _, _) in enumerate(rows):
        db.execute(
            "UPDATE memory_records SET identity = ?, changed = ?, text = ?, kind = ?, agent_id = ?, thread_id = ?, "
            "metadata = ?, created_at = ?, updated_at = ? WHERE n = ?",
            (identities[place], version, *_columns(records[place]), n),
        )
        if place in vectors:
            db.execute("UPDATE memory_vectors SET vector = ? WHERE n = ?", (_blob(vectors[place]), n))
            db.execute("DELETE FROM memory_new_vectors WHERE n = ?", (n,))
    db.executemany("UPDATE memory_owners SET version = ? WHERE n = ?", {(version, owner) for _, owner, _ in rows})
    return Written([record.id for record in records])


def remove(db: Any, ids: Sequence[str] | None, wanted: Filter) -> int:
    """Delete the records of these ids (None: of any) that match; how many there were."""
    if ids is None:
        ns = matching_numbers(db, where_in(db, wanted))
    else:
        ns = []
        for some in _portions(list(dict.fromkeys(ids))):
            named = Filter((*wanted.conditions, Condition(("id",), "any", some)))
            ns.extend(matching_numbers(db, where_in(db, named)))
    if not ns:
        return 0
    version = _next_version(db)
    words.take_out(db, ns)
    db.execute("UPDATE memory_state SET removed_at = ?", (version,))
    for some in _portions(ns):
        marks = ", ".join("?" * len(some))
        db.execute(
            "UPDATE memory_owners SET version = ?, removed_at = ? "
            f"WHERE n IN (SELECT owner FROM memory_records WHERE n IN ({marks}))",
            (version, version, *some),
        )
        for table in ("memory_vectors", "memory_new_vectors", "memory_records"):
            db.execute(f"DELETE FROM {table} WHERE n IN ({marks})", some)
    if db.execute("SELECT 1 FROM memory_records LIMIT 1").fetchone() is None:
        db.execute("UPDATE memory_state SET dimensions = NULL")
    return len(ns)


def forget_new_vectors(db: Any) -> None:
    db.execute("DELETE FROM memory_new_vectors")


def texts_to_embed(db: Any, limit: int) -> list[tuple[str, str]]:
    """(id, text) of records without a new vector: first those behind the last that has one, then those left over."""
    after = "n > (SELECT coalesce(max(n), 0) FROM memory_new_vectors)"
    left = "n NOT IN (SELECT n FROM memory_new_vectors)"
    for chosen in (after, left):
        sql = f"SELECT id, text FROM memory_records WHERE {chosen} ORDER BY n LIMIT ?"
        if found := db.execute(sql, (limit,)).fetchall():
            return list(found)
    return []


def keep_new_vectors(db: Any, texts: Mapping[str, str], vectors: Mapping[str, Any]) -> None:
    db.executemany(
        "INSERT OR REPLACE INTO memory_new_vectors SELECT n, ? FROM memory_records WHERE id = ? AND text = ?",
        [(_blob(vector), each, texts[each]) for each, vector in vectors.items()],
    )


def use_new_vectors(db: Any, dimensions: int | None) -> bool:
    if texts_to_embed(db, 1):
        return False
    version = _next_version(db)
    for statement in (
        "DELETE FROM memory_vectors",
        "INSERT INTO memory_vectors SELECT n, vector FROM memory_new_vectors",
        "DELETE FROM memory_new_vectors",
    ):
        db.execute(statement)
    db.execute("UPDATE memory_owners SET version = ?, removed_at = ?", (version, version))
    db.execute("UPDATE memory_state SET removed_at = ?, dimensions = ?", (version, dimensions))
    return True


def _told_apart(db: Any, records: Sequence[MemoryRecord]) -> tuple[list[str], dict[int, bytes]]:
    """The id of each, and by place the identity of those that are not there yet."""
    ids: list[str] = []
    new: dict[int, bytes] = {}
    said: dict[bytes, str] = {}
    said_ids: set[str] = set()
    for place, record in enumerate(records):
        identity = record.identity()
        known = said.get(identity) or _id_of(db, identity)
        if known is None:
            taken = db.execute("SELECT 1 FROM memory_records WHERE id = ?", (record.id,)).fetchone()
            refuse_taken(record.id, taken is not None or record.id in said_ids)
            new[place] = identity
            known = said[identity] = record.id
            said_ids.add(known)
        ids.append(known)
    return ids, new


def _new_identities(db: Any, records: Sequence[MemoryRecord]) -> list[bytes]:
    replaced = {record.id for record in records}
    said: dict[bytes, str] = {}
    for record in records:
        identity = record.identity()
        other = _id_of(db, identity)
        if other is None or other in replaced:
            other = said.get(identity)
        if other is not None:
            raise said_already(record.id, other)
        said[identity] = record.id
    return list(said)


def _id_of(db: Any, identity: bytes) -> str | None:
    found = db.execute("SELECT id FROM memory_records WHERE identity = ?", (identity,)).fetchone()
    return None if found is None else str(found[0])


def _own_row(db: Any, record: MemoryRecord) -> tuple[int, int, str]:
    """`n`, owner and text of the stored record, when it is of the same user."""
    found: tuple[int, int, str] | None = db.execute(
        "SELECT r.n, r.owner, r.text FROM memory_records AS r JOIN memory_owners AS o ON o.n = r.owner "
        "WHERE r.id = ? AND o.user_id IS ?",
        (record.id, record.user_id),
    ).fetchone()
    if found is None:
        raise unknown_memory(record.id)
    return found


def _next_version(db: Any) -> int:
    (version,) = db.execute("UPDATE memory_state SET version = version + 1 RETURNING version").fetchone()
    return int(version)


def _written_owner(db: Any, user_id: str | None, version: int) -> int:
    """The user's row, made if there is none; it is being written to."""
    found = owner_of(db, user_id)
    if found is None:
        made = db.execute(
            "INSERT INTO memory_owners (user_id, version, removed_at) VALUES (?, ?, 0)", (user_id, version)
        )
        return int(made.lastrowid)
    db.execute("UPDATE memory_owners SET version = ? WHERE n = ?", (version, found[0]))
    return found[0]


def _take_dimensions(db: Any, vectors: Iterable[Any], path: str) -> None:
    stored = state(db)[2]
    for vector in vectors:
        check_dimensions(stored, len(vector), repr(path))
        stored = len(vector)
    db.execute("UPDATE memory_state SET dimensions = ?", (stored,))


def _columns(record: MemoryRecord) -> tuple[Any, ...]:
    return (
        record.text,
        record.kind,
        record.agent_id,
        record.thread_id,
        jsontext.dumps(record.metadata, "metadata"),
        to_micros(record.created_at),
        to_micros(record.updated_at),
    )


def _blob(vector: Any) -> bytes:
    blob: bytes = vector.astype("<f4").tobytes()
    return blob


def _portions(values: Sequence[Any]) -> list[Sequence[Any]]:
    return [values[start : start + _MOST_BOUND] for start in range(0, len(values), _MOST_BOUND)]
