"""Exchanges: the indivisible groups of a conversation, what makes them valid, and how they are repaired.

The API refuses a tool message without its call (400, "must be a response to a preceding message with
'tool_calls'") and a call without all its results, so a window keeps or drops an exchange whole, and what is sent is
repaired here, whatever an algorithm returned. Nothing in this module changes what is stored: functions take wire
messages or rows and return new lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from memexllm.core.errors import ValidationError
from memexllm.core.models import Message
from memexllm.core.wire import MessageRow

Orphans = Literal["drop", "placeholder", "error"]
Wire = dict[str, Any]

PLACEHOLDER = "(no result was recorded for this call)"


@dataclass(frozen=True)
class Exchange:
    """A message alone, or an assistant's calls with the results they got, in the order they were stored.

    `unanswered` are the ids of tool calls without a result.
    """

    rows: tuple[MessageRow, ...]
    unanswered: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def open(self) -> bool:
        """Whether a call in it, or an old `function_call`, waits for its result."""
        return bool(self.unanswered) or (len(self.rows) == 1 and bool(self.rows[0]["wire"].get("function_call")))

    @property
    def role(self) -> str:
        """The role of its first message."""
        return str(self.rows[0]["wire"].get("role"))

    @property
    def seq(self) -> int | None:
        """The position of its first message; None before it is stored."""
        return self.rows[0].get("seq")

    @property
    def pinned(self) -> bool:
        return any(row.get("pinned") for row in self.rows)

    @cached_property
    def messages(self) -> tuple[Message, ...]:
        """The rows as messages, sharing their dicts."""
        return tuple(Message.from_row(row) for row in self.rows)


def call_ids(wire: Wire) -> list[str]:
    """The ids of an assistant's tool calls, function and custom alike, in order; what is no call has none."""
    calls = wire.get("tool_calls")
    return [str(call.get("id")) for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []


def exchanges(rows: Sequence[MessageRow]) -> list[Exchange]:
    """`rows` grouped, in the order of each exchange's first message.

    A result belongs to the newest call of its id that still waits for one, even when other messages came between
    (two calls at once on one thread). A result without such a call is an exchange of its own.
    """
    groups: list[list[MessageRow]] = []
    waiting: dict[str, int] = {}
    unanswered: dict[int, list[str]] = {}
    after_function_call = False
    for row in rows:
        wire = row["wire"]
        role = wire.get("role")
        if role == "tool" and str(wire.get("tool_call_id")) in waiting:
            call_id = str(wire.get("tool_call_id"))
            group = waiting[call_id]
            groups[group].append(row)
            unanswered[group].remove(call_id)
            if call_id not in unanswered[group]:
                del waiting[call_id]
        elif role == "function" and after_function_call:
            groups[-1].append(row)
        else:
            groups.append([row])
            if role == "assistant" and (ids := call_ids(wire)):
                unanswered[len(groups) - 1] = ids
                waiting.update(dict.fromkeys(ids, len(groups) - 1))
        after_function_call = role == "assistant" and bool(wire.get("function_call"))
    return [Exchange(tuple(group), tuple(unanswered.get(index, ()))) for index, group in enumerate(groups)]


@dataclass(frozen=True)
class Repaired:
    """Rows that may be sent, and the ids of the stored messages that had to be changed, moved or left out."""

    rows: list[MessageRow]
    repaired_ids: list[str]


def repair(rows: Sequence[MessageRow], orphans: Orphans = "drop") -> Repaired:
    """`rows` as the API accepts them; unchanged rows are passed on as they are.

    Unanswered calls, results without a call and assistant messages that say nothing are dropped, answered by a
    placeholder (`orphans="placeholder"`), or a `ValidationError` (`"error"`). The text of an interrupted answer is
    kept, its unfinished calls are not.
    """
    if not needs_repair(rows):
        return Repaired(list(rows), [])
    kept: list[MessageRow] = []
    for exchange in exchanges(_without_unfinished_calls(rows)):
        kept.extend(_valid_rows(exchange, orphans))
    return Repaired(kept, _changed_ids(rows, kept))


def needs_repair(rows: Sequence[MessageRow]) -> bool:
    """Whether a single pass finds anything the API would refuse; the usual answer is no."""
    waiting: list[str] = []
    for row in rows:
        wire = row["wire"]
        role = wire.get("role")
        if role == "tool":
            call_id = str(wire.get("tool_call_id"))
            if call_id not in waiting:
                return True
            waiting.remove(call_id)
            continue
        if waiting or (role == "assistant" and (says_nothing(wire) or _has_unfinished_calls(row))):
            return True
        if role == "assistant":
            waiting = call_ids(wire)
    return bool(waiting)


def says_nothing(wire: Wire) -> bool:
    """Whether an assistant message has neither content, calls, refusal nor audio: the API refuses it.

    An empty string is content: the API takes it, and a caller who keeps the list himself would send it.
    """
    content = wire.get("content")
    return (content is None or content == []) and not (
        wire.get("tool_calls") or wire.get("function_call") or wire.get("refusal") or wire.get("audio")
    )


def _without_unfinished_calls(rows: Sequence[MessageRow]) -> list[MessageRow]:
    return [
        _with_wire(row, _without(row["wire"], "tool_calls", "function_call")) if _has_unfinished_calls(row) else row
        for row in rows
    ]


def _has_unfinished_calls(row: MessageRow) -> bool:
    """Whether a stream broke off after it had begun to call: the arguments may be cut in two."""
    wire = row["wire"]
    return row.get("status") == "incomplete" and bool(wire.get("tool_calls") or wire.get("function_call"))


def _valid_rows(exchange: Exchange, orphans: Orphans) -> list[MessageRow]:
    first = exchange.rows[0]
    wire = first["wire"]
    role = wire.get("role")
    if role == "tool":
        _refuse_if_asked(orphans, f"the result for call {wire.get('tool_call_id')!r} has no call before it")
        return []
    if role != "assistant":
        return list(exchange.rows)
    if exchange.unanswered:
        _refuse_if_asked(orphans, f"the calls {list(exchange.unanswered)} have no result")
        if orphans == "placeholder":
            answers = [_placeholder(first, call_id) for call_id in exchange.unanswered]
            return [*exchange.rows, *answers]
        wire = _without_calls(wire, exchange.unanswered)
        first = _with_wire(first, wire)
    if says_nothing(wire):
        return []
    return [first, *exchange.rows[1:]]


def _without_calls(wire: Wire, unanswered: Sequence[str]) -> Wire:
    left = [call for call in wire["tool_calls"] if isinstance(call, dict)]
    for call_id in unanswered:
        # The last call of an id goes first: when an id is used twice, results answered the earlier call.
        index = max(i for i, call in enumerate(left) if str(call.get("id")) == call_id)
        del left[index]
    return {**wire, "tool_calls": left} if left else _without(wire, "tool_calls")


def _placeholder(call: MessageRow, call_id: str) -> MessageRow:
    wire = {"role": "tool", "tool_call_id": call_id, "content": PLACEHOLDER}
    return {"id": f"{call['id']}:{call_id}", "created_at": call["created_at"], "wire": wire}


def _refuse_if_asked(orphans: Orphans, problem: str) -> None:
    if orphans == "error":
        raise ValidationError(f'the context is not valid: {problem}; orphans="drop" leaves it out of what is sent')


def _with_wire(row: MessageRow, wire: Wire) -> MessageRow:
    changed = row.copy()
    changed["wire"] = wire
    return changed


def _without(wire: Wire, *keys: str) -> Wire:
    return {key: value for key, value in wire.items() if key not in keys}


def _changed_ids(before: Sequence[MessageRow], after: Sequence[MessageRow]) -> list[str]:
    """Ids of `before` that are missing from `after`, have another wire form, or were moved forward."""
    place = {id(row["wire"]): index for index, row in enumerate(before)}
    unchanged: set[int] = set()
    following = len(before)
    for row in reversed(after):
        index = place.get(id(row["wire"]))
        if index is not None and index < following:
            unchanged.add(index)
            following = index
    return [row["id"] for index, row in enumerate(before) if index not in unchanged]
