"""TokenWindowAlgorithm: the newest exchanges that fit in a number of tokens, cut with two marks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from memexllm.algorithms._marks import Marks, advance, fold, from_cut
from memexllm.algorithms.base import CUT, BaseAlgorithm, ContextView, Plan, Reads, required
from memexllm.core.errors import ValidationError, WindowError
from memexllm.core.exchanges import exchanges
from memexllm.core.flow import Flow, run
from memexllm.core.models import Message
from memexllm.core.tokens import PRIMING, TextCounter, TokenCounter, byte_bound, json_bound, window_of
from memexllm.core.wire import MessageRow


class TokenWindowAlgorithm(BaseAlgorithm):
    """The newest whole exchanges whose tokens fit in `max_tokens`, the block and `tools` counted.

    `max_tokens` is a number, or at most 1 a fraction of the model's own window. Nothing moves until it is passed; then
    the front moves on to `keep` (tokens, or at most 1 a fraction of `max_tokens`) and rests there, which leaves the
    provider's prompt cache whole in between. `reserve_tokens` are left free for the answer. `token_counter` is a
    `TokenCounter`, or a function that counts a text; otherwise the model's vocabulary counts, `model`'s when given,
    else the call's. What must be sent and does not fit is a `WindowError` that says how many tokens it needs.
    """

    def __init__(
        self,
        max_tokens: float,
        keep: float = 0.6,
        token_counter: TokenCounter | TextCounter | None = None,
        model: str | None = None,
        reserve_tokens: int = 0,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        if max_tokens <= 0:
            raise ValidationError(f"max_tokens must be a positive number, or at most 1 a fraction; got {max_tokens!r}")
        if keep <= 0:
            raise ValidationError(f"keep must be a positive number, or at most 1 a fraction; got {keep!r}")
        self.max_tokens = max_tokens
        self.keep = keep
        self.model = model
        self.reserve_tokens = reserve_tokens
        self.tools = tools
        self._given_counter = (
            token_counter
            if isinstance(token_counter, TokenCounter) or token_counter is None
            else TokenCounter(model, text_counter=token_counter)
        )
        self._counters: dict[str | None, TokenCounter] = {}

    def budget(self, model: str | None) -> int:
        """`max_tokens` for a model, in tokens."""
        if self.max_tokens > 1:
            return int(self.max_tokens)
        return int(self.max_tokens * window_of(self.model or model))

    def counted_tools(self, view: ContextView) -> Sequence[Mapping[str, Any]]:
        return self.tools or view.tools

    def __repr__(self) -> str:
        return f"TokenWindowAlgorithm(max_tokens={self.max_tokens:g}, keep={self.keep:g})"

    def takes_all(self, view: ContextView, rows: Sequence[MessageRow]) -> bool:
        """Without a cut, when even the bytes fit: a text has no more tokens than bytes."""
        if view.state.get(CUT):
            return False
        left = self.budget(view.model) - self.reserve_tokens - PRIMING
        if tools := self.counted_tools(view):
            left -= json_bound(tools)
        for row in (*view.block, *view.incoming, *rows):
            left -= byte_bound(row["wire"], view.model)
            if left < 0:
                return False
        return True

    def get_message_window(self, messages: list[Message]) -> list[Message]:
        rows = [message.row() for message in messages]
        for place, row in enumerate(rows):
            row["seq"] = place
        groups = exchanges(rows)
        view = ContextView(groups[:-1], incoming=groups[-1].rows if groups else (), model=self.model)
        kept = {row["id"] for exchange in run(self.plan(view)).exchanges for row in exchange.rows}
        kept.update(row["id"] for row in view.incoming)
        return [message for message in messages if message.id in kept]

    def plan(self, view: ContextView) -> Flow[Plan]:
        yield from ()
        counter = self.counter(view.model)
        counts: dict[str, tuple[int, str]] = {}
        cost = _cost(counter, counts)
        budget = self.budget(view.model)
        fixed = PRIMING + self.reserve_tokens + counter.count_tools(self.counted_tools(view))
        fixed += sum(counter.count_message(row["wire"]) for row in view.block)
        low = budget * self.keep if self.keep <= 1 else self.keep
        marks = Marks(budget - fixed, max(int(low) - fixed, 0))
        _refuse_what_cannot_fit(view, cost, fixed, budget)
        cut = advance(view, marks, cost, _cut_of(view, marks, cost))
        keep = from_cut(view, cut)
        kept = [exchange for exchange, wanted in zip(view.exchanges, keep, strict=True) if wanted]
        excluded = {
            row["id"]: "older than the window"
            for exchange, wanted in zip(view.exchanges, keep, strict=True)
            if not wanted
            for row in exchange.rows
        }
        tokens = fixed - self.reserve_tokens + sum(map(cost, view.incoming))
        tokens += sum(cost(row) for exchange in kept for row in exchange.rows)
        state = {CUT: cut} if cut != view.state.get(CUT, 0) else {}
        return Plan(kept, state=state, excluded=excluded, tokens=tokens, counts=counts)

    def reads(self, state: Mapping[str, Any]) -> Reads:
        return Reads(after_seq=state[CUT] - 1) if state.get(CUT) else Reads()

    def counter(self, model: str | None) -> TokenCounter:
        if self._given_counter is not None:
            return self._given_counter
        name = self.model or model
        counter = self._counters.get(name)
        if counter is None:
            counter = self._counters[name] = TokenCounter(name)
        return counter


def _cost(counter: TokenCounter, counts: dict[str, tuple[int, str]]) -> Callable[[MessageRow], int]:
    """Tokens of a row: as stored with it, else counted once, and noted in `counts` for the next write."""

    def cost(row: MessageRow) -> int:
        known = row.get("tokens") or counts.get(row["id"])
        if known is None or known[1] != counter.encoding:
            known = counts[row["id"]] = (counter.count_message(row["wire"]), counter.encoding)
        return int(known[0])

    return cost


def _cut_of(view: ContextView, marks: Marks, cost: Callable[[MessageRow], int]) -> int:
    cut = view.state.get(CUT)
    if isinstance(cut, int):
        return cut
    return fold([row for exchange in view.exchanges for row in exchange.rows], marks, cost)


def _refuse_what_cannot_fit(view: ContextView, cost: Callable[[MessageRow], int], fixed: int, budget: int) -> None:
    must = required(view)
    needed = fixed + sum(map(cost, view.incoming))
    needed += sum(
        cost(row) for exchange, wanted in zip(view.exchanges, must, strict=True) if wanted for row in exchange.rows
    )
    if needed > budget:
        raise WindowError(
            f"the messages that must be sent need {needed} tokens (instructions, tools and the room for the answer "
            f"included), and max_tokens allows {budget}; shorten them or raise max_tokens"
        )
