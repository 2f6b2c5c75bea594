"""The algorithm contract: which exchanges of a thread reach the model.

A user's algorithm implements `get_message_window` and works; the library itself calls `plan`, whose default wraps it.
Algorithms are pure. Whatever they return, what must be sent is sent (`required`) and repaired before the request.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from memexllm.core.errors import MemexLLMError, WindowError
from memexllm.core.exchanges import Exchange, exchanges
from memexllm.core.flow import Flow
from memexllm.core.models import Message, Thread
from memexllm.core.refusals import checked_positive
from memexllm.core.wire import MessageRow

CUT = "cut"
"""Key of the thread's state under which an algorithm keeps the seq of its window's first message.

The library drops it when the messages before it are superseded.
"""


@dataclass(frozen=True, slots=True)
class Reads:
    """What to load of a thread: messages after a seq, and/or the newest so many; everything when both are None."""

    after_seq: int | None = None
    newest: int | None = None


@dataclass(frozen=True, slots=True)
class ContextView:
    """What an algorithm chooses from.

    `exchanges` are stored, live and in order, without the `block`; `incoming` is what the caller passed in this call
    and is sent whatever is chosen. `state` is the thread's, of which an algorithm owns the keys it writes.
    """

    exchanges: Sequence[Exchange]
    incoming: Sequence[MessageRow] = ()
    block: Sequence[MessageRow] = ()
    state: Mapping[str, Any] = field(default_factory=dict[str, Any])
    model: str | None = None
    tools: Sequence[Mapping[str, Any]] = ()
    max_output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The exchanges to send, in order; `state` holds the keys to replace in the thread's.

    `excluded` gives the reason for each message left out; `tokens` what is sent counts, when it was counted. `counts`
    are the token counts made for it (message id → (count, encoding)); the next write notes them, so that none is made
    twice.
    """

    exchanges: Sequence[Exchange]
    state: Mapping[str, Any] = field(default_factory=dict[str, Any])
    excluded: Mapping[str, str] = field(default_factory=dict[str, str])
    tokens: int | None = None
    counts: Mapping[str, tuple[int, str]] = field(default_factory=dict[str, "tuple[int, str]"])


class BaseAlgorithm(ABC):
    """Chooses the window. Subclasses implement `get_message_window`, or `plan` for more control."""

    max_messages: int | None = None

    def __init__(self, max_messages: int | None = None) -> None:
        if max_messages is not None:
            checked_positive(max_messages, "max_messages")
        self.max_messages = max_messages

    @abstractmethod
    def get_message_window(self, messages: list[Message]) -> list[Message]:
        """A new list with the messages to send, in order; `messages` and its items stay as they are."""

    def process_thread(self, thread: Thread, new_message: Message) -> None:
        """A hook of the 0.1 contract; does nothing unless overridden."""

    def plan(self, view: ContextView) -> Flow[Plan]:
        """The window of `view`; by default what `get_message_window` chooses, in whole exchanges."""
        yield from ()
        stored = [message for exchange in view.exchanges for message in exchange.messages]
        incoming = [Message.from_row(row) for row in view.incoming]
        chosen = algorithm_call(self, [*stored, *incoming])
        left_out = {message.id for message in incoming} | _torn(view, {message.id for message in chosen})
        kept = [message for message in chosen if message.id not in left_out]
        kept_ids = {message.id for message in kept}
        excluded = {message.id: type(self).__name__ for message in stored if message.id not in kept_ids}
        return Plan(exchanges([message.row() for message in kept]), excluded=excluded)

    def reads(self, state: Mapping[str, Any]) -> Reads:
        """What `plan` needs to be shown; everything unless overridden."""
        return Reads()

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
        raise WindowError(f"{type(algorithm).__name__} failed to choose a window: {error}") from error


def required(view: ContextView) -> list[bool]:
    """For each exchange of `view`, whether it is sent whatever fits.

    Those are the open exchange at the end, the user message that opened the current turn (an agent's task may be 400
    messages back), and pinned messages. A turn whose answer has been given is over.
    """
    must = [exchange.pinned for exchange in view.exchanges]
    if must and not view.incoming and _answers(view.exchanges[-1]):
        return must
    if must and view.exchanges[-1].open:
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
