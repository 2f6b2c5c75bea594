"""How the laws talk: messages in one word, and one conversation spoken four ways (sync, async, streamed or not)."""

from __future__ import annotations

import asyncio
import json
import sys
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import openai
from openai import AsyncOpenAI, OpenAI

from memexllm import history_of, with_history

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memexllm import HistoryInfo
    from memexllm.testing.server import OpenAIServer

Wire = dict[str, Any]
# Earlier releases of the SDK hand out what their HTTP library raises when a stream's line is dropped.
BROKEN_STREAM: tuple[type[Exception], ...] = (
    openai.APIError,
    *(sys.modules[name].TransportError for name in ("httpx", "httpx2") if name in sys.modules),
)
WAYS = ("sync", "sync stream", "async", "async stream")


def user(content: Any) -> Wire:
    return {"role": "user", "content": content}


def assistant(content: Any, **fields: Any) -> Wire:
    return {"role": "assistant", "content": content, **fields}


def system(content: Any) -> Wire:
    return {"role": "system", "content": content}


def tool(call_id: str, content: Any = "42") -> Wire:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def call(call_id: str, name: str = "look", arguments: str = "{}") -> Wire:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def calling(*call_ids: str) -> Wire:
    return assistant(None, tool_calls=[call(call_id) for call_id in call_ids])


TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]


def sdk_client(server: OpenAIServer, **options: Any) -> OpenAI:
    return OpenAI(base_url=server.base_url, api_key="local", **{"max_retries": 0, **options})


def async_sdk_client(server: OpenAIServer, **options: Any) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=server.base_url, api_key="local", **{"max_retries": 0, **options})


def sent(server: OpenAIServer, index: int = -1) -> list[Wire]:
    """The messages of a chat request, the newest unless told."""
    return list(server.chat_requests[index].messages)


def said(server: OpenAIServer, index: int = -1) -> list[Any]:
    """Their contents."""
    return [message.get("content") for message in sent(server, index)]


def raw_messages(server: OpenAIServer, index: int = -1) -> list[str]:
    """The exact JSON text of each message of a request, key order and spelling as on the wire."""
    text = server.requests[index].raw.decode()
    decoder = json.JSONDecoder()
    position = text.index('"messages":') + len('"messages":')
    position = text.index("[", position) + 1
    found: list[str] = []
    while True:
        while text[position] in " ,\n":
            position += 1
        if text[position] == "]":
            return found
        _, end = decoder.raw_decode(text, position)
        found.append(text[position:end])
        position = end


class Talk:
    """A wrapped client, used in one of four ways; `say` returns what was answered, as text."""

    def __init__(self, way: str, original: Any, runner: asyncio.Runner | None, **options: Any) -> None:
        self.streamed = way.endswith("stream")
        self.runner = runner
        self.original = original
        self.client: Any = with_history(self.original, **options)
        self.info: HistoryInfo | None = None

    def say(self, *messages: Any, thread_id: Any = "t", client: Any = None, **params: Any) -> str:
        kwargs: dict[str, Any] = {"model": "gpt-4o", "messages": list(messages), **params}
        if thread_id is not ...:
            kwargs["thread_id"] = thread_id
        spoken = self.client if client is None else client
        if self.runner is not None:
            return self.runner.run(self._say_async(spoken, kwargs), context=copy_context())
        return self._say(spoken, kwargs)

    def _say(self, client: Any, kwargs: dict[str, Any]) -> str:
        response = client.chat.completions.create(stream=self.streamed, **kwargs)
        answer = "".join(map(_delta, response)) if self.streamed else _text(response)
        self._note(response, kwargs)
        return answer

    async def _say_async(self, client: Any, kwargs: dict[str, Any]) -> str:
        response = await client.chat.completions.create(stream=self.streamed, **kwargs)
        answer = "".join([_delta(chunk) async for chunk in response]) if self.streamed else _text(response)
        self._note(response, kwargs)
        return answer

    def _note(self, response: Any, kwargs: dict[str, Any]) -> None:
        self.info = None if kwargs.get("thread_id", "") is None else history_of(response)

    def run(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """A method of the client's manager, or `flush` of the client."""
        target = self.client if method == "flush" else self.client.history
        result = getattr(target, method)(*args, **kwargs)
        return result if self.runner is None else self.runner.run(_awaited(result))

    def stored(self, thread_id: str = "t") -> list[Wire]:
        return [message.wire for message in self.run("get_messages", thread_id)]

    def stored_contents(self, thread_id: str = "t") -> list[Any]:
        return [wire.get("content") for wire in self.stored(thread_id)]

    def superseded(self, thread_id: str = "t") -> list[Any]:
        found = self.run("get_messages", thread_id, include_superseded=True)
        return [message.wire.get("content") for message in found if message.superseded]

    def seed(self, *wires: Wire, thread_id: str = "t") -> None:
        """Store messages through the manager, as an application would."""
        from memexllm import Message

        if thread_id not in [thread.id for thread in self.run("list_threads")]:
            self.run("create_thread", thread_id=thread_id)
        self.run("add_messages", thread_id, [Message(wire=wire) for wire in wires])


async def _awaited(result: Any) -> Any:
    return await result


def _text(completion: Any) -> str:
    return completion.choices[0].message.content or "" if completion.choices else ""


def _delta(chunk: Any) -> str:
    return (chunk.choices[0].delta.content or "") if chunk.choices and chunk.choices[0].delta else ""


def turns(*contents: str) -> Sequence[Wire]:
    """A conversation of these contents, user and assistant in turn."""
    return [user(text) if index % 2 == 0 else assistant(text) for index, text in enumerate(contents)]
