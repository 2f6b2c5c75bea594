"""What the library makes of an algorithm that implements `get_message_window` alone."""

from __future__ import annotations

from typing import Any

import pytest

from memexllm import HistoryManager, MemoryStorage
from memexllm.algorithms import BaseAlgorithm, ContextView, FIFOAlgorithm
from memexllm.core.exchanges import repair
from memexllm.core.flow import run
from memexllm.core.models import Message
from memexllm.history.context import choose


class Without(BaseAlgorithm):
    """All messages but those with the given ids."""

    def __init__(self, *left_out: str) -> None:
        super().__init__()
        self.left_out = left_out

    def get_message_window(self, messages: list[Message]) -> list[Message]:
        return [message for message in messages if message.id not in self.left_out]


def asked(number: int) -> list[Message]:
    """A question with its call and result; the call's id is the same every time, as some servers make them."""
    call = {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": str(number)}}
    return [
        Message(f"question {number}", "user", id=f"user-{number}"),
        Message(None, "assistant", tool_calls=[call], id=f"call-{number}"),
        Message(f"result {number}", "tool", tool_call_id="call_0", id=f"result-{number}"),
        Message(f"answer {number}", "assistant", id=f"answer-{number}"),
    ]


def test_a_result_is_never_given_to_the_call_of_another_exchange() -> None:
    rows = [message.row() for message in [*asked(1), *asked(2)]]
    incoming = [Message("and now?", "user").row()]
    algorithm = Without("result-1", "call-2")
    window = run(choose(algorithm, ContextView((), incoming=incoming), rows))
    sent = [row["id"] for row in repair(window.rows).rows]
    assert sent == ["user-1", "answer-1", "user-2", "answer-2"]
    assert set(window.excluded) == {"call-1", "result-1", "call-2", "result-2"}


@pytest.mark.parametrize("max_messages", [1, 2, 3])
def test_results_that_wait_for_an_answer_are_sent_whole(max_messages: int) -> None:
    """For a caller who stores them first and then asks what to send, the call and its results are the newest thing."""
    calls: list[dict[str, Any]] = [
        {"id": f"c{n}", "type": "function", "function": {"name": "f", "arguments": "{}"}} for n in range(3)
    ]
    manager = HistoryManager(MemoryStorage(), FIFOAlgorithm(max_messages))
    manager.create_thread(thread_id="t")
    manager.add_message("t", "look it up", "user")
    manager.add_message("t", None, "assistant", tool_calls=calls)
    for call in calls:
        manager.add_message("t", "42", "tool", tool_call_id=call["id"])
    assert [message.role for message in manager.context("t")] == ["user", "assistant", "tool", "tool", "tool"]
