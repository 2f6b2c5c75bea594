"""POST /responses: a valid request and an answer make a delivery; what is to be stored is stored."""

from __future__ import annotations

import json
from collections.abc import Callable

from memexllm.testing.server.delivery import Delivery, Event, json_delivery
from memexllm.testing.server.endpoint import Endpoint
from memexllm.testing.server.item_store import ItemStore
from memexllm.testing.server.jsontypes import JSONObject, is_object, object_at
from memexllm.testing.server.outcomes import Answer, Failed, Reply, StreamError, as_answer
from memexllm.testing.server.output_items import ItemIds, kept_item, output_items
from memexllm.testing.server.received import ChatRequest, ResponsesRequest
from memexllm.testing.server.response_events import response_events
from memexllm.testing.server.usage import TokenMeter

_INCOMPLETE_REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}
# What a response says of its request, and what it says when the request said nothing.
_ECHOED: JSONObject = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}


class Responses(Endpoint[ResponsesRequest]):
    def __init__(
        self,
        reply: Callable[[ChatRequest], Reply],
        meter: TokenMeter,
        clock: Callable[[], float],
        store: ItemStore,
        ids: ItemIds,
    ) -> None:
        super().__init__(reply)
        self._meter = meter
        self._clock = clock
        self._store = store
        self._ids = ids

    def _answer(self, request: ResponsesRequest, answer: Answer) -> Delivery:
        return self._send(request, answer, None)

    def _failed(self, request: ResponsesRequest, outcome: Failed) -> Delivery:
        before = Answer(items=()) if outcome.answer is None else as_answer(outcome.answer)
        return self._send(request, before, {"code": outcome.code, "message": outcome.message})

    def _error_event(self, error: StreamError, n_sent: int) -> Event:
        shape: JSONObject = {"type": "error", "code": error.code or error.type, "message": error.message, "param": None}
        return Event(json.dumps(shape | {"sequence_number": n_sent}), counts=False, name="error")

    def _send(self, request: ResponsesRequest, answer: Answer, error: JSONObject | None) -> Delivery:
        response = self._response(request, answer, error)
        self._remember(request, response)
        if not request.stream:
            return json_delivery(response)
        events = response_events(response) if answer.chunks is None else answer.chunks
        return Delivery(200, steps=tuple(Event(json.dumps(event), name=event.get("type")) for event in events))

    def _response(self, request: ResponsesRequest, answer: Answer, error: JSONObject | None) -> JSONObject:
        output = output_items(answer, request, self._ids)
        reason = _INCOMPLETE_REASONS.get(answer.finish_reason or "")
        status = "failed" if error else "incomplete" if reason else "completed"
        now = int(self._clock())
        counted = self._meter.responses_usage(request, output)
        echoed = {name: request.body.get(name, usual) for name, usual in _ECHOED.items()}
        response: JSONObject = {
            "id": self._ids.new("resp"),
            "object": "response",
            "created_at": now,
            "status": status,
            "background": False,
            "error": error,
            "incomplete_details": {"reason": reason} if reason else None,
            "model": request.model,
            "output": output,
            "usage": counted if answer.usage is None else dict(answer.usage),
            **echoed,
        }
        if status == "completed":
            response["completed_at"] = now
        if conversation_id := conversation_of(request.body):
            response["conversation"] = {"id": conversation_id}
        return response | dict(answer.extra)

    def _remember(self, request: ResponsesRequest, response: JSONObject) -> None:
        self._store.note_produced(response["output"], request.model)
        items = [kept_item(item, self._ids) for item in request.items]
        if request.stored:
            self._store.store(response, items, request.earlier)
        if conversation_id := conversation_of(request.body):
            self._store.extend_conversation(conversation_id, [*items, *response["output"]])


def conversation_of(body: JSONObject) -> str | None:
    """The id of the conversation the request belongs to; it may come in an object."""
    conversation = body.get("conversation")
    found = object_at(body, "conversation").get("id") if is_object(conversation) else conversation
    return found if isinstance(found, str) else None
