"""Pipelines, ages, trimmed results and low marks: what each promises beyond the kit's laws."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from memexllm.algorithms import (
    BaseAlgorithm,
    ContextView,
    FIFOAlgorithm,
    Pipeline,
    TimeWindowAlgorithm,
    TokenWindowAlgorithm,
    ToolResultTrimming,
)
from memexllm.core.errors import ConfigurationError, ValidationError
from memexllm.core.exchanges import exchanges
from memexllm.core.flow import run
from memexllm.core.models import Message
from memexllm.core.tokens import PRIMING, TokenCounter
from memexllm.core.wire import MessageRow
from memexllm.history.context import choose
from tests.notes_in_state import cut_in

COUNTER = TokenCounter("gpt-4o")
SECOND = 1_000_000


def row(seq: int, wire: dict[str, Any], at_s: float | None = None) -> MessageRow:
    made: MessageRow = {
        "id": str(seq),
        "created_at": int((seq if at_s is None else at_s) * SECOND),
        "wire": wire,
        "seq": seq,
    }
    if wire["role"] == "assistant":
        made["origin"] = ["s", "gpt-4o"]
    return made


def said(seq: int, role: str, words: int = 30, at_s: float | None = None) -> MessageRow:
    return row(seq, {"role": role, "content": f"{seq} " + "word " * words}, at_s)


def calling(seq: int, at_s: float | None = None) -> MessageRow:
    call = {"id": f"c{seq}", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    return row(seq, {"role": "assistant", "content": None, "tool_calls": [call]}, at_s)


def result(seq: int, words: int = 60, at_s: float | None = None) -> MessageRow:
    wire = {"role": "tool", "tool_call_id": f"c{seq - 1}", "content": f"{seq} " + "word " * words}
    return row(seq, wire, at_s)


def new(made: MessageRow) -> MessageRow:
    incoming = made.copy()
    incoming.pop("seq")
    return incoming


def seqs(rows: Any) -> list[int]:
    return [each["seq"] for each in rows]


class WithoutOpeners(BaseAlgorithm):
    """A user's algorithm that drops every question."""

    def get_message_window(self, messages: list[Message]) -> list[Message]:
        return [message for message in messages if message.role != "user"]


def test_what_a_users_algorithm_drops_and_must_be_sent_is_counted() -> None:
    algorithm = Pipeline([WithoutOpeners(), TokenWindowAlgorithm(500)])
    rows = [said(0, "user", words=200)]
    for seq in range(1, 41, 2):
        incoming = [new(result(seq + 1, words=20))]
        rows.append(calling(seq))
        window = run(choose(algorithm, ContextView((), incoming=incoming, model="gpt-4o"), rows))
        counted = PRIMING + sum(COUNTER.count_message(each["wire"]) for each in (*window.rows, *incoming))
        assert window.rows[0]["seq"] == 0
        assert window.tokens == counted <= 500
        rows.append(result(seq + 1, words=20))


def test_a_step_does_not_see_what_another_has_cut() -> None:
    algorithm = Pipeline([FIFOAlgorithm(6, keep=3), TimeWindowAlgorithm(10, keep=1)])
    rows = [said(seq, ("user", "assistant")[seq % 2]) for seq in range(20)]
    state: dict[str, Any] = {}
    for end in range(2, 20, 2):
        view = ContextView((), incoming=[new(rows[end])], state=state, now=end * SECOND)
        cut = cut_in(state)
        read = run(choose(algorithm, view, [each for each in rows[:end] if each["seq"] >= cut]))
        everything = run(choose(algorithm, view, rows[:end]))
        assert (everything.rows, everything.state) == (read.rows, read.state)
        state = {**state, **read.state}


def test_what_was_held_is_let_go_when_it_is_too_old_and_the_window_rests_again() -> None:
    algorithm = TimeWindowAlgorithm(timedelta(seconds=100), keep=0.5)
    rows = [said(0, "user", at_s=0)]
    state: dict[str, Any] = {}
    notes = []
    for step in range(1, 200, 2):
        at_s = 4 * step
        goes_on = step < 60
        rows.append(calling(step, at_s) if goes_on else said(step, "assistant", at_s=at_s))
        answer = result(step + 1, at_s=at_s) if goes_on else said(step + 1, "user", at_s=at_s)
        view = ContextView((), incoming=[new(answer)], state=state, now=at_s * SECOND)
        window = run(choose(algorithm, view, rows))
        assert (0 in seqs(window.rows)) == goes_on
        state = {**state, **window.state}
        notes.append((cut_in(state), str(state)))
        rows.append(answer)
    assert len(set(notes)) < len(notes) / 3


