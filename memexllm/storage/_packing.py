"""Lossless on four methods: what a user's storage does not know travels in `metadata`.

A storage may keep only id and metadata of a thread, and content, role, metadata and created_at of a message. Before
`save_thread` every field of ours is packed under one key of the metadata, after `get_thread` it is unpacked again.
"""

from __future__ import annotations

from typing import Any

from memexllm.core.errors import CorruptThreadError, StorageError
from memexllm.core.models import Message, Thread
from memexllm.core.moments import from_micros, to_micros
from memexllm.core.wire import MessageRow, copy_row, plain

KEY = "memexllm"
_OWN = "own"
"""Beside our fields: what the user keeps in the metadata under the same key."""


def pack(thread: Thread) -> Thread:
    """A copy for a storage that is handed the thread for good; it shares nothing with `thread`."""
    packed = Thread(
        thread.id,
        messages=[_pack_message(message) for message in thread.messages],
        metadata=_packed(thread.metadata, _thread_fields(thread)),
        user_id=thread.user_id,
        title=thread.title,
        created_at=thread.created_at,
        updated_at=thread.updated_at,
        version=thread.version,
    )
    packed.state = plain(thread.state)
    return packed


def unpack(stored: Any) -> Thread:
    """A copy of what a storage returned, with every field of ours back; it shares nothing with `stored`."""
    if not isinstance(stored, Thread):
        raise StorageError(f"the storage returned a {type(stored).__name__} in the place of a Thread")
    metadata = plain(dict(stored.metadata))
    fields = metadata.pop(KEY, None)
    messages: list[Message] = []
    for message in stored.messages:
        last = -1 if not messages or messages[-1].seq is None else messages[-1].seq
        messages.append(_unpack_message(stored.id, message, last + 1))
    thread = Thread(
        stored.id,
        messages=messages,
        metadata=metadata,
        user_id=stored.user_id,
        title=stored.title,
        created_at=stored.created_at,
        updated_at=stored.updated_at,
        state=plain(stored.state),
        version=stored.version,
        partial=stored.partial,
    )
    if fields is not None:
        try:
            thread.metadata = {**metadata, **_own(fields)}
            thread.user_id, thread.title = fields["user_id"], fields["title"]
            thread.created_at, thread.updated_at = (
                from_micros(fields["created_at"]),
                from_micros(fields["updated_at"]),
            )
            thread.state, thread.version = fields["state"], fields["version"]
        except (TypeError, KeyError) as error:
            raise _unreadable(stored.id) from error
    return thread


def copied(stored: Any) -> Thread:
    """A copy of a whole thread that shares nothing with `stored`, from a storage that keeps every field itself."""
    if not isinstance(stored, Thread):
        raise StorageError(f"the storage returned a {type(stored).__name__} in the place of a Thread")
    messages = [Message.from_row(copy_row(message.row())) for message in stored.messages]
    return stored.changed(messages=messages, metadata=plain(stored.metadata), state=plain(stored.state))


def _thread_fields(thread: Thread) -> dict[str, Any]:
    return {
        "user_id": thread.user_id,
        "title": thread.title,
        "created_at": to_micros(thread.created_at),
        "updated_at": to_micros(thread.updated_at),
        "state": plain(thread.state),
        "version": thread.version,
    }


def _pack_message(message: Message) -> Message:
    row = copy_row(message.row())
    fields = {key: value for key, value in row.items() if key != "metadata"}
    packed = copy_row(row)
    packed["metadata"] = _packed(packed.get("metadata", {}), fields)
    return Message.from_row(packed)


def _unpack_message(thread_id: str, stored: Message, next_seq: int) -> Message:
    metadata = plain(dict(stored.metadata))
    fields = metadata.pop(KEY, None)
    if fields is None:
        row = copy_row(stored.row())
    else:
        try:
            metadata |= _own(fields)
            row = _row_of(fields)
        except (TypeError, KeyError, AttributeError) as error:
            raise _unreadable(thread_id) from error
    row["metadata"] = metadata
    row.setdefault("seq", next_seq)
    return Message.from_row(row)


def _packed(metadata: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    own = {_OWN: metadata[KEY]} if KEY in metadata else {}
    return {**metadata, KEY: {**fields, **own}}


def _own(fields: Any) -> dict[str, Any]:
    """The user's part of the metadata that was packed beside `fields`, which lose it."""
    return {KEY: fields.pop(_OWN)} if isinstance(fields, dict) and _OWN in fields else {}


def _row_of(fields: dict[str, Any]) -> MessageRow:
    """The packed fields, which JSON cannot have changed unless somebody else did."""
    missing = {"id", "created_at", "wire"} - fields.keys()
    if missing:
        raise KeyError(*missing)
    row: Any = dict(fields)
    return row  # type: ignore[no-any-return]  # checked above


def _unreadable(thread_id: str) -> CorruptThreadError:
    return CorruptThreadError(
        f"thread {thread_id!r} came back from its storage with metadata[{KEY!r}] changed; "
        "a storage must keep metadata as it was given"
    )
