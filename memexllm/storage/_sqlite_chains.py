"""A fork's log reads its parent's up to a seq, that one its own parent's, and so on: a chain of logs, the own first.

Of the rows of one seq the nearest log's counts; those further up are *covered*. So that a thread never sees what
another one writes, a row that several threads read is copied before it is changed (`claim`): into the log of the thread
that changes it, and into the logs of its forks. What lies in a log is only ever read by the forks made of it, so
appends need nothing of this.

A log whose thread is gone and that forks still read is *left*: its `next_seq` is 0.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from heapq import merge
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple

from memexllm.storage._sqlite_schema import SEQ_BITS, SEQ_MASK, Executor
from memexllm.storage._sqlite_search_tables import forget_log

_CHAIN = f"""
    WITH RECURSIVE chain (id, high, parent_id, fork_seq) AS (
        SELECT id, {SEQ_MASK}, parent_id, fork_seq FROM logs WHERE id = ?
        UNION ALL
        SELECT logs.id, min(high, chain.fork_seq), logs.parent_id, logs.fork_seq
        FROM chain JOIN logs ON logs.id = chain.parent_id)
    SELECT id, high FROM chain"""
_COPY = """
    INSERT OR IGNORE INTO messages (position, superseded, wire_text, extra_text, tokens_text)
    SELECT position + ?, superseded, wire_text, extra_text, tokens_text FROM messages WHERE position BETWEEN ? AND ?"""
_FORKS = "SELECT id, fork_seq, next_seq > 0 FROM logs WHERE parent_id = ? AND fork_seq >= ?"
_seq_of = itemgetter(0)


class Level(NamedTuple):
    """A log of a chain, and the last seq that is read of it."""

    log_id: int
    high: int


def chain_of(db: Executor, log_id: int, last_seq: int = SEQ_MASK) -> list[Level]:
    """The log itself and those it reads, as far as they hold seqs up to `last_seq`."""
    return [Level(each, min(high, last_seq)) for each, high in db.execute(_CHAIN, (log_id,))]


def rows_of(
    db: Executor, chain: list[Level], what: str, low: int = 0, high: int = SEQ_MASK, *, newest: bool = False
) -> Iterator[tuple[Any, ...]]:
    """(seq, superseded, and the columns `what`) in order, or newest first; stops reading when the caller does."""
    connection = db if isinstance(db, sqlite3.Connection) else db.connection
    statement = (
        f"SELECT position & {SEQ_MASK}, superseded, {what} FROM messages"
        f" WHERE position BETWEEN ? AND ? ORDER BY position {'DESC' if newest else ''}"
    )
    # Between the ends of two logs the first of them can only cover what the second has.
    ends = [*(level.high for level in chain[1:]), -1]
    stretches = [(n + 1, max(low, end + 1), min(high, chain[n].high)) for n, end in enumerate(ends)]
    for depth, first, last in stretches if newest else reversed(stretches):
        if first > last:
            continue
        found = [connection.execute(statement, _bounds(level.log_id, first, last)) for level in chain[:depth]]
        if depth == 1:
            yield from found[0]
            continue
        before = None
        for row in merge(*found, key=_seq_of, reverse=newest):
            if row[0] != before:
                yield row
            before = row[0]


def live_of(
    db: Executor, chain: list[Level], what: str, low: int = 0, high: int = SEQ_MASK, *, newest: bool = False
) -> Iterator[tuple[Any, ...]]:
    """`rows_of` without those that are superseded."""
    return (row for row in rows_of(db, chain, what, low, high, newest=newest) if not row[1])


def first_of(rows: Iterator[tuple[Any, ...]], skip: int = 0) -> tuple[Any, ...] | None:
    """One row, after which no more is read."""
    with closing(rows):  # type: ignore[type-var]  # a generator has close()
        return next(islice(rows, skip, None), None)


def is_shared(db: Executor, log_id: int, parent_id: int | None) -> bool:
    """Whether the log reads another one or is read by one."""
    if parent_id is not None:
        return True
    return db.execute("SELECT 1 FROM logs WHERE parent_id = ? LIMIT 1", (log_id,)).fetchone() is not None


def copy_rows(db: Executor, chain: Iterable[Level], log_id: int, low: int = 0, high: int = SEQ_MASK) -> None:
    """Copy what `chain` shows, from its nearest log on, as far as `log_id` has no rows of these seqs."""
    for level in chain:
        if low <= min(high, level.high):
            bounds = _bounds(level.log_id, low, min(high, level.high))
            db.execute(_COPY, ((log_id - level.log_id) << SEQ_BITS, *bounds))


def claim(db: Executor, log_id: int, low: int, high: int) -> None:
    """Make the rows of these seqs the log's own: what is written to them now is seen by its thread alone."""
    copy_rows(db, chain_of(db, log_id)[1:], log_id, low, high)
    for fork_id, fork_seq, _ in db.execute(_FORKS, (log_id, low)).fetchall():
        copy_rows(db, [Level(log_id, fork_seq)], fork_id, low, high)


