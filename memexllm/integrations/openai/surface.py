"""The two APIs a call can go to, chat completions and Responses: what differs between them, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from memexllm.core.wire import Draft, MessageRow
from memexllm.integrations.openai.answers import Answer, answer_of
from memexllm.integrations.openai.chunks import Chunks
from memexllm.integrations.openai.events import Events, answer_of_response
from memexllm.integrations.openai.items_read import drafts_of_input
from memexllm.integrations.openai.items_write import items_of
from memexllm.integrations.openai.wire import ReplayReasoning, drafts_of_messages, may_replay_reasoning, sendable

Target = tuple[str, str | None]
"""The `[server, model]` a call goes to."""


class Listener(Protocol):
    """What collects a stream's pieces into an answer."""

    n_said: int

    def add(self, piece: Any, /) -> bool:
        """Whether the answer is whole with this piece."""
        ...

    @property
    def finished(self) -> bool: ...
    @property
    def said_something(self) -> bool: ...
    def answer(self) -> Answer: ...


@dataclass(frozen=True)
class Surface:
    """`resource` is where the SDK's client keeps it, `body_key` what carries the conversation in a request's body, and
    `max_output` are the names of its limit on the answer. `sdk_requires_body_key`: its method cannot be called without.

    `drafts` reads what a caller passed there, `sent` writes what goes there for the block and the other rows.
    `answer` reads what came back, None when that is no answer; `listener` makes what listens to a stream.
    `further` is what else a body gets; `refused` are parameters that cannot go with a thread, and why.
    """

    path: str
    resource: tuple[str, ...]
    body_key: str
    sdk_requires_body_key: bool
    max_output: tuple[str, ...]
    drafts: Callable[[Any], list[Draft]]
    sent: Callable[[Sequence[MessageRow], Sequence[MessageRow], Target, ReplayReasoning], list[dict[str, Any]]]
    answer: Callable[[Any], Answer | None]
    listener: Callable[[Mapping[str, Any]], Listener]
    further: Callable[[Mapping[str, Any], ReplayReasoning], Mapping[str, Any]] = lambda body, replay: {}
    refused: Mapping[str, str] = field(default_factory=dict[str, str])


def _sent_messages(
    block: Sequence[MessageRow], rows: Sequence[MessageRow], target: Target, replay: ReplayReasoning
) -> list[dict[str, Any]]:
    sent = [row["wire"] for row in block]
    sent += [sendable(row, target, replay) for row in rows]
    return sent


def _sent_items(
    block: Sequence[MessageRow], rows: Sequence[MessageRow], target: Target, replay: ReplayReasoning
) -> list[dict[str, Any]]:
    return items_of([*block, *rows], lambda row: may_replay_reasoning(row, target, replay))


def _chunks(request: Mapping[str, Any]) -> Chunks:
    options = request.get("stream_options")
    return Chunks(
        n_choices=request.get("n") or 1,
        with_usage=isinstance(options, Mapping) and bool(options.get("include_usage")),
    )


def _encrypted_reasoning(body: Mapping[str, Any], replay: ReplayReasoning) -> Mapping[str, Any]:
    """A server that stores nothing gives reasoning away only when asked, encrypted; it can be sent back only so."""
    wanted = "reasoning.encrypted_content"
    include = body.get("include") or ()
    if body.get("store") is not False or replay == "never" or wanted in include:
        return {}
    return {"include": [*include, wanted]}


CHAT = Surface(
    path="/chat/completions",
    resource=("chat", "completions"),
    body_key="messages",
    sdk_requires_body_key=True,
    max_output=("max_completion_tokens", "max_tokens"),
    drafts=drafts_of_messages,
    sent=_sent_messages,
    answer=answer_of,
    listener=_chunks,
)
RESPONSES = Surface(
    path="/responses",
    resource=("responses",),
    body_key="input",
    sdk_requires_body_key=False,
    max_output=("max_output_tokens",),
    drafts=drafts_of_input,
    sent=_sent_items,
    answer=answer_of_response,
    listener=lambda request: Events(),
    further=_encrypted_reasoning,
    refused={
        "previous_response_id": "the server would add its own history to the thread's",
        "conversation": "the server would add its own history to the thread's",
        "background": "the answer is not there when the call returns; pass thread_id=None",
    },
)
