"""Forks in SQLite: a pointer into the parent's log, one small write whatever the thread's length.

What is small is copied: a fork of few messages is a thread like any other, and of forks of forks the logs with few rows
of their own are left out of the chain, which so stays short.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from memexllm.storage._defaults import unknown_message, unknown_thread
from memexllm.storage._forking import fork_head, refuse_superseded, taken
from memexllm.storage._sqlite_chains import Level, chain_of, copy_rows, first_of, live_of, rows_of
from memexllm.storage._sqlite_schema import SEQ_BITS, SEQ_MASK, Executor
from memexllm.storage._sqlite_statements import Log, find_log, find_message, insert_thread, read_head

COPIED = 32
"""So many rows are copied rather than pointed at."""
LONGEST_CHAIN = 16


def fork(
    db: Executor,
    thread_id: str,
    new_id: str,
    at: str | None,
    create: Mapping[str, Any] | None,
    max_messages: int | None,
) -> None:
    log, parent = find_log(db, thread_id), read_head(db, thread_id)
    if log is None or parent is None:
        raise unknown_thread(thread_id)
    last_seq = None if at is None else _seq_of(db, thread_id, log, at)
    head = fork_head(parent, new_id, last_seq, create)
    if find_log(db, new_id) is not None:
        raise taken(new_id)
    chain = chain_of(db, log.id, log.next_seq - 1 if last_seq is None else last_seq)
    n_live = log.message_count if last_seq is None else _count_live(db, log, last_seq)
    next_seq = log.next_seq if last_seq is None else last_seq + 1
    first = 0
    if max_messages is not None and n_live > max_messages:
        n_live = max_messages
        found = first_of(live_of(db, chain, "NULL", newest=True), skip=max_messages - 1)
        first = 0 if found is None else found[0]
    # Another user's thread must not depend on what becomes of this one's, nor the other way round.
    apart = first > 0 or head.user_id != parent.user_id
    n_copied = len(chain) if apart else _n_to_copy(db, chain)
    read = chain[n_copied] if n_copied < len(chain) else None
    made = insert_thread(db, head, next_seq, n_live, read)
    copy_rows(db, chain[:n_copied], made.id, first)


def _seq_of(db: Executor, thread_id: str, log: Log, message_id: str) -> int | None:
    """The seq of a live message; None when it is the thread's last."""
    found = find_message(db, thread_id, log, message_id)
    if found is None:
        raise unknown_message(thread_id, message_id)
    seq, superseded = found
    refuse_superseded(thread_id, message_id, superseded=superseded)
    later = first_of(rows_of(db, chain_of(db, log.id), "NULL", seq + 1))
    return None if later is None else seq


def _count_live(db: Executor, log: Log, last_seq: int) -> int:
    """The live messages up to a seq, counted on the shorter side of it."""
    before = last_seq < log.next_seq // 2
    low, high = (0, last_seq) if before else (last_seq + 1, SEQ_MASK)
    if log.parent_id is None:
        bounds = (log.first | low, log.first | high)
        (n_live,) = db.execute(
            "SELECT count(*) FROM messages WHERE position BETWEEN ? AND ? AND superseded = 0", bounds
        ).fetchone()
    else:
        n_live = sum(1 for _ in live_of(db, chain_of(db, log.id), "NULL", low, high))
    return int(n_live) if before else log.message_count - int(n_live)


def _n_to_copy(db: Executor, chain: list[Level]) -> int:
    """How many logs of the chain, nearest first, are copied and not read."""
    room = COPIED
    for n_copied, level in enumerate(chain):
        low = level.log_id << SEQ_BITS
        (rows,) = db.execute(
            "SELECT count(*) FROM (SELECT 1 FROM messages WHERE position BETWEEN ? AND ? LIMIT ?)",
            (low, low | level.high, room + 1),
        ).fetchone()
        room -= rows
        if room < 0:
            return n_copied if len(chain) - n_copied < LONGEST_CHAIN else len(chain) - 1
    return len(chain)
