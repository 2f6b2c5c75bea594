"""From what the library returns to plain values that can be compared, and what is done to it afterwards."""

from __future__ import annotations

import copy
import json
from typing import Any

from memexllm.core.models import Message, Thread
from memexllm.core.moments import to_micros
from tests.fuzz.model import Fields, live

_LEFT_OUT_OF_ROWS = ("metadata", "call")


def made(fields: Fields) -> Message:
    """A message of the library with these fields; it shares nothing with them."""
    return Message(**copy.deepcopy(fields) | {"tokens": _token_count(fields["tokens"])})


def _token_count(tokens: Any) -> Any:
    return None if tokens is None else {"count": tokens[0], "encoding": tokens[1]}


def shown(value: Any) -> Any:
    """Messages, rows and threads as plain dicts; everything else as it is."""
    if isinstance(value, Message):
        return message_shown(value)
    if isinstance(value, Thread):
        return thread_shown(value)
    return [shown(item) for item in value] if isinstance(value, list) else value


def message_shown(message: Message) -> Fields:
    return {
        "seq": message.seq,
        "id": message.id,
        "created_at": message.created_at,
        "wire": message.wire,
        "metadata": message.metadata,
        "status": message.status,
        "superseded": message.superseded,
        "pinned": message.pinned,
        "turn_id": message.turn_id,
        "call": None if message.call is None else message.call.model_dump(exclude_none=True),
        "tokens": None if message.tokens is None else [message.tokens.count, message.tokens.encoding],
    }


def thread_shown(thread: Thread) -> Fields:
    """Without its times, which every storage takes from the clock for itself, and without its messages."""
    return {
        "id": thread.id,
        "user_id": thread.user_id,
        "title": thread.title,
        "metadata": thread.metadata,
        "state": thread.state,
        "version": thread.version,
        "n_live": thread.message_count,
    }


def head_of(thread_id: str, thread: Fields) -> Fields:
    """What `thread_shown` gives for a thread of the model."""
    fields = {key: thread[key] for key in ("user_id", "title", "metadata", "state", "version")}
    return {"id": thread_id, **fields, "n_live": len(live(thread["messages"]))}


def row_of(message: Fields) -> Fields:
    """What `read_messages(wire=True)` gives for a message of the model: only what is no default."""
    row = {
        "seq": message["seq"],
        "id": message["id"],
        "created_at": to_micros(message["created_at"]),
        "wire": message["wire"],
    }
    defaults: Fields = {"status": "complete", "superseded": False, "pinned": False, "turn_id": None, "tokens": None}
    row |= {key: message[key] for key, default in defaults.items() if message[key] != default}
    if message["call"] is not None:
        row["origin"] = [message["call"].get("server"), message["call"].get("model")]
    return row


def text(value: Any) -> str:
    """It tells 1, 1.0 and true apart, and the order of the keys in a wire form."""
    return json.dumps(_ordered(value), default=str)


def _ordered(value: Any) -> Any:
    """Only in the wire form does the order of keys mean something."""
    if isinstance(value, dict):
        return {key: item if key == "wire" else _ordered(item) for key, item in sorted(value.items())}
    return [_ordered(item) for item in value] if isinstance(value, list | tuple) else value


def spoil(value: Any) -> None:
    """Everything that can be changed in a value the caller holds, is: it must not reach what is stored."""
    if isinstance(value, Message):
        spoil([value.wire, value.metadata, value.call and value.call.usage])
        value.status, value.superseded, value.pinned, value.turn_id = "pending", not value.superseded, True, "spoiled"
    elif isinstance(value, Thread):
        spoil([value.messages, value.metadata, value.state])
        value.title, value.user_id, value.version = "spoiled", "spoiled", 99
    elif isinstance(value, dict):
        for item in list(value.values()):
            spoil(item)
        value.clear()
        value["spoiled"] = "spoiled"
    elif isinstance(value, list):
        for item in value:
            spoil(item)
        value.clear()
