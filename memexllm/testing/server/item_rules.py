"""The rules of one input item: its fields, ids and parts. The Responses API refuses every field it does not know."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from memexllm.testing.server.errors import InvalidRequestError, empty_array, missing, wrong_type
from memexllm.testing.server.item_kinds import KINDS, ItemKind, kind_of
from memexllm.testing.server.jsontypes import JSONObject, is_list, is_object

MAX_ITEM_ID_LENGTH = 64

_ROLES = ("assistant", "system", "developer", "user")
_STATUSES = ("in_progress", "completed", "incomplete")
_INPUT_PARTS = ("input_text", "input_image", "input_file", "input_audio")
_OUTPUT_PARTS = ("output_text", "refusal")
_BREAKPOINT = frozenset({"prompt_cache_breakpoint"})
# part type: the field it must have (None: any one of the others will do), and all it may have
_PARTS: dict[str, tuple[str | None, AbstractSet[str]]] = {
    "input_text": ("text", {"text"} | _BREAKPOINT),
    "input_image": (None, {"image_url", "file_id", "detail"} | _BREAKPOINT),
    "input_file": (None, {"file_id", "file_data", "file_url", "filename", "detail"} | _BREAKPOINT),
    "input_audio": ("input_audio", {"input_audio"}),
    "output_text": ("text", {"text", "annotations", "logprobs"}),
    "refusal": ("refusal", {"refusal"}),
    "summary_text": ("text", {"text"}),
    "reasoning_text": ("text", {"text"}),
}
_STRING_FIELDS = frozenset({"call_id", "name", "arguments", "input", "approval_request_id", "server_label"})


def check_item(item: object, where: str) -> None:
    if not is_object(item):
        raise wrong_type(where, "an object")
    name = kind_of(item)
    kind = KINDS.get(name)
    if kind is None:
        raise _unsupported(item.get("type"), tuple(KINDS), f"{where}.type" if name else where)
    _check_fields(item, kind, where)
    _check_id(item, kind, where)
    for field in sorted(_STRING_FIELDS & item.keys() & kind.required):
        _check_string(item[field], f"{where}.{field}")
    if "status" in item and item["status"] is not None and name in ("message", "reasoning", "function_call"):
        _check_among(item["status"], _STATUSES, f"{where}.status")
    if name == "message":
        _check_message(item, where)
    elif name == "reasoning":
        _check_reasoning(item, where)
    elif name in ("function_call_output", "custom_tool_call_output"):
        _check_text_or_parts(item["output"], _INPUT_PARTS, f"{where}.output")


def unknown_parameter(where: str) -> InvalidRequestError:
    return InvalidRequestError(f"Unknown parameter: '{where}'.", param=where, code="unknown_parameter")


def _unsupported(value: object, supported: tuple[str, ...], where: str) -> InvalidRequestError:
    *names, last = map(repr, supported)
    named = f"{', '.join(names)} and {last}" if names else last
    return InvalidRequestError(
        f"Invalid value: {value!r}. Supported values are: {named}.", param=where, code="invalid_value"
    )


def _check_fields(item: JSONObject, kind: ItemKind, where: str) -> None:
    for name, value in item.items():
        if name not in kind.known:
            raise unknown_parameter(f"{where}.{name}")
        if value is None and name not in kind.nullable:
            raise InvalidRequestError(
                f"Invalid type for '{where}.{name}': got null instead of a value; leave the field out.",
                param=f"{where}.{name}",
                code="invalid_type",
            )
    for name in sorted(kind.required):
        if name not in item:
            raise missing(f"{where}.{name}")


def _check_id(item: JSONObject, kind: ItemKind, where: str) -> None:
    item_id = item.get("id")
    if item_id is None:
        return
    _check_string(item_id, f"{where}.id")
    if kind.id_prefix is not None and not item_id.startswith(kind.id_prefix):
        raise InvalidRequestError(
            f"Invalid '{where}.id': '{item_id}'. Expected an ID that begins with '{kind.id_prefix}'.",
            param=f"{where}.id",
            code="invalid_value",
        )
    _check_length(item_id, f"{where}.id")


def _check_string(value: object, where: str) -> None:
    if not isinstance(value, str):
        raise wrong_type(where, "a string")
    if where.endswith(("id", "name")):
        if not value:
            raise InvalidRequestError(
                f"Invalid '{where}': empty string. Expected a string with minimum length 1, "
                "but got an empty string instead.",
                param=where,
                code="empty_string",
            )
        _check_length(value, where)


def _check_length(value: str, where: str) -> None:
    if where.endswith("id") and len(value) > MAX_ITEM_ID_LENGTH:
        raise InvalidRequestError(
            f"Invalid '{where}': string too long. Expected a string with maximum length "
            f"{MAX_ITEM_ID_LENGTH}, but got a string with length {len(value)} instead.",
            param=where,
            code="string_above_max_length",
        )


def _check_among(value: object, supported: tuple[str, ...], where: str) -> None:
    if value not in supported:
        raise _unsupported(value, supported, where)


def _check_message(item: JSONObject, where: str) -> None:
    _check_among(item["role"], _ROLES, f"{where}.role")
    parts = _OUTPUT_PARTS if item["role"] == "assistant" else _INPUT_PARTS
    _check_text_or_parts(item["content"], parts, f"{where}.content")


def _check_reasoning(item: JSONObject, where: str) -> None:
    if "id" not in item and not item.get("encrypted_content"):
        raise missing(f"{where}.id")
    for name, part_type in (("summary", "summary_text"), ("content", "reasoning_text")):
        if item.get(name) is not None:
            _check_parts(item[name], (part_type,), f"{where}.{name}")


def _check_text_or_parts(value: object, parts: tuple[str, ...], where: str) -> None:
    if isinstance(value, str):
        return
    if not is_list(value):
        raise wrong_type(where, "one of an array of objects or string")
    if not value and parts is _INPUT_PARTS:
        raise empty_array(where)
    _check_parts(value, parts, where)


def _check_parts(value: object, supported: tuple[str, ...], where: str) -> None:
    if not is_list(value):
        raise wrong_type(where, "an array of objects")
    for position, part in enumerate(value):
        place = f"{where}[{position}]"
        if not is_object(part):
            raise wrong_type(place, "an object")
        if part.get("type") is None:
            raise missing(f"{place}.type")
        _check_among(part["type"], supported, place)
        required, known = _PARTS[part["type"]]
        for name in part:
            if name not in known and name != "type":
                raise unknown_parameter(f"{place}.{name}")
        if required is not None and part.get(required) is None:
            raise missing(f"{place}.{required}")
