"""What was played, as rows: for people a table, for programs JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.context.caching import DISCOUNTS, Bill
from benchmarks.context.marks import Matched
from benchmarks.context.workloads import Workload


@dataclass
class Row:
    """One policy on one workload; tokens and prices are those of a mean call.

    `matched` is our token window at the same kept context: its budget, what it keeps, its prices and how much of the
    policy's price they are. `stopped` says why a policy could not go on.
    """

    workload: str
    budget: int
    policy: str
    sent: float = 0
    kept: float = 0
    cached_share: float = 0
    moves: int = 0
    summariser_calls: int = 0
    refused: int = 0
    prices: dict[str, float] = field(default_factory=dict[str, float])
    matched: dict[str, float | dict[str, float]] | None = None
    series: dict[str, list[int]] | None = None
    stopped: str | None = None


def row_of(workload: Workload, budget: int, policy: str, bill: Bill, *, series: bool = False) -> Row:
    return Row(
        workload.name,
        budget,
        policy,
        sent=round(sum(bill.sent) / len(bill.sent), 1),
        kept=round(bill.mean_kept, 1),
        cached_share=round(bill.cached_share, 4),
        moves=bill.moves,
        summariser_calls=len(bill.summaries),
        refused=bill.n_refused,
        prices=_prices(bill),
        series={"sent": bill.sent, "cached": bill.cached, "kept": bill.kept} if series else None,
    )


def matched_of(matched: Matched, prices: Mapping[str, float]) -> dict[str, float | dict[str, float]]:
    ours = _prices(matched.bill)
    return {
        "budget": matched.budget,
        "kept": round(matched.bill.mean_kept, 1),
        "prices": ours,
        "of_theirs": {discount: round(ours[discount] / price, 4) for discount, price in prices.items()},
    }


def as_json(rows: Iterable[Row]) -> list[dict[str, Any]]:
    return [{name: value for name, value in asdict(row).items() if value is not None} for row in rows]


def merged(known: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """What a file of figures holds after another run: lists are replaced entry by entry, by what an entry is of."""
    result = dict(known)
    for name, value in found.items():
        if isinstance(value, list):
            entries = {_of(entry): entry for entry in (*known.get(name, ()), *value)}
            result[name] = list(entries.values())
        else:
            result[name] = value
    return result


def _of(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(entry.get(key) for key in ("workload", "budget", "policy", "what"))


def table(rows: Sequence[Row]) -> str:
    """Markdown, one table for each workload and budget."""
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.workload, row.budget), []).append(row)
    return "\n\n".join(
        f"{workload}, {budget:,} tokens of history\n\n{_table(group)}" for (workload, budget), group in groups.items()
    )


def _table(rows: Sequence[Row]) -> str:
    matched = any(row.matched for row in rows)
    heads = ["policy", "kept", "cached", "front moved", *(f"{discount:.0%} off" for discount in DISCOUNTS)]
    heads += ["summaries", "invalid", *(["ours at the same kept, 75 % / 90 % off"] if matched else [])]
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    lines += ["| " + " | ".join(_cells(row, matched=matched)) + " |" for row in rows]
    return "\n".join(lines)


def _cells(row: Row, *, matched: bool) -> list[str]:
    if row.stopped is not None:
        return [row.policy, row.stopped, *[""] * (len(DISCOUNTS) + 4 + matched)]
    cells = [row.policy, f"{row.kept:,.0f}", f"{row.cached_share:.0%}", f"{row.moves:,}"]
    cells += [f"{price:,.0f}" for price in row.prices.values()]
    cells += [f"{row.summariser_calls:,}" if row.summariser_calls else "", f"{row.refused:,}" if row.refused else ""]
    if matched:
        cells.append(_shares(row.matched) if row.matched else "")
    return cells


def _shares(matched: Mapping[str, float | dict[str, float]]) -> str:
    shares = matched["of_theirs"]
    assert isinstance(shares, dict)
    return " / ".join(f"{shares[str(discount)]:.2f}x" for discount in DISCOUNTS[1:])


def _prices(bill: Bill) -> dict[str, float]:
    return {str(discount): round(bill.price(discount), 1) for discount in DISCOUNTS}
