"""What came back, as plain JSON: from the SDK's models, from dicts, and from objects that only look like them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memexllm.core.wire import plain
from memexllm.integrations.openai.wire import Wire, answer_wire, with_whole_characters

_MESSAGE_KEYS = ("role", "content", "refusal", "tool_calls", "function_call", "audio", "name", "reasoning_content")
_CALL_KEYS = ("id", "type", "function", "custom", "index")
_INNER_KEYS = ("name", "arguments", "input", "id", "transcript", "expires_at", "data")


@dataclass(slots=True)
class Answer:
    """One completion: the wire form of choice 0, the other choices, and what is known of the call."""

    wire: Wire | None
    alternatives: Sequence[Wire] = ()
    finish_reason: str | None = None
    model: str | None = None
    response_id: str | None = None
    usage: dict[str, Any] | None = None
    items: list[dict[str, Any]] | None = None
    """The items of the Responses API, where `wire` is their chat form."""


def answer_of(completion: Any) -> Answer:
    """Of a chat completion, or of whatever a mock returned in its place; without choices there is no wire."""
    choices = get(completion, "choices")
    if not isinstance(choices, list | tuple):
        # A mock's `choices[0]` is there although its `choices` is no list.
        choices = [choices[0]] if hasattr(type(choices), "__getitem__") and not isinstance(choices, dict | str) else []
    if not choices:
        return Answer(None)
    wire = _plain_text(get(choices[0], "message"))
    wires = [wire] if wire is not None and len(choices) == 1 else _wires(choices)
    return Answer(
        wires[0] if wires else None,
        wires[1:],
        _text(get(choices[0], "finish_reason")),
        _text(get(completion, "model")),
        _text(get(completion, "id")),
        usage_of(get(completion, "usage")),
    )


def usage_of(usage: Any) -> dict[str, Any] | None:
    """The figures that were given; they are read off the SDK's models, which takes a fifth of dumping them."""
    given = _figures(usage)
    if given:
        return given
    dumped = dump(usage)
    return {key: value for key, value in dumped.items() if value is not None} if dumped else None


def _figures(model: Any) -> dict[str, Any] | None:
    """The numbers in a model of the SDK, and in those in it; None when there is anything else."""
    fields = getattr(model, "__dict__", None)
    if type(model) is dict or not fields or getattr(model, "__pydantic_extra__", True):
        return None
    given: dict[str, Any] = {}
    for key, value in fields.items():
        if type(value) is int:
            given[key] = value
        elif value is not None:
            details = _figures(value)
            if details is None:
                return None
            given[key] = details
    return given


def _plain_text(message: Any) -> Wire | None:
    """The usual answer, an SDK message with text and nothing else, read off it; dumping takes five times as long."""
    if getattr(message, "__pydantic_extra__", True):
        return None
    wire: Wire = {"role": "assistant", "content": None}
    for key, value in message.__dict__.items():
        if key in wire:
            wire[key] = value
        elif value:
            return None
    if type(wire["content"]) is not str or wire["role"] != "assistant":
        return None
    wire["content"] = with_whole_characters(wire["content"])
    return wire


def _wires(choices: Sequence[Any]) -> list[Wire]:
    return [answer_wire(message) for choice in choices if (message := fields_of(get(choice, "message")))]


def get(container: Any, key: str) -> Any:
    """A field of a model, a dict, or any object."""
    return container.get(key) if type(container) is dict else getattr(container, key, None)


def dump(value: Any) -> dict[str, Any] | None:
    """The fields that were set, unknown ones included; None for what is neither a model nor a dict."""
    if isinstance(value, Mapping):
        return plain(value)  # type: ignore[no-any-return]  # a mapping becomes a dict
    if hasattr(type(value), "model_dump"):
        # Servers send what the SDK's types do not foresee; pydantic would warn of each.
        return value.model_dump(exclude_unset=True, mode="json", warnings=False)  # type: ignore[no-any-return]
    return None


def fields_of(message: Any) -> dict[str, Any]:
    """Of a message or a delta, whatever it is made of; empty when it says nothing."""
    dumped = dump(message)
    if dumped is not None:
        return dumped
    found = _attributes(message, _MESSAGE_KEYS)
    if "tool_calls" in found:
        found["tool_calls"] = [call for call in found["tool_calls"] if call]
    return found if found.get("content") is not None or found.keys() - {"role", "content"} else {}


def _attributes(value: Any, keys: Sequence[str]) -> dict[str, Any]:
    """The named attributes that hold JSON; a mock has every attribute, and none of them does."""
    found: dict[str, Any] = {}
    for key in keys:
        item = getattr(value, key, None)
        if isinstance(item, str | int | float):
            found[key] = item
        elif (dumped := dump(item)) is not None:
            found[key] = dumped
        elif isinstance(item, list):
            found[key] = [
                each if isinstance(each, str) else dump(each) or _attributes(each, _CALL_KEYS) for each in item
            ]
        elif key in ("function", "custom", "function_call", "audio") and (inner := _attributes(item, _INNER_KEYS)):
            found[key] = inner
    return found


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
