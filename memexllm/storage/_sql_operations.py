"""The contract's operations on a SQL database: what each does inside a transaction, for both kinds of storage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from memexllm.core import jsontext
from memexllm.core.models import Message, Thread
from memexllm.core.moments import utc_now
from memexllm.storage._defaults import (
    UNSET,
    check_patch,
    check_user,
    check_version,
    resolve_new,
    unknown_message,
    unknown_thread,
)
from memexllm.storage._listing import ListQuery
from memexllm.storage._rows import Encoded, decode_messages, decode_wire, positions, with_seq
from memexllm.storage._sql_chains import Log, claim, drop_covered
from memexllm.storage._sql_changes import Bounds, Changes
from memexllm.storage._sql_forking import fork_thread as fork_thread
from memexllm.storage._sql_listing import read_page
from memexllm.storage._sql_operation import Operation, Recovered
from memexllm.storage._sql_quick import append as append_at_once
from memexllm.storage._sql_quick import can_append
from memexllm.storage._sql_restoring import restore_messages as restore_messages
from memexllm.storage._sql_transaction import Transaction
from memexllm.storage._sql_words import index
from memexllm.storage.base import checked_message_limit, refuse_partial

_LOOKED_BACK = 1000
"""Among how many of the newest messages one is looked for that may have been stored."""


def save_thread(thread: Thread, max_messages: int | None) -> Operation[None]:
    refuse_partial(thread)
    encoded = [Encoded(message) for message in thread.messages]
    seqs = list(positions(thread.messages))

    def save(tx: Transaction) -> None:
        live = sum(not each.superseded for each in encoded)
        kept = live if max_messages is None else min(live, max_messages)
        next_seq = seqs[-1] + 1 if seqs else 0
        log = tx.find_log(thread.id)
        if log is None:
            log = tx.insert_thread(thread, next_seq, kept)
        else:
            tx.replace_thread(log, thread, next_seq, kept)
        tx.insert_messages(log, seqs, encoded)
        if kept < live:
            tx.drop_oldest(log, kept)

    return Operation("save thread", "write", save)


def get_thread(thread_id: str, message_limit: int | None) -> Operation[Thread | None]:
    checked_message_limit(message_limit)

    def read(tx: Transaction) -> Thread | None:
        head = tx.read_head(thread_id)
        if head is None:
            return None
        texts = tx.read_texts(thread_id, message_limit, None, None, wire=False, live=message_limit is not None)
        messages = decode_messages(thread_id, texts)
        if message_limit is not None:
            messages.reverse()
        return head.changed(messages=messages, partial=message_limit is not None)

    return Operation("get thread", "snapshot", read)


def list_threads(query: ListQuery) -> Operation[list[Thread]]:
    return Operation("list threads", "snapshot" if query.metadata or query.preview else "read", read_page(query))


def delete_thread(thread_id: str) -> Operation[bool]:
    def delete(tx: Transaction) -> bool:
        log = tx.find_log(thread_id)
        if log is not None:
            tx.delete_thread(log)
        return log is not None

    def recover(tx: Transaction, known: bool | None) -> Recovered[bool] | None:
        return Recovered(bool(known)) if tx.find_log(thread_id) is None else None

    return Operation("delete thread", "write", delete, recover=recover)


def append_messages(
    thread_id: str, messages: Sequence[Message], max_messages: int | None, changes: Changes
) -> Operation[int]:
    encoded = [Encoded(message) for message in messages]
    n_live = len([each for each in encoded if not each.superseded])

    def append(tx: Transaction) -> int:
        log = tx.find_log(thread_id)
        if log is None:
            return begin_thread(tx)
        _check_owner(tx, thread_id, log, changes.create)
        check_version(thread_id, log.version, changes.expected_version)
        live = log.message_count + n_live
        if changes.supersede_from is not None or changes.supersede:
            live -= tx.supersede(log, changes.supersede_from, changes.supersede)
        if changes.counts:
            tx.note_counts(log, changes.counts)
        tx.insert_messages(log, range(log.next_seq, log.next_seq + len(encoded)), encoded)
        if changes.state:
            tx.patch_state(thread_id, log, resolve_new(changes.state, log.next_seq))
        if max_messages is not None and live > max_messages:
            tx.drop_oldest(log, max_messages)
            live = max_messages
        tx.note_write(log, len(encoded), live)
        return log.version + 1

    def begin_thread(tx: Transaction) -> int:
        if changes.create is None:
            raise unknown_thread(thread_id)
        check_version(thread_id, 0, changes.expected_version)
        thread = Thread(thread_id, **changes.create).changed(updated_at=utc_now(), version=1)
        thread.state = resolve_new(changes.state or {}, 0)
        kept = n_live if max_messages is None else min(n_live, max_messages)
        log = tx.insert_thread(thread, len(encoded), kept)
        tx.insert_messages(log, range(len(encoded)), encoded)
        if kept < n_live:
            tx.drop_oldest(log, kept)
        return thread.version

    def append_quickly(tx: Transaction) -> int | None:
        possible = encoded and can_append(tx, max_messages, changes)
        return append_at_once(tx, thread_id, encoded, n_live, changes) if possible else None

    operation = Operation("add message to thread", "write", append, append_quickly)

    def recover(tx: Transaction, known: int | None) -> Recovered[int] | None:
        log = tx.find_log(thread_id)
        if log is None:
            return None
        if log.write_id == operation.write_id:
            return Recovered(log.version)
        # Somebody wrote since, if it was stored: a version that is not known is at most the one before theirs.
        if encoded and tx.find_message(thread_id, log, encoded[0].id, within=_LOOKED_BACK):
            return Recovered(log.version - 1 if known is None else known)
        return None

    operation.recover = recover
    return operation


def replace_message(
    thread_id: str,
    message_id: str,
    message: Message,
    expected_version: int | None,
    state: Mapping[str, Any] | None,
) -> Operation[None]:
    encoded = Encoded(message)

    def replace(tx: Transaction) -> None:
        log = _found(tx, thread_id)
        check_version(thread_id, log.version, expected_version)
        found = tx.find_message(thread_id, log, message_id)
        if found is None:
            raise unknown_message(thread_id, message_id)
        seq, superseded = found
        claim(tx, log, [(seq, seq)])
        tx.delete_messages(log, seq)
        tx.insert_messages(log, [seq], [encoded])
        drop_covered(tx, log, seq)
        if seq < log.searchable and not encoded.superseded:
            index(tx, log.id, log.user, [(seq, with_seq(encoded.wire_text, seq), encoded.extra_text)])
        if state:
            tx.patch_state(thread_id, log, state)
        tx.note_write(log, 0, log.message_count + superseded - encoded.superseded)

    return _recognised(thread_id, Operation("replace message", "write", replace))


def read_head(thread_id: str) -> Operation[Thread | None]:
    return Operation("get thread", "read", lambda tx: tx.read_head(thread_id))


def read_messages(thread_id: str, bounds: Bounds) -> Operation[list[Any]]:
    def read(tx: Transaction) -> list[Any]:
        limit, before, after, include_superseded, wire = bounds
        texts = tx.read_texts(thread_id, limit, before, after, wire=wire, live=not include_superseded)
        found: list[Any] = (decode_wire if wire else decode_messages)(thread_id, texts)
        if limit is not None and after is None:
            found.reverse()
        return found

    return Operation("get messages", "read", read)


def patch_thread(
    thread_id: str,
    title: str | None,
    metadata: Mapping[str, Any],
    user_id: str | None,
    state: Mapping[str, Any],
) -> Operation[None]:
    check_patch(thread_id, title=title, metadata=metadata, user_id=user_id)
    given = {
        name: value
        for name, value in (("title", title), ("metadata", metadata), ("user_id", user_id))
        if value is not UNSET
    }
    if state is not UNSET:
        jsontext.dumps(dict(state), "state")

    def patch(tx: Transaction) -> None:
        log = _found(tx, thread_id)
        if given:
            tx.patch_thread(log, given)
        if state is not UNSET:
            tx.patch_state(thread_id, log, state)
            tx.note(log, write_id=tx.write_id)

    return _recognised(thread_id, Operation("update thread", "write", patch))


def _check_owner(tx: Transaction, thread_id: str, log: Log, create: Mapping[str, Any] | None) -> None:
    if create is not None and create.get("user_id") is not None:
        check_user(thread_id, log.user, {"user_id": tx.user_fields(create["user_id"])["user_id"]})


def _found(tx: Transaction, thread_id: str) -> Log:
    log = tx.find_log(thread_id)
    if log is None:
        raise unknown_thread(thread_id)
    return log


def _recognised(thread_id: str, operation: Operation[None]) -> Operation[None]:
    """By the mark it leaves on the thread, as long as nobody else wrote to it."""

    def recover(tx: Transaction, known: None) -> Recovered[None] | None:
        log = tx.find_log(thread_id)
        return Recovered(known) if log is not None and log.write_id == operation.write_id else None

    operation.recover = recover
    return operation
