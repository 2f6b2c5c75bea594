"""The conformance kit on FIFO, and on algorithms as users write them: with `get_message_window` alone."""

from __future__ import annotations

from datetime import timedelta

import pytest

from memexllm.algorithms import (
    BaseAlgorithm,
    FIFOAlgorithm,
    Pipeline,
    SummaryAlgorithm,
    TimeWindowAlgorithm,
    TokenWindowAlgorithm,
    ToolResultTrimming,
)
from memexllm.core.models import Message
from memexllm.testing import AlgorithmConformance


class TimeWindow(BaseAlgorithm):
    """Messages not older than `max_age` before the newest one."""

    def __init__(self, max_age: timedelta) -> None:
        super().__init__()
        self.max_age = max_age

    def get_message_window(self, messages: list[Message]) -> list[Message]:
        if not messages:
            return []
        oldest = messages[-1].created_at - self.max_age
        return [message for message in messages if message.created_at >= oldest]


def importance(message: Message) -> float:
    score = message.metadata.get("importance")
    return score if isinstance(score, float) else 0.0


class ByImportance(BaseAlgorithm):
    """The newest messages, and of the older ones those with the highest score, all together `max_messages`."""

    n_newest = 6

    def get_message_window(self, messages: list[Message]) -> list[Message]:
        older = messages[: -self.n_newest]
        newest = messages[-self.n_newest :]
        ranked = sorted(older, key=importance, reverse=True)
        chosen = {message.id for message in ranked[: (self.max_messages or 0) - self.n_newest]}
        return [message for message in older if message.id in chosen] + newest


class TestFIFO(AlgorithmConformance):
    takes_the_newest = True

    @pytest.fixture(params=[1, 2, 3, 5, 8, 20, 1000])
    def algorithm(self, request: pytest.FixtureRequest) -> BaseAlgorithm:
        return FIFOAlgorithm(max_messages=request.param)


class TestFIFOWithTwoMarks(AlgorithmConformance):
    takes_the_newest = True

    @pytest.fixture(params=[(1, 1), (4, 1), (8, 0.5), (20, 0.6), (20, 20), (1000, 10)], ids=str)
    def algorithm(self, request: pytest.FixtureRequest) -> BaseAlgorithm:
        max_messages, keep = request.param
        return FIFOAlgorithm(max_messages=max_messages, keep=keep)


class TestTimeWindow(AlgorithmConformance):
    takes_the_newest = True

    @pytest.fixture
    def algorithm(self) -> BaseAlgorithm:
        return TimeWindow(timedelta(minutes=20))


class TestByImportance(AlgorithmConformance):
    @pytest.fixture
    def algorithm(self) -> BaseAlgorithm:
        return ByImportance(max_messages=12)


LARGE = 2500
"""Room for what must be sent in most of the kit's conversations, in which an image of unknown size has 765 tokens."""


class TestTokenWindow(AlgorithmConformance):
    @pytest.fixture(params=[LARGE, 0.05, "auto", 0.2, "reserve"], ids=str)
    def algorithm(self, request: pytest.FixtureRequest) -> BaseAlgorithm:
        made: dict[object, BaseAlgorithm] = {
            LARGE: TokenWindowAlgorithm(LARGE),
            0.05: TokenWindowAlgorithm(0.05, keep=LARGE - 1000),
            "auto": TokenWindowAlgorithm(LARGE, keep="auto"),
            0.2: TokenWindowAlgorithm(LARGE, keep=0.2),
            "reserve": TokenWindowAlgorithm(LARGE + 500, reserve_tokens=500),
        }
        return made[request.param]


def first_words(messages: list[Message], previous: str | None) -> str:
    return f"{previous or ''} {' '.join(message.text[:5] for message in messages)}".strip() or "nothing"


class TestSummary(AlgorithmConformance):
    @pytest.fixture(params=[0.6, 0.95], ids=str)
    def algorithm(self, request: pytest.FixtureRequest) -> BaseAlgorithm:
        return SummaryAlgorithm(first_words, LARGE, keep=request.param, max_summary_tokens=200)


class TestTrimming(AlgorithmConformance):
    @pytest.fixture(params=[(0, 0), (2, 1)], ids=str)
    def algorithm(self, request: pytest.FixtureRequest) -> BaseAlgorithm:
        keep_last, keep_images = request.param
        return ToolResultTrimming(keep_last, keep_images, longer_than=10)


class TestAge(AlgorithmConformance):
    takes_the_newest = True

    @pytest.fixture(params=[0.5, 1], ids=str)
    def algorithm(self, request: pytest.FixtureRequest) -> BaseAlgorithm:
        return TimeWindowAlgorithm(timedelta(minutes=20), keep=request.param)


class TestPipelines(AlgorithmConformance):
    @pytest.fixture(params=["trim, window", "trim, summary", "age, trim, window", "a user's, window", "fifo, age"])
    def algorithm(self, request: pytest.FixtureRequest) -> BaseAlgorithm:
        age, trim = TimeWindowAlgorithm(timedelta(minutes=40)), ToolResultTrimming(1, 1, longer_than=20)
        window = TokenWindowAlgorithm(LARGE, keep=0.4)
        made: dict[str, list[BaseAlgorithm]] = {
            "trim, window": [trim, window],
            "trim, summary": [trim, SummaryAlgorithm(first_words, LARGE, max_summary_tokens=200)],
            "age, trim, window": [age, trim, window],
            "a user's, window": [ByImportance(max_messages=12), window],
            "fifo, age": [FIFOAlgorithm(12, keep=0.5), age],
        }
        return Pipeline(made[request.param])
