"""What a fork is, whatever the storage: a thread of its own that begins with what another one has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from memexllm.core import jsontext
from memexllm.core.errors import ValidationError
from memexllm.core.flow import Flow, call
from memexllm.core.models import Message, Thread
from memexllm.core.moments import utc_now
from memexllm.core.state import state_until
from memexllm.core.wire import plain
from memexllm.storage._defaults import check_names, head_of, load, storage_blocks, unknown_message, unknown_thread
from memexllm.storage._packing import pack

_GIVEN = frozenset({"user_id", "title", "metadata", "created_at"})


def fork_thread(
    storage: Any, thread_id: str, new_id: str, at: str | None, create: Mapping[str, Any] | None, whole: bool
) -> Flow[Thread]:
    """By a copy. `whole`: the storage keeps whole threads, with fields of ours packed in their metadata."""
    parent = yield from load(storage, thread_id)
    if parent is None:
        raise unknown_thread(thread_id)
    fork = forked(parent, new_id, at, create)
    if (yield from load(storage, new_id)) is not None:
        raise taken(new_id)
    stored = pack(fork) if whole else fork
    yield from call(storage.save_thread, stored, blocking=storage_blocks(storage), write=True)
    # Read again, because a storage with max_messages may have kept less.
    kept = yield from load(storage, new_id)
    return head_of(fork if kept is None else kept)


def fork_head(parent: Thread, new_id: str, last_seq: int | None, given: Mapping[str, Any] | None) -> Thread:
    """The fork without its messages; `last_seq` is None when it has all that the parent has.

    `given` has fields of the fork in the place of the parent's.
    """
    fields = dict(given or {})
    if unknown := sorted(fields.keys() - _GIVEN):
        raise ValidationError(f"a fork is given {', '.join(sorted(_GIVEN))}; there is no {', '.join(unknown)}")
    now = utc_now()
    head = Thread(
        new_id,
        metadata=plain(parent.metadata if fields.get("metadata") is None else fields["metadata"]),
        user_id=fields.get("user_id", parent.user_id),
        title=fields.get("title", parent.title),
        created_at=fields.get("created_at", now),
        updated_at=now,
        state=plain(parent.state) if last_seq is None else state_until(parent.state, last_seq),
        version=1,
    )
    check_names(head)
    jsontext.dumps([head.metadata, head.state], "metadata")
    return head


def forked(parent: Thread, new_id: str, at: str | None, given: Mapping[str, Any] | None) -> Thread:
    """The whole fork of a whole thread."""
    if at is None:
        return fork_head(parent, new_id, None, given).changed(messages=parent.messages)
    place = _place(parent, at)
    last = parent.messages[place]
    refuse_superseded(parent.id, at, superseded=last.superseded)
    rest = parent.messages[place + 1 :]
    last_seq = None if not rest or last.seq is None else last.seq
    return fork_head(parent, new_id, last_seq, given).changed(messages=parent.messages[: place + 1])


def _place(parent: Thread, message_id: str) -> int:
    messages: list[Message] = parent.messages
    for place in range(len(messages) - 1, -1, -1):
        if messages[place].id == message_id:
            return place
    raise unknown_message(parent.id, message_id)


def refuse_superseded(thread_id: str, message_id: str, *, superseded: bool) -> None:
    """What was live together with it is not known any more."""
    if superseded:
        raise ValidationError(
            f"message {message_id!r} of thread {thread_id!r} was superseded and is no longer part of the conversation, "
            "so no fork can end with it; get_messages() gives those that are"
        )


def taken(new_id: str) -> ValidationError:
    return ValidationError(f"thread {new_id!r} exists already; a fork is a new thread and needs an id of its own")
