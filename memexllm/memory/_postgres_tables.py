"""What is in a PostgreSQL database of long-term memory: tables of one schema and prefix, and how they come to be.

- `memory_state`: one row. The number of this format; `dimensions` is the length of all vectors, NULL until there are
  any.
- `memory_records`: `n` is the order of adding. `identity` is `MemoryRecord.identity()`; `id_key`, `user_key` and
  `kind_key` are what an id, a user and a kind are looked up by. `revision` counts the texts a record has had.
  `metadata` is JSON text, and `lookup` the same as JSONB, for filters. Texts lie as `_postgres_texts.py` says, times
  are microseconds since 1970.
- `memory_vectors`: a unit vector for each record, and whose it is. When there are many, an HNSW index of their inner
  products is made; from then on every vector that is added is paid for (milliseconds).
- `memory_new_vectors`: those of an embedding anew that is under way, or was broken off. Afterwards it takes the place
  of `memory_vectors`.

Whoever replaces `memory_vectors` locks it; whoever reads or writes vectors locks it against that before looking at the
state, so that no search meets vectors of another model than the state tells.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from memexllm.core.errors import ConfigurationError, StorageError, ValidationError

if TYPE_CHECKING:
    from memexllm.memory._postgres_server import Db

FORMAT = 1
OLDEST_PGVECTOR = (0, 8)
"""The first that goes on searching its index when a filter leaves too little."""
_MOST_DIMENSIONS = 16_000
_MOST_INDEXED, _MOST_INDEXED_AS_HALVES = 2_000, 4_000
INDEXED = (
    "EXISTS (SELECT 1 FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_am AS a ON a.oid = c.relam "
    "WHERE i.indrelid = to_regclass(:table) AND i.indisvalid AND a.amname = 'hnsw')"
)
"""Whether the vectors of a table have their index."""
_NAMES = ("memory_state", "memory_records", "memory_vectors", "memory_new_vectors")


@dataclass(frozen=True)
class Tables:
    """Names as they stand in SQL."""

    schema: str | None
    prefix: str

    @property
    def state(self) -> str:
        return self.named("memory_state")

    @property
    def records(self) -> str:
        return self.named("memory_records")

    @property
    def vectors(self) -> str:
        return self.named("memory_vectors")

    @property
    def vectors_alone(self) -> str:
        """Without the schema, as a table is renamed to."""
        return quoted(f"{self.prefix}memory_vectors")

    @property
    def new_vectors(self) -> str:
        return self.named("memory_new_vectors")

    def named(self, name: str) -> str:
        table = quoted(self.prefix + name)
        return table if self.schema is None else f"{quoted(self.schema)}.{table}"


class State(NamedTuple):
    format: int
    dimensions: int | None


def quoted(name: str) -> str:
    """As it stands in a statement, where a colon would begin the name of a value."""
    return '"' + name.replace('"', '""').replace(":", "\\:") + '"'


def as_value(table: str) -> str:
    """The quoted name as it is bound."""
    return table.replace("\\:", ":")


def state(db: Db) -> State:
    return checked(State(*db.one(f"SELECT format, dimensions FROM {db.tables.state}")))


def checked(found: State) -> State:
    if found.format != FORMAT:
        raise StorageError(
            f"the tables of memory have format {found.format}; this release of memexllm reads and writes format "
            f"{FORMAT}: upgrade memexllm. Nothing was changed"
        )
    return found


def prepare(db: Db) -> None:
    """Make the tables where there are none; another process may be about to."""
    if _is_there(db, "memory_state"):
        state(db)
        return
    key = int.from_bytes(sha256(f"memexllm {db.tables.state}".encode()).digest()[:8], signed=True)
    db.one("SELECT pg_advisory_xact_lock(:key)", key=key)
    if _is_there(db, "memory_state"):
        state(db)
        return
    others = [name for name in _NAMES if _is_there(db, name)]
    if others:
        raise StorageError(
            f"the tables {', '.join(db.tables.prefix + name for name in others)} are there and are another program's; "
            "give memexllm a table_prefix or a schema of its own. Nothing was changed"
        )
    if db.tables.schema is not None:
        db.run(f"CREATE SCHEMA IF NOT EXISTS {quoted(db.tables.schema)}")
    _prepare_extension(db)
    _create(db)


def _is_there(db: Db, name: str) -> bool:
    # to_regclass() may still tell what it told before another process made the table.
    schema = db.tables.schema
    of_schema = "pg_table_is_visible(c.oid)" if schema is None else "s.nspname = :schema"
    sql = f"SELECT count(*) FROM pg_class AS c JOIN pg_namespace AS s ON s.oid = c.relnamespace WHERE {of_schema}"
    values = {"name": db.tables.prefix + name} | ({} if schema is None else {"schema": schema})
    return bool(db.one(f"{sql} AND c.relname = :name", **values)[0])


def _prepare_extension(db: Db) -> None:
    """The extension `vector`, made where this user may."""
    version, reached = db.one(
        "SELECT (SELECT extversion FROM pg_extension WHERE extname = 'vector'), to_regtype('vector') IS NOT NULL"
    )
    if version is None:
        version, reached = _made_extension(db), True
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_PGVECTOR:
        raise ConfigurationError(
            f"the database has pgvector {version}, and 0.8 or later is needed: install it on the server, then run "
            "ALTER EXTENSION vector UPDATE in this database"
        )
    if not reached:
        raise ConfigurationError(
            "the extension vector lies in a schema where this connection does not look: add that to its search_path, "
            "with ALTER ROLE ... SET search_path or ?options=-csearch_path%3D... in the URL"
        )


def _made_extension(db: Db) -> str:
    (available,) = db.one("SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'")
    if not available:
        raise ConfigurationError(
            "PostgresVectorDatabase needs the extension vector (pgvector 0.8 or later), which this server does not "
            "have: install it there (Debian: postgresql-NN-pgvector), then run CREATE EXTENSION vector in this database"
        )
    if not db.allowed("CREATE EXTENSION IF NOT EXISTS vector"):
        raise ConfigurationError(
            "PostgresVectorDatabase needs the extension vector in this database, and its user may not make it: run "
            "CREATE EXTENSION vector there once, as a superuser"
        )
    return str(db.one("SELECT extversion FROM pg_extension WHERE extname = 'vector'")[0])


def _create(db: Db) -> None:
    tables = db.tables
    db.run(
        f"CREATE TABLE {tables.state} (one BOOLEAN PRIMARY KEY CHECK (one), format INTEGER NOT NULL, "
        "dimensions INTEGER)"
    )
    db.run(f"INSERT INTO {tables.state} VALUES (true, :format, NULL)", format=FORMAT)
    # Two records may take each other's text in one statement, so what they say is compared at its end.
    db.run(
        f"CREATE TABLE {tables.records} ("
        "n BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, "
        "id_key BYTEA NOT NULL UNIQUE, "
        "identity BYTEA NOT NULL UNIQUE DEFERRABLE INITIALLY IMMEDIATE, "
        "user_key BYTEA, "
        "kind_key BYTEA NOT NULL, "
        "revision BIGINT NOT NULL DEFAULT 0, "
        'id TEXT COLLATE "C" NOT NULL, '
        'user_id TEXT COLLATE "C", '
        'agent_id TEXT COLLATE "C", '
        'thread_id TEXT COLLATE "C", '
        'kind TEXT COLLATE "C" NOT NULL, '
        'text TEXT COLLATE "C" NOT NULL, '
        "metadata TEXT NOT NULL, "
        "lookup JSONB NOT NULL, "
        "created_at BIGINT NOT NULL, "
        "updated_at BIGINT NOT NULL)"
    )
    db.run(f"CREATE INDEX ON {tables.records} (user_key, n)")
    db.run(f"CREATE INDEX ON {tables.records} (user_key, kind_key)")
    db.run(f"CREATE INDEX ON {tables.records} USING gin (lookup jsonb_path_ops)")
    create_vectors(db, tables.vectors, None)
    create_vectors(db, tables.new_vectors, None)


def create_vectors(db: Db, table: str, dimensions: int | None) -> None:
    """An empty table of vectors; with `dimensions`, of those only."""
    db.run(
        f"CREATE TABLE {table} (n BIGINT PRIMARY KEY, user_key BYTEA, revision BIGINT NOT NULL, vector vector NOT NULL)"
    )
    db.run(f"CREATE INDEX ON {table} (user_key)")
    if dimensions is not None:
        set_length(db, table, dimensions)


def set_length(db: Db, table: str, dimensions: int) -> None:
    if dimensions > _MOST_DIMENSIONS:
        raise ValidationError(
            f"PostgreSQL's vectors have at most {_MOST_DIMENSIONS:,} dimensions, these have {dimensions:,}. Nothing "
            "was changed"
        )
    db.run(f"ALTER TABLE {table} ALTER COLUMN vector TYPE vector({dimensions:d})")


def needs_index(db: Db, table: str, dimensions: int, index_from: int) -> bool:
    """Whether there are so many vectors, at most, that there should be an index, and is none."""
    if indexed_as(dimensions) is None:
        return False
    highest, indexed = db.one(f"SELECT (SELECT coalesce(max(n), 0) FROM {table}), {INDEXED}", table=as_value(table))
    return not indexed and highest >= index_from


def create_index(db: Db, table: str, dimensions: int) -> None:
    kind = indexed_as(dimensions)
    indexed = "vector vector_ip_ops" if kind == "vector" else f"(vector::{kind}) halfvec_ip_ops"
    db.run(f"CREATE INDEX ON {table} USING hnsw ({indexed})")


def indexed_as(dimensions: int) -> str | None:
    """The type in which pgvector indexes vectors of this length; None when it cannot."""
    if dimensions <= _MOST_INDEXED:
        return "vector"
    return f"halfvec({dimensions:d})" if dimensions <= _MOST_INDEXED_AS_HALVES else None


def lock_vectors(db: Db, mode: str) -> None:
    db.run(f"LOCK TABLE {db.tables.vectors} IN {mode} MODE")


def has_records(db: Db) -> Any:
    return db.one(f"SELECT EXISTS (SELECT 1 FROM {db.tables.records})")[0]
