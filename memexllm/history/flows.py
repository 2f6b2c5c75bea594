"""What the managers do, step by step. Each function is a flow; the managers are one line a method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import JsonValue, TypeAdapter

from memexllm.algorithms.base import BaseAlgorithm, ContextView
from memexllm.core import jsontext
from memexllm.core.errors import ConcurrencyError, ThreadNotFoundError, ValidationError
from memexllm.core.exchanges import repair
from memexllm.core.flow import Flow
from memexllm.core.hits import MessageHit
from memexllm.core.models import Message, Thread
from memexllm.core.moments import Clock, IdSource
from memexllm.core.refusals import checked_positive, refusals
from memexllm.core.state import RECALLED
from memexllm.core.wire import MessageRow
from memexllm.history.context import PINS, Loaded, Window, choose_of_thread, load
from memexllm.history.explain import Explanation
from memexllm.history.explaining import Chosen, answering_model, explanation, past_call, recalled_again, sent_before
from memexllm.history.noting import keep_state
from memexllm.history.observing import show_new
from memexllm.history.settling import settle
from memexllm.storage._searching import checked_query
from memexllm.storage._telling import tell_context, tell_created, tell_stored
from memexllm.storage.port import Reader, StoragePort, changes_given

_PIN_ATTEMPTS = 20
# Databases count in 64 bits.
_MOST = 1 << 61
_METADATA = TypeAdapter(dict[str, JsonValue])


@dataclass(frozen=True, slots=True)
class Making:
    """What it takes to make a thread: where it is stored, when, and under which id."""

    port: StoragePort
    clock: Clock
    new_id: IdSource


def create_thread(
    making: Making,
    metadata: Mapping[str, Any] | None,
    thread_id: str | None,
    user_id: str | None,
    title: str | None,
) -> Flow[Thread]:
    if (
        thread_id is not None
        and (yield from making.port.read(checked_thread_id(thread_id), "create thread")) is not None
    ):
        raise ValidationError(f"thread {thread_id!r} exists already; get_thread() returns it")
    _check_fields(metadata=metadata, user_id=user_id, title=title)
    made_at, new_id = making.clock(), thread_id or making.new_id()
    thread = Thread(new_id, metadata=metadata, user_id=user_id, title=title, created_at=made_at)
    thread.version = yield from making.port.create_thread(thread, id_is_new=thread_id is None)
    if making.port.plugins is not None:
        yield from tell_created(making.port.plugins, thread)
    return thread


def fork(
    making: Making,
    thread_id: str,
    at: Any,
    new_thread_id: str | None,
    user_id: str | None,
    title: str | None,
    metadata: Mapping[str, Any] | None,
) -> Flow[Thread]:
    if at is not None and (not isinstance(at, str) or not at):
        raise ValidationError(f"at= is the id of a message, or None for the whole thread; got {at!r:.40}")
    if new_thread_id is not None:
        checked_thread_id(new_thread_id)
    _check_fields(metadata, user_id, title)
    yield from settle(making.port, checked_thread_id(thread_id))
    given = changes_given(user_id=user_id, title=title, metadata=metadata, created_at=making.clock())
    made: Thread = yield making.port.fork_thread(thread_id, new_thread_id or making.new_id(), at, given)
    if making.port.plugins is not None:
        yield from tell_created(making.port.plugins, made)
    return made


def get_thread(port: StoragePort, algorithm: BaseAlgorithm | None, thread_id: str, now: int) -> Flow[Thread]:
    reader = yield from found(port, thread_id)
    if algorithm is None:
        stored: list[Message] = yield reader.messages(include_superseded=True)
        live = [message for message in stored if not message.superseded]
        return reader.head.changed(messages=live, partial=len(live) < len(stored))
    loaded = yield from load(reader, algorithm, metadata=True)
    window = yield from settled_window(port, algorithm, loaded, thread_id, now)
    block = yield from _block_messages(reader, loaded)
    messages = [*block, *map(Message.from_row, (*window.head, *window.rows))]
    return reader.head.changed(messages=messages, partial=True)


def context(port: StoragePort, algorithm: BaseAlgorithm | None, thread_id: str, now: int) -> Flow[list[Message]]:
    reader = yield from found(port, thread_id)
    loaded = yield from load(reader, algorithm, metadata=True)
    window = yield from settled_window(port, algorithm, loaded, thread_id, now)
    block = yield from _block_messages(reader, loaded)
    messages = [*block, *map(Message.from_row, (*window.head, *repair(window.rows).rows))]
    if port.plugins is not None:
        yield from tell_context(port.plugins, thread_id, [message.wire for message in messages])
    return messages


def explain(
    port: StoragePort,
    algorithm: BaseAlgorithm | None,
    thread_id: str,
    model: str | None,
    tools: Sequence[Mapping[str, Any]],
    call: str | None,
    now: int,
) -> Flow[Explanation]:
    reader = yield from found(port, thread_id)
    messages: list[Message] = yield reader.messages(include_superseded=True)
    stored = [message.row() for message in messages]
    if call is not None:
        return past_call(thread_id, stored, call)
    model = model or answering_model(stored)
    loaded = yield from load(reader, algorithm, model=model)
    view = ContextView(
        (), block=loaded.block.rows(), state=loaded.state, model=model, tools=tools, now=now, occasion="look"
    )
    recalled = recalled_again(loaded.state, loaded.rows)
    if recalled is not None:
        view = replace(view, recalled_tokens=loaded.state[RECALLED]["tokens"])
    window = yield from choose_of_thread(algorithm, view, loaded, loaded.rows)
    repaired, before = repair(window.rows), sent_before(stored)
    chosen = Chosen(view, loaded.block, stored, window, repaired, sent_before=before, recalled=recalled)
    return explanation(thread_id, algorithm, chosen)


def get_messages(port: StoragePort, thread_id: str, limit: int | None, include_superseded: bool) -> Flow[list[Message]]:
    if limit is not None:
        checked_positive(limit, "Limit", ", or None for all")
        limit = min(limit, _MOST)
    reader = yield from found(port, thread_id, "get messages")
    messages: list[Message] = yield reader.messages(limit=limit, include_superseded=include_superseded)
    return messages


def add_messages(
    port: StoragePort, algorithm: BaseAlgorithm | None, thread_id: str, messages: Iterable[Message]
) -> Flow[list[Message]]:
    batch = list(messages)
    _check_messages(batch)
    pinned = [index for index, message in enumerate(batch) if message.pinned]
    for attempt in range(_PIN_ATTEMPTS):
        changes = (yield from _with_pins(port, thread_id, pinned)) if pinned else {}
        try:
            yield port.append_messages(checked_thread_id(thread_id), [message.row() for message in batch], changes)
            break
        except ConcurrencyError:
            if attempt == _PIN_ATTEMPTS - 1:
                raise
    yield from show_new(port, algorithm, thread_id, [message.id for message in batch])
    if port.plugins is not None:
        yield from tell_stored(port.plugins, port, thread_id, [message.row() for message in batch], created=False)
    return batch


def _with_pins(port: StoragePort, thread_id: str, pinned: Iterable[int]) -> Flow[dict[str, Any]]:
    """The change that adds these messages of a batch to the thread's pins, unless they are not known yet."""
    reader = yield from found(port, thread_id)
    known = reader.head.state.get(PINS)
    if known is None:  # the next windowed read looks for them
        return {"expected_version": reader.head.version}
    pins = [*known, *({"$new": index} for index in pinned)]
    return {"state": {PINS: pins}, "expected_version": reader.head.version}


