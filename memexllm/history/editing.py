"""Changing what was said: edits, answers to give again, other choices, pins.

Each is one atomic write over what was just read, tried again when somebody else wrote in between. Nothing is deleted:
what no longer counts is superseded, and the thread's state (its block, cut and pins) is kept right in the same write.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

from memexllm.algorithms.base import BaseAlgorithm
from memexllm.algorithms.notes import without_notes_after
from memexllm.core.errors import ConcurrencyError, MessageNotFoundError, ValidationError
from memexllm.core.exchanges import exchanges
from memexllm.core.flow import Flow
from memexllm.core.models import Message, Thread
from memexllm.core.wire import ALTERNATIVES, BLOCK_ROLES, MessageRow, checked_content, checked_wire, copy_row
from memexllm.history.context import BLOCK, PINS, from_a_whole_exchange, leading_block
from memexllm.history.flows import checked_thread_id, found
from memexllm.history.observing import show_new
from memexllm.history.settling import settle
from memexllm.storage._telling import tell_stored
from memexllm.storage.port import Reader, StoragePort

R = TypeVar("R")
Wire = dict[str, Any]

_ATTEMPTS = 20
_PAGE = 50
_SAID_BY_EDITOR = ("role", "content", "name", "tool_calls", "function_call")
"""What an edited answer keeps of the model's; its reasoning, audio and the like belong to the words it replaces."""
_OTHER_WORDS = ("refusal", "audio", "annotations")
"""Other forms in which an answer says what its content says."""


def edit_message(
    port: StoragePort,
    algorithm: BaseAlgorithm | None,
    said_anew: Callable[[Message, Wire], Message],
    thread_id: str,
    message_id: str,
    content: Any,
) -> Flow[Message]:
    content = checked_content(content)

    yield from settle(port, checked_thread_id(thread_id))

    def attempt() -> Flow[Message]:
        reader = yield from found(port, thread_id, "edit message")
        rows = yield from _live_from(reader, message_id)
        yield from _refuse_instructions(reader, rows[0])
        original: Message = yield from _message_at(reader, rows[0])
        edited = said_anew(original, _edited_wire(original.wire, content))
        if original.role == "assistant":
            edited.metadata.pop(ALTERNATIVES, None)
        gone = yield from _replaced_by_edit(reader, rows)
        changes = _superseding(reader.head, rows, gone)
        _keep_pinned(changes, reader.head, edited)
        yield port.append_messages(thread_id, [edited.row()], changes)
        return edited

    edited = yield from _repeated(attempt)
    yield from show_new(port, algorithm, thread_id, [edited.id])
    if port.plugins is not None:
        yield from tell_stored(port.plugins, port, thread_id, [edited.row()], created=False)
    return edited


def correct_message(port: StoragePort, thread_id: str, message_id: str, content: Any) -> Flow[Message]:
    content = checked_content(content)

    def attempt() -> Flow[Message]:
        reader = yield from found(port, thread_id, "correct message")
        row = (yield from _live_from(reader, message_id))[0]
        yield from _refuse_instructions(reader, row)
        message: Message = yield from _message_at(reader, row)
        for key in _OTHER_WORDS:
            message.wire.pop(key, None)
        message.content = content
        # A summary of the former words goes with them.
        return (yield from _put_back(port, reader, message, without_notes_after(reader.head.state, _seq(row))))

    return (yield from _repeated(attempt))


def regenerate(port: StoragePort, thread_id: str) -> Flow[list[Message]]:
    yield from settle(port, checked_thread_id(thread_id))

    def attempt() -> Flow[list[Message]]:
        reader = yield from found(port, thread_id, "regenerate")
        rows = yield from _newest_answer(reader)
        if not rows:
            return []
        gone = _without_block(reader.head, rows)
        messages: list[Message] = yield reader.messages(after=_seq(rows[0]) - 1)
        taken_back = [message for message in messages if message.seq in gone]
        for message in taken_back:
            message.superseded = True
        yield port.append_messages(thread_id, [], _superseding(reader.head, rows, gone))
        return taken_back

    return (yield from _repeated(attempt))


def select_alternative(port: StoragePort, thread_id: str, message_id: str, index: int) -> Flow[Message]:
    def attempt() -> Flow[Message]:
        reader = yield from found(port, thread_id, "select alternative")
        rows = yield from _live_from(reader, message_id)
        message: Message = yield from _message_at(reader, rows[0])
        kept: Any = message.metadata.get(ALTERNATIVES)
        chosen: Wire = _alternative(message, index)
        if _calls(message.wire) or _calls(chosen):
            followers = _without_block(reader.head, rows[1:])
            if followers:
                raise ValidationError(
                    f"message {message_id!r} or its alternative calls tools, and {len(followers)} messages follow, "
                    "which would be left without their calls or stand between calls and results; "
                    "select before the tools are run, or regenerate() the turn"
                )
        place = next(place for place, wire in enumerate(kept) if wire is chosen)
        kept[place] = message.wire
        message.wire = checked_wire(chosen)
        return (yield from _put_back(port, reader, message, without_notes_after(reader.head.state, _seq(rows[0]))))

    return (yield from _repeated(attempt))


