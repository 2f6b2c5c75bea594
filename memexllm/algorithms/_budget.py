"""Windows with a budget of tokens: what a request costs, where its marks lie, and what cannot fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

from memexllm.algorithms._marks import Cost, Front, Marks
from memexllm.algorithms._noted import Counts, NotedAlgorithm
from memexllm.algorithms.base import ContextView
from memexllm.algorithms.notes import CUT, HELD, WINDOWS, Note
from memexllm.core.calibration import calibration_of
from memexllm.core.errors import ValidationError, WindowError
from memexllm.core.tokens import PRIMING, TextCounter, TokenCounter, byte_bound, tools_bound, window_of
from memexllm.core.wire import MessageRow

Keep = float | Literal["auto"]
"""The low mark: tokens, at most 1 a fraction of the budget, or found from what a thread's calls add."""

LEAST_KEPT = 0.5
"""`keep="auto"` never keeps less of the budget."""
N_TOKENS, N_CALLS = "tokens", "calls"
"""In a note: tokens and answers that lie before the cut, which say how much a call of this thread adds."""
_SHOWN_LARGEST = 3


@dataclass(frozen=True, slots=True)
class Gauge:
    """What a request costs: `fixed` for all that is no message of the thread, `cost` for each that is.

    `limit` is what all of it may count, `find_low` what is left of it when the window has moved. `counts` are the
    counts that were made on the way.
    """

    limit: int
    find_low: Callable[[], int]
    fixed: int
    cost: Cost
    counts: Counts

    @property
    def marks(self) -> Marks:
        """For the messages alone."""
        return Marks(self.limit - self.fixed, lambda: max(self.find_low() - self.fixed, 0))

    def tokens(self, rows: Sequence[MessageRow]) -> int:
        return self.fixed + sum(map(self.cost, rows))


class TokenAlgorithm(NotedAlgorithm):
    """A budget of `max_tokens` and a low mark `keep`; see `TokenWindowAlgorithm` for what the arguments mean."""

    gives_way_only = True

    def __init__(
        self,
        max_tokens: float,
        keep: Keep,
        token_counter: TokenCounter | TextCounter | None,
        model: str | None,
        reserve_tokens: int,
        tools: Sequence[Mapping[str, Any]] | None,
        cache_discount: float,
    ) -> None:
        super().__init__()
        if not (_is_finite(max_tokens) and max_tokens > 0):
            raise ValidationError(f"max_tokens must be a positive number, or at most 1 a fraction; got {max_tokens!r}")
        _check_keep(keep, max_tokens)
        if not (_is_finite(cache_discount) and 0 <= cache_discount < 1):
            raise ValidationError(f"cache_discount is the fraction a cached token is cheaper; got {cache_discount!r}")
        if not (_is_finite(reserve_tokens) and reserve_tokens >= 0):
            raise ValidationError(f"reserve_tokens are left free for the answer, at least 0; got {reserve_tokens!r}")
        self.max_tokens = max_tokens
        self.keep: Keep = keep
        self.model = model
        self.reserve_tokens = reserve_tokens
        self.tools = tools
        self.cache_discount = cache_discount
        self._given_counter = (
            token_counter
            if isinstance(token_counter, TokenCounter) or token_counter is None
            else TokenCounter(model, text_counter=token_counter)
        )
        self._counters: dict[str | None, TokenCounter] = {}
        self._keys: dict[tuple[Any, ...], str] = {}

    def budget(self, model: str | None) -> int:
        """`max_tokens` for a model, in tokens."""
        if self.max_tokens > 1:
            return int(self.max_tokens)
        return int(self.max_tokens * window_of(self.model or model))

    def counter(self, model: str | None) -> TokenCounter:
        if self._given_counter is not None:
            return self._given_counter
        name = self.model or model
        counter = self._counters.get(name)
        if counter is None:
            counter = self._counters[name] = TokenCounter(name)
        return counter

    def counted_tools(self, view: ContextView) -> Sequence[Mapping[str, Any]]:
        return self.tools or view.tools

    def key(self, model: str | None) -> str:
        """What notes of this budget are kept under in the state of a thread."""
        of = (model, self.max_tokens, self.keep, self.cache_discount)
        key = self._keys.get(of)
        if key is None:
            key = self._keys[of] = self._made_key(model)
        return key

    def _made_key(self, model: str | None) -> str:
        discount = f"@{self.cache_discount:g}" if self.keep == "auto" else ""
        return f"tokens:{self.budget(model)}:{shown(self.keep)}{discount}"

    def takes_all(self, view: ContextView, rows: Sequence[MessageRow]) -> bool:
        """Without a note, when even the bytes fit: a text has no more tokens than bytes."""
        if view.state:
            if self.key(view.model) in (view.state.get(WINDOWS) or ()):
                return False
            if calibration_of(view.state, view.model).counted:
                return False
        left = self.limit(view) - self.reserve_tokens - PRIMING - view.recalled_tokens
        if tools := self.counted_tools(view):
            left -= tools_bound(tools)
        for row in (*view.block, *view.incoming, *rows):
            left -= byte_bound(row["wire"], view.model)
            if left < 0:
                return False
        return True

    def gauge(self, view: ContextView, note: Note, head: Sequence[MessageRow] = (), spare: int = 0) -> Gauge:
        """What `view` costs; `head` is sent besides, and `spare` tokens of the low mark are for what will be."""
        counter = self.counter(view.model)
        counts: Counts = {}
        cost = _cost(counter, counts)
        limit = calibration_of(view.state, view.model).countable(self.limit(view))
        first = [row["wire"] for row in (*view.block, *head)]
        fixed = counter.count_request(first, self.counted_tools(view)) + self.reserve_tokens + view.recalled_tokens
        return Gauge(limit, lambda: self._low(view, note, limit, cost) - spare, fixed, cost, counts)

    def moved(self, view: ContextView, gauge: Gauge, note: Note, front: Front) -> dict[str, Any]:
        """The note with the window at `front`."""
        noted = {**{key: value for key, value in note.items() if key not in (CUT, HELD)}, **front.noted()}
        before = Front.of(note)
        if self.keep == "auto" and front.cut > before.cut:
            n_tokens, n_calls = _passed(view, gauge.cost, before.cut, front.cut)
            noted[N_TOKENS] = note.get(N_TOKENS, 0) + n_tokens
            noted[N_CALLS] = note.get(N_CALLS, 0) + n_calls
        return noted

    def refuse_what_cannot_fit(self, view: ContextView, must: Sequence[bool], gauge: Gauge) -> None:
        """Counted without calibration: what is only estimated does not keep a request from being made.

        Who only looks is shown what would be refused.
        """
        rows = [
            *(row for each, wanted in zip(view.exchanges, must, strict=True) if wanted for row in each.rows),
            *view.incoming,
        ]
        needed = gauge.tokens(rows)
        allowed = self.limit(view)
        if needed <= allowed or view.occasion == "look":
            return
        largest = sorted(rows, key=gauge.cost, reverse=True)[:_SHOWN_LARGEST]
        named = ", ".join(f"{_named(row)}: {gauge.cost(row)}" for row in largest)
        raise WindowError(
            f"the messages that must be sent need {needed} tokens (instructions, tools and the room for the answer "
            f"included), and max_tokens allows {allowed}; shorten them or raise max_tokens. The largest: {named}"
        )

    def limit(self, view: ContextView) -> int:
        """The budget of a call: what its answer may take of the model's window is left free."""
        budget = self.budget(view.model)
        if self.max_tokens > 1 or view.max_output_tokens is None:
            return budget
        return max(min(budget, window_of(self.model or view.model) - view.max_output_tokens), 1)

    def _low(self, view: ContextView, note: Note, limit: int, cost: Cost) -> int:
        budget = self.limit(view)
        if self.keep == "auto":
            step = best_step(_added_by_a_call(view, note, cost), budget, self.cache_discount)
            low = max(budget - step, LEAST_KEPT * budget)
        else:
            low = budget * self.keep if self.keep <= 1 else self.keep
        # In what the server counts, as the limit is; a model's window can be smaller than a `keep` in tokens.
        return int(min(low, budget) * limit / budget)


