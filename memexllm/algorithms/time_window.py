"""TimeWindowAlgorithm: messages of up to an age."""

from __future__ import annotations

from datetime import timedelta

from memexllm.algorithms._marks import Front, Pressure, seq_of
from memexllm.algorithms._noted import Arranged, NotedAlgorithm, divided, refold
from memexllm.algorithms.base import ContextView, required
from memexllm.algorithms.notes import Note
from memexllm.core.errors import ValidationError
from memexllm.core.flow import Flow
from memexllm.core.moments import micros_now

TOO_OLD = "older than the window's age"


class TimeWindowAlgorithm(NotedAlgorithm):
    """The whole exchanges that are at most `max_age` old (a `timedelta`, or seconds) when a call is made.

    An exchange is as old as its first message. Nothing moves until the oldest one of the window passes `max_age`; then
    the front moves to what is at most `keep` of it (a fraction) old and rests there, which leaves the provider's prompt
    cache whole in between. `keep=1` slides with every call. What must be sent is sent at any age.
    """

    def __init__(self, max_age: timedelta | float, keep: float = 0.6) -> None:
        super().__init__()
        age = max_age if isinstance(max_age, timedelta) else timedelta(seconds=max_age)
        if not age > timedelta(0):
            raise ValidationError(f"max_age is a timedelta, or seconds, of more than 0; got {max_age!r}")
        if not 0 < keep <= 1:
            raise ValidationError(f"keep is a fraction of max_age, above 0 and at most 1; got {keep!r}")
        self.max_age = age
        self.keep = keep
        self._high = round(age.total_seconds() * 1e6)
        self._low = round(age.total_seconds() * 1e6 * keep)

    def __repr__(self) -> str:
        return f"TimeWindowAlgorithm(max_age={self.max_age!r}, keep={self.keep:g})"

    def key(self, model: str | None) -> str:
        return f"age:{self._high}:{self._low}"

    def arrange(self, view: ContextView, note: Note, pressure: Pressure) -> Flow[Arranged]:
        yield from ()
        now = micros_now() if view.now is None else view.now
        must = required(view)
        front = Front.of(note)
        ages = [now - exchange.rows[0]["created_at"] for exchange in view.exchanges]
        # Held ones were needed when the window moved; they are let go when they are too old as well.
        if any(
            age > self._high and not wanted and front.keeps(exchange)
            for exchange, age, wanted in zip(view.exchanges, ages, must, strict=True)
        ):
            front = self._moved(view, must, ages, front)
        kept, excluded = divided(view, front.keep(view, must), TOO_OLD)
        return Arranged(kept, front.noted(), excluded)

    def fold(self, view: ContextView) -> Note:
        now = micros_now() if view.now is None else view.now
        if all(now - exchange.rows[0]["created_at"] <= self._high for exchange in view.exchanges):
            return {}
        return refold(view, lambda then, note: self.arrange(then, note, None))

    def _moved(self, view: ContextView, must: list[bool], ages: list[int], front: Front) -> Front:
        """Behind the newest exchange that is too old for the low mark."""
        too_old = [seq_of(exchange) for exchange, age in zip(view.exchanges, ages, strict=True) if age > self._low]
        later = [seq_of(exchange) for exchange in view.exchanges if not too_old or seq_of(exchange) > max(too_old)]
        end = max((row.get("seq", 0) for exchange in view.exchanges for row in exchange.rows), default=-1) + 1
        cut = max(front.cut, min(later, default=end))
        held = [
            seq_of(each) for each, wanted in zip(view.exchanges, must, strict=True) if wanted and seq_of(each) < cut
        ]
        return Front(cut, tuple(held))
