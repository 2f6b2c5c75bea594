"""What the two APIs share: an outcome becomes a delivery."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, TypeVar

from memexllm.testing.server.delivery import Delivery, Event, cut_after, error_delivery, failed_after, held, slowed
from memexllm.testing.server.outcomes import (
    Answer,
    Drop,
    Failed,
    Hold,
    Outcome,
    Reply,
    ServerError,
    Slow,
    StreamError,
    as_outcome,
)
from memexllm.testing.server.received import ChatRequest, ResponsesRequest

RequestT = TypeVar("RequestT", ChatRequest, ResponsesRequest)


class Endpoint(ABC, Generic[RequestT]):
    """One API's way of answering; it owns the ids it hands out."""

    def __init__(self, reply: Callable[[ChatRequest], Reply]) -> None:
        self._reply = reply

    def delivery(self, request: RequestT, outcome: Reply | None) -> Delivery:
        """With None the outcome is the reply function's."""
        return self._deliver(request, as_outcome(self._reply(request.as_chat) if outcome is None else outcome))

    def _deliver(self, request: RequestT, outcome: Outcome) -> Delivery:
        match outcome:
            case Answer():
                return self._answer(request, outcome)
            case ServerError():
                return error_delivery(outcome)
            case Hold(gate, then):
                return held(self.delivery(request, then), gate, outcome.before_chunk)
            case Slow(pace, then):
                return slowed(self.delivery(request, then), pace)
            case Drop(after_chunks, answer):
                return cut_after(self.delivery(request, answer), after_chunks)
            case StreamError():
                return self._stream_error(request, outcome)
            case Failed():
                return self._failed(request, outcome)

    def _stream_error(self, request: RequestT, outcome: StreamError) -> Delivery:
        if not request.stream:
            return error_delivery(ServerError(500, outcome.message, type=outcome.type, code=outcome.code))
        answered = self.delivery(request, outcome.answer)
        return failed_after(answered, outcome.after_chunks, lambda n_sent: self._error_event(outcome, n_sent))

    @abstractmethod
    def _answer(self, request: RequestT, answer: Answer) -> Delivery: ...

    @abstractmethod
    def _failed(self, request: RequestT, outcome: Failed) -> Delivery: ...

    @abstractmethod
    def _error_event(self, error: StreamError, n_sent: int) -> Event:
        """The event that tells of the error after `n_sent` events."""
