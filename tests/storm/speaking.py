"""One call through any surface of either API, and what its caller heard until the end, or until he left."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, TypeVar

from memexllm import HistoryInfo, history_of
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

    def params(self, thread_id: str, said: Sequence[Said], **ours: Any) -> Wire:
        shared: Wire = {"model": "gpt-4o", "thread_id": thread_id, **ours}
        if self.api == "chat":
            tools = [{"type": "function", "function": FUNCTION}]
            return {**shared, "messages": [each.wire for each in said], "tools": tools}
        items = [item for each in said for item in each.items]
        return {**shared, "input": items, "tools": [{"type": "function", **FUNCTION}]}


def any_way(random: Random, kinds: Sequence[bool]) -> Way:
    """`kinds` of clients there are: asynchronous or not."""
    return Way(random.choice(APIS), random.choice((*WHOLE, *STREAMS)), random.choice(kinds))


@dataclass
class Heard:
    """What one call gave its caller. `left` are streams he did not close."""

    texts: dict[int, str] = field(default_factory=dict[int, str])
    """Of each choice."""
    calls: list[str] = field(default_factory=list[str])
    finished: bool = False
    n_pieces: int = 0
    left: list[Any] = field(default_factory=list[Any])
    info: HistoryInfo | None = None
    on_piece: Callable[[int], None] = lambda _: None
    _open: set[int] = field(default_factory=set[int])
    """Choices that are not finished."""

    @property
    def answer(self) -> Said | None:
        """What must be stored of it; nothing when nothing was said."""
        if not any(self.texts.values()) and not self.calls:
            return None
        status = "complete" if self.finished else "incomplete"
        text, *others = (self.texts.get(index) or None for index in sorted({0, *self.texts}))
        return Said("assistant", text, tuple(self.calls), status=status, others=tuple(others))

    def whole(self, answer: Any) -> None:
        """An answer, raw or not."""
        self.finished = True
        self.info = history_of(answer)
        if hasattr(answer, "parse"):
            answer = answer.parse()
        if hasattr(answer, "choices"):
            self.texts = {choice.index: choice.message.content or "" for choice in answer.choices}
            self.calls = [call.id for call in answer.choices[0].message.tool_calls or ()]
        else:
            self.texts = {0: answer.output_text}
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
            self.texts[choice.index] = self.texts.get(choice.index, "") + (choice.delta.content or "")
            self.calls += [call.id for call in choice.delta.tool_calls or () if call.id]
            (self._open.discard if choice.finish_reason else self._open.add)(choice.index)
            self.finished = not self._open

    def _event(self, event: Any) -> None:
        if event.type == "response.output_text.delta":
            self.texts[0] = self.texts.get(0, "") + event.delta
        elif event.type == "response.output_item.done" and event.item.type == "function_call":
            self.calls.append(event.item.call_id)
        self.finished = self.finished or event.type in FINAL


async def speak(way: Way, client: Any, params: Wire, heard: Heard, leave_after: int | None, *, close: bool) -> None:
    """`leave_after` so many pieces of a stream; it is closed then, or only left."""
    resource = resource_of(client, way.api)
    if way.form in ("create", "parse"):
        heard.whole(await got(getattr(resource, way.form)(**params)))
    elif way.form == "raw":
        heard.whole(await got(resource.with_raw_response.create(**params)))
    elif way.form == "helper":
        async with entered(resource.stream(**params)) as events:
            heard.info = history_of(events)
            await listen(events, heard, leave_after)
    else:
        on = resource if way.form == "stream" else resource.with_raw_response
        opened = await got(on.create(**params, stream=True))
        stream = opened if way.form == "stream" else opened.parse()
        heard.info = history_of(stream)
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