def set_pinned(port: StoragePort, thread_id: str, message_id: str, *, pinned: bool) -> Flow[Message]:
    def attempt() -> Flow[Message]:
        reader = yield from found(port, thread_id, "pin message")
        row = (yield from _live_from(reader, message_id))[0]
        message: Message = yield from _message_at(reader, row)
        known: list[int] | None = reader.head.state.get(PINS)
        seqs = set(known or ())
        wanted = seqs | {_seq(row)} if pinned else seqs - {_seq(row)}
        if message.pinned == pinned and (known is None or wanted == seqs):
            return message
        message.pinned = pinned
        # Pins that are not known yet are found by the next windowed read, by the message's own mark.
        changes = {} if known is None else {PINS: sorted(wanted)}
        return (yield from _put_back(port, reader, message, changes, same_words=True))

    return (yield from _repeated(attempt))


def finish_message(port: StoragePort, thread_id: str, message: Message) -> Flow[None]:
    """Put the whole of a message in the place of what was stored of it; superseded or pinned meanwhile, it stays so."""

    def attempt() -> Flow[None]:
        reader = yield from found(port, thread_id, "replace message")
        rows, index = yield from _found_row(reader, message.id)
        message.superseded = bool(rows[index].get("superseded"))
        message.pinned = bool(rows[index].get("pinned"))
        yield port.replace_message(thread_id, message.id, message, {"expected_version": reader.head.version})

    yield from _repeated(attempt)


def _repeated(attempt: Callable[[], Flow[R]]) -> Flow[R]:
    """`attempt`, from its first read, until nobody writes between its reads and its write."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return (yield from attempt())
        except ConcurrencyError:
            continue
    return (yield from attempt())


def _live_from(reader: Reader, message_id: str) -> Flow[list[MessageRow]]:
    """The live rows from a message on, itself first."""
    rows, index = yield from _found_row(reader, message_id)
    if rows[index].get("superseded"):
        raise ValidationError(
            f"message {message_id!r} of thread {reader.head.id!r} was superseded and is no longer part of the "
            "conversation; get_messages() gives those that are"
        )
    return [row for row in rows[index:] if not row.get("superseded")]


def _found_row(reader: Reader, message_id: str) -> Flow[tuple[list[MessageRow], int]]:
    """The thread's last rows, superseded ones included, as far back as a message lies, and its place among them."""
    before: int | None = None
    rows: list[MessageRow] = []
    while True:
        page: list[MessageRow] = yield reader.rows(limit=_PAGE, before=before, include_superseded=True)
        rows = [*page, *rows]
        for index in range(len(page) - 1, -1, -1):
            if rows[index]["id"] == message_id:
                return rows, index
        if len(page) < _PAGE:
            raise MessageNotFoundError(f"thread {reader.head.id!r} has no message {message_id!r}")
        before = _seq(page[0])


def _message_at(reader: Reader, row: MessageRow) -> Flow[Message]:
    """The whole message of a row, a copy of the caller's own."""
    messages: list[Message] = yield reader.messages(after=_seq(row) - 1, before=_seq(row) + 1)
    if not messages:
        raise ConcurrencyError(f"message {row['id']!r} was superseded or deleted while it was being read")
    return Message.from_row(copy_row(messages[0].row()))


def _newest_answer(reader: Reader) -> Flow[list[MessageRow]]:
    """The live rows from the beginning of the newest turn's answer on; none when there is no answer."""
    before: int | None = None
    rows: list[MessageRow] = []
    while True:
        page: list[MessageRow] = yield reader.rows(limit=_PAGE, before=before)
        rows = [*page, *rows]
        whole = len(page) < _PAGE
        # What a call wrote down and got no answer for (`journal`) is no part of the conversation.
        said = [row for row in rows if row.get("status") != "pending"]
        opener = _opener(said, whole=whole)
        if opener is not None:
            answer = next((row for row in said[opener + 1 :] if _role(row) == "assistant"), None)
            return [] if answer is None else [row for row in rows if _seq(row) >= _seq(answer)]
        if whole:
            raise ValidationError(f"thread {reader.head.id!r} has no user message that could be answered again")
        before = _seq(page[0])


