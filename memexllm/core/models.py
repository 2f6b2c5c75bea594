"""The nouns: `Thread` and `Message`.

A message is its *wire form*: the dict that was sent to or received from the API, key order and unknown fields
included. `role`, `content`, `tool_calls` and the like are views on it; the declared fields are ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from memexllm.core.cursors import Cursor, mark_of
from memexllm.core.dicts import (
    count_of,
    given_count,
    message_fields,
    message_to_dict,
    messages_of,
    thread_fields,
    thread_to_dict,
)
from memexllm.core.errors import ValidationError
from memexllm.core.moments import Moment, from_micros, new_id, to_micros, utc_now
from memexllm.core.notebook import message_html, thread_html
from memexllm.core.parts import ImageContent, MessageContent, TextContent, ToolCallContent, without_tool_calls
from memexllm.core.refusals import refusals
from memexllm.core.trusted import fill, trusted
from memexllm.core.views import WireViews
from memexllm.core.wire import ROLES, MessageRole, MessageRow, Status, checked_wire, plain

__all__ = [
    "Message",
    "Thread",
    "CallInfo",
    "TokenCount",
    "MessageRole",
    "MessageContent",
    "TextContent",
    "ImageContent",
    "ToolCallContent",
]


if TYPE_CHECKING:
    Metadata = dict[str, Any]
    """A user knows what he put in; to a checker each use of a `JsonValue` is an error."""
else:
    Metadata = dict[str, JsonValue]


class CallInfo(BaseModel):
    """What is known of the call that produced an answer: enough to explain it later.

    `sent_seqs` are the stored messages it was sent, as runs `[first, last]` of their seqs, the block apart; with them
    went what the call `brought`: so many messages, stored right before the answer. Of those at `shortened_seqs` a
    placeholder was sent. `cut_seq` is where the window began. `block_seqs` are the instructions it was sent, when they
    had been stored before; new ones lie right before what it brought.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = None
    server: str | None = None
    usage: dict[str, JsonValue] | None = None
    finish_reason: str | None = None
    response_id: str | None = None
    latency_s: float | None = None
    block_hash: str | None = None
    block_seqs: list[list[int]] | None = None
    cut_seq: int | None = None
    sent_seqs: list[list[int]] | None = None
    shortened_seqs: list[list[int]] | None = None
    brought: int | None = None
    summary_id: str | None = None
    recalled_ids: list[str] | None = None
    repairs: list[str] | None = None


_NO_CALL_INFO: dict[str, Any] = dict.fromkeys(CallInfo.model_fields)


