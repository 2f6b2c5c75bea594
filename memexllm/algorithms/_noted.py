"""Algorithms that keep a note on each thread: where their window rests between calls, and what they made of the rest.

`plan` is the same for all of them: take the note from the thread's state, or find it again from the stored calls;
`arrange` the window; keep the note that came of it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from memexllm.algorithms._marks import Cost, Pressure
from memexllm.algorithms.base import BaseAlgorithm, ContextView, Plan, Reads
from memexllm.algorithms.notes import CUT, HELD, Note, note_of, with_note
from memexllm.core.exchanges import Exchange, exchanges
from memexllm.core.flow import Flow, run
from memexllm.core.models import Message
from memexllm.core.wire import MessageRow

OLDER = "older than the window"
Counts = dict[str, tuple[int, str]]


@dataclass(frozen=True, slots=True)
class Arranged:
    """A window and the note that goes with it; the rest is as in `Plan`, `tokens` those of the whole request."""

    exchanges: Sequence[Exchange]
    note: Note
    excluded: Mapping[str, str] = field(default_factory=dict[str, str])
    shortened: Mapping[str, str] = field(default_factory=dict[str, str])
    head: Sequence[MessageRow] = ()
    tokens: int | None = None
    counts: Mapping[str, tuple[int, str]] = field(default_factory=dict[str, "tuple[int, str]"])


class NotedAlgorithm(BaseAlgorithm):
    """Subclasses say `key` and `arrange`, and `fold` when the note can be found again from the stored calls."""

    gives_way_only: bool = False
    """Whether the window moves only when a token budget is passed, never by a limit of its own."""

    @abstractmethod
    def key(self, model: str | None) -> str:
        """Names this window among those on a thread: two that cut at different places have different keys."""

    @abstractmethod
    def arrange(self, view: ContextView, note: Note, pressure: Pressure) -> Flow[Arranged]:
        """The window of `view`, which rests where `note` says unless it has to move."""

    def fold(self, view: ContextView) -> Note:
        """The note as the stored calls of `view` have left it; an empty one when nothing was cut."""
        return {}

    def get_message_window(self, messages: list[Message]) -> list[Message]:
        rows = [message.row() for message in messages]
        for place, row in enumerate(rows):
            row["seq"] = place
        groups = exchanges(rows)
        newest = groups[-1].rows if groups else ()
        view = ContextView(groups[:-1], incoming=newest, now=rows[-1]["created_at"] if rows else None, occasion="look")
        planned = run(self.plan(view)).exchanges
        sent = {row["id"]: row for row in (*newest, *(row for exchange in planned for row in exchange.rows))}
        given = {row["id"]: row["wire"] for row in rows}
        return [
            message if sent[message.id]["wire"] is given[message.id] else Message.from_row(sent[message.id])
            for message in messages
            if message.id in sent
        ]

    def plan(self, view: ContextView) -> Flow[Plan]:
        key = self.key(view.model)
        kept = note_of(view.state, key)
        note = self.fold(view) if kept is None else kept
        arranged = yield from self.arrange(view, note, None)
        changed = dict(arranged.note) != dict(kept or {})
        return Plan(
            arranged.exchanges,
            state=with_note(view.state, key, arranged.note) if changed else {},
            excluded=arranged.excluded,
            shortened=arranged.shortened,
            head=arranged.head,
            cut=arranged.note.get(CUT) or None,
            tokens=arranged.tokens,
            counts=arranged.counts,
        )

    def reads(self, state: Mapping[str, Any], model: str | None = None) -> Reads:
        note = note_of(state, self.key(model)) or {}
        return Reads(after_seq=note[CUT] - 1, also=note.get(HELD) or ()) if note.get(CUT) else Reads()


def divided(view: ContextView, keep: Sequence[bool], reason: str) -> tuple[list[Exchange], dict[str, str]]:
    """The exchanges that are kept, and the reason for each message of the others."""
    kept = [exchange for exchange, wanted in zip(view.exchanges, keep, strict=True) if wanted]
    excluded = {
        row["id"]: reason
        for exchange, wanted in zip(view.exchanges, keep, strict=True)
        if not wanted
        for row in exchange.rows
    }
    return kept, excluded


def refold(
    view: ContextView, arrange: Callable[[ContextView, Note], Flow[Arranged]], cost: Cost | None = None, high: int = 0
) -> Note:
    """The note after the calls that are stored in `view`: each answer (a row with an origin) was one.

    With `cost`, calls for which `high` was certainly not passed are not arranged again. Without it every call is, which
    takes a window's length for each.
    """
    note: Note = {}
    window: dict[str, MessageRow] = {}
    bound = 0
    for before, incoming, answer in stored_calls(view):
        window.update((row["id"], row) for row in before)
        bound += 0 if cost is None else sum(map(cost, (*before[-1:], *incoming)))
        if cost is None or bound > high:
            then = replace(
                view,
                exchanges=exchanges(list(window.values())),
                incoming=incoming,
                # When the call was made: what it brought was stamped then, its answer came later.
                now=(incoming[-1] if incoming else answer)["created_at"],
                occasion="look",
                state={},
            )
            arranged = run(arrange(then, note))
            note = arranged.note
            kept = {row["id"] for exchange in arranged.exchanges for row in exchange.rows}
            window = {row_id: row for row_id, row in window.items() if row_id in kept}
            if cost is not None:
                sent = (*(row for exchange in arranged.exchanges for row in exchange.rows), *incoming)
                bound = sum(map(cost, sent))
    return note


def stored_calls(view: ContextView) -> Iterator[tuple[list[MessageRow], list[MessageRow], MessageRow]]:
    """Of each stored call: what was stored since the one before had its view, what it brought, and its answer."""
    before: list[MessageRow] = []
    incoming: list[MessageRow] = []
    for row in _in_order(view):
        if "origin" in row:
            yield before, incoming, row
            before, incoming = [*incoming, row], []
        else:
            incoming.append(row)


def _in_order(view: ContextView) -> list[MessageRow]:
    return sorted((row for exchange in view.exchanges for row in exchange.rows), key=lambda row: row.get("seq", 0))
