"""The wire form: a message as the API knows it, a dict whose key order and unknown fields are kept.

`MessageRow` is a message as plain JSON, its wire form with what we know beside it: the form in which storages keep it
and in which a call is put together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NotRequired, TypedDict, get_args

from memexllm.core.errors import ValidationError

MessageRole = Literal["user", "assistant", "system", "tool", "function", "developer"]
ROLES: frozenset[str] = frozenset(get_args(MessageRole))
BLOCK_ROLES: frozenset[str] = frozenset({"system", "developer"})
"""Roles whose leading run in a thread is its block."""

ALTERNATIVES = "alternatives"
"""Key of an answer's metadata under which its other choices are kept."""
Status = Literal["complete", "incomplete", "pending"]


class MessageRow(TypedDict):
    """A message as plain JSON. Keys that would hold a default are absent.

    `seq` is the position in the thread, given by the storage; `created_at` counts microseconds since 1970;
    `origin` is the `[server, model]` an answer came from; `tokens` is `[count, encoding]`; `items` are those of the
    Responses API that the message came as, where `wire` is only their chat form. `shortened`: `wire` is what is sent in
    the place of the stored message; such a row is never written.
    """

    id: str
    created_at: int
    wire: dict[str, Any]
    seq: NotRequired[int]
    status: NotRequired[Status]
    superseded: NotRequired[bool]
    pinned: NotRequired[bool]
    turn_id: NotRequired[str]
    items: NotRequired[list[dict[str, Any]]]
    metadata: NotRequired[dict[str, Any]]
    origin: NotRequired[list[str | None]]
    call: NotRequired[dict[str, Any]]
    tokens: NotRequired[list[Any]]
    shortened: NotRequired[bool]


class Draft(TypedDict):
    """A message as a caller passed it: `wire` and `items` are those of `MessageRow`."""

    wire: dict[str, Any]
    items: NotRequired[list[dict[str, Any]]]


def draft_of(row: MessageRow) -> Draft:
    draft: Draft = {"wire": row["wire"]}
    if "items" in row:
        draft["items"] = row["items"]
    return draft


def row_of(draft: Draft, message_id: str, created_at: int) -> MessageRow:
    row: MessageRow = {"id": message_id, "created_at": created_at, "wire": draft["wire"]}
    if "items" in draft:
        row["items"] = draft["items"]
    return row


def text_of(wire: Mapping[str, Any]) -> str:
    """The text of a wire message: its string content, or its text parts joined."""
    content = wire.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))


def plain(value: Any) -> Any:
    """A deep copy made of plain dicts and lists: SDK models are dumped, other iterables become lists."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "model_dump"):
        return plain(value.model_dump(exclude_unset=True, mode="json"))
    if isinstance(value, Iterable) and not isinstance(value, bytes | bytearray):
        return [plain(item) for item in value]
    return value


def copy_row(row: MessageRow) -> MessageRow:
    """A copy that shares nothing mutable with `row`."""
    return plain(row)  # type: ignore[no-any-return]  # plain() keeps the shape of what it copies


def checked_wire(wire: Mapping[str, Any]) -> dict[str, Any]:
    try:
        copied = {str(key): value if type(value) is str else plain(value) for key, value in wire.items()}
    except RecursionError:
        raise ValidationError("the message is nested too deeply; no database and no server takes it") from None
    checked_role(copied.get("role"))
    if type(copied.get("content")) is not str:
        checked_content(copied.get("content"))
    return copied


def checked_role(role: Any) -> str:
    if not isinstance(role, str) or role not in ROLES:
        # Anything longer is content in the place of a role, and is not shown.
        shown = repr(role) if isinstance(role, str) and len(role) <= 16 and role.isidentifier() else type(role).__name__
        raise ValidationError(f"Invalid role: {shown}; a message is by one of {', '.join(sorted(ROLES))}")
    return role


def checked_content(content: Any) -> Any:
    if content is None or isinstance(content, str):
        return content
    if isinstance(content, list | tuple) and all(isinstance(part, Mapping | str) for part in content):
        return plain(content)
    raise ValidationError(
        f"Content must be a string or None, or a list of parts; this is {type(content).__name__}: {_shape(content)}"
    )


def _shape(value: Any) -> str:
    return f"with {len(value)} items" if hasattr(value, "__len__") else "one value"
