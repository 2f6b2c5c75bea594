"""Three dialects of sending an assistant's reasoning back: refused, passed over, or asked for."""

from __future__ import annotations

from typing import Literal, TypeAlias

from memexllm.testing.server.errors import InvalidRequestError, unrecognized
from memexllm.testing.server.jsontypes import JSONObject, string_at

ReasoningDialect: TypeAlias = Literal["reject", "ignore", "require"]
"""What becomes of reasoning fields in assistant messages.

- `"reject"`: a 400, as Groq gives;
- `"ignore"`: nothing, as with vLLM;
- `"require"`: answers carry `reasoning_content`, and a 400 when an assistant message with tool calls comes back
  without it before the next user message, as DeepSeek's thinking mode gives.
"""

REASONING_FIELDS = frozenset({"reasoning_content", "reasoning", "reasoning_details"})


def check_reasoning(messages: list[JSONObject], dialect: ReasoningDialect) -> None:
    if dialect == "reject":
        _check_absent(messages)
    elif dialect == "require":
        _check_present(messages)


def _check_absent(messages: list[JSONObject]) -> None:
    for position, message in enumerate(messages):
        for name in message:
            if name in REASONING_FIELDS and message["role"] == "assistant":
                raise unrecognized(f"messages[{position}].{name}")


def _check_present(messages: list[JSONObject]) -> None:
    last_user = max((i for i, message in enumerate(messages) if message["role"] == "user"), default=-1)
    for position, message in enumerate(messages[last_user + 1 :], start=last_user + 1):
        if message.get("tool_calls") and not string_at(message, "reasoning_content"):
            raise InvalidRequestError(
                "The reasoning_content of an assistant message with tool_calls must be passed back in thinking mode.",
                param=f"messages[{position}].reasoning_content",
                code="missing_required_parameter",
            )
