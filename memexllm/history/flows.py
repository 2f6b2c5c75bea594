"""What the managers do, step by step. Each function is a flow; the managers are one line a method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from memexllm.algorithms.base import BaseAlgorithm, ContextView
from memexllm.core.errors import ThreadNotFoundError, ValidationError
from memexllm.core.exchanges import repair
from memexllm.core.flow import Flow
from memexllm.core.models import Message, Thread
from memexllm.core.moments import Clock, IdSource
from memexllm.core.refusals import checked_positive
from memexllm.core.wire import MessageRow
from memexllm.history.context import Loaded, Window, choose_of_thread, load
from memexllm.history.explain import Chosen, Explanation, explanation
from memexllm.history.observing import show_new
from memexllm.storage.port import Reader, StoragePort


def create_thread(
    port: StoragePort,
    clock: Clock,
    new_id: IdSource,
    metadata: Mapping[str, Any] | None,
    thread_id: str | None,
    user_id: str | None,
    title: str | None,
) -> Flow[Thread]:
    if thread_id is not None and (yield from port.read(checked_thread_id(thread_id), "create thread")) is not None:
        raise ValidationError(f"thread {thread_id!r} exists already; get_thread() returns it")
    thread = Thread(thread_id or new_id(), metadata=metadata, user_id=user_id, title=title, created_at=clock())
    thread.version = yield from port.create_thread(thread, id_is_new=thread_id is None)
    return thread


def get_thread(port: StoragePort, algorithm: BaseAlgorithm | None, thread_id: str) -> Flow[Thread]:
    reader = yield from found(port, thread_id)
    if algorithm is None:
        stored: list[Message] = yield reader.messages(include_superseded=True)
        live = [message for message in stored if not message.superseded]
        return reader.head.changed(messages=live, partial=len(live) < len(stored))
    loaded = yield from load(reader, algorithm)
    window = yield from _window(port, algorithm, loaded, thread_id)
    block = yield from _block_messages(reader, loaded)
    messages = [*block, *(Message.from_row(row) for row in window.rows)]
    return reader.head.changed(messages=messages, partial=True)


def context(port: StoragePort, algorithm: BaseAlgorithm | None, thread_id: str) -> Flow[list[Message]]:
    reader = yield from found(port, thread_id)
    loaded = yield from load(reader, algorithm)
    window = yield from _window(port, algorithm, loaded, thread_id)
    block = yield from _block_messages(reader, loaded)
    return [*block, *(Message.from_row(row) for row in repair(window.rows).rows)]


def explain(
    port: StoragePort,
    algorithm: BaseAlgorithm | None,
    thread_id: str,
    model: str | None,
    tools: Sequence[Mapping[str, Any]],
) -> Flow[Explanation]:
    reader = yield from found(port, thread_id)
    loaded = yield from load(reader, algorithm)
    stored: list[MessageRow] = yield reader.rows(include_superseded=True)
    view = ContextView((), block=loaded.block.rows(), state=loaded.state, model=model, tools=tools)
    window = yield from choose_of_thread(algorithm, view, loaded, loaded.rows)
    chosen = Chosen(view, loaded.block, stored, window, repair(window.rows))
    return explanation(thread_id, algorithm, chosen)


def get_messages(port: StoragePort, thread_id: str, limit: int | None, include_superseded: bool) -> Flow[list[Message]]:
    if limit is not None:
        checked_positive(limit, "Limit", ", or None for all")
    reader = yield from found(port, thread_id, "get messages")
    messages: list[Message] = yield reader.messages(limit=limit, include_superseded=include_superseded)
    return messages


def add_messages(
    port: StoragePort, algorithm: BaseAlgorithm | None, thread_id: str, messages: Iterable[Message]
) -> Flow[list[Message]]:
    batch = list(messages)
    yield port.append_messages(checked_thread_id(thread_id), [message.row() for message in batch], {})
    yield from show_new(port, algorithm, thread_id, [message.id for message in batch])
    return batch


def update_thread(port: StoragePort, thread_id: str, fields: Mapping[str, Any]) -> Flow[None]:
    yield port.patch_thread(checked_thread_id(thread_id), **fields)


def delete_thread(port: StoragePort, thread_id: str) -> Flow[bool]:
    return bool((yield port.delete_thread(checked_thread_id(thread_id))))


def checked_thread_id(thread_id: Any) -> str:
    if thread_id is None or thread_id == "":
        raise ValidationError(f"Thread ID cannot be empty; got {thread_id!r}")
    if not isinstance(thread_id, str):
        raise ValidationError(f"Thread ID must be a string, got {type(thread_id).__name__}")
    return thread_id


def found(port: StoragePort, thread_id: str, doing: str = "get thread") -> Flow[Reader]:
    reader = yield from port.read(checked_thread_id(thread_id), doing)
    if reader is None:
        raise ThreadNotFoundError(f"Thread not found: {thread_id}; create_thread() makes one")
    return reader


def _window(port: StoragePort, algorithm: BaseAlgorithm | None, loaded: Loaded, thread_id: str) -> Flow[Window]:
    """The window as it stands, for callers who send it themselves: a cut that was found or moved is kept."""
    view = ContextView((), block=loaded.block.rows(), state=loaded.state)
    window = yield from choose_of_thread(algorithm, view, loaded, loaded.rows)
    if window.state:
        yield port.patch_thread(thread_id, state=dict(window.state))
    return window


def _block_messages(reader: Reader, loaded: Loaded) -> Flow[list[Message]]:
    """The block as stored messages; by value where `max_messages` has deleted them."""
    stored: list[Message] = []
    for seq in loaded.block.seqs:
        stored.extend((yield reader.messages(after=seq - 1, before=seq + 1)))
    if len(stored) == len(loaded.block.wires):
        return stored
    return [Message.from_row(row) for row in loaded.block.rows()]