def _opener(rows: Sequence[MessageRow], *, whole: bool) -> int | None:
    """Where the newest turn's user message is; None when it is not there, or more has to be read to know."""
    users = [index for index, row in enumerate(rows) if _role(row) == "user"]
    turn_id = rows[-1].get("turn_id") if rows else None
    if turn_id is None:
        return users[-1] if users else None
    if not whole and rows[0].get("turn_id") == turn_id:
        return None
    of_turn = [index for index in users if rows[index].get("turn_id") == turn_id]
    if of_turn:
        return of_turn[0]
    return users[-1] if users else None


def _replaced_by_edit(reader: Reader, rows: list[MessageRow]) -> Flow[set[int]]:
    """The seqs that an edit of `rows[0]` supersedes."""
    gone = _without_block(reader.head, rows)
    if _role(rows[0]) != "tool":
        return gone
    # The call stays, and needs its other results as well.
    from_call = yield from from_a_whole_exchange(reader, rows)
    for exchange in exchanges(from_call):
        if any(row["id"] == rows[0]["id"] for row in exchange.rows):
            gone -= {_seq(row) for row in exchange.rows if row["id"] != rows[0]["id"]}
    return gone


def _without_block(head: Thread, rows: Sequence[MessageRow]) -> set[int]:
    """The seqs of `rows` that are not the thread's instructions, which stay whatever is said again."""
    return {_seq(row) for row in rows} - _named_block_seqs(head)


def _superseding(head: Thread, rows: Sequence[MessageRow], gone: Collection[int]) -> dict[str, Any]:
    """The changes that supersede the seqs `gone`, which are among `rows`: all that is live from the first on."""
    first = min(gone)
    changes: dict[str, Any] = {"expected_version": head.version}
    if all(_seq(row) in gone for row in rows if _seq(row) >= first):
        changes["supersede_from"] = first
    else:
        changes["supersede"] = tuple(sorted(gone))
    state = without_notes_after(head.state, first)
    pins: list[int] = head.state.get(PINS) or []
    if any(seq in gone for seq in pins):
        state[PINS] = [seq for seq in pins if seq not in gone]
    if state:
        changes["state"] = state
    return changes


def _keep_pinned(changes: dict[str, Any], head: Thread, edited: Message) -> None:
    """Note a pinned message, which is the first of the batch, among the thread's pins."""
    if edited.pinned and head.state.get(PINS) is not None:
        state = changes.setdefault("state", {})
        state[PINS] = [*state.get(PINS, head.state[PINS]), {"$new": 0}]


def _put_back(
    port: StoragePort,
    reader: Reader,
    message: Message,
    state: dict[str, Any] | None = None,
    *,
    same_words: bool = False,
) -> Flow[Message]:
    if not same_words:  # they were counted, and came as items, in other words
        message.tokens = message.items = None
    changes: dict[str, Any] = {"expected_version": reader.head.version}
    if state:
        changes["state"] = state
    yield port.replace_message(reader.head.id, message.id, message, changes)
    return message


def _refuse_instructions(reader: Reader, row: MessageRow) -> Flow[None]:
    if _role(row) not in BLOCK_ROLES:
        return
    named = _named_block_seqs(reader.head) if BLOCK in reader.head.state else None
    seqs = set((yield from leading_block(reader)).seqs) if named is None else named
    if _seq(row) in seqs:
        raise ValidationError(
            f"message {row['id']!r} belongs to the instructions of thread {reader.head.id!r}; "
            "a call that brings new ones replaces them, and the conversation stays"
        )


def _named_block_seqs(head: Thread) -> set[int]:
    return set((head.state.get(BLOCK) or {}).get("seqs", ()))


def _edited_wire(wire: Wire, content: Any) -> Wire:
    if wire.get("role") == "assistant":
        wire = {key: value for key, value in wire.items() if key in _SAID_BY_EDITOR}
    return {**wire, "content": content}


def _alternative(message: Message, index: Any) -> Wire:
    alternatives = message.alternatives
    if type(index) is not int or not 0 <= index < len(alternatives):
        raise ValidationError(
            f"message {message.id!r} has {len(alternatives)} alternatives, counted from 0; there is no {index!r}"
        )
    chosen: Wire = alternatives[index]
    if chosen.get("role") != message.role:
        raise ValidationError(f"alternative {index} of message {message.id!r} is no message of the {message.role}")
    return chosen


def _calls(wire: Wire) -> bool:
    return bool(wire.get("tool_calls") or wire.get("function_call"))


def _role(row: MessageRow) -> Any:
    return row["wire"].get("role")


def _seq(row: MessageRow) -> int:
    return row.get("seq", 0)