def search_messages(
    port: StoragePort, text: str, thread_id: str | None, user_id: str | None, limit: int
) -> Flow[list[MessageHit]]:
    checked_query(text, thread_id, user_id, limit)
    hits: list[MessageHit] = yield port.search_messages(text, thread_id, user_id, limit)
    return hits


def update_thread(port: StoragePort, thread_id: str, fields: Mapping[str, Any]) -> Flow[None]:
    _check_fields(**fields)
    yield port.patch_thread(checked_thread_id(thread_id), **fields)


def delete_thread(port: StoragePort, thread_id: str) -> Flow[bool]:
    return bool((yield port.delete_thread(checked_thread_id(thread_id))))


def checked_thread_id(thread_id: Any) -> str:
    if thread_id is None or thread_id == "":
        raise ValidationError(f"Thread ID cannot be empty; got {thread_id!r}")
    if not isinstance(thread_id, str):
        raise ValidationError(f"Thread ID must be a string, got {type(thread_id).__name__}")
    return _checked_text("Thread ID", thread_id)


def checked_user_id(user_id: Any) -> str:
    if not isinstance(user_id, str):
        raise ValidationError(f"user_id must be a string, got {type(user_id).__name__}")
    if not user_id:
        raise ValidationError("user_id cannot be empty")
    return _checked_text("user_id", user_id)


