"""What goes over the wire, decided before any of it is sent."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from memexllm.testing.server.errors import error_headers, error_json
from memexllm.testing.server.outcomes import ServerError, Waitable


@dataclass(frozen=True)
class Event:
    """One server-sent event; its text without the frame."""

    text: str
    counts: bool = True
    """Whether it is one of the k chunks that "after k chunks" speaks of."""
    name: str | None = None
    """The frame's `event:` line; chat chunks have none."""


@dataclass(frozen=True)
class Wait:
    gate: Waitable


@dataclass(frozen=True)
class Cut:
    """The connection is closed here, with the answer unfinished."""


Step: TypeAlias = Event | Wait | Cut


@dataclass(frozen=True)
class Delivery:
    """A response: `body` in one piece, or `steps` of a stream when `body` is None."""

    status: int | None
    """None: the connection is closed without an answer."""
    body: bytes | None = None
    steps: tuple[Step, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    gates: tuple[Waitable, ...] = ()
    """Waited for, in order, before the first byte."""


DONE = Event("[DONE]", counts=False)
NO_ANSWER = Delivery(None)


def json_delivery(content: Mapping[str, Any], status: int = 200) -> Delivery:
    return Delivery(status, body=json.dumps(content).encode())


def error_delivery(error: ServerError) -> Delivery:
    return replace(json_delivery(error_json(error), error.status), headers=error_headers(error))


def stream_delivery(chunks: Iterable[Mapping[str, Any]], *, done: bool) -> Delivery:
    events = [Event(json.dumps(chunk)) for chunk in chunks]
    return Delivery(200, steps=(*events, DONE) if done else tuple(events))


def held(delivery: Delivery, gate: Waitable, before_chunk: int | None) -> Delivery:
    if before_chunk is None or delivery.body is not None or delivery.status is None:
        return replace(delivery, gates=(gate, *delivery.gates))
    head, tail = _split(delivery.steps, before_chunk)
    return replace(delivery, steps=(*head, Wait(gate), *tail))


def cut_after(delivery: Delivery, n_chunks: int | None) -> Delivery:
    if n_chunks is None or delivery.body is not None:
        return NO_ANSWER
    return replace(delivery, steps=(*_split(delivery.steps, n_chunks)[0], Cut()))


def failed_after(delivery: Delivery, n_chunks: int, error_event: Callable[[int], Event]) -> Delivery:
    """`error_event` is given the number of events that go before it."""
    head = _split(delivery.steps, n_chunks)[0]
    return replace(delivery, steps=(*head, error_event(sum(isinstance(step, Event) for step in head))))


def slowed(delivery: Delivery, pace: Waitable | float) -> Delivery:
    if delivery.status is None or delivery.body is not None:
        return replace(delivery, gates=(_pause(pace), *delivery.gates))
    steps: list[Step] = []
    for step in delivery.steps:
        if isinstance(step, Event) and step.counts:
            steps.append(Wait(_pause(pace)))
        steps.append(step)
    return replace(delivery, steps=tuple(steps))


def _pause(pace: Waitable | float) -> Waitable:
    return _Pause(pace) if isinstance(pace, int | float) else pace


class _Pause:
    """Is open `seconds` after somebody first came to wait."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: float | None = None

    def wait(self, timeout: float | None = None, /) -> bool:
        if self._until is None:
            self._until = time.monotonic() + self._seconds
        left = self._until - time.monotonic()
        if left > 0:
            time.sleep(left if timeout is None else min(left, timeout))
        return time.monotonic() >= self._until


def _split(steps: tuple[Step, ...], n_chunks: int) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """The steps up to the end of the n-th chunk and the rest; `[DONE]` is always in the rest."""
    position = next(_ends(steps, n_chunks), len(steps))
    return steps[:position], steps[position:]


def _ends(steps: tuple[Step, ...], n_chunks: int) -> Iterator[int]:
    n_passed = 0
    for position, step in enumerate(steps):
        if isinstance(step, Event):
            if n_passed == n_chunks or not step.counts:
                yield position
            n_passed += 1
