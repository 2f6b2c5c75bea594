"""The lines of an export: JSON Lines in UTF-8, a format of its own that later releases go on reading.

    {"type":"header","format":"memexllm-threads","version":1}
    {"type":"thread","id":"alice-1","title":null,…,"n_messages":2}
    {"type":"message","seq":0,"id":"…","created_at":"…","wire":{"role":"user","content":"Hi."}}
    {"type":"message","seq":1,"id":"…","created_at":"…","wire":{"role":"assistant","content":"Hello!"}}
    {"type":"end","n_threads":1}

A thread's line is followed by its messages in order, superseded ones included. A key that would hold a default is left
out of a message. The last line tells a whole file from one that was cut off.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from memexllm.core import jsontext
from memexllm.core.errors import ValidationError
from memexllm.core.models import Message, Thread

FORMAT = "memexllm-threads"
VERSION = 1

_THREAD_KEYS = ("id", "user_id", "title", "created_at", "updated_at", "version", "metadata", "state")
_THREAD_NEEDS = frozenset({*_THREAD_KEYS, "n_messages"})
_MESSAGE_NEEDS = frozenset({"seq", "id", "created_at", "wire"})
_MESSAGE_MAY_HAVE = frozenset({"status", "superseded", "pinned", "turn_id", "metadata", "call", "tokens", "items"})

# JSON need not escape these, and a terminal that shows the file would obey some and be deceived by others.
_UNSEEN = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u206f\ufff9-\ufffb\U000e0000-\U000e0fff]")


def header_line() -> bytes:
    return _line({"type": "header", "format": FORMAT, "version": VERSION}, "the header")


def end_line(n_threads: int) -> bytes:
    return _line({"type": "end", "n_threads": n_threads}, "the end")


def thread_lines(thread: Thread) -> list[bytes]:
    """The line of the thread and those of its messages."""
    head: dict[str, Any] = {"type": "thread"}
    for key in _THREAD_KEYS:
        value = getattr(thread, key)
        head[key] = value.isoformat() if key.endswith("_at") else value
    head["n_messages"] = len(thread.messages)
    messages = [_line(_message_fields(message), "message") for message in thread.messages]
    return [_line(head, f"thread {thread.id!r}"), *messages]


def _message_fields(message: Message) -> dict[str, Any]:
    row: dict[str, Any] = dict(message.row())
    row.pop("origin", None)
    fields = {"type": "message", "seq": row.pop("seq", None), **row, "created_at": message.created_at.isoformat()}
    if message.tokens is not None:
        fields["tokens"] = {"count": message.tokens.count, "encoding": message.tokens.encoding}
    return fields


def _line(fields: Mapping[str, Any], what: str) -> bytes:
    text = jsontext.dumps(fields, what)
    return _UNSEEN.sub(_escaped, text).encode() + b"\n"


def _escaped(found: re.Match[str]) -> str:
    """JSON's escape: of UTF-16 units."""
    units = found[0].encode("utf-16-be")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def parsed_line(line: bytes) -> dict[str, Any]:
    """The object of a line, or a `ValidationError` that shows nothing of it."""
    try:
        value = jsontext.loads_strictly(line)
    except ValueError as error:
        # jiter counts lines, too; there is only one.
        raise ValidationError(
            f"it is no JSON: {str(error).replace(' line 1 ', ' ').partition(' at line')[0]}"
        ) from None
    if not isinstance(value, dict):
        raise ValidationError(f"it holds a {type(value).__name__} in the place of an object")
    return value


def check_header(fields: Mapping[str, Any] | None) -> None:
    if fields is None or fields.get("type") != "header" or fields.get("format") != FORMAT:
        raise ValidationError("it is no export of memexllm: its first line is not the header of one")
    version = fields.get("version")
    if type(version) is not int or version < 1:
        raise ValidationError("the version in its header is not a positive integer")
    if version > VERSION:
        raise ValidationError(
            f"it has version {version} of the format; this release of memexllm reads versions up to {VERSION}: "
            "upgrade memexllm"
        )


def thread_of(fields: dict[str, Any]) -> tuple[Thread, int]:
    """The thread of its line, without messages, and how many follow."""
    _check_keys(fields, _THREAD_NEEDS, frozenset())
    n_messages = _natural(fields, "n_messages")
    _natural(fields, "version")
    _check_type(fields, "id", str)
    if not fields["id"]:
        raise ValidationError("its id is empty")
    _check_type(fields, "metadata", dict)
    _check_type(fields, "state", dict)
    values = {key: fields[key] for key in _THREAD_KEYS}
    for key in ("created_at", "updated_at"):
        values[key] = _moment(fields, key)
    return Thread(**values), n_messages


def message_of(fields: dict[str, Any], after_seq: int) -> Message:
    """The message of its line; its seq must be above `after_seq`, else it would get another one."""
    _check_keys(fields, _MESSAGE_NEEDS, _MESSAGE_MAY_HAVE)
    if _natural(fields, "seq") <= after_seq:
        raise ValidationError(f"its seq {fields['seq']} does not come after {after_seq}")
    _check_type(fields, "wire", dict)
    for key in ("superseded", "pinned"):
        if key in fields:
            _check_type(fields, key, bool)
    values = {key: value for key, value in fields.items() if key != "type"}
    values["created_at"] = _moment(fields, "created_at")
    return Message(**values)


def _moment(fields: Mapping[str, Any], key: str) -> datetime:
    try:
        return datetime.fromisoformat(fields[key])
    except (TypeError, ValueError):
        raise ValidationError(f"its {key} is no time in ISO 8601") from None


def _check_keys(fields: Mapping[str, Any], needs: frozenset[str], may_have: frozenset[str]) -> None:
    if missing := sorted(needs - fields.keys()):
        raise ValidationError(f"it lacks {', '.join(missing)}")
    if unknown := sorted(fields.keys() - needs - may_have - {"type"}):
        raise ValidationError(f"it has keys this version of the format does not know: {', '.join(unknown)[:100]!r}")


def _check_type(fields: Mapping[str, Any], key: str, kind: type) -> None:
    if type(fields[key]) is not kind:
        raise ValidationError(f"its {key} is a {type(fields[key]).__name__} in the place of a {kind.__name__}")


def _natural(fields: Mapping[str, Any], key: str) -> int:
    value = fields[key]
    if type(value) is not int or value < 0:
        raise ValidationError(f"its {key} is not an integer of 0 or more")
    return value
