"""Lists of threads in a SQL database: a walk along the index of the order asked for, from the cursor on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from memexllm.core.cursors import Cursor
from memexllm.core.models import Thread
from memexllm.core.moments import to_micros
from memexllm.storage._listing import PREVIEW_LOOKS_BACK, ListQuery, checked_place, pieces_of, preview_of
from memexllm.storage._rows import decode_wire
from memexllm.storage._sql_schema import lookup_of
from memexllm.storage._sql_transaction import Transaction, head_from

_AT_ONCE = 500
"""How many threads are read at once where more are looked at than asked for."""


def read_page(query: ListQuery) -> Callable[[Transaction], list[Thread]]:
    for cursor, _ in query.bounds():
        checked_place(cursor)

    def read(tx: Transaction) -> list[Thread]:
        page = _filtered(tx, query) if query.metadata else _read(tx, query, query.limit, query.offset, [])
        if query.preview:
            page = _previewed(tx, page)
        return page[::-1] if query.backwards else page

    return read


def _filtered(tx: Transaction, query: ListQuery) -> list[Thread]:
    """What the database finds by metadata is looked at again, so how many of its finds are wanted is not known."""
    metadata = _metadata_conditions(tx, query)
    found: list[Thread] = []
    wanted = query.offset + query.limit
    seek: list[Any] = []
    while True:
        threads = _read(tx, query, _AT_ONCE, 0, metadata + seek)
        found.extend(filter(query.wants, threads))
        if len(found) >= wanted or len(threads) < _AT_ONCE:
            return found[query.offset : wanted]
        last = threads[-1]
        cursor = Cursor(last.place, 0, to_micros(last.updated_at), b"")
        seek = [_beyond(tx, query, cursor, newer=query.newest_first == query.backwards)]


def _read(tx: Transaction, query: ListQuery, limit: int, offset: int, conditions: list[Any]) -> list[Thread]:
    sql, logs, threads = tx.sql, tx.tables.logs, tx.tables.threads
    found = sql.heads.select_from(sql.joined).where(*conditions)
    if query.user_id is not None:
        user = tx.user_fields(query.user_id)["user_id"]
        found = found.where((logs if query.by_update else threads).c.user_id == user)
    for cursor, newer in query.bounds():
        found = found.where(_beyond(tx, query, cursor, newer=newer))
    order = [logs.c.updated_at, logs.c.id] if query.by_update else [threads.c.n]
    backwards = query.newest_first != query.backwards
    found = found.order_by(*(each.desc() if backwards else each.asc() for each in order))
    return [head_from(row) for row in tx.execute(found.limit(limit).offset(offset))]


def _beyond(tx: Transaction, query: ListQuery, cursor: Cursor, *, newer: bool) -> Any:
    """Whether a thread lies on the side of the cursor that is asked for."""
    logs, threads = tx.tables.logs, tx.tables.threads
    place = int(checked_place(cursor))
    if not query.by_update:
        return threads.c.n > place if newer else threads.c.n < place
    moment, log_id = logs.c.updated_at, logs.c.id
    if newer:
        return sa.and_(moment >= cursor.updated_at, sa.or_(moment > cursor.updated_at, log_id > place))
    return sa.and_(moment <= cursor.updated_at, sa.or_(moment < cursor.updated_at, log_id < place))


def _metadata_conditions(tx: Transaction, query: ListQuery) -> list[Any]:
    threads = tx.tables.threads
    if tx.sql.dialect.name == "postgresql":
        return [threads.c.metadata_lookup.contains(lookup_of(query.metadata))]
    if tx.sql.dialect.has_instr:
        return [sa.func.instr(threads.c.metadata, piece) > 0 for piece in pieces_of(query.metadata or {})]
    return []


def _previewed(tx: Transaction, page: list[Thread]) -> list[Thread]:
    """The newest message of each at once; who wants more than that (a fork, a tool's result at the end) by itself."""
    logs, c = tx.tables.logs, tx.tables.messages.c
    newest = sa.select(c.wire_text).where(c.log_id == logs.c.id, c.seq == logs.c.next_seq - 1, c.superseded == 0)
    # Not a join: without statistics PostgreSQL reads the whole table for it.
    found = sa.select(logs.c.id, newest.correlate(logs).scalar_subquery())
    texts: dict[int | None, str | None] = {}
    for start in range(0, len(page), _AT_ONCE):
        places = [thread.place for thread in page[start : start + _AT_ONCE]]
        texts.update((log, text) for log, text in tx.execute(found.where(logs.c.id.in_(places))))
    previewed: list[Thread] = []
    for thread in page:
        rows = decode_wire(thread.id, texts.get(thread.place) or "")
        preview = preview_of(row["wire"] for row in rows)
        if preview is None and thread.message_count:
            preview = _preview(tx, thread.id)
        previewed.append(thread.changed(preview=preview))
    return previewed


def _preview(tx: Transaction, thread_id: str) -> str | None:
    for limit in PREVIEW_LOOKS_BACK:
        texts = tx.read_texts(thread_id, limit, None, None, wire=True, live=True)
        found = preview_of(row["wire"] for row in decode_wire(thread_id, texts))
        if found is not None:
            return found
    return None
