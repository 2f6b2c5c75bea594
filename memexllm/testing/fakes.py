"""Fakes for what a test must decide itself: the time, the ids, and what is said."""

from __future__ import annotations

import itertools
import json
import random
from datetime import UTC, datetime, timedelta

from memexllm.core.errors import ValidationError
from memexllm.core.models import Message

START = datetime(2025, 1, 1, tzinfo=UTC)
_WORDS = (
    "the",
    "tide",
    "came",
    "in",
    "while",
    "we",
    "talked",
    "about",
    "bread,",
    "ships",
    "Zoë's",
    "猫;",
    "🙂",
    "lamp",
)


class FakeClock:
    """A `Clock` that stands still: it moves when `advance` is called, and never back.

    `now` is aware UTC, whatever zone it was given in; a naive start is taken as UTC.
    """

    def __init__(self, start: datetime = START) -> None:
        self.now = start.replace(tzinfo=UTC) if start.tzinfo is None else start.astimezone(UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, step: timedelta | float) -> datetime:
        """Move on by `step` (a number is seconds); the new time."""
        delta = step if isinstance(step, timedelta) else timedelta(seconds=step)
        if delta < timedelta(0):
            raise ValidationError(f"a clock does not go back: {delta!r}")
        self.now += delta
        return self.now

    def __repr__(self) -> str:
        return f"FakeClock({self.now.isoformat()})"


class FakeIds:
    """An `IdSource` that counts: `id-000001`, `id-000002`, … Safe from any thread."""

    def __init__(self, prefix: str = "id") -> None:
        self.prefix = prefix
        self._numbers = itertools.count(1)

    def __call__(self) -> str:
        return f"{self.prefix}-{next(self._numbers):06d}"


def conversation(
    seed: int = 0, *, turns: int = 5, clock: FakeClock | None = None, ids: FakeIds | None = None
) -> list[Message]:
    """A valid conversation of `turns` user turns, the same for the same arguments.

    It begins with a system message. In some turns the assistant calls one to three tools before it answers, so there
    are results to be kept with their calls. Every message is a second later than the one before.
    """
    rng = random.Random(seed)
    clock = FakeClock() if clock is None else clock
    ids = FakeIds(f"m{seed}") if ids is None else ids
    wires: list[dict[str, object]] = [{"role": "system", "content": _sentence(rng)}]
    for _ in range(turns):
        wires.append({"role": "user", "content": _sentence(rng)})
        if rng.random() < 0.4:
            wires.extend(_tool_exchange(rng))
        wires.append({"role": "assistant", "content": _sentence(rng)})
    return [Message(wire=wire, id=ids(), created_at=clock.advance(1)) for wire in wires]


def _tool_exchange(rng: random.Random) -> list[dict[str, object]]:
    calls = [
        {
            "id": f"call_{rng.getrandbits(64):016x}",
            "type": "function",
            "function": {"name": "look_up", "arguments": json.dumps({"about": rng.choice(_WORDS)})},
        }
        for _ in range(rng.randint(1, 3))
    ]
    wires: list[dict[str, object]] = [{"role": "assistant", "content": None, "tool_calls": calls}]
    wires.extend({"role": "tool", "tool_call_id": call["id"], "content": _sentence(rng)} for call in calls)
    return wires


def _sentence(rng: random.Random) -> str:
    return " ".join(rng.choices(_WORDS, k=rng.randint(3, 12)))
