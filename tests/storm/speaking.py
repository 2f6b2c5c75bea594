"""One call through any surface of either API, and what its caller heard until the end, or until he left."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, TypeVar

from tests.openai.responding import FINAL
from tests.openai.surfaces import Api, entered, got, resource_of
from tests.storm.expected import Said, Wire

R = TypeVar("R")
Form = Literal["create", "parse", "raw", "stream", "raw stream", "helper"]
WHOLE: tuple[Form, ...] = ("create", "parse", "raw")
STREAMS: tuple[Form, ...] = ("stream", "raw stream", "helper")
APIS: tuple[Api, ...] = ("chat", "responses")
PARAMETERS = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
FUNCTION = {"name": "look", "parameters": PARAMETERS, "strict": True}


@dataclass(frozen=True)
class Way:
    api: Api
    form: Form
    asynchronous: bool

    @property
    def streamed(self) -> bool:
        return self.form in STREAMS

    def params(self, thread_id: str, said: Sequence[Said]) -> Wire:
        shared: Wire = {"model": "gpt-4o", "thread_id": thread_id}
        if self.api == "chat":
            tools = [{"type": "function", "function": FUNCTION}]
            return {**shared, "messages": [each.wire for each in said], "tools": tools}
        items = [item for each in said for item in each.items]
        return {**shared, "input": items, "tools": [{"type": "function", **FUNCTION}]}


def any_way(random: Random) -> Way:
    return Way(random.choice(APIS), random.choice((*WHOLE, *STREAMS)), random.random() < 0.5)


@dataclass
class Heard:
    """What one call gave its caller. `left` are streams he did not close."""

    text: str = ""
    calls: list[str] = field(default_factory=list[str])
    finished: bool = False
    n_pieces: int = 0
    left: list[Any] = field(default_factory=list[Any])
    on_piece: Callable[[int], None] = lambda _: None

    @property
    def answer(self) -> Said | None:
        """What must be stored of it; nothing when nothing was said."""
        if not self.text and not self.calls:
            return None
        status = "complete" if self.finished else "incomplete"
        return Said("assistant", self.text or None, tuple(self.calls), status=status)

    def whole(self, answer: Any) -> None:
        self.finished = True
        if hasattr(answer, "choices"):
            message = answer.choices[0].message
            self.text = message.content or ""
            self.calls = [call.id for call in message.tool_calls or ()]
        else:
            self.text = answer.output_text
            self.calls = [item.call_id for item in answer.output if item.type == "function_call"]

    def piece(self, event: Any) -> None:
        """A chunk of chat, an event of responses, or of the SDK's helpers, which tell of each chunk first."""
        if getattr(event, "type", "") == "chunk":
            event = event.chunk
        if hasattr(event, "choices"):
            self._chunk(event)
        elif event.type.startswith("response."):
            self._event(event)
        else:
            return
        self.n_pieces += 1
        self.on_piece(self.n_pieces)

    def _chunk(self, chunk: Any) -> None:
        for choice in chunk.choices:
            self.text += choice.delta.content or ""
            self.calls += [call.id for call in choice.delta.tool_calls or () if call.id]
            self.finished = self.finished or bool(choice.finish_reason)

    def _event(self, event: Any) -> None:
        if event.type == "response.output_text.delta":
            self.text += event.delta
        elif event.type == "response.output_item.done" and event.item.type == "function_call":
            self.calls.append(event.item.call_id)
        self.finished = self.finished or event.type in FINAL


async def speak(way: Way, client: Any, params: Wire, heard: Heard, leave_after: int | None, *, close: bool) -> None:
    """`leave_after` so many pieces of a stream; it is closed then, or only left."""
    resource = resource_of(client, way.api)
    if way.form in ("create", "parse"):
        heard.whole(await got(getattr(resource, way.form)(**params)))
    elif way.form == "raw":
        heard.whole((await got(resource.with_raw_response.create(**params))).parse())
    elif way.form == "helper":
        async with entered(resource.stream(**params)) as events:
            await listen(events, heard, leave_after)
    else:
        on = resource if way.form == "stream" else resource.with_raw_response
        opened = await got(on.create(**params, stream=True))
        stream = opened if way.form == "stream" else opened.parse()
        heard.left.append(stream)
        await listen(stream, heard, leave_after)
        if close:
            await got(stream.close())


async def listen(pieces: Any, heard: Heard, leave_after: int | None = None) -> None:
    if leave_after == 0:
        return
    if hasattr(pieces, "__aiter__"):
        async for piece in pieces:
            heard.piece(piece)
            if heard.n_pieces == leave_after:
                break
    else:
        for piece in pieces:
            heard.piece(piece)
            if heard.n_pieces == leave_after:
                break


def without_waiting(call: Coroutine[Any, Any, R]) -> R:
    """The result of a call of a synchronous client: it never waits for a loop, so any thread can run it."""
    try:
        call.send(None)
    except StopIteration as ended:
        result: R = ended.value
        return result
    raise AssertionError("a synchronous call waited for a loop")
