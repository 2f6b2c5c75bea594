"""The full-text index of a SQLite file: derived data, caught up when somebody searches.

The tables: `_sqlite_search_tables.py`. `catch_up` indexes what was appended since and what the triggers noted; `settle`
takes what was deleted out of the index in the transaction that deletes it.

A row's neighbours are those of its nearest rows in the index. So when a message goes, only the rows on both sides of it
can hold its text, whatever else waits to be indexed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from hashlib import sha256
from itertools import groupby, islice, pairwise
from typing import Any, NamedTuple

from memexllm.core import jsontext
from memexllm.core.errors import CorruptThreadError
from memexllm.core.wire import MessageRow
from memexllm.storage._rows import decode_wire
from memexllm.storage._searching import NEIGHBOUR_CHARS, NEIGHBOURS_WEIGHT, TURN_WEIGHT, Query, beside, said
from memexllm.storage._sqlite_chains import chain_of, first_of, live_of
from memexllm.storage._sqlite_schema import SEQ_BITS, SEQ_MASK
from memexllm.storage._sqlite_search_tables import CAN_DELETE_SECURELY, INDEX, create, exists, forget
from memexllm.storage._sqlite_statements import FULL_TEXT, Executor
from memexllm.storage._words import indexed_text

MESSAGES_AT_ONCE = 10_000
"""How many messages one transaction indexes; other writers take their turn in between."""

_INSERT = f"INSERT INTO {INDEX} (rowid, turn, neighbours, owner) VALUES (?, ?, ?, ?)"
_DELETE = f"DELETE FROM {INDEX} WHERE rowid BETWEEN ? AND ?"
_BEFORE = f"SELECT rowid FROM {INDEX} WHERE rowid >= ? AND rowid < ? ORDER BY rowid DESC LIMIT 1"
_AFTER = f"SELECT rowid FROM {INDEX} WHERE rowid > ? AND rowid <= ? ORDER BY rowid LIMIT 1"
_FIND = f"""
    SELECT rowid, bm25({INDEX}, {TURN_WEIGHT}, {NEIGHBOURS_WEIGHT}, 0.0) AS cost
    FROM {INDEX} WHERE {INDEX} MATCH ? AND rowid BETWEEN ? AND ? ORDER BY cost, rowid DESC LIMIT ?"""
_HITS = f"""
    SELECT position, threads.id, {FULL_TEXT} FROM messages JOIN threads ON log_id = position >> {SEQ_BITS}
    WHERE superseded = 0 AND position IN """
_MOST_BOUND = 500
_WORDS = """wire_text, CASE WHEN instr(extra_text, '"speaker"') THEN extra_text END"""
_LIVE = f"""
    SELECT position, {_WORDS}
    FROM messages WHERE superseded = 0 AND position BETWEEN ? AND ? ORDER BY position"""
_FIRST_LIVE, _LAST_LIVE = f"{_LIVE} LIMIT ? OFFSET ?", f"{_LIVE} DESC LIMIT ? OFFSET ?"
_LIMIT = 1 << 31


class Scope(NamedTuple):
    """Whose messages are searched; None is everybody's."""

    thread_id: str | None
    user_id: str | None


class Found(NamedTuple):
    """A hit as it lies in the file: `texts` are for `decode_messages`."""

    thread_id: str
    texts: str
    score: float


_Row = tuple[int, str, str, str]


class _Spoken(NamedTuple):
    position: int
    created_at: int
    text: str


def is_behind(db: Executor, scope: Scope) -> bool:
    """Whether something of the scope waits to be indexed."""
    if not exists(db):
        return True
    (due,) = db.execute(
        "SELECT EXISTS (SELECT 1 FROM search_1_due) OR EXISTS (SELECT 1 FROM search_1_logs WHERE stale)"
    ).fetchone()
    return bool(due) or bool(_logs_behind(db, scope, 1))


