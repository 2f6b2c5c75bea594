"""Conversations to play: what each call brings and what is answered, made from seeds.

Shapes follow what was measured of real conversations: `chat` has the size and the spread of LoCoMo's ten dialogues in
one thread.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.context.rendering import tokens_in
from benchmarks.context.texts import FRAMING, text
from benchmarks.dialogues import exchanges_of

Wire = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """What one request brings, and what the model answers it."""

    said: Sequence[Wire]
    answer: Wire


@dataclass(frozen=True)
class Workload:
    """One thread: the `block` its requests begin with, and its calls in order."""

    name: str
    block: Wire
    calls: Sequence[Call]

    @cached_property
    def messages(self) -> list[Wire]:
        return [message for call in self.calls for message in (*call.said, call.answer)]

    @cached_property
    def tokens(self) -> int:
        """Of all messages, without the block."""
        return sum(map(tokens_in, self.messages))

    @property
    def tokens_a_call(self) -> float:
        return self.tokens / len(self.calls)

    @cached_property
    def block_tokens(self) -> int:
        return tokens_in(self.block)

    @cached_property
    def has_tools(self) -> bool:
        return any(message["role"] == "tool" for message in self.messages)

    def first(self, n_calls: int) -> Workload:
        """Its beginning."""
        return Workload(self.name, self.block, self.calls[:n_calls])


def _said(role: str, rng: random.Random, n_tokens: float) -> Wire:
    """A message of so many tokens, its framing counted."""
    return {"role": role, "content": text(rng, round(n_tokens) - FRAMING)}


def chat() -> Workload:
    """Short messages, many of them: 202,000 tokens in 2,931 calls. Now and then a question comes in two messages."""
    rng = random.Random("chat")

    def short(role: str) -> Wire:
        return _said(role, rng, min(320.0, max(8.0, rng.lognormvariate(3.462, 0.39))))

    calls: list[Call] = []
    for number in range(2931):
        said = [short("user") for _ in range(2 if number % 147 == 0 else 1)]
        calls.append(Call(said, short("assistant")))
    return Workload("chat", _said("system", rng, 600), calls)


def longchat() -> Workload:
    """Questions of a sentence or a paragraph, answers of half a page: 152,000 tokens in 300 calls."""
    rng = random.Random("longchat")
    calls = [
        Call(
            [_said("user", rng, max(8.0, min(1200.0, rng.lognormvariate(4.1, 0.9))))],
            _said("assistant", rng, max(20.0, rng.gauss(410, 190))),
        )
        for _ in range(300)
    ]
    return Workload("longchat", _said("system", rng, 600), calls)


def agent() -> Workload:
    """Tasks of many steps; results of tools, seldom long and then very, are nearly all of it: 700,000 tokens."""
    rng = random.Random("agent")
    calls: list[Call] = []
    n_asked = 0
    while len(calls) < 398:
        said = [_said("user", rng, rng.uniform(30, 200))]
        for _ in range(min(rng.randint(3, 14), 398 - len(calls) - 1)):
            asked = {**_said("assistant", rng, rng.uniform(20, 80)), "tool_calls": []}
            results: list[Wire] = []
            for _ in range(rng.choices((1, 2, 3), weights=(88, 9, 3))[0]):
                n_asked += 1
                call_id = f"call_{n_asked}"
                query = json.dumps({"query": text(rng, 6)})
                function = {"name": "look_up", "arguments": query}
                asked["tool_calls"].append({"id": call_id, "type": "function", "function": function})
                size = min(12_000.0, max(20.0, rng.lognormvariate(6.52, 1.3)))
                results.append({**_said("tool", rng, size), "tool_call_id": call_id})
            calls.append(Call(said, asked))
            said = results
        calls.append(Call(said, _said("assistant", rng, rng.uniform(80, 400))))
    return Workload("agent", _said("system", rng, 3000), calls)


def documents() -> Workload:
    """Questions bring the passages that were found for them; answers are short: 440,000 tokens in 200 calls."""
    rng = random.Random("documents")

    def question() -> Wire:
        passages = (text(rng, rng.randint(200, 900)) for _ in range(rng.randint(2, 5)))
        asked = text(rng, rng.randint(10, 60))
        return {"role": "user", "content": "\n\n".join((*passages, asked))}

    calls = [Call([question()], _said("assistant", rng, rng.uniform(60, 400))) for _ in range(200)]
    return Workload("documents", _said("system", rng, 800), calls)


def locomo(folder: Path) -> Workload:
    """The dialogues of a folder in LoCoMo's form, as one thread, with the block of `chat`."""
    calls = [
        Call(exchange.said, {"role": "assistant", "content": exchange.answer})
        for path in sorted(folder.glob("*.json"))
        for exchange in exchanges_of(json.loads(path.read_text("utf-8")))
    ]
    return Workload("locomo", chat().block, calls)


MADE: dict[str, Callable[[], Workload]] = {"chat": chat, "longchat": longchat, "agent": agent, "documents": documents}
BUDGETS: dict[str, Sequence[int]] = {
    "chat": (8_000, 32_000),
    "longchat": (8_000, 32_000),
    "agent": (32_000, 128_000),
    "documents": (32_000,),
    "locomo": (8_000,),
}
"""Tokens of history a policy may send, the block not counted."""


def history(workload: Workload) -> Iterator[tuple[Call, list[Wire]]]:
    """Each call with everything said so far, the call's own messages included; the list grows and is the same one."""
    so_far: list[Wire] = []
    for call in workload.calls:
        so_far.extend(call.said)
        yield call, so_far
        so_far.append(call.answer)
