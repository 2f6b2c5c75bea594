"""Embedding anew in PostgreSQL: into a table of its own, which takes the place of the one in use when it is whole.

A new vector counts as long as its record has the text it was made of, which its `revision` tells; so whoever changes or
deletes records meanwhile need not know of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from memexllm.memory._postgres_tables import create_index, create_vectors, lock_vectors, needs_index, set_length, state
from memexllm.memory._postgres_texts import key_of, read, stored
from memexllm.memory._postgres_writing import vector_text

if TYPE_CHECKING:
    from memexllm.memory._postgres_server import Db


def begin(db: Db) -> None:
    state(db)
    db.run(f"DROP TABLE {db.tables.new_vectors}")
    create_vectors(db, db.tables.new_vectors, None)


def texts_to_embed(db: Db, limit: int) -> list[tuple[str, str]]:
    """(id, text) of records without a new vector: first those behind the last that has one, then those left over."""
    records, new_vectors = db.tables.records, db.tables.new_vectors
    after = f"r.n > (SELECT coalesce(max(n), 0) FROM {new_vectors})"
    for chosen in (after, _is_left(db)):
        sql = f"SELECT r.id, r.text FROM {records} AS r WHERE {chosen} ORDER BY r.n LIMIT :limit"
        if found := db.all(sql, limit=limit):
            return [(read(memory_id), read(text)) for memory_id, text in found]
    return []


def keep(db: Db, texts: Mapping[str, str], vectors: Mapping[str, Any]) -> None:
    db.run(
        f"INSERT INTO {db.tables.new_vectors} (n, user_key, revision, vector) "
        "SELECT r.n, r.user_key, r.revision, CAST(g.vector AS vector) "
        "FROM unnest(CAST(:keys AS bytea[]), CAST(:texts AS text[]), CAST(:vectors AS text[])) "
        f"AS g (id_key, text, vector) JOIN {db.tables.records} AS r ON r.id_key = g.id_key AND r.text = g.text "
        "ON CONFLICT (n) DO UPDATE SET revision = EXCLUDED.revision, vector = EXCLUDED.vector",
        keys=[key_of(each) for each in vectors],
        texts=[stored(texts[each]) for each in vectors],
        vectors=[vector_text(vector) for vector in vectors.values()],
    )


def is_whole(db: Db) -> bool:
    sql = f"SELECT EXISTS (SELECT 1 FROM {db.tables.records} AS r WHERE {_is_left(db)})"
    return db.one(sql)[0] is False


def make_ready(db: Db, dimensions: int, index_from: int) -> None:
    """Index the new vectors, which takes long and hinders nobody."""
    table = db.tables.new_vectors
    set_length(db, table, dimensions)
    if needs_index(db, table, dimensions, index_from):
        create_index(db, table, dimensions)


def use(db: Db, dimensions: int | None) -> bool:
    """Put the new vectors in the place of the old; False, and nothing done, when a record has none."""
    tables = db.tables
    lock_vectors(db, "ACCESS EXCLUSIVE")
    state(db)
    if not is_whole(db):
        return False
    db.run(
        f"DELETE FROM {tables.new_vectors} AS v WHERE NOT EXISTS "
        f"(SELECT 1 FROM {tables.records} AS r WHERE r.n = v.n AND r.revision = v.revision)"
    )
    db.run(f"DROP TABLE {tables.vectors}")
    db.run(f"ALTER TABLE {tables.new_vectors} RENAME TO {tables.vectors_alone}")
    create_vectors(db, tables.new_vectors, None)
    db.run(f"UPDATE {tables.state} SET dimensions = :dimensions", dimensions=dimensions)
    return True


def _is_left(db: Db) -> str:
    return f"NOT EXISTS (SELECT 1 FROM {db.tables.new_vectors} AS v WHERE v.n = r.n AND v.revision = r.revision)"
