"""What is in a SQL database: tables of one schema and prefix.

- `threads`: one row a thread, with what appends leave alone. `n` is the order of creation and the id of the thread's
  log. `metadata` and `state` are JSON texts; `metadata_lookup` (PostgreSQL) is the metadata once more, as JSONB, for
  filters (`lookup_of`). Names lie as `_sql_names.py` says.
- `logs`: where messages lie, with what changes on every write. `next_seq` is what the next message gets; `write_id`
  tells which write came last, so that one whose answer was lost is recognised; up to `searchable` messages are in the
  full-text index. A fork's log names its parent and the last seq it reads from it; `shared_seq` is the last that forks
  may read from this one (`_sql_chains.py`).
- `messages`: by log and seq, so a thread's messages lie side by side. `wire_text` and `extra_text` are JSON texts (see
  `_rows.py`), `tokens_text` is `[count, encoding]`.
- `words`: the full-text index (PostgreSQL, MySQL), derived from the messages; see `_sql_search.py`.
- `meta`: the number of this format.

Times are microseconds since 1970. Texts are compared character by character, whatever the database's own collation is.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql

from memexllm.storage._sql_names import KEY_CHARS

FORMAT = 1
BEYOND = 1 << 62
"""Greater than any seq."""
MYSQL = ("mysql", "mariadb")
_EXACT = "utf8mb4_bin"
_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_KEY = (
    sa.String(KEY_CHARS)
    .with_variant(sa.String(KEY_CHARS, collation="C"), "postgresql")
    .with_variant(mysql.VARCHAR(KEY_CHARS, charset="utf8mb4", collation=_EXACT), *MYSQL)
)
_TEXT = sa.Text().with_variant(mysql.LONGTEXT(charset="utf8mb4", collation=_EXACT), *MYSQL)


class Tables:
    """`dialect` is SQLAlchemy's name of it: some have columns and indexes of their own."""

    def __init__(self, dialect: str, schema: str | None, prefix: str) -> None:
        self.schema = schema
        self.metadata = sa.MetaData(schema=schema)
        self._prefix = prefix
        self._on_postgresql = dialect == "postgresql"
        self.meta = self._table(
            "meta",
            sa.Column("name", sa.String(64), primary_key=True),
            sa.Column("value", sa.String(64), nullable=False),
        )
        self.logs = self._logs()
        self.threads = self._threads()
        self.messages = self._table(
            "messages",
            sa.Column("log_id", _BIG, primary_key=True, autoincrement=False),
            sa.Column("seq", _BIG, primary_key=True, autoincrement=False),
            sa.Column("superseded", sa.SmallInteger, nullable=False),
            sa.Column("wire_text", _TEXT, nullable=False),
            sa.Column("extra_text", _TEXT),
            sa.Column("tokens_text", _TEXT),
        )
        self.words = self._words() if self._on_postgresql or dialect in MYSQL else None

    def _logs(self) -> sa.Table:
        logs = self._table(
            "logs",
            sa.Column("id", _BIG, primary_key=True, autoincrement=True),
            sa.Column("user_id", _KEY),
            sa.Column("next_seq", _BIG, nullable=False),
            sa.Column("message_count", _BIG, nullable=False),
            sa.Column("version", _BIG, nullable=False),
            sa.Column("write_id", _BIG, nullable=False),
            sa.Column("updated_at", _BIG, nullable=False),
            sa.Column("searchable", _BIG, nullable=False),
            sa.Column("parent_id", _BIG),
            sa.Column("fork_seq", _BIG),
            sa.Column("shared_seq", _BIG),
        )
        self._index("logs_by_update", logs.c.updated_at, logs.c.id)
        self._index("logs_of_user", logs.c.user_id, logs.c.updated_at, logs.c.id, where=logs.c.user_id.is_not(None))
        self._index("logs_of_parent", logs.c.parent_id, where=logs.c.parent_id.is_not(None))
        if self._on_postgresql:
            self._index("logs_to_index", logs.c.id, where=logs.c.next_seq > logs.c.searchable)
        return logs

    def _threads(self) -> sa.Table:
        threads = self._table(
            "threads",
            sa.Column("n", _BIG, primary_key=True, autoincrement=False),
            sa.Column("id", _KEY, nullable=False),
            sa.Column("whole_id", _TEXT),
            sa.Column("user_id", _KEY),
            sa.Column("whole_user_id", _TEXT),
            sa.Column("title", _TEXT),
            sa.Column("metadata", _TEXT, nullable=False),
            sa.Column("state", _TEXT, nullable=False),
            sa.Column("created_at", _BIG, nullable=False),
        )
        self._index("threads_by_id", threads.c.id, unique=True)
        self._index("threads_of_user", threads.c.user_id, threads.c.n, where=threads.c.user_id.is_not(None))
        if self._on_postgresql:
            threads.append_column(sa.Column("metadata_lookup", postgresql.JSONB(), nullable=False))
            self._index("threads_by_metadata", threads.c.metadata_lookup, gin="jsonb_path_ops")
        return threads

    def _words(self) -> sa.Table:
        terms: sa.types.TypeEngine[Any] = mysql.LONGTEXT(charset="ascii", collation="ascii_bin")
        words = self._table(
            "words",
            sa.Column("log_id", _BIG, primary_key=True, autoincrement=False),
            sa.Column("seq", _BIG, primary_key=True, autoincrement=False),
            sa.Column("terms", postgresql.TSVECTOR() if self._on_postgresql else terms, nullable=False),
        )
        if self._on_postgresql:
            self._index("words_by_term", words.c.terms, gin="tsvector_ops")
        else:
            self._index("words_by_term", words.c.terms, fulltext=True)
        return words

    def _table(self, name: str, *columns: sa.Column[Any]) -> sa.Table:
        options: dict[str, Any] = {"sqlite_autoincrement": True}
        for dialect in MYSQL:
            options |= {f"{dialect}_engine": "InnoDB", f"{dialect}_default_charset": "utf8mb4"}
            options[f"{dialect}_collate"] = _EXACT
        return sa.Table(self._prefix + name, self.metadata, *columns, **options)

    def _index(
        self,
        name: str,
        *columns: Any,
        unique: bool = False,
        where: Any = None,
        gin: str | None = None,
        fulltext: bool = False,
    ) -> None:
        options: dict[str, Any] = {"unique": unique}
        if where is not None:
            options["postgresql_where"] = where
        if gin is not None:
            options |= {"postgresql_using": "gin", "postgresql_ops": {columns[0].name: gin}}
        if fulltext:
            options |= {f"{dialect}_prefix": "FULLTEXT" for dialect in MYSQL}
        sa.Index(self._prefix + name, *columns, **options)


def lookup_of(value: Any) -> Any:
    """JSON that is equal as JSONB wherever `matches` says so of the values; what is equal here is looked at again.

    JSONB tells 2**70 from 2.0**70, which are equal by value, and holds no NUL.
    """
    if isinstance(value, dict):
        return {key.replace("\x00", "\ufffd"): lookup_of(item) for key, item in value.items()}
    if isinstance(value, list):
        return [lookup_of(item) for item in value]
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd")
    return int(value) if isinstance(value, float) and value.is_integer() else value
