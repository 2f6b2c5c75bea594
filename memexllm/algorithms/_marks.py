"""Two marks: the window's front rests at a *cut* until the high mark is passed, then moves to the low mark.

Providers discount a repeated prompt prefix, so a front that moves on every call pays full price on every call. The cut
is the seq of the first message of the window. It is kept in the thread's state; when it is missing it is found again by
a fold over the stored calls, which moves it exactly where the calls themselves did.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from memexllm.algorithms.base import ContextView, required
from memexllm.core.exchanges import Exchange, exchanges
from memexllm.core.wire import MessageRow

Cost = Callable[[MessageRow], int]


@dataclass(frozen=True, slots=True)
class Marks:
    """Nothing moves until the cost of what would be sent passes `high`; then as much is kept as fits in `low`."""

    high: int
    low: int


def newest_that_fit(view: ContextView, budget: int, cost: Cost) -> list[bool]:
    """For each exchange whether it is kept: the required ones, and the newest others that fit beside them."""
    keep = required(view)
    costs = [sum(map(cost, exchange.rows)) for exchange in view.exchanges]
    left = budget - sum(map(cost, view.incoming)) - sum(c for c, must in zip(costs, keep, strict=True) if must)
    for index in range(len(keep) - 1, -1, -1):
        if keep[index]:
            continue
        left -= costs[index]
        if left < 0:
            break
        keep[index] = True
    return keep


def advance(view: ContextView, marks: Marks, cost: Cost, cut: int) -> int:
    """Where the cut is when `view` is sent: at `cut` unless the high mark is passed."""
    must = required(view)
    sent = sum(map(cost, view.incoming))
    for exchange, wanted in zip(view.exchanges, must, strict=True):
        if wanted or _seq(exchange) >= cut:
            sent += sum(map(cost, exchange.rows))
    if sent <= marks.high:
        return cut
    kept = newest_that_fit(view, marks.low, cost)
    # The front of the run of newest exchanges; required ones further back do not hold the cut.
    first = len(kept)
    while first > 0 and kept[first - 1]:
        first -= 1
    if first < len(kept):
        return max(cut, _seq(view.exchanges[first]))
    if any(kept) and _newest_fits(view, must, marks.high, cost):
        return max(cut, _seq(view.exchanges[-1]))
    return max(cut, _last_seq(view.exchanges) + 1)


def _newest_fits(view: ContextView, must: Sequence[bool], high: int, cost: Cost) -> bool:
    """Pins can fill the low mark; the newest exchange is kept beside them as long as the high one allows."""
    wanted = [*must[:-1], True]
    sent = sum(map(cost, view.incoming))
    sent += sum(
        cost(row) for exchange, keep in zip(view.exchanges, wanted, strict=True) if keep for row in exchange.rows
    )
    return sent <= high


def from_cut(view: ContextView, cut: int) -> list[bool]:
    """For each exchange whether it is kept: what lies at or after the cut, and the required ones."""
    return [must or _seq(exchange) >= cut for exchange, must in zip(view.exchanges, required(view), strict=True)]


def fold(rows: Sequence[MessageRow], marks: Marks, cost: Cost) -> int:
    """The cut after the calls that are stored in `rows`: each answer (a row with an origin) was one."""
    cut = 0
    sent = 0
    history = 0
    pinned = sum(cost(row) for exchange in exchanges(rows) if exchange.pinned for row in exchange.rows)
    opener = 0
    for index, row in enumerate(rows):
        if row["wire"].get("role") == "user":
            opener = cost(row)
        if "origin" in row:
            # What is required behind the cut counts as well; `advance` knows exactly what that is.
            if sent + opener + pinned > marks.high:
                view = ContextView(exchanges(rows[:history]), rows[history:index])
                cut = advance(view, marks, cost, cut)
                sent = sum(cost(other) for other in rows[:index] if other.get("seq", 0) >= cut)
            history = index + 1
        sent += cost(row)
    return cut


def _seq(exchange: Exchange) -> int:
    return exchange.rows[0].get("seq", 0)


def _last_seq(group: Sequence[Exchange]) -> int:
    return max((row.get("seq", 0) for exchange in group for row in exchange.rows), default=-1)
