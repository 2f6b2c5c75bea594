"""What SQLiteStorage does inside a transaction, statement by statement. The tables: `_sqlite_schema.py`."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from memexllm.core import jsontext
from memexllm.core.models import Thread
from memexllm.core.moments import micros_now, to_micros
from memexllm.storage._rows import Encoded, decode_wire, head_of, parsed, with_seq
from memexllm.storage._sqlite_chains import (
    Level,
    chain_of,
    claim,
    copy_rows,
    drop_covered,
    find_newest,
    first_of,
    is_shared,
    live_of,
    release,
    rows_of,
)
from memexllm.storage._sqlite_schema import SEQ_BITS, SEQ_MASK
from memexllm.storage._sqlite_schema import Executor as Executor

_WIRE = (
    "CASE WHEN superseded = 0 AND tokens_text IS NULL THEN wire_text ELSE '{'"
    " || CASE superseded WHEN 0 THEN '' ELSE '\"superseded\":true,' END"
    " || CASE WHEN tokens_text IS NULL THEN '' ELSE '\"tokens\":' || tokens_text || ',' END"
    " || substr(wire_text, 2) END"
)
FULL_TEXT = f"{_WIRE} || ',' || ifnull(extra_text, 'null')"
HEADS = """
    SELECT n, threads.id, user_id, title, metadata, state, created_at, updated_at, version, message_count
    FROM threads JOIN logs ON logs.id = log_id"""
_HEAD = f"{HEADS} WHERE threads.id = ?"
# The thread whose span begins last before a moment. What is written at that moment belongs above it.
_LAST_BEFORE = "SELECT n FROM threads WHERE listed_at <= ? ORDER BY listed_at DESC, n DESC LIMIT 1"
_LOG = f"""
    SELECT log_id, parent_id, next_seq, message_count, version, user_id, n, ({_LAST_BEFORE})
    FROM threads JOIN logs ON logs.id = log_id WHERE threads.id = ?"""
_UPDATED = "(SELECT updated_at FROM logs WHERE logs.id = log_id)"
# Also ends the span of the thread below, if the moment falls into it: a clock went back.
_LIST = f"""
    UPDATE threads SET listed_at = CASE n WHEN ?1 THEN ?3 ELSE {_UPDATED} END
    WHERE n IN (?1, ?2) AND (n = ?1 OR {_UPDATED} >= ?3)"""
_END_SPAN = f"UPDATE threads SET listed_at = {_UPDATED} WHERE n = ({_LAST_BEFORE}) AND {_UPDATED} >= ?"
_NOTE = "UPDATE logs SET next_seq = ?, message_count = ?, version = ?, updated_at = ? WHERE id = ?"
_INSERT = "INSERT INTO messages (position, superseded, wire_text, extra_text, tokens_text) VALUES (?, ?, ?, ?, ?)"


def _select(what: str, *, live: bool, newest: bool) -> str:
    """Joined texts of a thread's messages between two seqs (exclusive), in order of position, or newest first.

    None for a fork, whose log has a negative id: the statement is that of the other threads, which it costs nothing.
    """
    return f"""
        SELECT group_concat(text) FROM (
            SELECT {what} AS text FROM threads JOIN messages
            ON position > (log_id << {SEQ_BITS}) + ? AND position < (log_id << {SEQ_BITS}) + ?
            WHERE threads.id = ? AND log_id > 0 {"AND superseded = 0" if live else ""}
            ORDER BY position {"DESC" if newest else ""} LIMIT ?)"""


_READ = {
    (wire, live, newest): _select(_WIRE if wire else FULL_TEXT, live=live, newest=newest)
    for wire in (True, False)
    for live in (True, False)
    for newest in (True, False)
}


class Log:
    """Where a thread's messages lie, and what changes on every write. `first` and `last` bound its positions.

    `now` is the time of the write that looks for it, `below` the thread that is listed next below that time; it is the
    thread `n` itself when nobody wrote to another one since.
    """

    __slots__ = (
        "below",
        "first",
        "id",
        "last",
        "message_count",
        "n",
        "next_seq",
        "now",
        "parent_id",
        "user_id",
        "version",
    )

    def __init__(
        self,
        now: int,
        log_id: int,
        parent_id: int | None,
        next_seq: int,
        message_count: int,
        version: int,
        user_id: str | None,
        n: int,
        below: int | None,
    ) -> None:
        self.id = log_id
        self.parent_id = parent_id
        self.next_seq = next_seq
        self.message_count = message_count
        self.version = version
        self.user_id = user_id
        self.n = n
        self.below = below
        self.now = now
        self.first = log_id << SEQ_BITS
        self.last = self.first | SEQ_MASK


def find_log(db: Executor, thread_id: str) -> Log | None:
    now = micros_now()
    row = db.execute(_LOG, (now, thread_id)).fetchone()
    return None if row is None else Log(now, *row)


def note_write(db: Executor, log: Log, added: int, message_count: int) -> None:
    """Note that a write added `added` messages and left so many live ones."""
    db.execute(_NOTE, (log.next_seq + added, message_count, log.version + 1, log.now, log.id))
    if log.below != log.n:
        db.execute(_LIST, (log.n, log.below, log.now))


def _make_room(db: Executor, moment: int) -> None:
    """End the span of the thread that `moment` falls into, so that another one can be listed at it."""
    db.execute(_END_SPAN, (moment, moment))


def insert_thread(
    db: Executor, thread: Thread, next_seq: int = 0, message_count: int = 0, read: Level | None = None
) -> Log:
    """The thread's row and a log of no rows of its own, which reads `read`."""
    updated_at = to_micros(thread.updated_at)
    log_id = insert_log(db, next_seq, message_count, thread.version, updated_at, read)
    _make_room(db, updated_at)
    inserted = db.execute(
        "INSERT INTO threads (id, log_id, user_id, title, metadata, state, created_at, listed_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (thread.id, log_id, *_fields(thread), updated_at),
    )
    n = inserted.lastrowid or 0
    parent_id = None if read is None else read.log_id
    return Log(updated_at, log_id, parent_id, next_seq, message_count, thread.version, thread.user_id, n, n)


