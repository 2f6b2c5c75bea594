"""The conformance kit on FIFO, and on algorithms as users write them: with `get_message_window` alone."""

from __future__ import annotations

from datetime import timedelta

import pytest

from memexllm.algorithms import BaseAlgorithm, FIFOAlgorithm
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
