"""How a message lies in a storage of ours: two JSON texts; and how a thread is made of its columns.

The short one holds what a call needs (`WIRE_KEYS`), the other what only a reader of messages needs; so a read for a
call parses half as much. Texts of many messages are joined and parsed at once: 20 messages in 9 µs instead of 50.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any

from memexllm.core import jsontext
from memexllm.core.errors import CorruptThreadError
from memexllm.core.models import Message, Thread
from memexllm.core.moments import from_micros
from memexllm.core.wire import MessageRow

WIRE_KEYS = frozenset({"id", "created_at", "wire", "status", "pinned", "turn_id", "origin", "items"})
EXTRA_KEYS = ("metadata", "call")
UNREADABLE = "unreadable"
"""Key of a stored row of an older release that could not be read and is kept as it was: the reason."""
_ALWAYS = itemgetter("seq", "id", "created_at", "wire")
_BARE_KEYS = ("id", "created_at", "wire")
"""What every row has; a row of no more keys has just these."""
_NOTHING: dict[str, Any] = {}
_SHAPE_ERRORS = (TypeError, KeyError, ValueError, AttributeError, OverflowError)
"""What reading JSON of another shape than was written runs into."""


class Encoded:
    """`wire_text` lacks `seq`, which the storage knows only inside its transaction: see `with_seq`."""

    __slots__ = ("extra_text", "id", "superseded", "tokens_text", "wire_text")
    extra_text: str | None
    tokens_text: str | None

    def __init__(self, message: Message | MessageRow) -> None:
        row: Any = message if type(message) is dict else message.row()  # type: ignore[union-attr]  # a dict is a row
        self.id: str = row["id"]
        self.superseded: bool = "superseded" in row
        self.tokens_text = jsontext.dumps(row["tokens"]) if "tokens" in row else None
        flat = "items" not in row and _is_text_only(row["wire"])
        if len(row) == len(_BARE_KEYS):
            self.wire_text = jsontext.dumps(row, "message", flat=flat)
            self.extra_text = None
            return
        extra = {key: row[key] for key in EXTRA_KEYS if key in row}
        self.wire_text = jsontext.dumps({key: row[key] for key in row if key in WIRE_KEYS}, "message", flat=flat)
        self.extra_text = jsontext.dumps(extra, "message") if extra else None


def _is_text_only(wire: dict[str, Any]) -> bool:
    for value in wire.values():  # noqa: SIM110 - a generator for all() takes three times as long
        if type(value) is not str and value is not None:
            return False
    return True


def with_seq(wire_text: str, seq: int) -> str:
    return f'{{"seq":{seq},{wire_text[1:]}'


def with_marks(wire_text: str, superseded: bool, tokens_text: str | None) -> str:
    """The text with what can change after a message was stored."""
    if tokens_text is not None:
        wire_text = f'{{"tokens":{tokens_text},{wire_text[1:]}'
    return f'{{"superseded":true,{wire_text[1:]}' if superseded else wire_text


def decode_wire(thread_id: str, joined: str) -> list[MessageRow]:
    """Rows of wire texts joined by commas."""
    rows: list[MessageRow] = _parse(thread_id, joined)
    try:
        for _, _, _, wire in map(_ALWAYS, rows):
            if type(wire) is not dict:
                raise TypeError(_why_no_wire(rows))
    except _SHAPE_ERRORS as error:
        raise _unreadable(thread_id, error) from error
    return rows


def decode_messages(thread_id: str, joined: str) -> list[Message]:
    """Messages of alternating wire and extra texts ("null" where there is none) joined by commas."""
    parts = _parse(thread_id, joined)
    messages: list[Message] = []
    try:
        for row, extra in zip(parts[::2], parts[1::2], strict=True):
            if extra is not None:
                row.update(extra)
            _, _, _, wire = _ALWAYS(row)
            if type(wire) is not dict:
                raise TypeError(_why_no_wire([row]))
            if type(row.get("metadata", _NOTHING)) is not dict:
                raise TypeError("another value where a dict was written")
            messages.append(Message.from_row(row))
    except _SHAPE_ERRORS as error:
        raise _unreadable(thread_id, error) from error
    return messages


def positions(messages: Sequence[Message]) -> Iterable[int]:
    """The seqs a replaced thread gets: its own where they ascend, else the next one."""
    last = -1
    for message in messages:
        last = message.seq if message.seq is not None and message.seq > last else last + 1
        yield last


def _parse(thread_id: str, joined: str) -> list[Any]:
    try:
        parts: list[Any] = jsontext.loads(f"[{joined}]")
    except ValueError as error:
        raise _unreadable(thread_id, error) from error
    return parts


def _why_no_wire(rows: Sequence[Any]) -> str:
    """A row of memexllm 0.1.0 that could not be read says why (see `_sqlite_legacy.py`)."""
    reason = next((row[UNREADABLE] for row in rows if UNREADABLE in row), None)
    if reason is None:
        return "another value where a dict was written"
    return f"a message of memexllm 0.1 is kept as it was: {reason}"


def _unreadable(thread_id: str, error: Exception) -> CorruptThreadError:
    return CorruptThreadError(
        f"the messages of thread {thread_id!r} are there and cannot be read ({error}); nothing was changed"
    )


def head_of(row: tuple[Any, ...]) -> Thread:
    """A thread without its messages, of its columns in the order they are named in here."""
    place, thread_id, user_id, title, metadata, state, created_at, updated_at, version, count = row
    return Thread.from_storage(
        id=thread_id,
        messages=[],
        metadata=parsed(thread_id, metadata),
        user_id=user_id,
        title=title,
        created_at=_moment(thread_id, created_at),
        updated_at=_moment(thread_id, updated_at),
        state=parsed(thread_id, state),
        version=version,
        partial=True,
        stored_messages=count,
        place=place,
        preview=None,
    )


def _moment(thread_id: str, micros: int) -> datetime:
    try:
        return from_micros(micros)
    except (OverflowError, TypeError) as error:
        raise _unreadable_head(thread_id, error) from error


def parsed(thread_id: str, text: str) -> dict[str, Any]:
    """A thread's metadata or state."""
    if text == "{}":
        return {}
    try:
        value = jsontext.loads(text)
    except ValueError as error:
        raise _unreadable_head(thread_id, error) from error
    if not isinstance(value, dict):
        raise _unreadable_head(thread_id, f"a {type(value).__name__} where a dict was written")
    return value


def _unreadable_head(thread_id: str, reason: object) -> CorruptThreadError:
    return CorruptThreadError(f"thread {thread_id!r} is there and cannot be read ({reason}); nothing was changed")
