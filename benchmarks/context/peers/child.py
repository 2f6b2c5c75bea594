"""The child's side: messages come in as JSON lines, and a call's prompt goes back.

Lines come in turn: what a call brings, which is answered, and what the model said to it, which is not.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from importlib.metadata import version
from random import Random
from typing import Any, Protocol

from benchmarks.context.rendering import text_tokens
from benchmarks.context.texts import text

Wire = dict[str, Any]
SUMMARY_TOKENS = 400


@dataclass(frozen=True)
class Said:
    """A message and its number in the thread, by which it is named in an answer."""

    number: int
    wire: Wire


@dataclass
class Setting:
    """`budget` is in tokens of history; `max_groups` are as many exchanges of mean size."""

    budget: int
    max_groups: int
    summaries: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    rng: Random = field(default_factory=lambda: Random("summary"))

    def summarised(self, *prompts: str) -> str:
        """The text a summariser's model answers to these prompts, other words each time; its tokens are noted."""
        self.summaries.append((sum(len(text_tokens(prompt)) for prompt in prompts), SUMMARY_TOKENS))
        return text(self.rng, SUMMARY_TOKENS)


class Peer(Protocol):
    def add(self, said: Sequence[Said]) -> None: ...

    def prompt(self) -> Sequence[int | Wire]:
        """What would be sent now, without the block."""


def serve(makers: Mapping[str, Callable[[Setting], Peer]], *packages: str) -> None:
    if sys.argv[1:] == ["--version"]:
        print(", ".join(f"{name} {version(name)}" for name in packages))
        return
    out = sys.stdout
    lines = iter(sys.stdin)
    with redirect_stdout(sys.stderr):
        asked = json.loads(next(lines))
        setting = Setting(asked["budget"], asked["max_groups"])
        peer = makers[asked["policy"]](setting)
        for said, is_call in _numbered(lines):
            peer.add(said)
            if is_call:
                answer = {"sent": list(peer.prompt()), "summaries": setting.summaries}
                out.write(json.dumps(answer) + "\n")
                out.flush()
                setting.summaries = []


def _numbered(lines: Iterator[str]) -> Iterator[tuple[list[Said], bool]]:
    n_said = 0
    for place, line in enumerate(lines):
        wires = json.loads(line)
        yield [Said(n_said + at, wire) for at, wire in enumerate(wires)], place % 2 == 0
        n_said += len(wires)
