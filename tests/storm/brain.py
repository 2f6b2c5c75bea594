"""The model behind the server: every answer is unlike all others, and it knows what it was asked with."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

from memexllm.testing.server import Answer
from memexllm.testing.server.received import ChatRequest
from tests.storm.expected import Said, said_by


class Brain:
    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self.n_calls = 0
        """How many tools the next answer calls; 0 is an answer in words."""
        self.received: list[Said] = []

    def reply(self, request: ChatRequest) -> Answer:
        number = next(self._numbers)
        self.received = list(_joined(map(said_by, request.messages), apart=request.responses is None))
        if not self.n_calls:
            # Its first piece, of up to 8 characters, tells it from all others: a stream may break right after it.
            first, *others = (
                f"a{number}{'bcd'[:place]} has some words of its own" for place in range(request.n_choices)
            )
            return Answer(first, alternatives=others)
        calls = [
            {"id": f"call_{number}_{place}", "type": "function", "function": {"name": "look", "arguments": "{}"}}
            for place in range(self.n_calls)
        ]
        return Answer({"content": None, "tool_calls": calls})


def _joined(messages: Iterator[Said], *, apart: bool) -> Iterator[Said]:
    """Parallel calls, which a Responses request has as items of their own, as the one message they were."""
    last: Said | None = None
    for each in messages:
        if last is not None and last.calls and each.calls and not apart:
            last = replace(last, calls=(*last.calls, *each.calls))
            continue
        if last is not None:
            yield last
        last = each
    if last is not None:
        yield last
