"""The algorithm contract: which exchanges of a thread reach the model.

A user's algorithm implements `get_message_window` and works; the library itself calls `plan`, whose default wraps it.
Algorithms are pure. Whatever they return, what must be sent is sent (`required`) and repaired before the request.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from memexllm.core.errors import MemexLLMError, WindowError
from memexllm.core.exchanges import Exchange, exchanges
from memexllm.core.flow import Flow
from memexllm.core.models import Message, Thread
from memexllm.core.refusals import checked_positive
from memexllm.core.tokens import TokenCounter
from memexllm.core.wire import MessageRow

logger = logging.getLogger("memexllm")

Occasion = Literal["call", "look", "ahead"]
Earlier = Callable[[int], Flow[Sequence[MessageRow]]]


@dataclass(frozen=True, slots=True)
class Reads:
    """What to load of a thread: messages after a seq, and/or the newest so many; everything when both are None.

    `also`: the exchanges at these seqs, however far back. `metadata`: with each message's metadata and `call`, which a
    request does not need and which cost as much again.
    """

    after_seq: int | None = None
    newest: int | None = None
    also: Sequence[int] = ()
    metadata: bool = False


@dataclass(frozen=True, slots=True)
class ContextView:
    """What an algorithm chooses from.

    `exchanges` are stored, live and in order, without the `block`; `incoming` is what the caller passed in this call
    and is sent whatever is chosen. `state` is the thread's, of which an algorithm owns the keys it writes. The request
    has another message of `recalled_tokens` besides, which is no part of the thread.
    """

    exchanges: Sequence[Exchange]
    incoming: Sequence[MessageRow] = ()
    block: Sequence[MessageRow] = ()
    state: Mapping[str, Any] = field(default_factory=dict[str, Any])
    model: str | None = None
    tools: Sequence[Mapping[str, Any]] = ()
    max_output_tokens: int | None = None
    now: int | None = None
    occasion: Occasion = "call"
    earlier: Earlier | None = None
    recalled_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """The exchanges to send, in order; `state` holds the keys to replace in the thread's.

    A row of them may have another `wire` than the stored one (a placeholder for an old result): `shortened` says what
    was done to which message. `head` are rows that are sent right after the block and stand for messages that are not
    sent: a summary. `excluded` gives the reason for each message left out; `cut` is the seq at which the window begins.
    `tokens` is what all of the request counts, when it was counted. `counts` are the token counts made for it
    (message id → (count, encoding)); the next write notes them, so that none is made twice.
    """

    exchanges: Sequence[Exchange]
    state: Mapping[str, Any] = field(default_factory=dict[str, Any])
    excluded: Mapping[str, str] = field(default_factory=dict[str, str])
    shortened: Mapping[str, str] = field(default_factory=dict[str, str])
    head: Sequence[MessageRow] = ()
    cut: int | None = None
    tokens: int | None = None
    counts: Mapping[str, tuple[int, str]] = field(default_factory=dict[str, "tuple[int, str]"])


class BaseAlgorithm(ABC):
    """Chooses the window. Subclasses implement `get_message_window`, or `plan` for more control."""

    max_messages: int | None = None
    observes_messages: bool = False
    """Whether `process_thread` is shown each message when it is stored; overriding the method makes it so."""
    works_ahead: bool = False
    """Whether it wants to plan the next call after each answer, off the caller's path (occasion `"ahead"`)."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "process_thread" in vars(cls):
            cls.observes_messages = vars(cls).get("observes_messages", True)
            if getattr(cls.get_message_window, "__isabstractmethod__", False):
                cls.get_message_window = window_of_hook  # type: ignore[method-assign]

    def __init__(self, max_messages: int | None = None) -> None:
        if max_messages is not None:
            checked_positive(max_messages, "max_messages")
        self.max_messages = max_messages

    @abstractmethod
    def get_message_window(self, messages: list[Message]) -> list[Message]:
        """A new list with the messages to send, in order; `messages` and its items stay as they are."""

    def process_thread(self, thread: Thread, new_message: Message) -> None:
        """Called for each message once it is stored, with the thread as it was before it.

        Both are copies. What it changes in `thread.metadata` is stored; messages are never changed or deleted by it.
        For a class without `get_message_window`, what it leaves in `thread` is the window.
        """

    def plan(self, view: ContextView) -> Flow[Plan]:
        """The window of `view`; by default what `get_message_window` chooses, in whole exchanges."""
        yield from ()
        stored = [message for exchange in view.exchanges for message in exchange.messages]
        incoming = [Message.from_row(row) for row in view.incoming]
        chosen = algorithm_call(self, [*stored, *incoming])
        left_out = {message.id for message in incoming} | _torn(view, {message.id for message in chosen})
        kept = [message for message in chosen if message.id not in left_out]
        kept_ids = {message.id for message in kept}
        excluded = {message.id: self.shown_name() for message in stored if message.id not in kept_ids}
        return Plan(exchanges([message.row() for message in kept]), excluded=excluded)

    def reads(self, state: Mapping[str, Any], model: str | None = None) -> Reads:
        """What `plan` needs to be shown for a call to `model`; everything unless overridden."""
        return Reads(metadata=True)

    def budget(self, model: str | None) -> int | None:
        """Tokens the whole request may have for a model; None when the algorithm does not count tokens."""
        return None

    def counter(self, model: str | None) -> TokenCounter:
        """What counts tokens for a model; `explain()` counts with it as well."""
        return TokenCounter(model)

    def counted_tools(self, view: ContextView) -> Sequence[Mapping[str, Any]]:
        """The tools whose schemas count towards the budget: the call's own, unless the algorithm was given others."""
        return view.tools

    def __repr__(self) -> str:
        limit = "" if self.max_messages is None else f"max_messages={self.max_messages}"
        return f"{type(self).__name__}({limit})"

    def shown_name(self) -> str:
        """What errors and `explain()` call it."""
        return type(self).__name__

    def takes_all(self, view: ContextView, rows: Sequence[MessageRow]) -> bool:
        """Whether all of `rows` are sent, known without grouping or counting them; `plan` is not asked then."""
        return False


