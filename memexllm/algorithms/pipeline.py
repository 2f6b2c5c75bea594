"""Pipeline: algorithms one after another, each working on what the one before has left, under one budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from memexllm.algorithms._budget import Gauge, TokenAlgorithm
from memexllm.algorithms._marks import Front, Pressure
from memexllm.algorithms._noted import OLDER, Arranged, Counts, NotedAlgorithm, divided, refold
from memexllm.algorithms.base import BaseAlgorithm, ContextView, Plan, Reads, required, with_required
from memexllm.algorithms.foreign import as_algorithm
from memexllm.algorithms.notes import CUT, HELD, WINDOWS, Note
from memexllm.core.errors import ConfigurationError
from memexllm.core.flow import Flow
from memexllm.core.tokens import TokenCounter
from memexllm.core.wire import MessageRow

STEPS = "steps"
"""In a pipeline's note: the notes of its steps, by their place."""


class Pipeline(NotedAlgorithm):
    """`steps` in order, the one that makes room at the least cost first: trim old results, then cut or summarise.

    With a token window or a summary among the steps its budget is that of all. As long as what the steps have made
    of the thread fits, none of them moves; when it does not, each gives way in turn until the low mark is reached, and
    the rest stay where they are. Steps with a limit of their own (messages, an age, a user's algorithm) hold it in any
    case.
    """

    def __init__(self, steps: Sequence[BaseAlgorithm]) -> None:
        super().__init__()
        self.steps = [step for step in map(as_algorithm, steps) if step is not None]
        if not self.steps:
            raise ConfigurationError("a Pipeline needs at least one step, such as TokenWindowAlgorithm(8000)")
        budgets = [step for step in self.steps if isinstance(step, TokenAlgorithm)]
        if len(budgets) > 1:
            raise ConfigurationError(
                f"a Pipeline has one budget of tokens, and {' and '.join(map(repr, budgets))} have one each; leave one"
            )
        if any(isinstance(step, Pipeline) for step in self.steps):
            raise ConfigurationError("a Pipeline cannot be a step of another; list its steps")
        self._budget = budgets[0] if budgets else None
        self._place = self.steps.index(budgets[0]) if budgets else 0
        self.observes_messages = any(step.observes_messages for step in self.steps)
        self.works_ahead = any(step.works_ahead for step in self.steps)
        self.gives_way_only = all(isinstance(step, NotedAlgorithm) and step.gives_way_only for step in self.steps)

    def __repr__(self) -> str:
        return f"Pipeline([{', '.join(map(repr, self.steps))}])"

    def key(self, model: str | None) -> str:
        return "|".join(
            step.key(model) if isinstance(step, NotedAlgorithm) else step.shown_name() for step in self.steps
        )

    def budget(self, model: str | None) -> int | None:
        return None if self._budget is None else self._budget.budget(model)

    def counter(self, model: str | None) -> TokenCounter:
        return super().counter(model) if self._budget is None else self._budget.counter(model)

    def counted_tools(self, view: ContextView) -> Sequence[Mapping[str, Any]]:
        return view.tools if self._budget is None else self._budget.counted_tools(view)

    def takes_all(self, view: ContextView, rows: Sequence[MessageRow]) -> bool:
        if self.key(view.model) in (view.state.get(WINDOWS) or ()):
            return False
        return all(step.takes_all(view, rows) for step in self.steps)

    def process_thread(self, thread: Any, new_message: Any) -> None:
        for step in self.steps:
            if step.observes_messages:
                step.process_thread(thread, new_message)

    def reads(self, state: Mapping[str, Any], model: str | None = None) -> Reads:
        found = super().reads(state, model)
        return replace(found, metadata=not all(isinstance(step, NotedAlgorithm) for step in self.steps))

    def arrange(self, view: ContextView, note: Note, pressure: Pressure) -> Flow[Arranged]:
        notes: Mapping[str, Note] = note.get(STEPS) or {}
        passed = _Passed(*_left(view, Front.of(note)), before=notes)
        if self._budget is None:
            for step in self.steps:
                passed = yield from passed.through(step, None)
            return passed.arranged(None)
        return (yield from self._under(self._budget, passed))

    def fold(self, view: ContextView) -> Note:
        if self._budget is None or not self.gives_way_only:
            return refold(view, lambda then, note: self.arrange(then, note, None))
        gauge = self._budget.gauge(replace(view, state={}), {})
        return refold(view, lambda then, note: self.arrange(then, note, None), gauge.cost, gauge.marks.high)

    def _under(self, budget: TokenAlgorithm, passed: _Passed) -> Flow[Arranged]:
        held = yield from self._held(passed)
        gauge = held.gauge(budget, self._place)
        if held.cost(gauge) > gauge.limit:
            low = gauge.find_low()
            for step in self.steps:
                held = yield from self._held(passed)
                gauge = held.gauge(budget, self._place)
                passed = yield from passed.through(step, held.cost(gauge) > low)
            held = passed
            gauge = held.gauge(budget, self._place)
        return held.arranged(held.cost(gauge) - budget.reserve_tokens, gauge.counts)

    def _held(self, passed: _Passed) -> Flow[_Passed]:
        """What comes out when the steps that are left stay where they are."""
        for step in self.steps[passed.n_steps :]:
            passed = yield from passed.through(step, False)
        return passed


