"""Threads put back into SQLite as they were elsewhere: seqs, times and version included."""

from __future__ import annotations

from collections.abc import Sequence

from memexllm.core.models import Message, Thread
from memexllm.core.moments import to_micros
from memexllm.storage._restoring import refuse_seqs
from memexllm.storage._rows import Encoded
from memexllm.storage._sqlite_schema import Executor
from memexllm.storage._sqlite_statements import (
    drop_oldest,
    find_log,
    insert_messages,
    insert_thread,
    set_fields,
)


def restore(
    db: Executor, thread: Thread, messages: Sequence[Message], encoded: Sequence[Encoded], max_messages: int | None
) -> bool:
    """Whether messages were deleted, because there are more than may be kept."""
    log = find_log(db, thread.id)
    there = log is not None
    if log is None:
        log = insert_thread(db, thread)
    seqs = refuse_seqs(thread.id, messages, log.next_seq - 1)
    if there:
        set_fields(db, log, thread)
    insert_messages(db, log, seqs, encoded)
    live = log.message_count + sum(not each.superseded for each in encoded)
    dropped = max_messages is not None and live > max_messages
    if max_messages is not None and dropped:
        drop_oldest(db, log, max_messages)
        live = max_messages
    next_seq = seqs[-1] + 1 if seqs else log.next_seq
    db.execute(
        "UPDATE logs SET next_seq = ?, message_count = ?, version = ?, updated_at = ? WHERE id = ?",
        (next_seq, live, thread.version, to_micros(thread.updated_at), log.id),
    )
    return dropped