def find_newest(
    db: Executor, chain: list[Level], what: str, condition: str, value: Any, wanted: Callable[[Any], bool]
) -> tuple[int, bool] | None:
    """(seq, superseded) of the newest row that meets `condition` and whose column `what` is `wanted`."""
    connection = db if isinstance(db, sqlite3.Connection) else db.connection
    statement = (
        f"SELECT position & {SEQ_MASK}, superseded, {what} FROM messages"
        f" WHERE position BETWEEN ? AND ? AND {condition} ORDER BY position DESC"
    )
    best: tuple[int, bool] | None = None
    for depth, level in enumerate(chain):
        if best is not None and best[0] > level.high:
            break
        for seq, superseded, found in connection.execute(statement, (*_bounds(level.log_id, 0, level.high), value)):
            if best is not None and seq < best[0]:
                break
            if wanted(found) and not any(_has(db, nearer.log_id, seq) for nearer in chain[:depth]):
                best = seq, bool(superseded)
                break
    return best


def release(db: Executor, log_id: int | None) -> None:
    """The log's thread is gone: with its last reader it goes too. Until then it keeps what forks read, and no more."""
    while log_id is not None:
        parent_id, fork_seq = db.execute("SELECT parent_id, fork_seq FROM logs WHERE id = ?", (log_id,)).fetchone()
        (read_up_to,) = db.execute("SELECT max(fork_seq) FROM logs WHERE parent_id = ?", (log_id,)).fetchone()
        kept = -1 if read_up_to is None else read_up_to
        db.execute("DELETE FROM messages WHERE position BETWEEN ? AND ?", _bounds(log_id, kept + 1, SEQ_MASK))
        if log_id < 0 or read_up_to is not None:
            # The index holds rows of the thread beyond those that were deleted here.
            forget_log(db, log_id)
        if read_up_to is None:
            db.execute("DELETE FROM logs WHERE id = ?", (log_id,))
        else:
            ends = None if fork_seq is None else min(fork_seq, read_up_to)
            db.execute("UPDATE logs SET next_seq = 0, message_count = 0, fork_seq = ? WHERE id = ?", (ends, log_id))
            for seq in _covering(db, log_id):
                _drop_unread(db, log_id, seq)
        log_id = parent_id if parent_id is not None and _is_left(db, parent_id) else None


def drop_covered(db: Executor, log_id: int, seq: int) -> None:
    """Delete the rows of this seq further up the chain that nobody reads any more: a secret may be in them."""
    for level in chain_of(db, log_id)[1:]:
        if _is_left(db, level.log_id):
            _drop_unread(db, level.log_id, seq)


def _drop_unread(db: Executor, log_id: int, seq: int) -> None:
    """Of a log that is left."""
    if not _is_read(db, log_id, seq):
        db.execute("DELETE FROM messages WHERE position = ?", (log_id << SEQ_BITS | seq,))


def _is_read(db: Executor, log_id: int, seq: int) -> bool:
    """Whether a thread reads what a log that is left has or inherits at this seq."""
    for fork_id, _, has_thread in db.execute(_FORKS, (log_id, seq)).fetchall():
        if not _has(db, fork_id, seq) and (has_thread or _is_read(db, fork_id, seq)):
            return True
    return False


def _covering(db: Executor, log_id: int) -> set[int]:
    """The seqs at which forks of the log, and theirs, have rows of their own in the place of inherited ones."""
    seqs: set[int] = set()
    for fork_id, fork_seq, _ in db.execute(_FORKS, (log_id, 0)).fetchall():
        own = db.execute(
            f"SELECT position & {SEQ_MASK} FROM messages WHERE position BETWEEN ? AND ?", _bounds(fork_id, 0, fork_seq)
        )
        seqs.update(seq for (seq,) in own)
        seqs |= _covering(db, fork_id)
    return seqs


def _is_left(db: Executor, log_id: int) -> bool:
    (left,) = db.execute("SELECT next_seq = 0 FROM logs WHERE id = ?", (log_id,)).fetchone()
    return bool(left)


def _has(db: Executor, log_id: int, seq: int) -> bool:
    # On a cursor of its own, for callers that are in the middle of reading.
    connection = db if isinstance(db, sqlite3.Connection) else db.connection
    found = connection.execute("SELECT 1 FROM messages WHERE position = ?", (log_id << SEQ_BITS | seq,))
    return found.fetchone() is not None


def _bounds(log_id: int, low: int, high: int) -> tuple[int, int]:
    """The positions of two seqs."""
    return log_id << SEQ_BITS | max(low, 0), log_id << SEQ_BITS | max(min(high, SEQ_MASK), 0)