def catch_up(db: Executor, scope: Scope) -> bool:
    """Index what waits, at most `MESSAGES_AT_ONCE` messages of it; whether that was all."""
    if not exists(db):
        create(db)
    _drop_stale(db)
    _refresh_due(db)
    room = MESSAGES_AT_ONCE
    done: list[tuple[int, int]] = []
    rows: list[_Row] = []
    for log_id, next_seq, upto in _logs_behind(db, scope, MESSAGES_AT_ONCE):
        if room <= 0:
            break
        start = first = log_id << SEQ_BITS
        high = min(next_seq, upto + room)
        if upto:
            start, _ = _cleared(db, log_id, upto, high)
        rows.extend(_rows(db, log_id, start, first + high - 1, high))
        room -= max(1, high - upto)
        done.append((log_id, high))
    # Together, because FTS5 writes out what it has collected whenever another statement comes between.
    db.executemany(_INSERT, rows)
    db.executemany("INSERT OR REPLACE INTO search_1_logs (log_id, upto) VALUES (?, ?)", done)
    return not _logs_behind(db, scope, 1)


def find(db: Executor, scope: Scope, query: Query) -> list[Found]:
    """The best of the scope, which is caught up."""
    low, high = -(1 << 63), (1 << 63) - 1
    if scope.thread_id is not None:
        row = db.execute("SELECT log_id, user_id FROM threads WHERE id = ?", (scope.thread_id,)).fetchone()
        if row is None or (scope.user_id is not None and row[1] != scope.user_id):
            return []
        low, high = _bounds(row[0])
        scope = Scope(scope.thread_id, None)
    elif scope.user_id is not None:
        logs = db.execute("SELECT log_id FROM threads WHERE user_id = ? LIMIT 2", (scope.user_id,)).fetchall()
        if len(logs) == 1:
            # The rows of one thread lie together, which spares a look at whose each of them is.
            low, high = _bounds(logs[0][0])
            scope = Scope(None, None)
    if not query.phrases:
        return []
    match = _match_of(query, scope.user_id)
    best = db.execute(_FIND, (match, low, high, min(query.limit, _LIMIT))).fetchall()
    hits = _hits(db, [position for position, _ in best if position >= 0])
    found: list[Found] = []
    for position, cost in best:
        there = hits.get(position, ()) if position >= 0 else _hits_of_fork(db, position)
        found.extend(Found(thread_id, texts, -cost) for thread_id, texts in there)
    return found


def settle(db: Executor, *, often: bool = False) -> None:
    """Take what was deleted out of the index, in the transaction that deleted it. `often`: it happens on every call.

    A row whose neighbour went is taken out whole and waits to be indexed anew, so that nothing is decoded here.
    """
    if not exists(db):
        return
    try:
        gone = [position for (position,) in db.execute("SELECT position FROM search_1_due WHERE gone").fetchall()]
        if not gone:
            return
        if often and not CAN_DELETE_SECURELY:
            forget(db)
            return
        for log_id, positions in groupby(sorted(gone), key=_log_of):
            _take_out(db, log_id, list(positions))
        db.execute("UPDATE search_1_due SET gone = 0 WHERE gone")
        _purge(db)
    except sqlite3.Error:
        # No FTS5 here, or the index is damaged: a deletion must not fail for it, and the text must go nevertheless.
        forget(db)


def _drop_stale(db: Executor) -> None:
    """Whose user changed is found neither with the old one nor, until it is indexed anew, at all."""
    for (log_id,) in db.execute("SELECT log_id FROM search_1_logs WHERE stale").fetchall():
        db.execute(_DELETE, _bounds(log_id))
        db.execute("DELETE FROM search_1_logs WHERE log_id = ?", (log_id,))


def _logs_behind(db: Executor, scope: Scope, limit: int) -> list[tuple[int, int, int]]:
    """(log, next seq, indexed up to)"""
    logs, named = "logs", None
    if scope.thread_id is not None:
        logs, named = "threads JOIN logs ON logs.id = threads.log_id AND threads.id = ?", scope.thread_id
    elif scope.user_id is not None:
        logs, named = "threads JOIN logs ON logs.id = threads.log_id AND threads.user_id = ?", scope.user_id
    return db.execute(
        f"SELECT logs.id, next_seq, ifnull(upto, 0) FROM {logs}"
        " LEFT JOIN search_1_logs AS indexed ON indexed.log_id = logs.id"
        f" WHERE next_seq > ifnull(upto, 0) LIMIT {limit}",
        () if named is None else (named,),
    ).fetchall()


