"""How the laws of the Responses API talk: items in one word, and one conversation spoken four ways."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.openai.talking import Talk

if TYPE_CHECKING:
    from memexllm.testing.server import OpenAIServer

Item = dict[str, Any]
FUNCTIONS = [
    {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}, "strict": False},
    {"type": "custom", "name": "shell"},
]
FINAL = ("response.completed", "response.incomplete", "response.failed")


def function_call(call_id: str, arguments: str = "{}", **fields: Any) -> Item:
    return {"type": "function_call", "call_id": call_id, "name": "look", "arguments": arguments, **fields}


def custom_call(call_id: str, given: str = "ls") -> Item:
    return {"type": "custom_tool_call", "call_id": call_id, "name": "shell", "input": given}


def function_output(call_id: str, output: Any = "42") -> Item:
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def custom_output(call_id: str, output: Any = "a.txt") -> Item:
    return {"type": "custom_tool_call_output", "call_id": call_id, "output": output}


def answered(text: str) -> Item:
    """A message of the model's, as a server makes it."""
    return {"type": "message", "content": [{"type": "output_text", "text": text, "annotations": []}]}


def reasoning(text: str = "Hm.", **fields: Any) -> Item:
    return {"type": "reasoning", "summary": [{"type": "summary_text", "text": text}], **fields}


def items(server: OpenAIServer, index: int = -1) -> list[Item]:
    """The input items of a Responses request, the newest unless told."""
    return list(server.responses_requests[index].items)


def kinds(server: OpenAIServer, index: int = -1) -> list[str]:
    """What they are, in order; a message is named by its role."""
    return [str(item.get("role") or item["type"]) for item in items(server, index)]


def texts(server: OpenAIServer, index: int = -1) -> list[Any]:
    """What each of them says."""
    return [_text(item) for item in items(server, index)]


def _text(item: Item) -> Any:
    content = item.get("content")
    if isinstance(content, list):
        return "".join(part.get("text") or part.get("refusal") or "" for part in content)
    return content if content is not None else item.get("output", item.get("arguments", item.get("input")))


class Respond(Talk):
    """`say` by `responses.create`; `response` is what came last, put together by the SDK or by its last event."""

    response: Any = None
    model = "gpt-4o"

    def say(self, *given: Any, thread_id: Any = "t", client: Any = None, **params: Any) -> str:
        said = given[0] if len(given) == 1 and isinstance(given[0], str) else list(given)
        return super().say(thread_id=thread_id, client=client, **{"model": self.model, "input": said, **params})

    def _say(self, client: Any, kwargs: dict[str, Any]) -> str:
        del kwargs["messages"]
        found = client.responses.create(stream=self.streamed, **kwargs)
        self._note(found, kwargs)
        if self.streamed:
            with found:
                for event in found:
                    self._hear(event)
        else:
            self.response = found
        return str(self.response.output_text)

    async def _say_async(self, client: Any, kwargs: dict[str, Any]) -> str:
        del kwargs["messages"]
        found = await client.responses.create(stream=self.streamed, **kwargs)
        self._note(found, kwargs)
        if self.streamed:
            async with found:
                async for event in found:
                    self._hear(event)
        else:
            self.response = found
        return str(self.response.output_text)

    def _hear(self, event: Any) -> None:
        if event.type in FINAL:
            self.response = event.response

    def stored_items(self, thread_id: str = "t") -> list[Any]:
        """The items of each stored message; None for one that has none."""
        return [message.items for message in self.run("get_messages", thread_id)]
