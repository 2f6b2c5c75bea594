"""llama-index-core's chat memories.

They hand the text of a message to the tokenizer they were given; `Memory` does so for each message by itself, so its
framing can be counted too, the buffers for the whole thread at once, so there it is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from llama_index.core.llms import ChatMessage, CompletionResponse, CustomLLM, LLMMetadata
from llama_index.core.memory import ChatMemoryBuffer, ChatSummaryMemoryBuffer, Memory

from benchmarks.context.peers.child import Peer, Said, Setting, Wire, serve
from benchmarks.context.rendering import text_tokens
from benchmarks.context.texts import FRAMING


class Thread:
    def __init__(self) -> None:
        self._numbers: dict[tuple[str, str], int] = {}

    def _as_message(self, said: Said) -> Any:
        wire = said.wire
        role, content = wire["role"], wire.get("content") or ""
        self._numbers[role, content] = said.number
        more = {key: wire[key] for key in ("tool_calls", "tool_call_id") if key in wire}
        return ChatMessage(role=role, content=content, additional_kwargs=more)

    def named(self, messages: Sequence[Any]) -> list[int | Wire]:
        found: list[int | Wire] = []
        for message in messages:
            role, content = message.role.value, message.content or ""
            number = self._numbers.get((role, content))
            found.append({"role": role, "content": content} if number is None else number)
        return found


class QueueMemory(Thread):
    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._memory = Memory.from_defaults(
            token_limit=setting.budget,
            token_flush_size=int(0.1 * setting.budget),
            tokenizer_fn=lambda text: [*text_tokens(text), *range(FRAMING)],
        )

    def add(self, said: Sequence[Said]) -> None:
        for each in said:
            self._runner.run(self._memory.aput(self._as_message(each)))

    def prompt(self) -> Sequence[int | Wire]:
        return self.named(self._runner.run(self._memory.aget()))


class Buffer(Thread):
    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self._memory: Any = ChatMemoryBuffer.from_defaults(token_limit=setting.budget, tokenizer_fn=text_tokens)

    def add(self, said: Sequence[Said]) -> None:
        for each in said:
            self._memory.put(self._as_message(each))

    def prompt(self) -> Sequence[int | Wire]:
        chosen = self._memory.get()
        # What has left the buffer never comes back to it; without the rest it is counted from the front each time.
        self._memory.set(chosen)
        return self.named(chosen)


class SummaryBuffer(Buffer):
    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._memory = ChatSummaryMemoryBuffer.from_defaults(
            token_limit=setting.budget, tokenizer_fn=text_tokens, llm=Summarizer(answer=setting.summarised)
        )

    def prompt(self) -> Sequence[int | Wire]:
        return self.named(self._memory.get())


class Summarizer(CustomLLM):  # type: ignore[misc]  # the library is in the peer's environment, not in ours
    """A model that answers at once."""

    answer: Callable[..., str]

    @property
    def metadata(self) -> Any:
        return LLMMetadata()

    def complete(self, prompt: str, *arguments: Any, **options: Any) -> Any:
        return CompletionResponse(text=self.answer(prompt))

    def stream_complete(self, prompt: str, *arguments: Any, **options: Any) -> Any:
        raise NotImplementedError


MAKERS: dict[str, Callable[[Setting], Peer]] = {
    "memory": QueueMemory,
    "buffer": Buffer,
    "summary buffer": SummaryBuffer,
}

if __name__ == "__main__":
    serve(MAKERS, "llama-index-core")
