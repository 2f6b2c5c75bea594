"""What goes over the wire, decided before any of it is sent."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from memexllm.testing.server.errors import error_headers, error_json
from memexllm.testing.server.jsontypes import JSONObject
from memexllm.testing.server.outcomes import ServerError, Waitable


@dataclass(frozen=True)
class Event:
    """One server-sent event; its text without the frame."""

    text: str
    counts: bool = True
    """Whether it is one of the k chunks that "after k chunks" speaks of."""


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


def failed_after(delivery: Delivery, n_chunks: int, error: JSONObject) -> Delivery:
    event = Event(json.dumps({"error": error}), counts=False)
    return replace(delivery, steps=(*_split(delivery.steps, n_chunks)[0], event))


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
