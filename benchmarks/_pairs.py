"""Measure contestants in turn, so that whatever else the machine does strikes all of them alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Samples:
    """Microseconds an operation took, of CPU if nothing else is said; one number a round."""

    cpu_us: list[float]

    @property
    def median(self) -> float:
        return median(self.cpu_us)

    @property
    def minimum(self) -> float:
        return min(self.cpu_us)


Batch = Callable[[int], None]
"""Does an operation so many times."""


def measured(
    contestants: Mapping[str, Batch],
    *,
    n_rounds: int,
    n_operations: int,
    clock: Callable[[], int] = time.process_time_ns,
) -> dict[str, Samples]:
    """Every round runs each contestant's batch once; who begins moves on by one each round."""
    names = list(contestants)
    samples: dict[str, list[float]] = {name: [] for name in names}
    for batch in contestants.values():
        batch(n_operations)
    gc.collect()
    gc.disable()
    try:
        for number in range(n_rounds):
            first = number % len(names)
            for name in (*names[first:], *names[:first]):
                started_at = clock()
                contestants[name](n_operations)
                samples[name].append((clock() - started_at) / 1000 / n_operations)
            gc.collect(0)
    finally:
        gc.enable()
    return {name: Samples(values) for name, values in samples.items()}


def ratio(ours: Samples, floor: Samples) -> str:
    """Ours over the floor: the median of the pairs, and the quotient of the minima."""
    pairs = median(a / b for a, b in zip(ours.cpu_us, floor.cpu_us, strict=True))
    return f"{pairs:5.2f}x median of pairs, {ours.minimum / floor.minimum:5.2f}x of minima"


def difference_us(ours: Samples, floor: Samples) -> tuple[float, float]:
    """What ours takes more: the median of the pairs, and the difference of the minima."""
    pairs = median(a - b for a, b in zip(ours.cpu_us, floor.cpu_us, strict=True))
    return pairs, ours.minimum - floor.minimum


def line(name: str, samples: Samples) -> str:
    return f"  {name:44} {samples.median:9.1f} us median {samples.minimum:9.1f} us minimum"