def _refresh_due(db: Executor) -> None:
    due = db.execute("SELECT position, gone FROM search_1_due ORDER BY position").fetchall()
    if not due:
        return
    for log_id, positions in groupby([position for position, _ in due], key=_log_of):
        row = db.execute("SELECT upto FROM search_1_logs WHERE log_id = ?", (log_id,)).fetchone()
        if row is None:
            db.execute(_DELETE, _bounds(log_id))
            continue
        for low, high in _runs(list(positions)):
            start, end = _cleared(db, log_id, low & SEQ_MASK, (high & SEQ_MASK) + 1)
            db.executemany(_INSERT, _rows(db, log_id, start, end, row[0]))
    db.execute("DELETE FROM search_1_due")
    if any(gone for _, gone in due):
        _purge(db)


def _log_of(position: int) -> int:
    return position >> SEQ_BITS


def _bounds(log_id: int) -> tuple[int, int]:
    """The first and the last position of a log."""
    return log_id << SEQ_BITS, log_id << SEQ_BITS | SEQ_MASK


def _runs(positions: list[int]) -> Iterable[tuple[int, int]]:
    """First and last of positions that lie close together."""
    low = high = positions[0]
    for position in positions[1:]:
        if position > high + 16:
            yield low, high
            low = position
        high = position
    yield low, high


def _take_out(db: Executor, log_id: int, positions: list[int]) -> None:
    """Delete the rows of these messages and those beside them, which hold their text, and note the latter as due."""
    first, last = _bounds(log_id)
    if db.execute("SELECT 1 FROM threads WHERE log_id = ?", (log_id,)).fetchone() is None:
        db.execute(_DELETE, (first, last))
        db.execute("DELETE FROM search_1_due WHERE position BETWEEN ? AND ?", (first, last))
        return
    for position in positions:
        db.execute(_DELETE, (position, position))
    for position in positions:
        beside = [
            *db.execute(_BEFORE, (first, position)).fetchall(),
            *db.execute(_AFTER, (position, last)).fetchall(),
        ]
        for (row,) in beside:
            db.execute(_DELETE, (row, row))
            db.execute("INSERT OR IGNORE INTO search_1_due VALUES (?, 0)", (row,))


def _cleared(db: Executor, log_id: int, low: int, high: int) -> tuple[int, int]:
    """Delete the rows of seqs from `low` until `high` and the one on either side; from where to where they lay."""
    first, last = _bounds(log_id)
    before = db.execute(_BEFORE, (first, first + low)).fetchone()
    after = db.execute(_AFTER, (first + high - 1, last)).fetchone()
    start = before[0] if before is not None else first + low
    end = after[0] if after is not None else first + high - 1
    db.execute(_DELETE, (start, end))
    return start, end


def _rows(db: Executor, log_id: int, start: int, end: int, upto: int) -> list[_Row]:
    """The rows of the live messages from position `start` to `end`; their neighbours lie below seq `upto`."""
    first = log_id << SEQ_BITS
    spoken = _spoken(db, log_id, _live(db, log_id, _LIVE, start, end))
    if not spoken:
        return []
    around = [
        *_nearest(db, log_id, _LAST_LIVE, first, start - 1, newest=True),
        *spoken,
        *_nearest(db, log_id, _FIRST_LIVE, end + 1, first + upto - 1),
    ]
    owner = db.execute("SELECT user_id FROM threads WHERE log_id = ?", (log_id,)).fetchone()
    token = _owner_token(owner[0]) if owner is not None and owner[0] is not None else ""
    texts = [indexed_text(each.text) for each in around]
    # What a message lends to the one before and to the one after it.
    heads = [
        text if len(text) <= NEIGHBOUR_CHARS else indexed_text(each.text[:NEIGHBOUR_CHARS])
        for text, each in zip(texts, around, strict=True)
    ]
    near = [beside(one.created_at, other.created_at) for one, other in pairwise(around)]
    before = ["", *(head if together else "" for head, together in zip(heads, near, strict=False))]
    after = [*(head if together else "" for head, together in zip(heads[1:], near, strict=True)), ""]
    return [
        (each.position, text, f"{said_before}\n{said_after}", token)
        for each, text, said_before, said_after in zip(around, texts, before, after, strict=True)
        if start <= each.position <= end
    ]


