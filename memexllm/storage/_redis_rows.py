"""How threads and messages are written for the scripts, and read from their answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any
from uuid import uuid4

from memexllm.core import jsontext
from memexllm.core.errors import CorruptThreadError, StorageError, ValidationError
from memexllm.core.models import Message, Thread
from memexllm.core.moments import from_micros, micros_now, to_micros
from memexllm.core.wire import MessageRow
from memexllm.storage._redis_index import FORMAT
from memexllm.storage._redis_keys import owner_of
from memexllm.storage._rows import Encoded

HIGHEST_SEQ = 10**13
"""Lua and sorted sets count in doubles."""
HEAD_FIELDS = ("id", "user", "title", "metadata", "created_at", "place", "tally")
_NEW = uuid4().hex
_PLACEHOLDER = re.compile(f'"{_NEW}:(\\d+)"')
_SHAPE_ERRORS = (TypeError, KeyError, ValueError, AttributeError, OverflowError)
Arg = str | int


def text_of(value: Any) -> str:
    """An answer as text, from clients that decode and from those that do not."""
    return value.decode() if isinstance(value, bytes) else str(value)


def json_text(value: Any, what: str) -> str:
    return jsontext.dumps(value, what)


def fields_of(thread_id: str, create: Mapping[str, Any]) -> list[Arg]:
    """user, owner, id, title, metadata and created_at of a thread that is made."""
    if create.keys() <= {"user_id"}:
        return [*_bare_fields(thread_id, create.get("user_id")), micros_now()]
    thread = Thread(thread_id, **create)
    owner, own_id, user, title, metadata, created_at = head_fields(thread)
    return [user, owner, own_id, title, metadata, created_at]


@lru_cache(maxsize=1024)
def _bare_fields(thread_id: str, user_id: str | None) -> tuple[str, ...]:
    """A call names its user each time, and makes the thread but once."""
    owner, own_id, user, title, metadata, _ = head_fields(Thread(thread_id, user_id=user_id))
    return str(user), str(owner), str(own_id), str(title), str(metadata)


def head_fields(thread: Thread) -> list[Arg]:
    """owner, id, user, title, metadata and created_at, as the head keeps them."""
    return [
        owner_of(thread.user_id),
        json_text(thread.id, "thread id"),
        json_text(thread.user_id, "user id"),
        json_text(thread.title, "title"),
        json_text(thread.metadata, "metadata"),
        to_micros(thread.created_at),
    ]


def message_args(encoded: Encoded) -> list[Arg]:
    """Text without its first brace, extra, marks: the script puts the marks and the seq before the text."""
    marks = '"superseded":true,' if encoded.superseded else ""
    if encoded.tokens_text is not None:
        marks += f'"tokens":{encoded.tokens_text},'
    return [_id_first(encoded)[1:], encoded.extra_text or "", marks]


def _id_first(encoded: Encoded) -> str:
    """The wire text, whose first key is `id`: that is where `REPLACE` looks for it."""
    text = encoded.wire_text
    if text.startswith('{"id":'):
        return text
    row = jsontext.loads(text)
    return json_text({"id": row.pop("id"), **row}, "message")


def needle_of(message_id: str) -> str:
    return f'"id":{json_text(message_id, "message id")}'


def state_args(state: Mapping[str, Any] | None, *, new: bool = True) -> list[Arg]:
    """Of each key: its JSON text, how often the value names a new message, and the pieces of text around the names."""
    if not state:
        return [0]
    args: list[Arg] = [len(state)]
    for key, value in (_named(state) if new else state).items():
        pieces = _PLACEHOLDER.split(json_text(value, "state"))
        args += [json_text(str(key), "state"), len(pieces) // 2, *pieces]
    return args


def _named(value: Any) -> Any:
    """`{"$new": i}` as a text that is found again in JSON, and that nobody else writes."""
    if isinstance(value, Mapping):
        if len(value) == 1 and "$new" in value:
            return f"{_NEW}:{int(value['$new'])}"
        return {key: _named(item) for key, item in value.items()}
    return [_named(item) for item in value] if isinstance(value, list | tuple) else value


def seqs_inside(seqs: Iterable[int]) -> list[int]:
    return [seq for seq in seqs if 0 <= seq < HIGHEST_SEQ]


def from_seq(seq: int | None) -> str:
    """`supersede_from`, as the bound of a range."""
    return "" if seq is None else str(max(0, min(seq, HIGHEST_SEQ)))


def bounds_of(before: int | None, after: int | None) -> tuple[str, str]:
    low = "-inf" if after is None else f"({max(-1, min(after, HIGHEST_SEQ))}"
    high = "+inf" if before is None else f"({max(-1, min(before, HIGHEST_SEQ))}"
    return low, high


def checked_seqs(seqs: Sequence[int]) -> Sequence[int]:
    if seqs and seqs[-1] >= HIGHEST_SEQ:
        raise ValidationError(f"a message has the seq {seqs[-1]}; Redis keeps seqs below {HIGHEST_SEQ}")
    return seqs


def head_of(thread_id: str | None, text: str) -> Thread:
    """The thread of a head's text; `thread_id` names it when it cannot be read."""
    try:
        found = jsontext.loads(text)
        own_id, user, title, metadata, created, place, version, _, updated, live, _, _, _, state = found
        if type(metadata) is not dict or type(state) is not dict or not isinstance(own_id, str):
            raise TypeError("another value where a dict was written")
        return Thread.from_storage(
            id=own_id,
            messages=[],
            metadata=metadata,
            user_id=user,
            title=title,
            created_at=from_micros(created),
            updated_at=from_micros(updated),
            state=state,
            version=version,
            partial=True,
            stored_messages=live,
            place=place,
            preview=None,
        )
    except _SHAPE_ERRORS as error:
        raise CorruptThreadError(
            f"thread {thread_id!r} is there and cannot be read ({error}); nothing was changed"
        ) from error


def joined_head(fields: Sequence[Any], state: Any) -> str:
    """What `head_text` of the scripts gives, from the answers of HMGET and HGETALL."""
    if any(field is None for field in fields):
        return ""
    pairs = state.items() if isinstance(state, Mapping) else zip(state[::2], state[1::2], strict=True)
    texts = ",".join(f"{text_of(key)}:{text_of(value)}" for key, value in pairs)
    return f"[{','.join(text_of(field) for field in fields)},{{{texts}}}]"


def torn(thread_id: str, reply: Sequence[str]) -> CorruptThreadError:
    expected, found = (each or "nothing" for each in reply[1:3])
    return CorruptThreadError(
        f"a part of thread {thread_id!r} is missing: it should have {expected} and has {found} live, superseded and "
        "extended messages and keys of state. Keys were deleted or evicted (maxmemory-policy must be noeviction for "
        "data that is to be kept); nothing was changed"
    )


def newer_format(place: object, reply: Sequence[str]) -> StorageError:
    return StorageError(
        f"{place} holds threads of format {reply[1]!r} under this prefix; this release of memexllm reads and "
        f"writes format {FORMAT}: upgrade memexllm, or use another prefix. Nothing was changed"
    )


def encoded_rows(messages: Sequence[Message | MessageRow]) -> list[Encoded]:
    return [Encoded(message) for message in messages]
