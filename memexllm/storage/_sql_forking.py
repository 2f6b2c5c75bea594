"""Forks in a SQL database: the messages are copied inside the server, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from memexllm.core.models import Thread
from memexllm.storage._defaults import unknown_message, unknown_thread
from memexllm.storage._forking import fork_head, refuse_superseded, taken
from memexllm.storage._sql_operation import Operation, Recovered
from memexllm.storage._sql_transaction import Log, Transaction


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
        made = tx.insert_thread(head, next_seq, 0)
        _copy(tx, log, made, next_seq)
        n_live = log.message_count if last_seq is None else _count_live(tx, made)
        kept = n_live if max_messages is None else min(n_live, max_messages)
        if kept < n_live:
            tx.drop_oldest(made, kept)
        tx.note(made, message_count=kept)
        return head.changed(messages=[], partial=True, stored_messages=kept, place=made.id)

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
    c = tx.tables.messages.c
    later = tx.execute(sa.select(c.seq).where(c.log_id == log.id, c.seq > seq).limit(1)).fetchone()
    return None if later is None else seq


def _copy(tx: Transaction, log: Log, made: Log, next_seq: int) -> None:
    messages = tx.tables.messages
    c = messages.c
    columns = [c.log_id, c.seq, c.superseded, c.wire_text, c.extra_text, c.tokens_text]
    rows = sa.select(sa.literal(made.id, c.log_id.type), *columns[1:]).where(c.log_id == log.id, c.seq < next_seq)
    tx.execute(messages.insert().from_select(columns, rows))


def _count_live(tx: Transaction, log: Log) -> int:
    c = tx.tables.messages.c
    counted = sa.select(sa.func.count()).where(c.log_id == log.id, c.superseded == 0)
    return int(tx.execute(counted).scalar_one())