class TokenCount(BaseModel):
    """Tokens of a message, counted with the named encoding."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: int
    encoding: str


_ABSENT: Any = object()
_NONE_GIVEN = (None,) * 8


class Message(BaseModel, WireViews):
    """One message of a thread. Made from its fields, or from a whole wire dict (`wire=`), of which it keeps a copy.

    `content` is None, a string, or a list of parts. Assignment to a view writes through to `wire`. Two messages are
    equal when their wire form and every declared field but `seq` are. The first ten arguments are in the order of 0.1.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    wire: dict[str, Any]
    id: Annotated[str, Field(min_length=1)]
    created_at: Moment
    metadata: Metadata
    status: Status
    superseded: bool
    pinned: bool
    turn_id: str | None
    call: CallInfo | None
    tokens: TokenCount | None
    seq: int | None
    items: list[dict[str, Any]] | None
    """The items of the Responses API this message came as, where `wire` is only their chat form; sent back exactly."""

    def __init__(
        self,
        content: str | Sequence[Mapping[str, Any]] | None = _ABSENT,
        role: str = _ABSENT,
        id: str | None = None,  # noqa: A002 - the field's name
        created_at: datetime | str | None = None,
        metadata: Mapping[str, Any] | None = None,
        token_count: int | None = None,
        tool_calls: Sequence[Mapping[str, Any]] | None = _ABSENT,
        tool_call_id: str | None = _ABSENT,
        function_call: Mapping[str, Any] | None = _ABSENT,
        name: str | None = _ABSENT,
        *,
        refusal: str | None = _ABSENT,
        audio: Mapping[str, Any] | None = _ABSENT,
        wire: Mapping[str, Any] | None = None,
        status: Status = "complete",
        superseded: bool = False,
        pinned: bool = False,
        turn_id: str | None = None,
        call: CallInfo | Mapping[str, Any] | None = None,
        tokens: TokenCount | Mapping[str, Any] | None = None,
        seq: int | None = None,
        items: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        if type(content) is list:
            content, tool_calls = _placed(content, tool_calls, role)
        elif isinstance(content, str) and content in ROLES:
            _refuse_swapped(content, role)
        if token_count is not None and tokens is None:
            tokens = given_count(token_count)
        given = {
            "name": name,
            "refusal": refusal,
            "tool_calls": tool_calls,
            "tool_call_id": tool_call_id,
            "function_call": function_call,
            "audio": audio,
        }
        fields: dict[str, Any] = {}
        if role is not _ABSENT:
            fields["role"] = role
        if content is not _ABSENT:
            fields["content"] = content
        fields.update({key: value for key, value in given.items() if value is not _ABSENT and value is not None})
        if wire is not None and fields:
            raise ValidationError(f"a message is made from wire= or from fields; both were given: {sorted(fields)}")
        values = {
            "wire": checked_wire(fields if wire is None else wire),
            "id": new_id() if id is None else id,
            "created_at": utc_now() if created_at is None else created_at,
            "metadata": {} if metadata is None else metadata,
            "status": status,
            "superseded": superseded,
            "pinned": pinned,
            "turn_id": turn_id,
            "call": call,
            "tokens": tokens,
            "seq": seq,
            "items": None if items is None else plain(items),
        }
        ours = (id, created_at, metadata, turn_id, call, tokens, seq, items)
        if ours == _NONE_GIVEN and status == "complete" and superseded is False and pinned is False:
            # Only the wire form was given, and that is checked: pydantic has nothing to validate.
            fill(self, values)
            return
        with refusals("message"):
            super().__init__(**values)

    @classmethod
    def from_row(cls, row: MessageRow) -> Self:
        """The message of a row our own code wrote. The row's dicts are taken over, not copied, and not validated."""
        fields: dict[str, Any] = {**_MESSAGE_DEFAULTS, **row}
        fields["created_at"] = from_micros(row["created_at"])
        fields["metadata"] = row.get("metadata") or {}
        fields.pop("origin", None)
        if "call" in row:
            fields["call"] = trusted(CallInfo, {**_NO_CALL_INFO, **row["call"]})
        if "tokens" in row:
            fields["tokens"] = TokenCount(count=row["tokens"][0], encoding=row["tokens"][1])
        return trusted(cls, fields)

    def row(self) -> MessageRow:
        """The message as plain JSON; `wire` and `metadata` are the message's own dicts, not copies."""
        fields = self.__dict__
        row: MessageRow = {"id": fields["id"], "created_at": to_micros(fields["created_at"]), "wire": fields["wire"]}
        if fields["seq"] is not None:
            row["seq"] = fields["seq"]
        if fields["status"] != "complete":
            row["status"] = fields["status"]
        if fields["superseded"]:
            row["superseded"] = True
        if fields["pinned"]:
            row["pinned"] = True
        if fields["turn_id"] is not None:
            row["turn_id"] = fields["turn_id"]
        if fields["items"] is not None:
            row["items"] = fields["items"]
        if fields["metadata"]:
            row["metadata"] = fields["metadata"]
        call: CallInfo | None = fields["call"]
        if call is not None:
            row["origin"] = [call.server, call.model]
            row["call"] = {key: value for key, value in call.__dict__.items() if value is not None}
        tokens: TokenCount | None = fields["tokens"]
        if tokens is not None:
            row["tokens"] = [tokens.count, tokens.encoding]
        return row

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The message of a dict as `to_dict` gives it. Parts of type `image`, which 0.1 wrote, are taken too."""
        return cls(**message_fields(data))

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain JSON: `id`, `role`, `content`, `created_at` (ISO), `metadata`, `token_count`, …"""
        return message_to_dict(self)

    @property
    def token_count(self) -> int | None:
        """The count of `tokens`, or None when nobody has counted. A count that is set is taken as given."""
        return count_of(self.tokens)

    @token_count.setter
    def token_count(self, value: int | None) -> None:
        with refusals("message"):
            self.__pydantic_validator__.validate_assignment(self, "tokens", given_count(value))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        mine, theirs = self.__dict__, other.__dict__
        return all(mine[name] == theirs[name] for name in mine if name != "seq")

    __hash__ = None  # type: ignore[assignment]  # a message is mutable

    def __repr__(self) -> str:
        """Names the message without showing what was said."""
        return f"Message(role={self.role!r}, id={self.id!r}, seq={self.seq}, status={self.status!r})"

    __str__ = __repr__
    _repr_html_ = message_html


def _placed(content: list[Any], tool_calls: Any, role: Any) -> tuple[Any, Any]:
    """Content and calls of the constructor, with a tool call that is given as content among the calls."""
    given = [] if tool_calls is _ABSENT or tool_calls is None else tool_calls
    rest, calls = without_tool_calls(content, given)
    if len(calls) == len(given):
        return content, tool_calls
    if role != "assistant":
        raise ValidationError(f"a tool call is said by the assistant; this message is by {role!r:.20}")
    return rest, calls


def _refuse_swapped(content: str, role: Any) -> None:
    if isinstance(role, str) and role not in ROLES:
        raise ValidationError(f"Invalid role: {content!r} is given as the content; it is Message(content, role)")


_MESSAGE_DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(Message.model_fields),
    "status": "complete",
    "superseded": False,
    "pinned": False,
}


