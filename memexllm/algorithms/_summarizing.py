"""Asking a summariser: any callable, or an OpenAI client and a model. It may fail, hang, or say too much."""

from __future__ import annotations

import inspect
import logging
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from time import perf_counter
from typing import Any

from memexllm.core.asking import TimeLimitError, completions_client, in_time
from memexllm.core.errors import ConfigurationError
from memexllm.core.flow import Flow, Step
from memexllm.core.models import Message
from memexllm.core.wire import MessageRow, copy_row

_REMEMBERED = 64

logger = logging.getLogger("memexllm.algorithms.summary")

Summarizer = Callable[[list[Message], "str | None"], "str | Awaitable[str]"]

PROMPT = (
    "You keep the memory of a conversation between a user and an assistant. Write down what they need to go on: who "
    "the user is, what was asked for, decided, found out and promised, with every name, number, date and identifier "
    "exactly as it was said, and what is still open. If notes from before are given, return them with what is new "
    "worked in; leave out what no longer holds. Plain text in the conversation's language, no more than {words} words, "
    "no introduction."
)


@dataclass(frozen=True, slots=True)
class Made:
    """A summariser's answer: `text`, or the type of what went wrong in `error`; how long it took, what it used."""

    text: str = ""
    error: str = ""
    seconds: float = 0.0
    usage: dict[str, int] = field(default_factory=dict[str, int])


def as_summarizer(given: Any, model: str | None, prompt: str) -> Callable[[list[Message], str | None], Any]:
    """What is called with the messages and the summary so far; it returns a text, a completion, or an awaitable."""
    client = completions_client(given, model, "summariser", "the summary")
    if client is not None:
        return _ClientSummarizer(client, model or "", prompt)
    if not callable(given):
        raise ConfigurationError(
            f"a summariser is a callable (messages, previous) -> str, or an OpenAI client with model=; "
            f"got {type(given).__name__}"
        )
    if model is not None:
        raise ConfigurationError("model= is for an OpenAI client as summariser; a callable chooses its own")
    return given  # type: ignore[no-any-return]  # checked to be callable


@dataclass(frozen=True)
class _ClientSummarizer:
    client: Any
    model: str
    prompt: str

    def __call__(self, messages: list[Message], previous: str | None) -> Any:
        return self.client.chat.completions.create(
            model=self.model,
            messages=[
                {"role": "system", "content": self.prompt},
                {"role": "user", "content": transcript(messages, previous)},
            ],
        )


def transcript(messages: Sequence[Message], previous: str | None) -> str:
    """The messages as text, each after its speaker; tool calls by name and arguments."""
    lines = [] if previous is None else [f"Notes from before:\n{previous}\n", "What was said since:"]
    for message in messages:
        speaker = message.name or message.role
        calls = "".join(f" [calls {_called(call)}]" for call in message.wire.get("tool_calls") or ())
        lines.append(f"{speaker}: {message.text}{calls}")
    return "\n".join(lines)


def _called(call: Any) -> str:
    called = (call.get("function") or call.get("custom") or {}) if isinstance(call, dict) else {}
    return f"{called.get('name')} {called.get('arguments') or called.get('input') or ''}"


class Desk:
    """Where summaries are asked for: each is asked for once, by calls at once as by one that is tried again.

    A request that failed after its summary was made finds it here; so does a call that comes while it is being made.
    """

    def __init__(self, summarizer: Callable[[list[Message], str | None], Any]) -> None:
        self._summarizer = summarizer
        self._lock = threading.Lock()
        self._made: OrderedDict[bytes, Made] = OrderedDict()
        self._under_way: dict[bytes, _UnderWay] = {}

    def ask(self, rows: Sequence[MessageRow], previous: str | None, timeout_s: float) -> Flow[Made]:
        asked = blake2b(repr((previous, [row["wire"] for row in rows])).encode(), digest_size=16).digest()
        ours = _UnderWay()
        with self._lock:
            made = self._made.get(asked)
            under_way = ours if made is not None else self._under_way.setdefault(asked, ours)
        if made is not None:
            return made
        if under_way is not ours:
            yield Step(under_way.done.wait, (timeout_s,))
            return under_way.made
        try:
            messages = [Message.from_row(copy_row(row)) for row in rows]
            ours.made = yield from ask(self._summarizer, messages, previous, timeout_s)
        finally:
            with self._lock:
                del self._under_way[asked]
                if not ours.made.error:
                    self._made[asked] = ours.made
                while len(self._made) > _REMEMBERED:
                    self._made.popitem(last=False)
            ours.done.set()
        return ours.made


class _UnderWay:
    """A summary that is being made; until it is, it was not made in time."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.made = Made(error=TimeLimitError.__name__)


def ask(
    summarizer: Callable[[list[Message], str | None], Any],
    messages: list[Message],
    previous: str | None,
    timeout_s: float,
) -> Flow[Made]:
    """The door to a summariser: what it raises, and that it did not answer in time, becomes `Made.error`."""
    started = perf_counter()
    unawaited: list[Any] = []
    try:
        answered = yield Step(in_time, (summarizer, (messages, previous), timeout_s, unawaited))
        text, usage = _read(answered)
    except ConfigurationError:
        for awaitable in filter(inspect.iscoroutine, unawaited):
            awaitable.close()
        logger.warning("the summariser is asynchronous and its caller is not; give it a function that returns a text")
        return Made(error="AsyncSummarizer", seconds=perf_counter() - started)
    except Exception as error:  # noqa: BLE001 - a user's code; reported, and the call goes on without it
        return Made(error=type(error).__name__, seconds=perf_counter() - started)
    if not text.strip():
        return Made(error="EmptySummary", seconds=perf_counter() - started, usage=usage)
    return Made(text.strip(), seconds=perf_counter() - started, usage=usage)


def _read(answered: Any) -> tuple[str, dict[str, int]]:
    """The text of an answer, and the tokens it cost where it says so."""
    if isinstance(answered, str):
        return answered, {}
    choices = getattr(answered, "choices", None)
    text = choices[0].message.content if choices else None
    if not isinstance(text, str):
        raise TypeError(f"a summary is text, not {type(answered).__name__}")
    usage = getattr(answered, "usage", None)
    counted = {name: getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens")}
    return text, {name: count for name, count in counted.items() if isinstance(count, int)}
