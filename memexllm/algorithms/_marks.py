"""Two marks: the window's front rests at a *cut* until the high mark is passed, then moves to the low mark.

Providers discount a repeated prompt prefix, so a front that moves on every call pays full price on every call. The cut
is the seq of the first message of the window. What must be sent and lies before it (the user message that opened the
turn) is *held*: it is sent until the cut moves again, also when it need not be any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from memexllm.algorithms.base import ContextView
from memexllm.algorithms.notes import CUT, HELD, Note
from memexllm.core.exchanges import Exchange
from memexllm.core.wire import MessageRow

Cost = Callable[[MessageRow], int]
Pressure = bool | None
"""Whether a window has to give way: when its own high mark is passed (None), now (True), or not now (False)."""


@dataclass(frozen=True, slots=True)
class Marks:
    """Nothing moves until the cost of what would be sent passes `high`; then as much is kept as fits in `low`.

    The low mark may depend on what a thread's calls add, so it is found when something moves.
    """

    high: int
    find_low: Callable[[], int]


@dataclass(frozen=True, slots=True)
class Front:
    """Where a window begins: at `cut`, with the exchanges at the seqs `held` further back."""

    cut: int = 0
    held: tuple[int, ...] = ()

    @classmethod
    def of(cls, note: Note) -> Front:
        return cls(note.get(CUT) or 0, tuple(note.get(HELD) or ()))

    def noted(self) -> dict[str, object]:
        held: dict[str, object] = {HELD: list(self.held)} if self.held else {}
        return {CUT: self.cut, **held} if self.cut else held

    def keeps(self, exchange: Exchange) -> bool:
        return seq_of(exchange) >= self.cut or seq_of(exchange) in self.held

    def keep(self, view: ContextView, must: Sequence[bool]) -> list[bool]:
        """For each exchange whether it is kept: those of the window, and the required ones."""
        return [wanted or self.keeps(exchange) for exchange, wanted in zip(view.exchanges, must, strict=True)]


def newest_that_fit(view: ContextView, must: Sequence[bool], budget: int, cost: Cost) -> list[bool]:
    """For each exchange whether it is kept: the required ones, and the newest others that fit beside them."""
    keep = list(must)
    costs = [cost_of(exchange, cost) for exchange in view.exchanges]
    left = budget - sum(map(cost, view.incoming)) - sum(c for c, must in zip(costs, keep, strict=True) if must)
    for index in range(len(keep) - 1, -1, -1):
        if keep[index]:
            continue
        left -= costs[index]
        if left < 0:
            break
        keep[index] = True
    return keep


def advance(
    view: ContextView, must: Sequence[bool], marks: Marks, cost: Cost, front: Front, pressure: Pressure = None
) -> Front:
    """Where the window begins when `view` is sent: at `front`, unless it has to give way. `must` as of `required`."""
    if pressure is False:
        return front
    sent = sum(map(cost, view.incoming))
    for exchange, wanted in zip(view.exchanges, must, strict=True):
        if wanted or front.keeps(exchange):
            sent += cost_of(exchange, cost)
    if not pressure and sent <= marks.high:
        return front
    low = marks.find_low()
    if sent <= low:
        return front
    cut = max(front.cut, _low_cut(view, must, marks.high, low, cost))
    held = [seq_of(each) for each, wanted in zip(view.exchanges, must, strict=True) if wanted and seq_of(each) < cut]
    return Front(cut, tuple(held))


def _low_cut(view: ContextView, must: Sequence[bool], high: int, low: int, cost: Cost) -> int:
    kept = newest_that_fit(view, must, low, cost)
    # The front of the run of newest exchanges; required ones further back do not hold the cut.
    first = len(kept)
    while first > 0 and kept[first - 1]:
        first -= 1
    if first < len(kept):
        return seq_of(view.exchanges[first])
    if any(kept) and _newest_fits(view, must, high, cost):
        return seq_of(view.exchanges[-1])
    return last_seq(view.exchanges) + 1


def _newest_fits(view: ContextView, must: Sequence[bool], high: int, cost: Cost) -> bool:
    """Pins can fill the low mark; the newest exchange is kept beside them as long as the high one allows."""
    wanted = [*must[:-1], True]
    sent = sum(map(cost, view.incoming))
    sent += sum(cost_of(exchange, cost) for exchange, keep in zip(view.exchanges, wanted, strict=True) if keep)
    return sent <= high


def cost_of(exchange: Exchange, cost: Cost) -> int:
    return sum(map(cost, exchange.rows))


def seq_of(exchange: Exchange) -> int:
    return exchange.rows[0].get("seq", 0)


def last_seq(group: Sequence[Exchange]) -> int:
    return max((row.get("seq", 0) for exchange in group for row in exchange.rows), default=-1)
