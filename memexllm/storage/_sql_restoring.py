"""Threads put back into a SQL database as they were elsewhere: seqs, times and version included."""

from __future__ import annotations

from collections.abc import Sequence

from memexllm.core.models import Message, Thread
from memexllm.core.moments import to_micros
from memexllm.storage._restoring import refuse_seqs
from memexllm.storage._rows import Encoded
from memexllm.storage._sql_operation import Operation, Recovered
from memexllm.storage._sql_transaction import Transaction


def restore_messages(thread: Thread, messages: Sequence[Message], max_messages: int | None) -> Operation[None]:
    encoded = [Encoded(message) for message in messages]
    n_live = sum(not each.superseded for each in encoded)

    def restore(tx: Transaction) -> None:
        log = tx.find_log(thread.id)
        if log is None:
            log = tx.insert_thread(thread, 0, 0)
        else:
            fields = tx.fields_of(thread)
            if fields["user_id"] != log.user:
                tx.patch_thread(log, {"user_id": thread.user_id})
            tx.set_thread(log, fields)
        seqs = refuse_seqs(thread.id, messages, log.next_seq - 1)
        tx.insert_messages(log, seqs, encoded)
        live = log.message_count + n_live
        if max_messages is not None and live > max_messages:
            tx.drop_oldest(log, max_messages)
            live = max_messages
        tx.note(
            log,
            next_seq=seqs[-1] + 1 if seqs else log.next_seq,
            message_count=live,
            version=thread.version,
            updated_at=to_micros(thread.updated_at),
            write_id=tx.write_id,
        )

    operation = Operation("restore messages", "write", restore)

    def recover(tx: Transaction, known: None) -> Recovered[None] | None:
        log = tx.find_log(thread.id)
        return Recovered(known) if log is not None and log.write_id == operation.write_id else None

    operation.recover = recover
    return operation
