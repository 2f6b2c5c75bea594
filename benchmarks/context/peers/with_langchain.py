"""langchain-core's `trim_messages` and langchain's middlewares, on messages counted as ours are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from langchain.agents.middleware.context_editing import ClearToolUsesEdit
from langchain.agents.middleware.summarization import SummarizationMiddleware
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    ToolMessage,
    convert_to_openai_messages,
    trim_messages,
)
from langchain_core.outputs import ChatGeneration, ChatResult

from benchmarks.context.peers.child import Peer, Said, Setting, Wire, serve
from benchmarks.context.rendering import rendered, tokens_in


class Thread:
    """What the library's own state would hold: messages whose ids are their numbers."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self._counts: dict[str, int] = {}

    def add(self, said: Sequence[Said]) -> None:
        for each in said:
            self.messages.append(_as_message(each))
            self._counts[str(each.number)] = tokens_in(each.wire)

    def count(self, messages: Iterable[Any]) -> int:
        """Tokens of messages; those of the thread are counted once, as they were said."""
        return sum(self._count(message) for message in messages)

    def _count(self, message: Any) -> int:
        cleared = message.response_metadata.get("context_editing")
        known = None if cleared else self._counts.get(message.id or "")
        return len(rendered(_as_wire(message))) if known is None else known

    def named(self, messages: Iterable[BaseMessage]) -> list[int | Wire]:
        return [
            int(message.id)
            if message.id in self._counts and "context_editing" not in message.response_metadata
            else _as_wire(message)
            for message in messages
        ]


class Trim(Thread):
    def __init__(self, setting: Setting, start_on: str | None = None) -> None:
        super().__init__()
        self._max_tokens = setting.budget
        self._start_on = start_on

    def prompt(self) -> Sequence[int | Wire]:
        # What was trimmed once is trimmed ever after, so the rest of the thread need not be kept.
        self.messages = trim_messages(
            self.messages,
            max_tokens=self._max_tokens,
            token_counter=self.count,
            strategy="last",
            start_on=self._start_on,
        )
        return self.named(self.messages)


class Summarization(Thread):
    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self._middleware = SummarizationMiddleware(
            Summarizer(answer=setting.summarised),
            trigger=("tokens", int(0.8 * setting.budget)),
            token_counter=self.count,
        )

    def prompt(self) -> Sequence[int | Wire]:
        update = self._middleware.before_model({"messages": self.messages}, None)
        if update is not None:
            self.messages = update["messages"][1:]  # the first removes all there were
        return self.named(self.messages)


class ClearTools(Thread):
    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self._edit = ClearToolUsesEdit(trigger=int(0.8 * setting.budget), keep=4)

    def prompt(self) -> Sequence[int | Wire]:
        messages = list(self.messages)
        self._edit.apply(messages, count_tokens=self.count)
        return self.named(messages)


class Summarizer(BaseChatModel):  # type: ignore[misc]  # the library is in the peer's environment, not in ours
    """A model that answers at once."""

    answer: Callable[..., str]

    @property
    def _llm_type(self) -> str:
        return "summarizer"

    def _generate(self, messages: list[Any], *arguments: Any, **options: Any) -> Any:
        written = self.answer(*(str(message.content) for message in messages))
        return ChatResult(generations=[ChatGeneration(message=AIMessage(written))])


def _as_message(said: Said) -> Any:
    wire, number = said.wire, str(said.number)
    if wire["role"] == "user":
        return HumanMessage(wire["content"], id=number)
    if wire["role"] == "tool":
        return ToolMessage(wire["content"], tool_call_id=wire["tool_call_id"], id=number)
    calls = [
        {"id": call["id"], "name": call["function"]["name"], "args": json.loads(call["function"]["arguments"])}
        for call in wire.get("tool_calls") or ()
    ]
    return AIMessage(wire["content"], tool_calls=calls, id=number)


def _as_wire(message: Any) -> Wire:
    wire: Wire = convert_to_openai_messages(message)
    return wire


MAKERS: dict[str, Callable[[Setting], Peer]] = {
    "trim": Trim,
    "trim from human": lambda setting: Trim(setting, start_on="human"),
    "summarization": Summarization,
    "clear tools": ClearTools,
}

if __name__ == "__main__":
    serve(MAKERS, "langchain-core", "langchain")