def _live(
    db: Executor, log_id: int, statement: str, low: int, high: int, *page: int, newest: bool = False
) -> list[tuple[int, str, str | None]]:
    """What a statement gives between two positions; of a fork, what it reads from others too."""
    if log_id > 0:
        return db.execute(statement, (low, high, *page)).fetchall()
    limit, offset = page or (None, 0)
    first, _ = _bounds(log_id)
    rows = live_of(db, chain_of(db, log_id), _WORDS, low & SEQ_MASK, high & SEQ_MASK, newest=newest)
    stop = None if limit is None else offset + limit
    return [(first | seq, wire_text, extra_text) for seq, _, wire_text, extra_text in islice(rows, offset, stop)]


def _hits(db: Executor, positions: Sequence[int]) -> dict[int, list[tuple[str, str]]]:
    """The threads and texts of live messages, by position."""
    found: dict[int, list[tuple[str, str]]] = {}
    for start in range(0, len(positions), _MOST_BOUND):
        some = positions[start : start + _MOST_BOUND]
        for position, thread_id, texts in db.execute(f"{_HITS}({', '.join('?' * len(some))})", some).fetchall():
            found.setdefault(position, []).append((thread_id, texts))
    return found


def _hits_of_fork(db: Executor, position: int) -> list[tuple[str, str]]:
    log_id, seq = _log_of(position), position & SEQ_MASK
    texts = first_of(live_of(db, chain_of(db, log_id), FULL_TEXT, seq, seq))
    threads = db.execute("SELECT id FROM threads WHERE log_id = ?", (log_id,)).fetchall()
    return [] if texts is None else [(thread_id, texts[2]) for (thread_id,) in threads]


def _nearest(db: Executor, log_id: int, statement: str, low: int, high: int, *, newest: bool = False) -> list[_Spoken]:
    """The first message that says something of those `statement` gives, if any."""
    offset, page = 0, 4
    while low <= high:
        found = _live(db, log_id, statement, low, high, page, offset, newest=newest)
        spoken = _spoken(db, log_id, found)
        if spoken or len(found) < page:
            return spoken[:1]
        offset, page = offset + page, page * 4
    return []


def _spoken(db: Executor, log_id: int, found: list[tuple[int, str, str | None]]) -> list[_Spoken]:
    """Those of the messages that say something."""
    if not found:
        return []
    try:
        rows = decode_wire("", ",".join([wire_text for _, wire_text, _ in found]))
        spoken: list[_Spoken] = []
        for (position, _, extra_text), row in zip(found, rows, strict=True):
            text = said(row["wire"], _metadata(extra_text))
            if text:
                spoken.append(_Spoken(position, _moment(row), text))
    except (CorruptThreadError, ValueError, TypeError, AttributeError) as error:
        row = db.execute("SELECT id FROM threads WHERE log_id = ?", (log_id,)).fetchone()
        raise CorruptThreadError(
            f"the messages of thread {row[0] if row else None!r} are there and cannot be read; nothing was changed"
        ) from error
    return spoken


def _moment(row: MessageRow) -> int:
    return int(row["created_at"])


def _metadata(extra_text: str | None) -> dict[str, Any]:
    metadata: dict[str, Any] = {} if extra_text is None else jsontext.loads(extra_text).get("metadata") or {}
    return metadata


def _owner_token(user_id: str) -> str:
    """One token, whatever the user is called."""
    return "u" + sha256(user_id.encode()).hexdigest()[:24]


def _match_of(query: Query, user_id: str | None) -> str:
    """The query in FTS5's language: quoted strings only, in which nothing is syntax but the quote itself."""
    quoted = ['"' + " ".join(phrase).replace('"', '""') + '"' for phrase in query.phrases]
    words = f"{{turn neighbours}} : ({' OR '.join(quoted)})"
    return words if user_id is None else f'owner : "{_owner_token(user_id)}" AND {words}'


def _purge(db: Executor) -> None:
    """Words of deleted rows wait in the index to be merged away, where FTS5 cannot delete them at once."""
    if not CAN_DELETE_SECURELY:
        db.execute(f"INSERT INTO {INDEX} ({INDEX}) VALUES ('optimize')")
