"""FIFOAlgorithm: the newest messages, in whole exchanges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from memexllm.algorithms._marks import Marks, advance, fold, from_cut, newest_that_fit
from memexllm.algorithms.base import CUT, BaseAlgorithm, ContextView, Plan, Reads
from memexllm.core.errors import ValidationError
from memexllm.core.exchanges import exchanges
from memexllm.core.flow import Flow, run
from memexllm.core.models import Message
from memexllm.core.wire import MessageRow


class FIFOAlgorithm(BaseAlgorithm):
    """The newest whole exchanges that fit in `max_messages`; the call's own messages count, the block does not.

    `keep=None` slides: every call sends exactly the newest. With `keep` (messages, or below 1 a fraction of
    `max_messages`) the front of the window rests until `max_messages` is passed and then moves on to `keep`, which
    leaves the provider's prompt cache whole in between.
    """

    def __init__(self, max_messages: int = 100, keep: float | None = None) -> None:
        super().__init__(max_messages=max_messages)
        self.keep = keep
        self._marks = None if keep is None else Marks(max_messages, _low_mark(max_messages, keep))

    def get_message_window(self, messages: list[Message]) -> list[Message]:
        by_id = {message.id: message for message in messages}
        window = run(self.plan(ContextView(exchanges([message.row() for message in messages]))))
        kept = {row["id"] for exchange in window.exchanges for row in exchange.rows}
        return [message for message_id, message in by_id.items() if message_id in kept]

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


def _cut_of(view: ContextView, marks: Marks) -> int:
    cut = view.state.get(CUT)
    if isinstance(cut, int):
        return cut
    return fold([row for exchange in view.exchanges for row in exchange.rows], marks, _one)


def _one(row: MessageRow) -> int:
    return 1


def _low_mark(max_messages: int, keep: float) -> int:
    low = int(keep * max_messages) if keep < 1 else int(keep)
    if not 1 <= low <= max_messages:
        raise ValidationError(f"keep is between 1 and max_messages={max_messages}, or a fraction of it; got {keep!r}")
    return low