def replace_thread(db: Executor, thread: Thread, old: Log, next_seq: int, message_count: int) -> Log:
    """The thread's row with a new, empty log; the old one goes."""
    updated_at = to_micros(thread.updated_at)
    _make_room(db, updated_at)
    log_id = insert_log(db, next_seq, message_count, thread.version, updated_at)
    db.execute(
        "UPDATE threads SET log_id = ?, user_id = ?, title = ?, metadata = ?, state = ?, created_at = ?,"
        " listed_at = ? WHERE id = ?",
        (log_id, *_fields(thread), updated_at, thread.id),
    )
    release(db, old.id)
    return Log(updated_at, log_id, None, next_seq, message_count, thread.version, thread.user_id, old.n, old.n)


def set_fields(db: Executor, log: Log, thread: Thread) -> None:
    """Every field of the thread's row; its log is left to the caller."""
    updated_at = to_micros(thread.updated_at)
    _make_room(db, updated_at)
    db.execute(
        "UPDATE threads SET user_id = ?, title = ?, metadata = ?, state = ?, created_at = ?, listed_at = ? WHERE n = ?",
        (*_fields(thread), updated_at, log.n),
    )


def insert_log(
    db: Executor, next_seq: int, message_count: int, version: int, updated_at: int, read: Level | None = None
) -> int:
    inserted = db.execute(
        "INSERT INTO logs (next_seq, message_count, version, updated_at) VALUES (?, ?, ?, ?)",
        (next_seq, message_count, version, updated_at),
    )
    log_id = inserted.lastrowid or 0
    if read is None:
        return log_id
    db.execute("UPDATE logs SET id = -id, parent_id = ?, fork_seq = ? WHERE id = ?", (*read, log_id))
    return -log_id


def _fields(thread: Thread) -> tuple[str | None, str | None, str, str, int]:
    metadata, state = jsontext.dumps(thread.metadata, "metadata"), jsontext.dumps(thread.state, "state")
    return thread.user_id, thread.title, metadata, state, to_micros(thread.created_at)


def insert_messages(db: Executor, log: Log, seqs: Iterable[int], encoded: Sequence[Encoded]) -> None:
    first = log.first
    db.executemany(
        _INSERT,
        [
            (first | seq, each.superseded, with_seq(each.wire_text, seq), each.extra_text, each.tokens_text)
            for seq, each in zip(seqs, encoded, strict=True)
        ],
    )


def supersede(db: Executor, log: Log, supersede_from: int | None, supersede: Collection[int]) -> int:
    """How many live messages were superseded."""
    ranges = [(log.first | seq, log.first | seq) for seq in _inside(supersede)]
    if supersede_from is not None and supersede_from <= SEQ_MASK:
        ranges.append((log.first | max(supersede_from, 0), log.last))
    changed = 0
    shared = is_shared(db, log.id, log.parent_id)
    for bounds in ranges:
        if shared:
            claim(db, log.id, bounds[0] & SEQ_MASK, min(bounds[1] & SEQ_MASK, log.next_seq))
        changed += db.execute(
            "UPDATE messages SET superseded = 1 WHERE position BETWEEN ? AND ? AND superseded = 0", bounds
        ).rowcount
    return changed


def note_counts(db: Executor, log: Log, counts: Mapping[int, tuple[int, str]]) -> None:
    noted = [(jsontext.dumps(list(counts[seq])), log.first | seq) for seq in _inside(counts)]
    if is_shared(db, log.id, log.parent_id):
        for _, position in noted:
            claim(db, log.id, position & SEQ_MASK, position & SEQ_MASK)
    db.executemany("UPDATE messages SET tokens_text = ? WHERE position = ?", noted)


