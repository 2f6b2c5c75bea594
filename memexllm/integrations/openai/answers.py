"""What came back, as plain JSON: from the SDK's models, from dicts, and from objects that only look like them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from memexllm.core.models import plain
from memexllm.integrations.openai.wire import Wire, answer_wire

_MESSAGE_KEYS = ("role", "content", "refusal", "tool_calls", "function_call", "audio", "name", "reasoning_content")
_CALL_KEYS = ("id", "type", "function", "custom", "index")
_INNER_KEYS = ("name", "arguments", "input", "id", "transcript", "expires_at", "data")


@dataclass
class Answer:
    """One completion: the wire form of choice 0, the other choices, and what is known of the call."""

    wire: Wire | None
    alternatives: list[Wire] = field(default_factory=list[Wire])
    finish_reason: str | None = None
    model: str | None = None
    response_id: str | None = None
    usage: dict[str, Any] | None = None


def answer_of(completion: Any) -> Answer:
    """Of a chat completion, or of whatever a mock returned in its place; without choices there is no wire."""
    choices = get(completion, "choices")
    if not isinstance(choices, Sequence):
        choices = ()
    wires = [answer_wire(message) for choice in choices if (message := fields_of(get(choice, "message")))]
    return Answer(
        wire=wires[0] if wires else None,
        alternatives=wires[1:],
        finish_reason=_text(get(choices[0], "finish_reason")) if choices else None,
        model=_text(get(completion, "model")),
        response_id=_text(get(completion, "id")),
        usage=usage_of(get(completion, "usage")),
    )


def usage_of(usage: Any) -> dict[str, Any] | None:
    dumped = dump(usage)
    return {key: value for key, value in dumped.items() if value is not None} if dumped else None


def get(container: Any, key: str) -> Any:
    """A field of a model, a dict, or any object."""
    return container.get(key) if isinstance(container, Mapping) else getattr(container, key, None)


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
