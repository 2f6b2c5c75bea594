"""The rules of tool calls: their shape, and that each is answered at once."""

from __future__ import annotations

from memexllm.testing.server.errors import InvalidRequestError, check_fields, empty_array, missing, wrong_type
from memexllm.testing.server.jsontypes import JSONObject, is_list, is_object, objects_at

MAX_ID_LENGTH = 40

# type of a call: the string field beside its name
_CALL_TEXT = {"function": "arguments", "custom": "input"}


def check_tool_calls(calls: object, where: str, strict_fields: bool) -> None:
    if not is_list(calls):
        raise wrong_type(where, "an array of objects")
    if not calls:
        raise empty_array(where)
    seen: set[str] = set()
    for position, call in enumerate(calls):
        call_id = _check_call(call, f"{where}[{position}]", strict_fields)
        if call_id in seen:
            raise InvalidRequestError(
                f"Invalid parameter: duplicate value for 'id' of '{call_id}' in '{where}'.",
                param=f"{where}[{position}].id",
                code="duplicate_value",
            )
        seen.add(call_id)


def _check_call(call: object, where: str, strict_fields: bool) -> str:
    if not is_object(call):
        raise wrong_type(where, "an object")
    call_id = _checked_id(call, "id", where)
    kind = call.get("type")
    if kind is None:
        raise missing(f"{where}.type")
    if kind not in _CALL_TEXT:
        raise InvalidRequestError(
            f"Invalid value: {kind!r}. Supported values are: 'function' and 'custom'.",
            param=f"{where}.type",
            code="invalid_value",
        )
    text_field = _CALL_TEXT[kind]
    _check_named_text(call.get(kind), text_field, f"{where}.{kind}")
    if strict_fields:
        check_fields(call, {"id", "type", kind}, where)
        check_fields(call[kind], {"name", text_field}, f"{where}.{kind}")
    return call_id


def check_function_call(call: object, where: str) -> None:
    _check_named_text(call, "arguments", where)


def check_tool_message(message: JSONObject, where: str) -> None:
    _checked_id(message, "tool_call_id", where)


def _check_named_text(shape: object, text_field: str, where: str) -> None:
    if shape is None:
        raise missing(where)
    if not is_object(shape):
        raise wrong_type(where, "an object")
    for name in ("name", text_field):
        if shape.get(name) is None:
            raise missing(f"{where}.{name}")
        if not isinstance(shape[name], str):
            raise wrong_type(f"{where}.{name}", "a string")
    if not shape["name"]:
        raise InvalidRequestError(
            f"Invalid '{where}.name': empty string. Expected a string with minimum length 1.",
            param=f"{where}.name",
            code="empty_string",
        )


def _checked_id(owner: JSONObject, name: str, where: str) -> str:
    value = owner.get(name)
    if value is None:
        raise missing(f"{where}.{name}")
    if not isinstance(value, str):
        raise wrong_type(f"{where}.{name}", "a string")
    if len(value) > MAX_ID_LENGTH:
        raise InvalidRequestError(
            f"Invalid '{where}.{name}': string too long. Expected a string with maximum length "
            f"{MAX_ID_LENGTH}, but got a string with length {len(value)} instead.",
            param=f"{where}.{name}",
            code="string_above_max_length",
        )
    return value


def check_tool_order(messages: list[JSONObject]) -> None:
    """Every call is answered before any other message, and every tool message answers a call."""
    answerable: set[str] = set()
    unanswered: dict[str, None] = {}
    for position, message in enumerate(messages):
        if message["role"] == "tool":
            call_id = message["tool_call_id"]
            if call_id not in answerable:
                raise InvalidRequestError(
                    "Invalid parameter: messages with role 'tool' must be a response to a preceeding message "
                    "with 'tool_calls'.",
                    param=f"messages.[{position}].role",
                )
            unanswered.pop(call_id, None)
            continue
        _check_answered(unanswered, position)
        call_ids = [call["id"] for call in objects_at(message, "tool_calls")] if message["role"] == "assistant" else []
        answerable = set(call_ids)
        unanswered = dict.fromkeys(call_ids)
    _check_answered(unanswered, len(messages))


def _check_answered(unanswered: dict[str, None], position: int) -> None:
    if unanswered:
        raise InvalidRequestError(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            "'tool_call_id'. The following tool_call_ids did not have response messages: "
            f"{', '.join(unanswered)}",
            param=f"messages.[{position}].role",
        )
