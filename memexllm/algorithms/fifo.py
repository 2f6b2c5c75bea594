"""FIFOAlgorithm: the newest messages, in whole exchanges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from memexllm.algorithms._marks import Front, Marks, Pressure, advance, newest_that_fit
from memexllm.algorithms._noted import OLDER, Arranged, NotedAlgorithm, divided, refold
from memexllm.algorithms.base import ContextView, Reads, required
from memexllm.algorithms.notes import Note
from memexllm.core.errors import ValidationError
from memexllm.core.exchanges import exchanges
from memexllm.core.flow import Flow
from memexllm.core.models import Message, Thread
from memexllm.core.refusals import checked_positive
from memexllm.core.wire import MessageRow


class FIFOAlgorithm(NotedAlgorithm):
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
        low = max_messages if keep is None else _low_mark(max_messages, keep)
        self._limit = max_messages
        self._marks = None if keep is None else Marks(max_messages, lambda: low)
        self._key = f"messages:{max_messages}:{low}"

    def __repr__(self) -> str:
        keep = "" if self.keep is None else f", keep={self.keep:g}"
        return f"FIFOAlgorithm(max_messages={self.max_messages}{keep})"

    def get_message_window(self, messages: list[Message]) -> list[Message]:
        """The newest exchange is always among them; what else a call cannot do without is added by `plan` alone."""
        groups = exchanges([_placed(message, place) for place, message in enumerate(messages)])
        view = ContextView(groups[:-1], incoming=groups[-1].rows if groups else ())
        note = self.fold(view)
        if self._marks is not None and groups:
            note = advance(view, required(view), self._marks, _one, Front.of(note)).noted()
        kept: set[str] = set()
        for group in reversed(groups):
            if kept and (len(kept) + len(group) > self._limit or not Front.of(note).keeps(group)):
                break
            kept.update(row["id"] for row in group.rows)
        return [message for message in messages if message.id in kept]

    def process_thread(self, thread: Thread, new_message: Message) -> None:
        """Put the message at the end of `thread` and leave the window of it there; `thread` is the caller's."""
        thread.add_message(new_message)
        thread.messages = self.get_message_window(thread.messages)

    def key(self, model: str | None) -> str:
        return self._key

    def arrange(self, view: ContextView, note: Note, pressure: Pressure) -> Flow[Arranged]:
        yield from ()
        must = required(view)
        if self._marks is None:
            front = Front()
            keep = newest_that_fit(view, must, self._limit, _one)
        else:
            # Messages are not tokens: this limit is its own, whatever else gives way.
            front = advance(view, must, self._marks, _one, Front.of(note))
            keep = front.keep(view, must)
        kept, excluded = divided(view, keep, OLDER)
        return Arranged(kept, front.noted(), excluded)

    def fold(self, view: ContextView) -> Note:
        if self._marks is None:
            return {}
        return refold(view, lambda then, note: self.arrange(then, note, None), _one, self._marks.high)

    def reads(self, state: Mapping[str, Any], model: str | None = None) -> Reads:
        return Reads(newest=self.max_messages) if self._marks is None else super().reads(state, model)


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
