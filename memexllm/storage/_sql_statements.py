"""Statements on the tables of `_sql_schema.py`, built once for a storage."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import bindparam
from sqlalchemy.dialects.postgresql import psycopg

from memexllm.storage import _sql_names as names
from memexllm.storage._sql_dialects import Dialect, dialect_of
from memexllm.storage._sql_quick_statement import quick_statement, seen_statement
from memexllm.storage._sql_schema import Tables

_PSYCOPG = psycopg.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's own


class Statement(NamedTuple):
    """A query, and its text for psycopg."""

    query: Any
    text: str


class Statements:
    """`name` makes a thread's or user's name what is looked up."""

    def __init__(self, dialect: Dialect, schema: str | None, prefix: str) -> None:
        self.dialect = dialect
        self.tables = tables = Tables(dialect.name, schema, prefix)
        self.name: Callable[..., names.Name] = names.stored if dialect.exact_names else names.hashed
        logs, threads, messages, meta = tables.logs, tables.threads, tables.messages, tables.meta
        self.log_of_thread = sa.select(threads.c.n).where(threads.c.id == bindparam("thread")).scalar_subquery()
        self.format = sa.select(meta.c.value).where(meta.c.name == sa.literal_column("'format'"))
        found = (
            sa.select(
                logs.c.id,
                logs.c.next_seq,
                logs.c.message_count,
                logs.c.version,
                logs.c.write_id,
                logs.c.searchable,
                logs.c.user_id,
                logs.c.parent_id,
                logs.c.fork_seq,
                logs.c.shared_seq,
                self.format.scalar_subquery(),
            )
            .select_from(threads.join(logs, logs.c.id == threads.c.n))
            .where(threads.c.id == bindparam("thread"))
        )
        # MariaDB knows no OF; there the thread's row is locked as well.
        self.find_log = found.with_for_update(of=None if dialect.is_mysql else logs) if dialect.locks else found
        self.lock_log = logs.update().where(logs.c.id == self.log_of_thread).values(write_id=logs.c.write_id)
        self.insert_log = logs.insert()
        self.insert_thread = threads.insert()
        self.insert_messages = messages.insert()
        self.note = logs.update().where(logs.c.id == bindparam("log"))
        written = ("next_seq", "message_count", "version", "write_id", "updated_at")
        self.note_write = self.note.values({name: bindparam(name) for name in written})
        self.set_thread = threads.update().where(threads.c.n == bindparam("log"))
        self.heads = sa.select(
            threads.c.n,
            threads.c.id,
            threads.c.whole_id,
            threads.c.user_id,
            threads.c.whole_user_id,
            threads.c.title,
            threads.c.metadata,
            threads.c.state,
            threads.c.created_at,
            logs.c.updated_at,
            logs.c.version,
            logs.c.message_count,
        )
        self.joined = threads.join(logs, logs.c.id == threads.c.n)
        self.head = self.heads.select_from(self.joined).where(threads.c.id == bindparam("thread"))
        self.set_state = self.set_thread.values(state=bindparam("state"))
        self.state = sa.select(threads.c.state).where(threads.c.n == bindparam("log"))
        self.quick = {
            (counted, stated): _text(quick_statement(tables, counted=counted, stated=stated))
            for counted in (True, False)
            for stated in (True, False)
        }
        self.seen = _text(seen_statement(tables))
        self._reads: dict[tuple[bool, bool, bool, bool], sa.Select[Any]] = {}

    def prepared(self, statement: Any) -> Statement:
        """For `Transaction.fetch`, to be kept; its values are named and there are no lists among them."""
        return Statement(statement, _text(statement) if self.dialect.name == "postgresql" else "")

    def between(self, log: Any) -> list[sa.ColumnElement[bool]]:
        """The messages of a log with seqs between `low` and `high`, both exclusive."""
        c = self.tables.messages.c
        low, high = bindparam("low", type_=c.seq.type), bindparam("high", type_=c.seq.type)
        if self.dialect.name == "postgresql":
            # Comparing pairs makes the planner walk the index for any number of messages it expects; for an equal
            # log_id it may fetch all of them and sort.
            return [sa.tuple_(c.log_id, c.seq) > sa.tuple_(log, low), sa.tuple_(c.log_id, c.seq) < sa.tuple_(log, high)]
        return [c.log_id == log, c.seq > low, c.seq < high]

    def read(self, *, wire: bool, live: bool, newest: bool, limited: bool) -> sa.Select[Any]:
        key = (wire, live, newest, limited)
        found = self._reads.get(key)
        if found is None:
            found = self._reads[key] = self._read(*key)
        return found

    @lru_cache(maxsize=256)  # noqa: B019 - statements are as few as databases, and live as long
    def read_text(self, wire: bool, live: bool, newest: bool, limit: int | None) -> str:
        """`read` as psycopg takes it: what SQLAlchemy does on each execution takes longer than PostgreSQL itself."""
        statement = self.read(wire=wire, live=live, newest=newest, limited=limit is not None)
        if limit is not None:
            statement = statement.limit(sa.literal_column(str(limit), sa.Integer))
        return _text(statement)

    def _read(self, wire: bool, live: bool, newest: bool, limited: bool) -> sa.Select[Any]:
        c = self.tables.messages.c
        columns = [c.superseded, c.tokens_text, c.wire_text, *([] if wire else [c.extra_text])]
        found = sa.select(*columns).where(*self.between(self.log_of_thread))
        if live:
            # Not "= 0": a planner without statistics takes that for a rare value, and fetches them all to sort them.
            found = found.where(c.superseded != sa.literal_column("1"))
        order = [c.log_id, c.seq]
        found = found.order_by(*([each.desc() for each in order] if newest else order))
        # In the text of the statement: PostgreSQL plans anew for each limit that it does not know.
        return found.limit(bindparam("limit", type_=sa.Integer, literal_execute=True)) if limited else found


def _text(statement: sa.ClauseElement) -> str:
    return str(statement.compile(dialect=_PSYCOPG))


@lru_cache(maxsize=64)
def statements_for(dialect: str, schema: str | None, prefix: str) -> Statements:
    return Statements(dialect_of(dialect), schema, prefix)