class Thread(BaseModel):
    """A conversation: messages in the order they were said, with what the library keeps about them.

    `state` is the library's own small JSON document (the block, the window's cut); `version` counts the writes.
    A `partial` thread holds only some of its messages and cannot be saved. `place` is its position in the order of
    creation, given by the storage; `preview`, in lists asked for it, is the beginning of what was said last.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    id: str
    messages: list[Message]
    metadata: Metadata
    user_id: str | None
    title: str | None
    created_at: Moment
    updated_at: Moment
    state: dict[str, Any]
    version: int
    partial: bool
    stored_messages: int | None
    """Live messages in the storage when the thread was read; None for a thread that was made, not read."""
    place: int | None = None
    preview: str | None = None

    def __init__(
        self,
        id: str | None = None,  # noqa: A002 - the field's name
        messages: Iterable[Message] = (),
        metadata: Mapping[str, Any] | None = None,
        created_at: datetime | str | None = None,
        updated_at: datetime | str | None = None,
        *,
        user_id: str | None = None,
        title: str | None = None,
        state: Mapping[str, Any] | None = None,
        version: int = 0,
        partial: bool = False,
        stored_messages: int | None = None,
    ) -> None:
        created = utc_now() if created_at is None else created_at
        with refusals("thread"):
            super().__init__(
                id=new_id() if id is None else id,
                messages=list(messages),
                metadata={} if metadata is None else metadata,
                user_id=user_id,
                title=title,
                created_at=created,
                updated_at=created if updated_at is None else updated_at,
                state={} if state is None else state,
                version=version,
                partial=partial,
                stored_messages=stored_messages,
            )

    @classmethod
    def from_storage(cls, **fields: Any) -> Self:
        """A thread of values that were validated before they were stored; every field must be given."""
        return trusted(cls, fields)

    def changed(self, **fields: Any) -> Self:
        """A copy with other values for some fields, which are not validated; the rest is shared."""
        return trusted(type(self), {**self.__dict__, **fields})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The thread of a dict as `to_dict` gives it, or 0.1 gave it."""
        return cls(**thread_fields(data), messages=[Message.from_dict(each) for each in messages_of(data)])

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain JSON: `id`, `messages`, `metadata`, `created_at` and `updated_at` (ISO), …"""
        return thread_to_dict(self)

    def add_message(self, message: Message) -> None:
        """Put a message at the end of this object. A storage knows of it when the thread is saved."""
        self.messages.append(message)
        if self.stored_messages is not None and not message.superseded:
            self.stored_messages += 1
        self.updated_at = utc_now()

    def get_messages(self) -> list[Message]:
        """`messages`, the list itself."""
        return self.messages

    @property
    def message_count(self) -> int:
        """Live messages: of a `partial` thread those in the storage it was read from, else those of `messages`."""
        if self.partial and self.stored_messages is not None:
            return self.stored_messages
        return sum(not message.superseded for message in self.messages)

    @property
    def cursor(self) -> str:
        """Where this thread stands in lists, for their `before=` and `after=`; holds even once it is deleted."""
        return Cursor(self.place, to_micros(self.created_at), to_micros(self.updated_at), mark_of(self.id)).encoded()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Thread):
            return NotImplemented
        mine, theirs = self.__dict__, other.__dict__
        return all(mine[name] == theirs[name] for name in mine if name not in ("stored_messages", "place", "preview"))

    __hash__ = None  # type: ignore[assignment]  # a thread is mutable

    def __repr__(self) -> str:
        """Names the thread without showing what was said."""
        loaded = f", {len(self.messages)} of them here" if self.partial else ""
        return f"Thread(id={self.id!r}, messages={self.message_count}{loaded}, version={self.version})"

    __str__ = __repr__
    _repr_html_ = thread_html
