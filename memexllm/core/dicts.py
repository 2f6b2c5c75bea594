"""`to_dict` and `from_dict`: a message or a thread as one JSON-ready dict, with the keys that 0.1 gave it.

A message's wire form lies flat in its dict (`role`, `content`, `tool_calls`, …). Where flat keys cannot tell it whole,
because it has no content or a key of ours, it is there under `wire` as well, and read from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from memexllm.core.errors import ValidationError
from memexllm.core.parts import wire_parts
from memexllm.core.wire import plain

if TYPE_CHECKING:
    from memexllm.core.models import Message, Thread, TokenCount

_KEPT: dict[str, Any] = {
    "status": "complete",
    "superseded": False,
    "pinned": False,
    "turn_id": None,
    "seq": None,
    "items": None,
}
_OURS = {"id", "created_at", "metadata", "token_count", "tokens", "call", "wire", *_KEPT}
_THREAD_KEPT: dict[str, Any] = {
    "user_id": None,
    "title": None,
    "state": {},
    "version": 0,
    "partial": False,
    "stored_messages": None,
}
_THREAD_KEYS = {"id", "metadata", "created_at", "updated_at", *_THREAD_KEPT}
GIVEN = "given"
"""The encoding of a token count that a caller set: no tokenizer is known, so it is never taken for a count of ours."""


def message_to_dict(message: Message) -> dict[str, Any]:
    wire = plain(message.wire)
    data: dict[str, Any] = {"id": message.id, **{key: value for key, value in wire.items() if key not in _OURS}}
    data.setdefault("content", None)
    data["created_at"] = message.created_at.isoformat()
    data["metadata"] = plain(message.metadata)
    data["token_count"] = message.token_count
    data.update((name, value) for name, default in _KEPT.items() if (value := getattr(message, name)) != default)
    if message.tokens is not None:
        data["tokens"] = message.tokens.model_dump()
    if message.call is not None:
        data["call"] = message.call.model_dump(exclude_none=True)
    if "content" not in wire or not _OURS.isdisjoint(wire):
        data["wire"] = wire
    return data


def message_fields(data: Any) -> dict[str, Any]:
    """The arguments of `Message` for a dict of `message_to_dict`, or of 0.1."""
    found = _mapping(data, "message")
    wire = found["wire"] if "wire" in found else {key: value for key, value in found.items() if key not in _OURS}
    wire = {key: value for key, value in _mapping(wire, "message's wire form").items() if not _absent(key, value)}
    if "content" in wire:
        wire["content"] = wire_parts(wire["content"])
    fields: dict[str, Any] = {"wire": wire}
    fields.update({key: found[key] for key in _OURS - {"wire", "token_count"} if found.get(key) is not None})
    if found.get("tokens") is None:
        fields["token_count"] = found.get("token_count")
    return fields


def given_count(token_count: int | None) -> dict[str, Any] | None:
    """A `TokenCount` of somebody else's counting, as its fields."""
    return None if token_count is None else {"count": token_count, "encoding": GIVEN}


def count_of(tokens: TokenCount | None) -> int | None:
    return None if tokens is None else tokens.count


def thread_to_dict(thread: Thread) -> dict[str, Any]:
    data: dict[str, Any] = {
        "id": thread.id,
        "messages": [message_to_dict(message) for message in thread.messages],
        "metadata": plain(thread.metadata),
        "created_at": thread.created_at.isoformat(),
        "updated_at": thread.updated_at.isoformat(),
    }
    kept = {name: getattr(thread, name) for name in _THREAD_KEPT}
    data.update((name, plain(value)) for name, value in kept.items() if value != _THREAD_KEPT[name])
    return data


def thread_fields(data: Any) -> dict[str, Any]:
    """The arguments of `Thread`, but for its messages."""
    found = _mapping(data, "thread")
    return {key: found[key] for key in _THREAD_KEYS if found.get(key) is not None}


def messages_of(data: Mapping[str, Any]) -> Sequence[Any]:
    messages = data.get("messages") or ()
    if not isinstance(messages, list | tuple):
        raise ValidationError(f"a thread's messages are a list of dicts; this is {type(messages).__name__}")
    return messages


def _absent(key: str, value: Any) -> bool:
    """0.1 gave every message all of these, as None where it had none."""
    return value is None and key in ("tool_calls", "tool_call_id", "function_call", "name")


def _mapping(data: Any, what: str) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise ValidationError(f"a {what} is read from a dict; this is {type(data).__name__}")
    return {str(key): value for key, value in data.items()}
