"""The plots of `docs/guides/context.md`: `python -m benchmarks.context.plots` writes them to `docs/images`.

Played are the first calls of the chat workload with a budget of 8,000 tokens, at 90 % off what is cached. The figures
are tokens, so the plots come out the same everywhere.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import ceil
from pathlib import Path
from xml.sax.saxutils import escape

from benchmarks.context.caching import Bill
from benchmarks.context.policies import PLAIN, Policy, ours, played, summarising
from benchmarks.context.workloads import MADE
from memexllm import TokenWindowAlgorithm

IMAGES = Path(__file__).parents[2] / "docs" / "images"
N_CALLS = 250
BUDGET = 8000
DISCOUNT = 0.9
SHOWN: Mapping[str, Policy] = {
    "sliding window": PLAIN["sliding window"],
    "everything": PLAIN["everything"],
    'TokenWindow, keep="auto"': ours(lambda room: TokenWindowAlgorithm(room.max_tokens, keep="auto")),
    "Summary": ours(summarising),
}
COLOURS = ("#c0392b", "#7f8c8d", "#1f6feb", "#2e8b57")

WIDTH, HEIGHT = 720, 340
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 52, 40
N_TICKS = 5


@dataclass(frozen=True)
class Plot:
    """Lines over the calls; `lines` by their names, each with a value a call."""

    title: str
    unit: str
    lines: Mapping[str, Sequence[float]]
    most: float | None = None
    """Where the scale ends; higher values leave the picture."""

    def svg(self) -> str:
        n_calls = max(len(values) for values in self.lines.values())
        most = self.most or _rounded(max(max(values) for values in self.lines.values()))
        size = f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12"'
        inside = f'x="{LEFT}" y="{TOP}" width="{WIDTH - LEFT - RIGHT}" height="{HEIGHT - TOP - BOTTOM}"'
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(self.title)}">',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
            f'<clipPath id="inside"><rect {inside}/></clipPath>',
            f'<text x="{LEFT}" y="18" font-size="14" font-weight="bold">{escape(self.title)}</text>',
            *self._scale(most, n_calls),
            *self._legend(),
        ]
        for colour, values in zip(COLOURS, self.lines.values(), strict=False):
            points = " ".join(f"{_x(i, n_calls):.1f},{_y(value, most):.1f}" for i, value in enumerate(values))
            style = f'fill="none" stroke="{colour}" stroke-width="1.6"'
            parts.append(f'<polyline clip-path="url(#inside)" {style} points="{points}"/>')
        return "\n".join([*parts, "</svg>\n"])

    def _scale(self, most: float, n_calls: int) -> list[str]:
        parts: list[str] = []
        for tick in range(N_TICKS + 1):
            value = most * tick / N_TICKS
            y = _y(value, most)
            parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#e5e5e5"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{value:,.0f}</text>')
            call = round((n_calls - 1) * tick / N_TICKS)
            place = f'x="{_x(call, n_calls):.1f}" y="{HEIGHT - 22}"'
            parts.append(f'<text {place} text-anchor="middle" fill="#555">{call + 1}</text>')
        parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">call</text>')
        parts.append(f'<text x="{LEFT - 58}" y="{TOP - 8}" fill="#555">{escape(self.unit)}</text>')
        return parts

    def _legend(self) -> list[str]:
        parts: list[str] = []
        x = LEFT + 60
        for colour, name in zip(COLOURS, self.lines, strict=False):
            parts.append(f'<line x1="{x}" y1="36" x2="{x + 18}" y2="36" stroke="{colour}" stroke-width="3"/>')
            parts.append(f'<text x="{x + 23}" y="40">{escape(name)}</text>')
            x += 40 + 7 * len(name)
        return parts


def _rounded(most: float) -> float:
    """Up, so that the scale's ticks are round numbers."""
    step = float(N_TICKS * 10 ** max(len(str(int(most))) - 2, 0))
    return ceil(most / step) * step


def _x(call: int, n_calls: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * call / max(n_calls - 1, 1)


def _y(value: float, most: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / most


def price_so_far(bill: Bill) -> list[float]:
    """Summed over the calls, a summariser's calls spread evenly over them."""
    summaries = bill.price(DISCOUNT) - (sum(bill.sent) - DISCOUNT * sum(bill.cached)) / len(bill.sent)
    paid = (sent - DISCOUNT * cached + summaries for sent, cached in zip(bill.sent, bill.cached, strict=True))
    return [price / 1000 for price in accumulate(paid)]


def plots(n_calls: int = N_CALLS) -> dict[str, Plot]:
    workload = MADE["chat"]().first(n_calls)
    bills = {name: played(policy, workload, BUDGET) for name, policy in SHOWN.items()}
    return {
        "context-tokens.svg": Plot(
            "Tokens sent per call, budget 8,000",
            "tokens",
            {name: bill.sent for name, bill in bills.items()},
            most=12_000,
        ),
        "context-price.svg": Plot(
            "Price so far, in thousands of tokens at full price (cached: 90 % off)",
            "thousand tokens",
            {name: price_so_far(bill) for name, bill in bills.items()},
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.context.plots", description=__doc__)
    parser.add_argument("--to", type=Path, default=IMAGES, help="the folder they are written to")
    folder = parser.parse_args().to
    folder.mkdir(parents=True, exist_ok=True)
    for name, plot in plots().items():
        (folder / name).write_text(plot.svg(), "utf-8")
        print(folder / name)


if __name__ == "__main__":
    main()
