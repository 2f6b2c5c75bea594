"""Threads put back as they were elsewhere, in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from memexllm.core.errors import ValidationError
from memexllm.core.flow import Flow, call
from memexllm.core.models import Message, Thread
from memexllm.storage._defaults import check_names, load, next_seq, storage_blocks
from memexllm.storage._packing import pack


def restore_messages(storage: Any, thread: Thread, messages: Sequence[Message], whole: bool) -> Flow[None]:
    """`whole`: the storage keeps whole threads, with fields of ours packed in their metadata."""
    check_names(thread)
    there = yield from load(storage, thread.id)
    old = [] if there is None else there.messages
    refuse_seqs(thread.id, messages, -1 if there is None else next_seq(there) - 1)
    restored = thread.changed(messages=[*old, *messages], partial=False, stored_messages=None)
    stored = pack(restored) if whole else restored
    yield from call(storage.save_thread, stored, blocking=storage_blocks(storage), write=True)


def refuse_seqs(thread_id: str, messages: Sequence[Message], last_seq: int) -> list[int]:
    """The seqs of the messages, which must ascend from above the thread's last one."""
    seqs: list[int] = []
    for message in messages:
        if message.seq is None or message.seq <= last_seq:
            raise ValidationError(
                f"a message restored to thread {thread_id!r} has the seq {message.seq}; it must come after {last_seq}"
            )
        last_seq = message.seq
        seqs.append(last_seq)
    return seqs
