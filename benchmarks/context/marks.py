"""Two marks beside others: the best low mark for a workload, and our price at the context somebody else keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.context.caching import Bill
from benchmarks.context.policies import played, two_marks
from benchmarks.context.workloads import Workload
from memexllm import WindowError

FIXED_MARKS = tuple(step / 40 for step in range(20, 40))
"""0.5 to 0.975 of the budget."""
SAME = 0.01
"""Kept contexts that differ by no more are the same; the search ends."""
CLOSE = 0.03
"""Further apart they are not compared."""


def bills_of_marks(workload: Workload, budget: int, marks: Sequence[float] = FIXED_MARKS) -> dict[float, Bill]:
    """What each fixed low mark costs."""
    return {mark: played(two_marks(mark), workload, budget) for mark in marks}


def best_mark(bills: Mapping[float, Bill], budget: int, discount: float) -> float:
    """The mark of least `Bill.worth`: what `keep="auto"` is measured by."""
    return min(bills, key=lambda mark: bills[mark].worth(discount, budget))


@dataclass(frozen=True)
class Matched:
    """Our token window that keeps as much as somebody else does: its budget, and what it costs."""

    budget: int
    bill: Bill


class Matcher:
    """Finds them for one workload; `keep` is the low mark as a share of the budget. Nothing is played twice."""

    def __init__(self, workload: Workload, keep: float = 0.6) -> None:
        self._workload = workload
        self._policy = two_marks(keep)
        self._bills: dict[int, Bill | None] = {}

    def at(self, kept: float, n_tries: int = 8) -> Matched | None:
        """The budget at which the mean kept context is `kept`, found by secants; the nearest that was tried.

        None when that is not `CLOSE`: what must be sent (a long result of a tool) may not fit in so small a budget.
        """
        budget = max(1, round(kept * 1.3))
        below, above = 0.0, float("inf")
        for _ in range(n_tries):
            nearest = self._nearest(kept)
            if nearest is not None and abs(nearest.bill.mean_kept - kept) <= SAME * kept:
                break
            bill = self._bill(budget)
            found = bill.mean_kept if bill else 0
            below, above = (budget, above) if found < kept else (below, budget)
            guess = budget * kept / found if found else 2 * budget
            budget = round(guess if below < guess < above else (below + above) / 2)
        nearest = self._nearest(kept)
        return nearest if nearest is not None and abs(nearest.bill.mean_kept - kept) <= CLOSE * kept else None

    def _nearest(self, kept: float) -> Matched | None:
        tried = [Matched(budget, bill) for budget, bill in self._bills.items() if bill is not None]
        return min(tried, key=lambda matched: abs(matched.bill.mean_kept - kept), default=None)

    def _bill(self, budget: int) -> Bill | None:
        """None when what must be sent does not fit."""
        if budget not in self._bills:
            try:
                self._bills[budget] = played(self._policy, self._workload, budget)
            except WindowError:
                self._bills[budget] = None
        return self._bills[budget]