def _torn(view: ContextView, chosen_ids: set[str]) -> set[str]:
    """Ids of exchanges that were not chosen whole: a result on its own would be taken for one of another call."""
    return {
        row["id"]
        for exchange in view.exchanges
        if not chosen_ids.issuperset(row["id"] for row in exchange.rows)
        for row in exchange.rows
    }


def algorithm_call(algorithm: BaseAlgorithm, messages: list[Message]) -> list[Message]:
    """The door to a user's algorithm: what it raises becomes a `WindowError`, before any request."""
    try:
        return list(algorithm.get_message_window(messages))
    except MemexLLMError:
        raise
    except Exception as error:
        raise WindowError(f"{algorithm.shown_name()} failed to choose a window: {error}") from error


def observe(algorithm: BaseAlgorithm, thread: Thread, message: Message) -> None:
    """The door to a user's `process_thread`. The message is stored, so an error is logged and goes no further."""
    try:
        algorithm.process_thread(thread, message)
    except Exception as error:  # noqa: BLE001 - a user's code
        logger.error(  # noqa: TRY400 - a traceback may quote what was said
            "%r.process_thread failed for a message of thread %r (%s); the message is stored",
            algorithm,
            thread.id,
            type(error).__name__,
        )


def window_of_hook(self: BaseAlgorithm, messages: list[Message]) -> list[Message]:
    """The window of a class that has `process_thread` alone: what it leaves of the thread."""
    if not messages:
        return []
    thread = Thread(messages=messages[:-1])
    self.process_thread(thread, messages[-1])
    left = thread.messages
    return left if any(message.id == messages[-1].id for message in left) else [*left, messages[-1]]


def required(view: ContextView) -> list[bool]:
    """For each exchange of `view`, whether it is sent whatever fits.

    Those are the exchange at the end that is open or waits to be answered, the user message that opened the current
    turn (an agent's task may be 400 messages back), and pinned messages. A turn whose answer has been given is over.
    """
    must = [exchange.pinned for exchange in view.exchanges]
    if must and not view.incoming and _answers(view.exchanges[-1]):
        return must
    if must and (view.exchanges[-1].open or not view.incoming):
        must[-1] = True
    if not any(row["wire"].get("role") == "user" for row in view.incoming):
        for index in range(len(must) - 1, -1, -1):
            if view.exchanges[index].role == "user":
                must[index] = True
                break
    return must


def _answers(exchange: Exchange) -> bool:
    """Whether it is an assistant's last word: a message without calls."""
    wire = exchange.rows[-1]["wire"]
    return wire.get("role") == "assistant" and not (wire.get("tool_calls") or wire.get("function_call"))


def with_required(view: ContextView, chosen: Sequence[Exchange]) -> list[Exchange]:
    """`chosen` with the required exchanges it lacks, at their place in the thread."""
    chosen_ids = {row["id"] for exchange in chosen for row in exchange.rows}
    lacking = [
        exchange
        for exchange, must in zip(view.exchanges, required(view), strict=True)
        if must and not chosen_ids.issuperset(row["id"] for row in exchange.rows)
    ]
    if not lacking:
        return list(chosen)
    lacking_ids = {row["id"] for exchange in lacking for row in exchange.rows}
    place = {row["id"]: index for index, exchange in enumerate(view.exchanges) for row in exchange.rows}
    merged = [exchange for exchange in chosen if not lacking_ids.intersection(row["id"] for row in exchange.rows)]
    for exchange in lacking:
        index = place[exchange.rows[0]["id"]]
        after = [i for i, other in enumerate(merged) if place.get(other.rows[0]["id"], -1) < index]
        merged.insert(after[-1] + 1 if after else 0, exchange)
    return merged
