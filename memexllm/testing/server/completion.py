"""An answer as the API's JSON: the completed messages, and the chat.completion around them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memexllm.testing.server.jsontypes import JSONObject, objects_at
from memexllm.testing.server.outcomes import Answer


@dataclass(frozen=True)
class Completion:
    """All there is to say to one request, before it is sent as one JSON or as a stream."""

    completion_id: str
    created: int
    model: str
    messages: Sequence[JSONObject]
    finish_reasons: Sequence[str]
    usage: JSONObject
    extra: Mapping[str, Any]

    def as_json(self) -> JSONObject:
        choices = [
            {"index": index, "message": message, "logprobs": None, "finish_reason": finish_reason}
            for index, (message, finish_reason) in enumerate(zip(self.messages, self.finish_reasons, strict=True))
        ]
        return self.envelope("chat.completion", choices) | {"usage": self.usage} | dict(self.extra)

    def envelope(self, kind: str, choices: Sequence[JSONObject]) -> JSONObject:
        return {
            "id": self.completion_id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
            "service_tier": "default",
            "system_fingerprint": "fp_local",
        }


def complete_messages(
    answer: Answer, n_choices: int, new_call_id: Callable[[], str], thought: str | None
) -> list[JSONObject]:
    """One message for each choice, roles, call ids and the thought filled in."""
    given = [answer.message, *answer.alternatives] if answer.alternatives else [answer.message] * n_choices
    complete = [_complete_message(message, new_call_id) for message in given]
    return complete if thought is None else [{"reasoning_content": thought} | message for message in complete]


def _complete_message(message: str | Mapping[str, Any], new_call_id: Callable[[], str]) -> JSONObject:
    if isinstance(message, str):
        return {"role": "assistant", "content": message, "refusal": None, "annotations": []}
    complete: JSONObject = {"role": "assistant", **message}
    if calls := objects_at(complete, "tool_calls"):
        complete["tool_calls"] = [call if "id" in call else {"id": new_call_id(), **call} for call in calls]
    return complete


def finish_reason_of(message: JSONObject) -> str:
    if message.get("tool_calls"):
        return "tool_calls"
    if message.get("function_call"):
        return "function_call"
    return "stop"
