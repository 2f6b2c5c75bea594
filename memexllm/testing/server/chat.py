"""POST /chat/completions: a valid request and an outcome make a delivery."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from memexllm.testing.server.chunks import stream_chunks
from memexllm.testing.server.completion import Completion, complete_messages, finish_reason_of
from memexllm.testing.server.delivery import (
    Delivery,
    cut_after,
    error_delivery,
    failed_after,
    held,
    json_delivery,
    stream_delivery,
)
from memexllm.testing.server.jsontypes import JSONObject
from memexllm.testing.server.outcomes import (
    Answer,
    Drop,
    Hold,
    Outcome,
    Reply,
    ServerError,
    StreamError,
    as_outcome,
)
from memexllm.testing.server.received import ChatRequest
from memexllm.testing.server.usage import TokenMeter


class ChatCompletions:
    """Turns outcomes into deliveries; owns the ids it hands out."""

    def __init__(self, reply: Callable[[ChatRequest], Reply], meter: TokenMeter, clock: Callable[[], float]) -> None:
        self._reply = reply
        self._meter = meter
        self._clock = clock
        self._completion_numbers = itertools.count(1)
        self._call_numbers = itertools.count(1)

    def delivery(self, request: ChatRequest, outcome: Reply | None) -> Delivery:
        """With None the outcome is the reply function's."""
        return self._deliver(request, as_outcome(self._reply(request) if outcome is None else outcome))

    def _deliver(self, request: ChatRequest, outcome: Outcome) -> Delivery:
        match outcome:
            case Answer():
                return self._deliver_answer(request, outcome)
            case ServerError():
                return error_delivery(outcome)
            case Hold(gate, then):
                return held(self.delivery(request, then), gate, outcome.before_chunk)
            case Drop(after_chunks, answer):
                return cut_after(self.delivery(request, answer), after_chunks)
            case StreamError():
                return self._deliver_stream_error(request, outcome)

    def _deliver_stream_error(self, request: ChatRequest, outcome: StreamError) -> Delivery:
        if not request.stream:
            return error_delivery(ServerError(500, outcome.message, type=outcome.type, code=outcome.code))
        error: JSONObject = {
            "message": outcome.message,
            "type": outcome.type,
            "param": None,
            "code": outcome.code,
        }
        return failed_after(self.delivery(request, outcome.answer), outcome.after_chunks, error)

    def _deliver_answer(self, request: ChatRequest, answer: Answer) -> Delivery:
        completion = self._completion(request, answer)
        if not request.stream:
            return json_delivery(completion.as_json())
        chunks = answer.chunks
        if chunks is None:
            chunks = list(stream_chunks(completion, include_usage=request.include_usage))
        return stream_delivery(chunks, done=answer.done)

    def _completion(self, request: ChatRequest, answer: Answer) -> Completion:
        messages = complete_messages(answer, request.n_choices, self._new_call_id)
        # Counted even when the usage is given: the prompt was seen and is in the cache from now on.
        counted = self._meter.usage(request.body, messages)
        return Completion(
            completion_id=f"chatcmpl-{next(self._completion_numbers):024d}",
            created=int(self._clock()),
            model=request.model,
            messages=messages,
            finish_reasons=[answer.finish_reason or finish_reason_of(message) for message in messages],
            usage=counted if answer.usage is None else dict(answer.usage),
            extra=answer.extra,
        )

    def _new_call_id(self) -> str:
        return f"call_{next(self._call_numbers):024d}"
