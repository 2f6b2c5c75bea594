"""The optional methods of the contract as flows over the four required ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any

from memexllm.core import jsontext
from memexllm.core.errors import ConcurrencyError, MessageNotFoundError, ThreadNotFoundError
from memexllm.core.flow import Flow, Step, call
from memexllm.core.models import Message, Thread, TokenCount
from memexllm.core.moments import utc_now
from memexllm.core.wire import MessageRow, copy_row, plain
from memexllm.storage._listing import ListQuery, list_keywords, listed
from memexllm.storage._packing import copied, pack, unpack


class _UnsetType:
    def __repr__(self) -> str:
        return "UNSET"


UNSET: Any = _UnsetType()
"""The value of a `patch_thread` argument that leaves a field as it is."""


def append_messages(
    storage: Any,
    thread_id: str,
    messages: Sequence[Message],
    expected_version: int | None,
    supersede_from: int | None,
    supersede: Collection[int],
    state: Mapping[str, Any] | None,
    create: Mapping[str, Any] | None,
    counts: Mapping[int, tuple[int, str]] | None,
) -> Flow[int]:
    thread = yield from load(storage, thread_id)
    if thread is None:
        if create is None:
            raise unknown_thread(thread_id)
        thread = Thread(thread_id, **create)
        check_names(thread)
        jsontext.dumps(thread.metadata, "metadata")
    elif create is not None:
        check_user(thread_id, thread.user_id, create)
    check_version(thread_id, thread.version, expected_version)
    for message in thread.messages:
        seq = message.seq or 0
        if (supersede_from is not None and seq >= supersede_from) or seq in supersede:
            message.superseded = True
        if counts and seq in counts:
            message.tokens = TokenCount(count=counts[seq][0], encoding=counts[seq][1])
    first = next_seq(thread)
    thread.messages.extend(_stored(message, first + index) for index, message in enumerate(messages))
    if state:
        thread.state = {**thread.state, **_storable(resolve_new(state, first), "state")}
    yield from _save_changed(storage, thread)
    return thread.version


def replace_message(
    storage: Any,
    thread_id: str,
    message_id: str,
    message: Message,
    expected_version: int | None,
    state: Mapping[str, Any] | None,
) -> Flow[None]:
    thread = yield from _loaded(storage, thread_id)
    check_version(thread_id, thread.version, expected_version)
    for index, stored in reversed(list(enumerate(thread.messages))):
        if stored.id == message_id:
            thread.messages[index] = _stored(message, stored.seq if stored.seq is not None else index)
            break
    else:
        raise unknown_message(thread_id, message_id)
    if state:
        thread.state = {**thread.state, **_storable(state, "state")}
    yield from _save_changed(storage, thread)


def read_head(storage: Any, thread_id: str) -> Flow[Thread | None]:
    thread = yield from load(storage, thread_id)
    return None if thread is None else head_of(thread)


def read_messages(
    storage: Any,
    thread_id: str,
    limit: int | None,
    before: int | None,
    after: int | None,
    include_superseded: bool,
    wire: bool,
) -> Flow[Any]:
    thread = yield from load(storage, thread_id)
    return [] if thread is None else messages_between(thread, limit, before, after, include_superseded, wire)


def head_of(thread: Thread) -> Thread:
    return thread.changed(messages=[], partial=True, stored_messages=thread.message_count)


def messages_between(
    thread: Thread,
    limit: int | None = None,
    before: int | None = None,
    after: int | None = None,
    include_superseded: bool = False,
    wire: bool = False,
) -> Any:
    """What `read_messages` returns, from a thread that is there whole."""
    found: list[Message] = []
    for message in thread.messages:
        seq = message.seq or 0
        inside = (before is None or seq < before) and (after is None or seq > after)
        if inside and (include_superseded or not message.superseded):
            found.append(message)
    if limit is not None:
        found = found[:limit] if after is not None else found[max(0, len(found) - limit) :]
    return [_wire_row(message) for message in found] if wire else found


def patch_thread(storage: Any, thread_id: str, title: Any, metadata: Any, user_id: Any, state: Any) -> Flow[None]:
    check_patch(thread_id, title=title, metadata=metadata, user_id=user_id)
    thread = yield from _loaded(storage, thread_id)
    if title is not UNSET:
        thread.title = title
    if metadata is not UNSET:
        thread.metadata = _storable(metadata, "metadata")
    if user_id is not UNSET:
        thread.user_id = user_id
    if state is not UNSET:
        thread.state = {**thread.state, **_storable(state, "state")}
    if any(value is not UNSET for value in (title, metadata, user_id)):
        yield from _save_changed(storage, thread)
    else:
        yield from _save(storage, thread)


def search_threads(storage: Any, query: ListQuery, whole: bool) -> Flow[list[Thread]]:
    def door(name: str, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> Step:
        return Step(partial(getattr(storage, name), *args, **keywords), (), storage_blocks(storage))

    return listed(door, list_keywords(type(storage)), whole, query)


def load(storage: Any, thread_id: str) -> Flow[Thread | None]:
    """The whole thread, unpacked: a copy the caller owns, whatever the storage handed out."""
    stored = yield from call(storage.get_thread, thread_id, blocking=storage_blocks(storage))
    if stored is None:
        return None
    return unpack(stored) if keeps_whole_threads(storage) else copied(stored)


def keeps_whole_threads(storage: Any) -> bool:
    """Whether it leaves appending to the default, and so is handed threads with our fields packed in their metadata."""
    base = import_module("memexllm.storage.base")  # which imports this module
    defaults = (None, base.BaseStorage.append_messages, base.AsyncBaseStorage.append_messages)
    return getattr(type(storage), "append_messages", None) in defaults


def storage_blocks(storage: Any) -> bool:
    return bool(getattr(storage, "blocking", True))


def next_seq(thread: Thread) -> int:
    return max((message.seq for message in thread.messages if message.seq is not None), default=-1) + 1


def resolve_new(state: Mapping[str, Any], first_seq: int) -> dict[str, Any]:
    """A copy of `state` with each `{"$new": i}` replaced by the seq of message i of the batch."""

    def resolve(value: Any) -> Any:
        if isinstance(value, Mapping):
            if len(value) == 1 and "$new" in value:
                return first_seq + int(value["$new"])
            return {key: resolve(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [resolve(item) for item in value]
        return value

    return {key: resolve(value) for key, value in state.items()}


def check_version(thread_id: str, version: int, expected: int | None) -> None:
    if expected is not None and version != expected:
        raise ConcurrencyError(
            f"thread {thread_id!r} is at version {version}, not at the expected {expected}: "
            "somebody wrote in between; read it again and repeat the call"
        )


def check_user(thread_id: str, owner: str | None, create: Mapping[str, Any]) -> None:
    """A thread of another user is unknown to this one; callers that name no user see every thread."""
    user_id = create.get("user_id")
    if user_id is not None and owner != user_id:
        raise unknown_thread(thread_id)


def check_patch(thread_id: str, **fields: Any) -> None:
    """Refuse values that the fields of a thread cannot have."""
    check_names(Thread(thread_id, **{name: value for name, value in fields.items() if value is not UNSET}))


def check_names(thread: Thread) -> None:
    """Refuse an id, user or title with a lone surrogate: some storages could keep it and others not."""
    jsontext.dumps([thread.id, thread.user_id, thread.title], "thread")


def unknown_thread(thread_id: str) -> ThreadNotFoundError:
    return ThreadNotFoundError(f"Thread not found: {thread_id}; create_thread() makes one")


def unknown_message(thread_id: str, message_id: str) -> MessageNotFoundError:
    return MessageNotFoundError(f"thread {thread_id!r} has no message {message_id!r}")


def _loaded(storage: Any, thread_id: str) -> Flow[Thread]:
    thread = yield from load(storage, thread_id)
    if thread is None:
        raise unknown_thread(thread_id)
    return thread


def _stored(message: Message, seq: int) -> Message:
    """A copy at `seq`, or a `ValidationError` when it is not JSON: a storage of the user's might keep half of it."""
    row = message.row()
    jsontext.dumps(row, "message")
    row = copy_row(row)
    row["seq"] = seq
    return Message.from_row(row)


def _storable(value: Mapping[str, Any], what: str) -> dict[str, Any]:
    jsontext.dumps(value, what)
    return dict(plain(value))


def _save_changed(storage: Any, thread: Thread) -> Flow[None]:
    thread.version += 1
    thread.updated_at = utc_now()
    yield from _save(storage, thread)


def _save(storage: Any, thread: Thread) -> Flow[None]:
    stored = pack(thread) if keeps_whole_threads(storage) else thread
    yield from call(storage.save_thread, stored, blocking=storage_blocks(storage), write=True)


def _wire_row(message: Message) -> MessageRow:
    row = message.row()
    row.pop("metadata", None)
    row.pop("call", None)
    return row
