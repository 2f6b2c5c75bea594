"""Calibration: what servers report corrects the counts, steadily, and the window moves by what they report."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memexllm import MemoryStorage, with_history
from memexllm.algorithms import SummaryAlgorithm, TokenWindowAlgorithm
from memexllm.core.calibration import CALIBRATION, Calibration, calibration_of, recalibrated
from memexllm.core.tokens import TokenCounter
from memexllm.testing.server import Answer, ChatRequest, OpenAIServer
from tests.openai.talking import sdk_client, user

COUNTS = st.integers(1, 200_000)
SAMPLES = st.lists(st.tuples(COUNTS, COUNTS), max_size=6)


def learned(samples: list[tuple[int, int]]) -> Calibration:
    found = Calibration()
    for counted, reported in samples:
        found = found.learned(counted, reported)
    return found


@given(SAMPLES, COUNTS)
def test_what_may_be_counted_is_the_most_that_is_estimated_to_fit(samples: list[tuple[int, int]], limit: int) -> None:
    found = learned(samples)
    countable = found.countable(limit)
    if countable:
        assert found.estimate(countable) <= limit
    assert found.estimate(countable + 3) >= limit or not found.reported


@given(SAMPLES, COUNTS, COUNTS)
def test_more_is_never_estimated_as_less(samples: list[tuple[int, int]], one: int, other: int) -> None:
    found = learned(samples)
    assert found.estimate(min(one, other)) <= found.estimate(max(one, other))
    assert found.countable(min(one, other)) <= found.countable(max(one, other))


@given(SAMPLES, COUNTS, COUNTS)
def test_the_newest_sample_is_estimated_as_it_was_reported(
    samples: list[tuple[int, int]], counted: int, reported: int
) -> None:
    estimate = learned(samples).learned(counted, reported).estimate(counted)
    assert abs(estimate - reported) <= 0.005 * reported


@pytest.mark.parametrize(("fixed", "slope"), [(0, 1.5), (800, 1.0), (2000, 0.7), (-50, 1.2), (0, 1.0)])
def test_a_server_that_counts_otherwise_is_learned_within_a_few_calls(fixed: int, slope: float) -> None:
    found = Calibration()
    for counted in (1000, 1400, 2500):
        found = found.learned(counted, round(fixed + slope * counted))
    for counted in (3000, 10_000, 50_000):
        assert found.estimate(counted) == pytest.approx(fixed + slope * counted, rel=0.02)


def test_a_report_that_says_nothing_new_changes_nothing() -> None:
    state = recalibrated({}, "m", 1000, 1500)
    assert calibration_of(state, "m").estimate(1000) == 1500
    assert recalibrated(state, "m", 1000, 1503) == {}
    assert recalibrated(state, "m", 0, 10) == {}
    assert recalibrated({}, "m", 1000, 1000) == {}


def test_each_model_has_its_own() -> None:
    state: dict[str, Any] = {}
    for number in range(6):
        state |= recalibrated(state, f"m{number}", 1000, 1500 + number)
    assert list(state[CALIBRATION]) == ["m2", "m3", "m4", "m5"]
    assert calibration_of(state, "m5").estimate(1000) == 1505
    assert calibration_of(state, "m0").estimate(1000) == 1000


def reported(request: ChatRequest, factor: float) -> int:
    return round(factor * TokenCounter("gpt-4o").count_messages(request.messages))


@pytest.mark.parametrize(
    ("factor", "kind", "streamed"),
    [(0.7, "window", False), (1.0, "window", False), (1.5, "window", True), (1.5, "summary", False)],
)
def test_the_window_moves_when_the_server_says_that_it_is_full(factor: float, kind: str, streamed: bool) -> None:
    sizes: list[int] = []

    def reply(request: ChatRequest) -> Answer:
        sizes.append(reported(request, factor))
        usage = {"prompt_tokens": sizes[-1], "completion_tokens": 1, "total_tokens": sizes[-1] + 1}
        return Answer("word " * 60, usage=usage)

    algorithm = (
        TokenWindowAlgorithm(2000)
        if kind == "window"
        else SummaryAlgorithm(lambda messages, previous: "the gist", 2000, max_summary_tokens=20)
    )
    with OpenAIServer(reply) as server, sdk_client(server) as api:
        client: Any = with_history(api, storage=MemoryStorage(), algorithm=algorithm)
        for number in range(70):
            params: dict[str, Any] = {"stream_options": {"include_usage": True}} if streamed else {}
            answer = client.chat.completions.create(
                model="gpt-4o", messages=[user(f"{number} " + "word " * 60)], thread_id="t", stream=streamed, **params
            )
            if streamed:
                list(answer)
    assert 1800 <= max(sizes[10:]) <= 2010
    assert 1050 <= min(sizes[40:]) <= 1400


def test_no_state_is_written_when_a_server_says_nothing_new() -> None:
    states: list[Any] = []

    class Watched(MemoryStorage):
        def append_messages(self, thread_id: str, messages: Any, **changes: Any) -> int:
            states.append(changes.get("state"))
            return super().append_messages(thread_id, messages, **changes)

    def reply(request: ChatRequest) -> Answer:
        size = reported(request, 1.4)
        return Answer("fine", usage={"prompt_tokens": size, "completion_tokens": 1, "total_tokens": size + 1})

    with OpenAIServer(reply) as server, sdk_client(server) as api:
        client: Any = with_history(api, storage=Watched(), algorithm=TokenWindowAlgorithm(1000))
        for number in range(30):
            client.chat.completions.create(model="gpt-4o", messages=[user(f"{number} " + "word " * 20)], thread_id="t")
    written = [index for index, state in enumerate(states) if state]
    assert 3 < len(written) < 16
    assert not any(CALIBRATION in (state or {}) for state in states[-8:])
