"""The rules of one message: its role, content, parts and fields."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from memexllm.testing.server.errors import (
    InvalidRequestError,
    check_fields,
    empty_array,
    missing,
    unrecognized,
    wrong_type,
)
from memexllm.testing.server.jsontypes import JSONObject, is_list, is_object, object_at
from memexllm.testing.server.reasoning_rules import REASONING_FIELDS, ReasoningDialect, check_reasoning
from memexllm.testing.server.tool_rules import check_function_call, check_tool_calls, check_tool_message

_PLAIN_FIELDS = frozenset({"role", "content", "name"})
_FIELDS: dict[str, AbstractSet[str]] = {
    "system": _PLAIN_FIELDS,
    "developer": _PLAIN_FIELDS,
    "user": _PLAIN_FIELDS,
    "assistant": _PLAIN_FIELDS | {"refusal", "tool_calls", "function_call", "audio"},
    "tool": frozenset({"role", "content", "tool_call_id"}),
    "function": _PLAIN_FIELDS,
}
_PART_TYPES: dict[str, tuple[str, ...]] = {
    "user": ("text", "image_url", "input_audio", "file"),
    "assistant": ("text", "refusal"),
}
# part type: what its own field holds, and the fields of that when it is an object
_PART_SHAPES: dict[str, tuple[type, AbstractSet[str]]] = {
    "text": (str, frozenset()),
    "refusal": (str, frozenset()),
    "image_url": (dict, frozenset({"url", "detail"})),
    "input_audio": (dict, frozenset({"data", "format"})),
    "file": (dict, frozenset({"file_id", "file_data", "filename"})),
}
_REQUIRED_IN_PART = {"image_url": ("url",), "input_audio": ("data", "format"), "file": ()}


def check_messages(body: JSONObject, *, strict_fields: bool, reasoning: ReasoningDialect) -> list[JSONObject]:
    """The messages, each valid by itself; their order is judged elsewhere."""
    messages = body.get("messages")
    if messages is None:
        raise missing("messages")
    if not is_list(messages):
        raise wrong_type("messages", "an array of objects")
    if not messages:
        raise empty_array("messages")
    reasoning_fields = REASONING_FIELDS if reasoning == "require" else frozenset[str]()
    for position, message in enumerate(messages):
        _check_message(message, f"messages[{position}]", strict_fields, reasoning_fields)
    check_reasoning(messages, reasoning)
    return messages


def _check_message(message: object, where: str, strict_fields: bool, reasoning_fields: AbstractSet[str]) -> None:
    if not is_object(message):
        raise wrong_type(where, "an object")
    role = _role(message, where)
    if strict_fields:
        check_fields(message, _FIELDS[role] | (reasoning_fields if role == "assistant" else set()), where)
        _check_no_null_fields(message, where)
    if not isinstance(message.get("name"), str | None):
        raise wrong_type(f"{where}.name", "a string")
    if role == "assistant":
        _check_assistant(message, where, strict_fields)
        return
    if role == "tool":
        check_tool_message(message, where)
    if role == "function":
        _check_function_message(message, where)
        return
    if "content" not in message:
        raise missing(f"{where}.content")
    if message["content"] is None:
        raise InvalidRequestError(
            "Invalid value for 'content': expected a string, got null.",
            param=f"{where}.content",
            code="invalid_type",
        )
    _check_content(message["content"], role, f"{where}.content", strict_fields)


def _role(message: JSONObject, where: str) -> str:
    role = message.get("role")
    if role is None:
        raise missing(f"{where}.role")
    if not isinstance(role, str) or role not in _FIELDS:
        raise InvalidRequestError(
            f"Invalid value: {role!r}. Supported values are: "
            "'system', 'assistant', 'user', 'function', 'tool', and 'developer'.",
            param=f"{where}.role",
            code="invalid_value",
        )
    return role


def _check_assistant(message: JSONObject, where: str, strict_fields: bool) -> None:
    if message.get("tool_calls") is not None:
        check_tool_calls(message["tool_calls"], f"{where}.tool_calls", strict_fields)
    if message.get("function_call") is not None:
        check_function_call(message["function_call"], f"{where}.function_call")
    if not isinstance(message.get("refusal"), str | None):
        raise wrong_type(f"{where}.refusal", "a string")
    _check_audio(message.get("audio"), f"{where}.audio", strict_fields)
    if message.get("content") is not None:
        _check_content(message["content"], "assistant", f"{where}.content", strict_fields)
    elif all(message.get(name) is None for name in ("tool_calls", "function_call", "refusal", "audio")):
        raise InvalidRequestError(
            "Invalid value for 'content': expected a string, got null.",
            param=f"{where}.content",
            code="invalid_type",
        )


def _check_audio(audio: object, where: str, strict_fields: bool) -> None:
    if audio is None:
        return
    if not is_object(audio) or not isinstance(audio.get("id"), str):
        raise missing(f"{where}.id")
    if strict_fields:
        check_fields(audio, {"id"}, where)


def _check_function_message(message: JSONObject, where: str) -> None:
    if not message.get("name"):
        raise missing(f"{where}.name")
    if "content" not in message:
        raise missing(f"{where}.content")
    if not isinstance(message["content"], str | None):
        raise wrong_type(f"{where}.content", "a string or null")


def _check_content(content: object, role: str, where: str, strict_fields: bool) -> None:
    if isinstance(content, str):
        return
    if not is_list(content):
        raise wrong_type(where, "one of a string or array of objects")
    if not content:
        raise empty_array(where)
    for position, part in enumerate(content):
        _check_part(part, _PART_TYPES.get(role, ("text",)), f"{where}[{position}]", strict_fields)


def _check_part(part: object, allowed: tuple[str, ...], where: str, strict_fields: bool) -> None:
    if not is_object(part):
        raise wrong_type(where, "an object")
    kind = part.get("type")
    if kind is None:
        raise missing(f"{where}.type")
    if kind not in allowed:
        supported = ", ".join(map(repr, allowed))
        raise InvalidRequestError(
            f"Invalid value: {kind!r}. Supported values are: {supported}.",
            param=f"{where}.type",
            code="invalid_value",
        )
    _check_part_shape(part, kind, where)
    if strict_fields:
        check_fields(part, {"type", kind, "prompt_cache_breakpoint"}, where)
        if is_object(part[kind]):
            check_fields(part[kind], _PART_SHAPES[kind][1], f"{where}.{kind}")


def _check_part_shape(part: JSONObject, kind: str, where: str) -> None:
    shape = _PART_SHAPES[kind][0]
    held = part.get(kind)
    if held is None:
        raise missing(f"{where}.{kind}")
    if not isinstance(held, shape):
        raise wrong_type(f"{where}.{kind}", "a string" if shape is str else "an object")
    for name in _REQUIRED_IN_PART.get(kind, ()):
        if not isinstance(object_at(part, kind).get(name), str):
            raise missing(f"{where}.{kind}.{name}")


def _check_no_null_fields(message: JSONObject, where: str) -> None:
    """Servers that know their fields exactly also refuse `"refusal": null`; only content may be null."""
    for name, value in message.items():
        if value is None and name != "content":
            raise unrecognized(f"{where}.{name}")