def _named(row: MessageRow) -> str:
    role = row["wire"].get("role")
    return f"the {role} message at seq {row['seq']}" if "seq" in row else f"a {role} message of this call"


def best_step(added: float, budget: int, discount: float) -> float:
    """Tokens between the marks at which refilling the cache and keeping less cost the same: √(2·a·B·d/(1-d)).

    `added` is what a call adds on average, `discount` what a cached token is cheaper.
    """
    return math.sqrt(2 * added * budget * discount / (1 - discount))


def _added_by_a_call(view: ContextView, note: Note, cost: Cost) -> float:
    n_tokens, n_calls = _passed(view, cost, Front.of(note).cut, None)
    n_tokens += note.get(N_TOKENS, 0)
    n_calls += note.get(N_CALLS, 0)
    return n_tokens / n_calls if n_calls else float(n_tokens + sum(map(cost, view.incoming)))


def _passed(view: ContextView, cost: Cost, start: int, end: int | None) -> tuple[int, int]:
    """Tokens and answers of the messages from the seq `start` on, up to `end`."""
    rows = [
        row
        for exchange in view.exchanges
        for row in exchange.rows
        if row.get("seq", 0) >= start and (end is None or row.get("seq", 0) < end)
    ]
    return sum(map(cost, rows)), sum(row["wire"].get("role") == "assistant" for row in rows)


def _cost(counter: TokenCounter, counts: Counts) -> Callable[[MessageRow], int]:
    """Tokens of a row: as stored with it, else counted once, and noted in `counts` for the next write."""
    of_shortened: dict[str, int] = {}

    def cost(row: MessageRow) -> int:
        if "shortened" in row:
            if row["id"] not in of_shortened:
                of_shortened[row["id"]] = counter.count_message(row["wire"])
            return of_shortened[row["id"]]
        known = row.get("tokens") or counts.get(row["id"])
        if known is None or known[1] != counter.encoding:
            known = counts[row["id"]] = (counter.count_message(row["wire"]), counter.encoding)
        return int(known[0])

    return cost


def _check_keep(keep: Any, max_tokens: float) -> None:
    if keep == "auto":
        return
    if not (_is_finite(keep) and keep > 0):
        raise ValidationError(f'keep must be a positive number, at most 1 a fraction, or "auto"; got {keep!r}')
    if 1 < max_tokens < keep:
        raise ValidationError(f"keep is at most max_tokens={max_tokens:g}, or at most 1 a fraction of it; got {keep!r}")


def _is_finite(value: Any) -> bool:
    return type(value) is not bool and isinstance(value, Real) and math.isfinite(value)


def shown(keep: Keep) -> str:
    return "auto" if keep == "auto" else f"{keep:g}"
