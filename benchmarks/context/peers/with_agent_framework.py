"""agent-framework-core's compaction strategies, on a thread that keeps their annotations."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from agent_framework import (
    ChatResponse,
    Content,
    ContextWindowCompactionStrategy,
    Message,
    SlidingWindowStrategy,
    SummarizationStrategy,
    apply_compaction,
)

from benchmarks.context.peers.child import Peer, Said, Setting, Wire, serve
from benchmarks.context.rendering import text_tokens, tokens_in

warnings.filterwarnings("ignore", message=".*experimental.*")


class Thread:
    """Excluded messages are not loaded again, as with a history provider that skips them."""

    def __init__(self, strategy: Any) -> None:
        self._runner = asyncio.Runner()
        self._strategy = strategy
        self._messages: list[Any] = []
        self._known: set[str] = set()

    def add(self, said: Sequence[Said]) -> None:
        self._messages.extend(map(_as_message, said))
        self._known.update(str(each.number) for each in said)

    def prompt(self) -> Sequence[int | Wire]:
        compacted = apply_compaction(self._messages, strategy=self._strategy, tokenizer=Tokenizer())
        self._messages = self._runner.run(compacted)
        return [
            int(message.message_id) if message.message_id in self._known else _as_wire(message)
            for message in self._messages
        ]


class Tokenizer:
    """Counts a message as ours are counted; it is given as JSON."""

    def count_tokens(self, serialised: str) -> int:
        message = json.loads(serialised)
        wire: Wire = {"role": message["role"], "content": ""}
        for content in message["contents"]:
            if content["type"] == "function_call":
                function = {"name": content["name"], "arguments": content["arguments"]}
                wire.setdefault("tool_calls", []).append({"id": content["call_id"], "function": function})
            elif content["type"] == "function_result":
                wire |= {"tool_call_id": content["call_id"], "content": content["result"]}
            else:
                wire["content"] += content["text"]
        return tokens_in(wire)


class PlainTokenizer:
    """For the summariser's own request, which is text."""

    def count_tokens(self, text: str) -> int:
        return len(text_tokens(text))


class Summarizer:
    """A client whose model answers at once."""

    def __init__(self, setting: Setting) -> None:
        self.additional_properties: dict[str, Any] = {}
        self._setting = setting

    async def get_response(self, messages: Sequence[Any], **options: Any) -> Any:
        written = self._setting.summarised(*(message.text for message in messages))
        return ChatResponse(messages=[Message(role="assistant", contents=[written])])


def _as_message(said: Said) -> Any:
    wire = said.wire
    contents: list[Any] = []
    if wire["role"] == "tool":
        contents.append(Content.from_function_result(wire["tool_call_id"], result=wire["content"]))
    else:
        contents.append(Content.from_text(wire["content"]))
    for call in wire.get("tool_calls") or ():
        function = call["function"]
        contents.append(Content.from_function_call(call["id"], function["name"], arguments=function["arguments"]))
    return Message(role=wire["role"], contents=contents, message_id=str(said.number))


def _as_wire(message: Any) -> Wire:
    return {"role": str(message.role), "content": message.text}


MAKERS: dict[str, Callable[[Setting], Peer]] = {
    "context window": lambda setting: Thread(
        ContextWindowCompactionStrategy(
            max_context_window_tokens=setting.budget, max_output_tokens=0, tokenizer=Tokenizer()
        )
    ),
    "sliding window": lambda setting: Thread(SlidingWindowStrategy(keep_last_groups=setting.max_groups)),
    "summarization": lambda setting: Thread(
        SummarizationStrategy(client=Summarizer(setting), tokenizer=PlainTokenizer())
    ),
}

if __name__ == "__main__":
    serve(MAKERS, "agent-framework-core")
