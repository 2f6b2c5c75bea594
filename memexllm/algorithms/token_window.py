"""TokenWindowAlgorithm: the newest exchanges that fit in a number of tokens, cut with two marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from memexllm.algorithms._budget import Keep, TokenAlgorithm, shown
from memexllm.algorithms._marks import Front, Pressure, advance
from memexllm.algorithms._noted import OLDER, Arranged, divided, refold
from memexllm.algorithms.base import ContextView, required
from memexllm.algorithms.notes import Note
from memexllm.core.flow import Flow
from memexllm.core.tokens import TextCounter, TokenCounter


class TokenWindowAlgorithm(TokenAlgorithm):
    """The newest whole exchanges whose tokens fit in `max_tokens`, the block and `tools` counted.

    `max_tokens` is a number, or at most 1 a fraction of the model's own window (a call's limit on its answer is left
    free then). Nothing moves until it is passed; then the front moves on to `keep` (tokens, or at most 1 a fraction of
    `max_tokens`) and rests there, which leaves the provider's prompt cache whole in between. `keep="auto"` is the mark
    at which a thread of this one's calls costs least, by what its calls add and by `cache_discount`, the fraction a
    cached token is cheaper; never less than half. `reserve_tokens` are left free for the answer. `token_counter` is a
    `TokenCounter`, or a function that counts a text; otherwise the model's vocabulary counts, `model`'s when given,
    else the call's. What servers report for a thread's calls corrects the counts. What must be sent and does not fit is
    a `WindowError` that says how many tokens it needs.
    """

    def __init__(
        self,
        max_tokens: float,
        keep: Keep = 0.6,
        token_counter: TokenCounter | TextCounter | None = None,
        model: str | None = None,
        reserve_tokens: int = 0,
        tools: Sequence[Mapping[str, Any]] | None = None,
        cache_discount: float = 0.9,
    ) -> None:
        super().__init__(max_tokens, keep, token_counter, model, reserve_tokens, tools, cache_discount)

    def __repr__(self) -> str:
        return f"TokenWindowAlgorithm(max_tokens={self.max_tokens:g}, keep={shown(self.keep)})"

    def arrange(self, view: ContextView, note: Note, pressure: Pressure) -> Flow[Arranged]:
        yield from ()
        gauge, must = self.gauge(view, note), required(view)
        self.refuse_what_cannot_fit(view, must, gauge)
        front = advance(view, must, gauge.marks, gauge.cost, Front.of(note), pressure)
        kept, excluded = divided(view, front.keep(view, must), OLDER)
        tokens = gauge.tokens([row for exchange in kept for row in exchange.rows] + list(view.incoming))
        noted = self.moved(view, gauge, note, front)
        return Arranged(kept, noted, excluded, tokens=tokens - self.reserve_tokens, counts=gauge.counts)

    def fold(self, view: ContextView) -> Note:
        gauge = self.gauge(replace(view, state={}), {})  # uncalibrated: what servers report changes by the call
        return refold(view, lambda then, note: self.arrange(then, note, None), gauge.cost, gauge.marks.high)