def _check_messages(batch: list[Any]) -> None:
    for message in batch:
        if not isinstance(message, Message):
            raise ValidationError(f"a thread holds messages, not {type(message).__name__}; make one with Message(...)")


def _check_fields(metadata: Any = None, user_id: Any = None, title: Any = None) -> None:
    """What a storage might take for something else, and so store as that."""
    if metadata is not None:
        if not isinstance(metadata, Mapping):
            raise ValidationError(f"metadata must be a dict, got {type(metadata).__name__}")
        with refusals("metadata"):
            _METADATA.validate_python(dict(metadata))
        jsontext.dumps(dict(metadata), "metadata")
    for name, text in (("user_id", user_id), ("title", title)):
        if text is not None:
            if not isinstance(text, str):
                raise ValidationError(f"{name} must be a string or None, got {type(text).__name__}")
            _checked_text(name, text)


def _checked_text(name: str, text: str) -> str:
    try:
        if not text.isascii():
            text.encode()
    except UnicodeEncodeError:
        raise ValidationError(f"{name} holds a lone surrogate, which no database can store") from None
    return text


def found(port: StoragePort, thread_id: str, doing: str = "get thread") -> Flow[Reader]:
    reader = yield from port.read(checked_thread_id(thread_id), doing)
    if reader is None:
        raise ThreadNotFoundError(f"Thread not found: {thread_id}; create_thread() makes one")
    return reader


def settled_window(
    port: StoragePort,
    algorithm: BaseAlgorithm | None,
    loaded: Loaded,
    thread_id: str,
    now: int,
    incoming: Sequence[MessageRow] = (),
) -> Flow[Window]:
    """The window as it stands, for callers who send it themselves: a cut that was found or moved is kept."""
    view = ContextView((), incoming=incoming, block=loaded.block.rows(), state=loaded.state, now=now)
    window = yield from choose_of_thread(algorithm, view, loaded, loaded.rows)
    # A storage of whole threads finds the pins at no cost; any other has just looked through the thread for them.
    searched = bool(loaded.noted) and not loaded.whole and not port.keeps_whole_threads
    if window.state:
        yield from keep_state(port, thread_id, loaded.state, {**loaded.noted, **window.state}, window.counts)
    elif searched:
        yield port.patch_thread(thread_id, state=loaded.noted)
    return window


def _block_messages(reader: Reader, loaded: Loaded) -> Flow[list[Message]]:
    """The block as stored messages; by value where `max_messages` has deleted them."""
    stored: list[Message] = []
    for seq in loaded.block.seqs:
        stored.extend((yield reader.messages(after=seq - 1, before=seq + 1)))
    if len(stored) == len(loaded.block.drafts):
        return stored
    return [Message.from_row(row) for row in loaded.block.rows()]
