"""Lists of threads in SQL: a walk along the index of the order asked for, from the cursor on."""

from __future__ import annotations

from itertools import islice
from typing import Any

from memexllm.core.cursors import Cursor
from memexllm.core.models import Thread
from memexllm.storage._listing import PREVIEW_LOOKS_BACK, ListQuery, checked_place, pieces_of, preview_of
from memexllm.storage._rows import decode_wire, head_of
from memexllm.storage._sqlite_statements import HEADS, Executor, read_texts

# Of the spans from listed_at to updated_at at most this one holds a given moment.
_SPAN_AT = "ifnull((SELECT max(listed_at) FROM threads WHERE listed_at <= ?), ?)"


def read_page(db: Executor, query: ListQuery) -> list[Thread]:
    conditions: list[str] = []
    values: list[Any] = []

    def require(condition: str, *bound: Any) -> None:
        conditions.append(condition)
        values.extend(bound)

    if query.user_id is not None:
        require("user_id = ?", query.user_id)
    for cursor, newer in query.bounds():
        if query.by_update:
            _bound_by_update(require, cursor, newer)
        else:
            require(f"n {'>' if newer else '<'} ?", checked_place(cursor))
    for piece in pieces_of(query.metadata or {}):
        require("instr(metadata, ?) > 0", piece)
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    direction = "DESC" if query.newest_first != query.backwards else "ASC"
    order = f"listed_at {direction}, n {direction}" if query.by_update else f"n {direction}"
    # What instr() finds is looked at again, so how many of its finds are wanted is not known in advance.
    limits = (-1, 0) if query.metadata else (query.limit, query.offset)
    rows = db.execute(f"{HEADS} {where} ORDER BY {order} LIMIT ? OFFSET ?", (*values, *limits))
    if query.metadata:
        page = list(islice(filter(query.wants, map(head_of, rows)), query.offset, query.offset + query.limit))
    else:
        page = list(map(head_of, rows))
    if query.preview:
        page = [thread.changed(preview=_preview(db, thread.id)) for thread in page]
    return page[::-1] if query.backwards else page


def _bound_by_update(require: Any, cursor: Cursor, newer: bool) -> None:
    """The first condition bounds the walk along the index, the second is exact."""
    if newer:
        require(f"listed_at >= {_SPAN_AT}", cursor.updated_at, cursor.updated_at)
        require("(updated_at, n) > (?, ?)", cursor.updated_at, checked_place(cursor))
    else:
        require("listed_at <= ?", cursor.updated_at)
        require("(updated_at, n) < (?, ?)", cursor.updated_at, checked_place(cursor))


def _preview(db: Executor, thread_id: str) -> str | None:
    for limit in PREVIEW_LOOKS_BACK:
        texts = read_texts(db, thread_id, limit, None, None, wire=True, live=True)
        found = preview_of(row["wire"] for row in decode_wire(thread_id, texts or ""))
        if found is not None:
            return found
    return None