def _left(view: ContextView, front: Front) -> tuple[ContextView, dict[str, str]]:
    """`view` as the steps left it: what one of them cut is not there for the others, also when it was read again."""
    kept, excluded = divided(view, front.keep(view, required(view)), OLDER)
    return (replace(view, exchanges=kept), excluded) if excluded else (view, {})


@dataclass(frozen=True, slots=True)
class _Passed:
    """What the first `n_steps` steps have made of a view; `before` are the notes they began with."""

    view: ContextView
    excluded: Mapping[str, str] = field(default_factory=dict[str, str])
    before: Mapping[str, Note] = field(default_factory=dict[str, Note])
    n_steps: int = 0
    notes: Mapping[str, Note] = field(default_factory=dict[str, Note])
    shortened: Mapping[str, str] = field(default_factory=dict[str, str])
    head: Sequence[MessageRow] = ()

    def through(self, step: BaseAlgorithm, pressure: Pressure) -> Flow[_Passed]:
        place = str(self.n_steps)
        made: Arranged | Plan
        if isinstance(step, NotedAlgorithm):
            made = yield from step.arrange(self.view, self.before.get(place) or {}, pressure)
            notes = {**self.notes, place: made.note} if made.note else self.notes
        else:
            made = yield from step.plan(self.view)
            # What must be sent is counted by the steps that follow, whatever this one thinks of it.
            made = replace(made, exchanges=with_required(self.view, made.exchanges))
            notes = self.notes
        return replace(
            self,
            view=replace(self.view, exchanges=made.exchanges),
            n_steps=self.n_steps + 1,
            notes=notes,
            excluded={**made.excluded, **self.excluded},
            shortened={**self.shortened, **made.shortened},
            head=[*self.head, *made.head],
        )

    def gauge(self, budget: TokenAlgorithm, place: int) -> Gauge:
        return budget.gauge(self.view, self.before.get(str(place)) or {}, self.head)

    def cost(self, gauge: Gauge) -> int:
        return gauge.tokens([*(row for exchange in self.view.exchanges for row in exchange.rows), *self.view.incoming])

    def arranged(self, tokens: int | None, counts: Counts | None = None) -> Arranged:
        cuts = [note[CUT] for note in self.notes.values() if note.get(CUT)]
        held = sorted({seq for note in self.notes.values() for seq in note.get(HELD) or ()})
        note: dict[str, Any] = {CUT: max(cuts)} if cuts else {}
        if held:
            note[HELD] = held
        if self.notes:
            note[STEPS] = dict(self.notes)
        return Arranged(self.view.exchanges, note, self.excluded, self.shortened, self.head, tokens, counts or {})
