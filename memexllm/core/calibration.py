"""Calibration: what a server reports for a request, against what was counted for it.

Text is counted exactly for the models whose vocabulary is known. What a server adds for tools and images, and all
tokens of a model of another maker, are known only from its answers' `usage`. One sample and a slope say both: the
difference so far, and how it grows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

CALIBRATION = "calibration"
"""Key of the thread's state: the fields of a `Calibration` for each model that answered, the newest at the end."""

_MOST_MODELS = 4
_CLOSE = 0.005
"""As long as the estimate is this close to what is reported, nothing is learned: the state is not written for it."""
_APART = 256
"""Tokens that two samples must lie apart to say how a difference grows."""
_LEAST_SLOPE, _MOST_SLOPE = 0.5, 2.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """`reported` tokens for a request that was counted as `counted`; `slope` for each one more.

    The slope is found from a sample that lies far enough apart: the `far` ones, which calls that each add a little
    leave behind.
    """

    counted: int = 0
    reported: int = 0
    slope: float = 1.0
    far_counted: int = 0
    far_reported: int = 0

    def estimate(self, counted: int) -> int:
        """What the server will report for a request that is counted as `counted`."""
        return max(round(self.reported + self.slope * (counted - self.counted)), 0)

    def countable(self, reported: int) -> int:
        """What may be counted so that the server reports no more than `reported`."""
        return max(int(self.counted + (reported - self.reported) / self.slope), 0)

    def learned(self, counted: int, reported: int) -> Calibration:
        """With one more sample; itself when that says nothing new."""
        if counted <= 0 or reported <= 0 or abs(self.estimate(counted) - reported) <= _CLOSE * reported:
            return self
        if not self.far_counted:
            return Calibration(counted, reported, self.slope, counted, reported)
        apart = counted - self.far_counted
        if abs(apart) < _APART:
            return Calibration(counted, reported, self.slope, self.far_counted, self.far_reported)
        slope = min(max((reported - self.far_reported) / apart, _LEAST_SLOPE), _MOST_SLOPE)
        return Calibration(counted, reported, round(slope, 4), counted, reported)


_AS_COUNTED = Calibration()


def calibration_of(state: Mapping[str, Any], model: str | None) -> Calibration:
    """What is known of `model` in the thread of this state; by default counts are taken for right."""
    known: Mapping[str, Sequence[Any]] = state.get(CALIBRATION) or {}
    sample = known.get(model or "")
    return Calibration(*sample) if sample else _AS_COUNTED


def recalibrated(state: Mapping[str, Any], model: str | None, counted: int, reported: int) -> dict[str, Any]:
    """The change to `state` that a server's report makes; empty when it says nothing new."""
    before = calibration_of(state, model)
    after = before.learned(counted, reported)
    if after is before:
        return {}
    others = {name: sample for name, sample in (state.get(CALIBRATION) or {}).items() if name != (model or "")}
    newest = dict(list(others.items())[-(_MOST_MODELS - 1) :])
    return {CALIBRATION: {**newest, model or "": list(astuple(after))}}
