"""Forks in a SQL database: a pointer into the parent's log, one small write whatever the thread's length.

As in SQLite (`_sqlite_forking.py`), what is small is copied, inside the server: a fork of few messages, and the logs
with few messages of their own between a fork of a fork and what it reads. So chains stay short.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from memexllm.core.models import Thread
from memexllm.storage._defaults import unknown_message, unknown_thread
from memexllm.storage._forking import fork_head, refuse_superseded, taken
from memexllm.storage._sql_chains import Level, Log, copy_rows, count_live, locked_chain, rows_of
from memexllm.storage._sql_operation import Operation, Recovered
from memexllm.storage._sql_transaction import Transaction

COPIED = 32
"""So many messages are copied rather than pointed at."""
LONGEST_CHAIN = 16


def fork_thread(
    thread_id: str, new_id: str, at: str | None, create: Mapping[str, Any] | None, max_messages: int | None
) -> Operation[Thread]:
    def fork(tx: Transaction) -> Thread:
        log, parent = tx.find_log(thread_id), tx.read_head(thread_id)
        if log is None or parent is None:
            raise unknown_thread(thread_id)
        last_seq = None if at is None else _seq_of(tx, thread_id, log, at)
        head = fork_head(parent, new_id, last_seq, create)
        if tx.find_log(new_id) is not None:
            raise taken(new_id)
        next_seq = log.next_seq if last_seq is None else last_seq + 1
        chain = locked_chain(tx, log, next_seq - 1)
        n_live = log.message_count if last_seq is None else _count_live(tx, chain, log, last_seq)
        first = 0
        if max_messages is not None and n_live > max_messages:
            n_live = max_messages
            for (seq,) in rows_of(tx, chain, [], live=True, newest=True, limit=1, offset=max_messages - 1):
                first = seq
        # Another user's thread must not depend on what becomes of this one's, nor the other way round.
        apart = first > 0 or head.user_id != parent.user_id
        n_copied = len(chain) if apart else _n_to_copy(tx, chain)
        read = chain[n_copied] if n_copied < len(chain) else None
        made = tx.insert_thread(head, next_seq, n_live, read)
        copy_rows(tx, chain[:n_copied], made.rows, first)
        if read is not None and read.log_id == log.id:
            tx.note(log, shared_seq=max(read.high, -1 if log.shared_seq is None else log.shared_seq))
        return head.changed(messages=[], partial=True, stored_messages=n_live, place=made.id)

    operation = Operation("fork thread", "write", fork)

    def recover(tx: Transaction, known: Thread | None) -> Recovered[Thread] | None:
        log, head = tx.find_log(new_id), tx.read_head(new_id)
        return Recovered(head) if log is not None and log.write_id == operation.write_id and head is not None else None

    operation.recover = recover
    return operation


def _seq_of(tx: Transaction, thread_id: str, log: Log, message_id: str) -> int | None:
    """The seq of a live message; None when it is the thread's last."""
    found = tx.find_message(thread_id, log, message_id)
    if found is None:
        raise unknown_message(thread_id, message_id)
    seq, superseded = found
    refuse_superseded(thread_id, message_id, superseded=superseded)
    later = rows_of(tx, locked_chain(tx, log), [], seq, limit=1)
    return seq if later else None


def _count_live(tx: Transaction, chain: list[Level], log: Log, last_seq: int) -> int:
    """The live messages up to a seq, counted on the shorter side of it."""
    if last_seq < log.next_seq // 2:
        return count_live(tx, chain)
    return log.message_count - count_live(tx, locked_chain(tx, log), last_seq)


def _n_to_copy(tx: Transaction, chain: list[Level]) -> int:
    """How many logs of the chain, nearest first, are copied and not read."""
    room = COPIED
    for n_copied, level in enumerate(chain):
        room -= len(rows_of(tx, [level], [], limit=room + 1))
        if room < 0:
            return n_copied if len(chain) - n_copied < LONGEST_CHAIN else len(chain) - 1
    return len(chain)