def test_an_age_holds_whatever_else_gives_way() -> None:
    algorithm = Pipeline([TokenWindowAlgorithm(10_000), TimeWindowAlgorithm(10)])
    rows = [said(seq, ("user", "assistant")[seq % 2]) for seq in range(40)]
    window = run(choose(algorithm, ContextView((), incoming=[new(said(40, "user"))], now=40 * SECOND), rows))
    assert seqs(window.rows)[0] >= 30


def test_old_results_give_way_before_anything_is_cut() -> None:
    algorithm = Pipeline([ToolResultTrimming(keep_last=1, longer_than=50), TokenWindowAlgorithm(1000)])
    rows: list[MessageRow] = []
    for seq in range(0, 24, 4):
        rows += [said(seq, "user", 5), calling(seq + 1), result(seq + 2, 150), said(seq + 3, "assistant", 5)]
    window = run(choose(algorithm, ContextView((), incoming=[new(said(24, "user"))], model="gpt-4o"), rows))
    assert seqs(window.rows) == list(range(24))
    assert set(window.shortened) == {str(seq) for seq in range(2, 16, 4)}
    assert window.excluded == {}
    assert [each["wire"]["content"] for each in rows if each["id"] in window.shortened] == [
        f"{seq} " + "word " * 150 for seq in range(2, 16, 4)
    ]


def test_nothing_gives_way_as_long_as_everything_fits() -> None:
    algorithm = Pipeline([ToolResultTrimming(keep_last=0, longer_than=50), TokenWindowAlgorithm(5000)])
    rows: list[MessageRow] = []
    for seq in range(0, 24, 4):
        rows += [said(seq, "user", 5), calling(seq + 1), result(seq + 2, 150), said(seq + 3, "assistant", 5)]
    window = run(choose(algorithm, ContextView((), incoming=[new(said(24, "user"))], model="gpt-4o"), rows))
    assert window.rows == rows
    assert (window.shortened, window.state) == ({}, {})


def test_a_huge_single_result_is_sent_while_it_is_new_and_trimmed_when_it_is_old() -> None:
    algorithm = Pipeline([ToolResultTrimming(keep_last=0), TokenWindowAlgorithm(2000, keep=0.5)])
    rows = [said(0, "user", 5), calling(1)]
    huge = result(2, 1800)
    window = run(choose(algorithm, ContextView((), incoming=[new(huge)], model="gpt-4o"), rows))
    assert seqs(window.rows) == [0, 1]
    rows += [huge, said(3, "assistant", 30)]
    window = run(choose(algorithm, ContextView((), incoming=[new(said(4, "user", 200))], model="gpt-4o"), rows))
    assert set(window.shortened) == {"2"}
    assert seqs(window.rows) == [0, 1, 2, 3]


@pytest.mark.parametrize("keep", [1001, 5000.0])
def test_a_low_mark_above_the_budget_is_refused(keep: float) -> None:
    with pytest.raises(ValidationError, match="keep"):
        TokenWindowAlgorithm(1000, keep=keep)


def test_a_low_mark_above_a_small_models_budget_is_that_budget() -> None:
    algorithm = TokenWindowAlgorithm(0.1, keep=5000)
    rows = [said(seq, ("user", "assistant")[seq % 2]) for seq in range(60)]
    view = ContextView(exchanges(rows), incoming=[new(said(60, "user"))], model="gpt-4")
    plan = run(algorithm.plan(view))
    assert plan.tokens is not None
    assert plan.tokens <= 819


@pytest.mark.parametrize("max_tokens", [700, 900])
def test_a_call_larger_than_the_low_mark_is_sent_with_what_fits_beside_it(max_tokens: int) -> None:
    algorithm = TokenWindowAlgorithm(max_tokens, keep=0.5)
    rows = [said(seq, ("user", "assistant")[seq % 2]) for seq in range(60)]
    view = ContextView(exchanges(rows), incoming=[new(said(60, "user", 600))], model="gpt-4o")
    plan = run(algorithm.plan(view))
    assert plan.tokens is not None
    assert plan.tokens <= max_tokens


def test_a_pipeline_has_one_budget_and_at_least_one_step() -> None:
    with pytest.raises(ConfigurationError, match="at least one"):
        Pipeline([])
    with pytest.raises(ConfigurationError, match="one budget"):
        Pipeline([TokenWindowAlgorithm(100), TokenWindowAlgorithm(200)])
    with pytest.raises(ConfigurationError, match="list its steps"):
        Pipeline([Pipeline([FIFOAlgorithm(3)])])
