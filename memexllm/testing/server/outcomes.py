"""What the server does with a request: answer, fail, drop the line, or wait at a gate first.

Every outcome serves both APIs; a "chunk" is an event of a stream, whichever API it belongs to.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Protocol, Self, TypeAlias


class Waitable(Protocol):
    """`threading.Event`, or anything that waits as it does."""

    def wait(self, timeout: float | None = None, /) -> bool:
        """True once open; False when `timeout` seconds passed first."""
        ...


class Gate:
    """A door in front of an answer. It starts closed; leaving the `with` block opens it.

    Unlike a bare `threading.Event` it can tell that the server has arrived, so a test
    knows that everything before the gate has been received and sent.
    """

    def __init__(self) -> None:
        self._opened = threading.Event()
        self._reached = threading.Event()

    def open(self) -> None:
        """Lets everybody pass who waits, and who comes later."""
        self._opened.set()

    def wait(self, timeout: float | None = None, /) -> bool:
        self._reached.set()
        return self._opened.wait(timeout)

    def wait_until_reached(self, timeout_s: float = 10) -> None:
        """Returns when a request stands at the gate; `TimeoutError` if none comes."""
        if not self._reached.wait(timeout_s):
            raise TimeoutError(f"No request reached the gate within {timeout_s} s; is the request sent?")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.open()


class Turnstile:
    """Lets one chunk pass for each that `let_through` allows; leaving the `with` block opens it for good."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._n_allowed = 0
        self._opened = False

    def let_through(self, n_chunks: int = 1) -> None:
        with self._condition:
            self._n_allowed += n_chunks
            self._condition.notify_all()

    def open(self) -> None:
        with self._condition:
            self._opened = True
            self._condition.notify_all()

    def wait(self, timeout: float | None = None, /) -> bool:
        with self._condition:
            if not self._condition.wait_for(lambda: self._opened or self._n_allowed > 0, timeout):
                return False
            if not self._opened:
                self._n_allowed -= 1
            return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.open()


@dataclass(frozen=True)
class Answer:
    """One exact answer.

    A dict is sent as it is (only a missing role, missing ids of tool calls, and what its audio lacks, are filled in);
    a string becomes the message the API would make of it. `alternatives` are the choices
    after the first; without them a request for n choices gets the same message n times.

    The Responses API answers with the items the message stands for: `reasoning_content` is a reasoning item,
    `content` and `refusal` a message, each of `tool_calls` a call. `items` are the exact ones instead.
    """

    message: str | Mapping[str, Any] = ""
    _: KW_ONLY
    finish_reason: str | None = None
    """For all choices; None: "tool_calls", "function_call" or "stop", as the message says.

    "length" and "content_filter" make a response `incomplete`."""
    usage: Mapping[str, Any] | None = None
    """None: counted by the server."""
    alternatives: Sequence[str | Mapping[str, Any]] = ()
    chunks: Sequence[Mapping[str, Any]] | None = None
    """The stream's chunks, sent exactly so; nothing is added but `[DONE]`."""
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """More top-level fields of the completion and of each chunk, or of the response; `model` and `id` can be
    replaced here."""
    done: bool = True
    """False: the stream ends without `[DONE]`. Streams of responses never have one."""
    items: Sequence[Mapping[str, Any]] | None = None
    """The output of a response; missing ids, roles and statuses are filled in. Chat requests do not see them."""


@dataclass(frozen=True)
class ServerError:
    """An HTTP error with OpenAI's error JSON; what is None gets the API's usual value for the status."""

    status: int
    message: str | None = None
    _: KW_ONLY
    type: str | None = None
    param: str | None = None
    code: str | None = None
    retry_after_s: float | None = None
    """Sent as `retry-after` and `retry-after-ms`; 0 makes the SDK retry at once."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Drop:
    """The connection is closed: before the answer, or after so many chunks of a stream.

    Without `answer` the stream is the reply the server would have given.
    """

    after_chunks: int | None = None
    answer: Answer | str | Mapping[str, Any] | None = None


@dataclass(frozen=True)
class StreamError:
    """An error event inside a stream, after so many chunks; a 500 when the request does not stream."""

    after_chunks: int = 1
    message: str = "The server had an error while processing your request. Sorry about that!"
    _: KW_ONLY
    type: str = "server_error"
    code: str | None = None
    answer: Answer | str | Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Hold:
    """Waits until `gate` opens, then goes on with `then` (the server's own reply when None).

    `before_chunk=k` waits inside a stream, when k chunks have been sent; otherwise, and for
    requests that do not stream, before the first byte. Holds nest.
    """

    gate: Waitable
    then: Outcome | str | Mapping[str, Any] | None = None
    _: KW_ONLY
    before_chunk: int | None = None


@dataclass(frozen=True)
class Slow:
    """Waits at `pace` before every chunk of a stream, or once before an answer in one piece.

    A number is seconds. A `Turnstile` lets a test decide when each chunk goes out.
    """

    pace: Waitable | float
    then: Outcome | str | Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Failed:
    """A response that ends as `failed`, its error inside, over HTTP 200; to a chat request a 500.

    `answer` is what came out before; by default nothing.
    """

    message: str = "The model failed to generate a response."
    _: KW_ONLY
    code: str = "server_error"
    answer: Answer | str | Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Vectors:
    """The embeddings of one request, as the server makes them, or `embeddings` in place of them.

    `n` answers short: only so many of them, over HTTP 200. `backwards` lists them from the last to the first, each with
    its own index.
    """

    embeddings: Sequence[Sequence[float]] | None = None
    _: KW_ONLY
    n: int | None = None
    backwards: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """More top-level fields of the answer; `data`, `model` and `usage` can be replaced here."""


EmbeddingOutcome: TypeAlias = Vectors | ServerError | Drop | Hold | Slow
"""What can be done with a request for embeddings; `then` of a `Hold` or `Slow` is None, a `ServerError` or a `Drop`."""

Outcome: TypeAlias = Answer | ServerError | Drop | StreamError | Hold | Slow | Failed
"""What can be done with one request."""
Reply: TypeAlias = Outcome | str | Mapping[str, Any]
"""An outcome, or the message of an `Answer`."""


def as_outcome(reply: Reply) -> Outcome:
    return reply if isinstance(reply, Outcome) else Answer(reply)


def as_answer(answer: Answer | str | Mapping[str, Any]) -> Answer:
    return answer if isinstance(answer, Answer) else Answer(answer)
