"""FIFOAlgorithm: the newest messages, in whole exchanges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from memexllm.algorithms._marks import Marks, advance, fold, from_cut, newest_that_fit
from memexllm.algorithms.base import CUT, BaseAlgorithm, ContextView, Plan, Reads
from memexllm.core.errors import ValidationError
from memexllm.core.exchanges import Exchange, exchanges
from memexllm.core.flow import Flow
from memexllm.core.models import Message, Thread
from memexllm.core.refusals import checked_positive
from memexllm.core.wire import MessageRow


class FIFOAlgorithm(BaseAlgorithm):
    """The newest whole exchanges that fit in `max_messages`; the call's own messages count, the block does not.

    `keep=None` slides: every call sends exactly the newest. With `keep` (messages, or below 1 a fraction of
    `max_messages`) the front of the window rests until `max_messages` is passed and then moves on to `keep`, which
    leaves the provider's prompt cache whole in between.
    """

    observes_messages = False

    def __init__(self, max_messages: int = 100, keep: float | None = None) -> None:
        checked_positive(max_messages, "max_messages")
        super().__init__(max_messages=max_messages)
        self.keep = keep
        self._marks = None if keep is None else Marks(max_messages, _low_mark(max_messages, keep))

    def __repr__(self) -> str:
        keep = "" if self.keep is None else f", keep={self.keep:g}"
        return f"FIFOAlgorithm(max_messages={self.max_messages}{keep})"

    def get_message_window(self, messages: list[Message]) -> list[Message]:
        """The newest exchange is always among them; what else a call cannot do without is added by `plan` alone."""
        groups = exchanges([_placed(message, place) for place, message in enumerate(messages)])
        cut = self._resting_cut(groups)
        kept: set[str] = set()
        for group in reversed(groups):
            if kept and (len(kept) + len(group) > (self.max_messages or 0) or (group.seq or 0) < cut):
                break
            kept.update(row["id"] for row in group.rows)
        return [message for message in messages if message.id in kept]

    def process_thread(self, thread: Thread, new_message: Message) -> None:
        """Put the message at the end of `thread` and leave the window of it there; `thread` is the caller's."""
        thread.add_message(new_message)
        thread.messages = self.get_message_window(thread.messages)

    def plan(self, view: ContextView) -> Flow[Plan]:
        yield from ()
        state: dict[str, Any] = {}
        if self._marks is None:
            keep = newest_that_fit(view, self.max_messages or 0, _one)
        else:
            cut = advance(view, self._marks, _one, _cut_of(view, self._marks))
            if cut != view.state.get(CUT, 0):
                state[CUT] = cut
            keep = from_cut(view, cut)
        return Plan(
            [exchange for exchange, kept in zip(view.exchanges, keep, strict=True) if kept],
            state=state,
            excluded={
                row["id"]: "older than the window"
                for exchange, kept in zip(view.exchanges, keep, strict=True)
                if not kept
                for row in exchange.rows
            },
        )

    def reads(self, state: Mapping[str, Any]) -> Reads:
        if self._marks is None:
            return Reads(newest=self.max_messages)
        return Reads(after_seq=state[CUT] - 1) if CUT in state else Reads()

    def _resting_cut(self, groups: Sequence[Exchange]) -> int:
        """Where the cut of a thread of these exchanges is when its newest one is sent."""
        if self._marks is None or not groups:
            return 0
        view = ContextView(groups[:-1], incoming=groups[-1].rows)
        return advance(view, self._marks, _one, _cut_of(view, self._marks))


def _cut_of(view: ContextView, marks: Marks) -> int:
    cut = view.state.get(CUT)
    if isinstance(cut, int):
        return cut
    return fold([row for exchange in view.exchanges for row in exchange.rows], marks, _one)


def _placed(message: Message, place: int) -> MessageRow:
    """Its row with a seq: messages that were never stored have none."""
    row = message.row()
    row["seq"] = place
    return row


def _one(row: MessageRow) -> int:
    return 1


def _low_mark(max_messages: int, keep: float) -> int:
    low = int(keep * max_messages) if keep < 1 else int(keep)
    if not 1 <= low <= max_messages:
        raise ValidationError(f"keep is between 1 and max_messages={max_messages}, or a fraction of it; got {keep!r}")
    return low
