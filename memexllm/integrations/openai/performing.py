"""One call from beginning to end: its context is put together, sent, and what comes back is stored."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from memexllm.core.flow import Flow, Step
from memexllm.core.wire import Draft
from memexllm.integrations.openai.call import Call, raise_if_asked
from memexllm.integrations.openai.info import attach
from memexllm.integrations.openai.listening import is_stream, listening
from memexllm.integrations.openai.raw_streams import listen_to_bytes
from memexllm.integrations.openai.streams import listen

Send = Callable[[list[dict[str, Any]]], Any]


def perform(call: Call, incoming: list[Draft], received: Received, send: Send) -> Flow[Any]:
    """What the caller gets. `send` makes the request with what it is given, and may be asynchronous."""
    try:
        sent = yield from call.prepare(incoming, received.body)
        try:
            result = yield Step(send, (sent,), blocking=False)
            result = yield from received.arrived(result)
        finally:  # also when the SDK's parser refuses the answer: it is paid for
            yield from received.stored_or_withdrawn()
        raise_if_asked(call, result)
        return result
    finally:
        received.leave()


def conclude(received: Received, result: Any) -> Flow[Any]:
    """The rest of a call whose request was made already."""
    try:
        result = yield from received.arrived(result)
        yield from received.stored()
        raise_if_asked(received.call, result)
        return result
    finally:
        received.leave()


class Received:
    """What came back for a call: an answer to store, or a stream that is listened to and stores itself."""

    __slots__ = ("_completion", "_looking", "_streaming", "_taken", "asynchronous", "body", "call")

    def __init__(self, call: Call, body: Mapping[str, Any]) -> None:
        self.call = call
        self.body = body
        self.asynchronous = call.asynchronous
        self._completion: Any = None
        self._looking = False
        self._streaming = False
        self._taken = False

    def take(self, parsed: Any) -> None:
        """An answer, or a stream, as the SDK has parsed it."""
        self._taken = True
        kind = _sdk_stream(parsed)
        if kind is not None:
            self._streaming = True
            listen(parsed, self.call, self.body, asynchronous=kind == "AsyncStream")
        else:
            self._completion = _as_it_came(parsed)
        attach(parsed, self.call.info)

    def given_to(self, parser: Callable[[Any], Any], parsed: Any) -> Any:
        """What the SDK's helper makes of an answer; of a raw response only once the caller parses it."""
        if self._looking:
            raise _SeenError
        made = parser(parsed)
        attach(made, self.call.info)
        return made

    def arrived(self, result: Any) -> Flow[Any]:
        """What the SDK returned. A raw response is parsed when asked to; its answer must be stored either way."""
        if self._taken:
            attach(result, self.call.info)
            return result
        if "http_response" not in getattr(result, "__dict__", ()):  # a mock has every attribute, but not there
            if _sdk_stream(result) is None and is_stream(result, self.body):
                self._streaming = True  # a patched `create`, or a foreign one, may return what only iterates
                return listening(result, self.call, self.body, self.asynchronous)
            self.take(result)
            return result
        attach(result, self.call.info)
        if self.body.get("stream"):
            self._streaming = True
            listen_to_bytes(result.http_response, self.call, self.body, lambda: self._taken)
        else:
            yield from self._look_into(result)
        return result

    def _look_into(self, result: Any) -> Flow[None]:
        """Take the answer out of a raw response. A parser that refuses it does so when the caller parses."""
        self._looking = True
        try:
            parsed = yield Step(result.parse, (), blocking=False)
        except _SeenError:
            return  # raised by `given_to`: the answer is taken, and the SDK remembers nothing of this look
        except _unreadable():
            return  # no JSON, or no answer: the caller is told when it parses
        finally:
            self._looking = False
        if not self._taken:
            self.take(parsed)

    def stored(self) -> Flow[None]:
        if self._taken and not self._streaming:
            yield from self.call.save(self._completion)

    def stored_or_withdrawn(self) -> Flow[None]:
        yield from self.stored() if self._taken or self._streaming else self.call.withdraw()

    def failed(self) -> Flow[None]:
        """Nothing came back, and nothing will."""
        try:
            yield from self.call.withdraw()
        finally:
            self.call.leave()

    def leave(self) -> None:
        """The call is over, unless its stream goes on."""
        if not self._streaming:
            self.call.leave()


def _as_it_came(answer: Any) -> Any:
    """The API's answer. A patched `create` may make an object of the caller's out of it, and keep it there."""
    return getattr(answer, "__dict__", {}).get("_raw_response", answer)


class _SeenError(Exception):
    pass


def _unreadable() -> tuple[type[Exception], ...]:
    """What the SDK raises of an answer that is no JSON, or no answer when it validates strictly."""
    openai = sys.modules.get("openai")
    return (ValueError,) if openai is None else (ValueError, openai.APIError)


def _sdk_stream(value: Any) -> str | None:
    """`"Stream"` or `"AsyncStream"`; this module works where the SDK is not installed."""
    openai = sys.modules.get("openai")
    for name in ("Stream", "AsyncStream") if openai is not None else ():
        if isinstance(value, getattr(openai, name)):
            return name
    return None