def drop_oldest(db: Executor, log: Log, keep: int) -> None:
    """Delete what lies before the newest `keep` live messages; of a log that forks read, or a fork's, leave it."""
    if is_shared(db, log.id, log.parent_id):
        oldest = first_of(live_of(db, chain_of(db, log.id), "NULL", newest=True), skip=keep - 1)
        move_out(db, log, 0 if oldest is None else oldest[0])
        return
    db.execute(
        "DELETE FROM messages WHERE position >= ? AND position < (SELECT position FROM messages"
        " WHERE position BETWEEN ? AND ? AND superseded = 0 ORDER BY position DESC LIMIT 1 OFFSET ?)",
        (log.first, log.first, log.last, keep - 1),
    )


def move_out(db: Executor, log: Log, first_seq: int = 0) -> None:
    """Give the thread a log that it shares with nobody, with its messages from `first_seq` on."""
    left = log.id
    log_id = insert_log(db, log.next_seq, log.message_count, log.version, log.now)
    copy_rows(db, chain_of(db, left), log_id, first_seq)
    db.execute("UPDATE threads SET log_id = ? WHERE n = ?", (log_id, log.n))
    log.id, log.parent_id = log_id, None
    log.first, log.last = log_id << SEQ_BITS, log_id << SEQ_BITS | SEQ_MASK
    release(db, left)


def find_message(db: Executor, thread_id: str, log: Log, message_id: str) -> tuple[int, bool] | None:
    """(seq, superseded). Newest first: what is replaced is nearly always the thread's last message."""
    # SQLite's JSON functions end a text at NUL, so what they find is looked at again.
    sought = message_id.partition("\x00")[0]
    chain = [Level(log.id, SEQ_MASK)] if log.parent_id is None else chain_of(db, log.id)
    return find_newest(
        db,
        chain,
        "wire_text",
        "wire_text ->> '$.id' = ?",
        sought,
        lambda wire_text: decode_wire(thread_id, wire_text)[0]["id"] == message_id,
    )


def replace_row(db: Executor, log: Log, seq: int, encoded: Encoded) -> None:
    shared = is_shared(db, log.id, log.parent_id)
    if shared:
        claim(db, log.id, seq, seq)
    db.execute("DELETE FROM messages WHERE position = ?", (log.first | seq,))
    insert_messages(db, log, [seq], [encoded])
    if shared:
        drop_covered(db, log.id, seq)


def patch_state(db: Executor, thread_id: str, patch: Mapping[str, Any]) -> None:
    (text,) = db.execute("SELECT state FROM threads WHERE id = ?", (thread_id,)).fetchone()
    state = {**parsed(thread_id, text), **patch}
    db.execute("UPDATE threads SET state = ? WHERE id = ?", (jsontext.dumps(state, "state"), thread_id))


def read_head(db: Executor, thread_id: str) -> Thread | None:
    row = db.execute(_HEAD, (thread_id,)).fetchone()
    return None if row is None else head_of(row)


def read_texts(
    db: Executor,
    thread_id: str,
    limit: int | None,
    before: int | None,
    after: int | None,
    *,
    wire: bool,
    live: bool,
) -> str | None:
    """Texts for `decode_wire` or `decode_messages`; newest first when `limit` keeps the newest."""
    # A seq outside of these would be a position in another log.
    low = -1 if after is None else max(-1, min(after, SEQ_MASK))
    high = SEQ_MASK + 1 if before is None else max(0, min(before, SEQ_MASK + 1))
    statement = _READ[wire, live, limit is not None and after is None]
    (texts,) = db.execute(statement, (low, high, thread_id, -1 if limit is None else limit)).fetchone()
    if texts is None:
        return _texts_of_fork(db, thread_id, limit, low + 1, high - 1, wire=wire, live=live, newest=after is None)
    return texts  # type: ignore[no-any-return]  # group_concat gives a string


def _texts_of_fork(
    db: Executor, thread_id: str, limit: int | None, low: int, high: int, *, wire: bool, live: bool, newest: bool
) -> str | None:
    """`read_texts` of a fork, None for any other thread."""
    found = db.execute("SELECT log_id FROM threads WHERE id = ? AND log_id < 0", (thread_id,)).fetchone()
    if found is None:
        return None
    with one_moment(db):
        rows = (live_of if live else rows_of)(
            db, chain_of(db, found[0]), _WIRE if wire else FULL_TEXT, low, high, newest=newest and limit is not None
        )
        return ",".join([text for _, _, text in islice(rows, limit)])


@contextmanager
def one_moment(db: Executor) -> Generator[None]:
    """All statements within see one state of the file."""
    connection = db if isinstance(db, sqlite3.Connection) else db.connection
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


def _inside(seqs: Iterable[int]) -> list[int]:
    """The seqs a log can hold; a position of any other would be one of another log."""
    return [seq for seq in seqs if 0 <= seq <= SEQ_MASK]
