"""What the library makes of an algorithm that implements `get_message_window` alone."""

from __future__ import annotations

from memexllm.algorithms import BaseAlgorithm, ContextView
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
