"""POST /chat/completions: a valid request and an answer make a delivery."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable

from memexllm.testing.server.audio import SpokenAnswers
from memexllm.testing.server.brain import thought_about
from memexllm.testing.server.chunks import stream_chunks
from memexllm.testing.server.completion import Completion, complete_messages, finish_reason_of
from memexllm.testing.server.delivery import Delivery, Event, error_delivery, json_delivery, stream_delivery
from memexllm.testing.server.endpoint import Endpoint
from memexllm.testing.server.jsontypes import JSONObject
from memexllm.testing.server.outcomes import Answer, Failed, Reply, ServerError, StreamError
from memexllm.testing.server.received import ChatRequest
from memexllm.testing.server.usage import TokenMeter


class ChatCompletions(Endpoint[ChatRequest]):
    """With `thinks` every answer carries `reasoning_content`."""

    def __init__(
        self,
        reply: Callable[[ChatRequest], Reply],
        meter: TokenMeter,
        clock: Callable[[], float],
        *,
        thinks: bool,
    ) -> None:
        super().__init__(reply)
        self._meter = meter
        self._clock = clock
        self._thinks = thinks
        self._spoken = SpokenAnswers(clock)
        self._completion_numbers = itertools.count(1)
        self._call_numbers = itertools.count(1)

    def check(self, request: ChatRequest) -> None:
        """What only one who knows the earlier answers can judge; raises `InvalidRequestError`."""
        self._spoken.check(request.messages)

    def _failed(self, request: ChatRequest, outcome: Failed) -> Delivery:
        return error_delivery(ServerError(500, outcome.message, code=outcome.code))

    def _error_event(self, error: StreamError, n_sent: int) -> Event:
        shape: JSONObject = {"message": error.message, "type": error.type, "param": None, "code": error.code}
        return Event(json.dumps({"error": shape}), counts=False)

    def _answer(self, request: ChatRequest, answer: Answer) -> Delivery:
        completion = self._completion(request, answer)
        if not request.stream:
            return json_delivery(completion.as_json())
        chunks = answer.chunks
        if chunks is None:
            chunks = list(stream_chunks(completion, include_usage=request.include_usage))
        return stream_delivery(chunks, done=answer.done)

    def _completion(self, request: ChatRequest, answer: Answer) -> Completion:
        thought = thought_about(request) if self._thinks else None
        given = complete_messages(answer, request.n_choices, self._new_call_id, thought)
        messages = [self._spoken.complete(message) for message in given]
        # Counted even when the usage is given: the prompt was seen and is in the cache from now on.
        counted = self._meter.chat_usage(request.body, messages)
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
