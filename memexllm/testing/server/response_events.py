"""A response as the events the API streams, numbered from 0."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from memexllm.testing.server.chunks import pieces_of
from memexllm.testing.server.jsontypes import JSONObject, objects_at, string_at


def response_events(response: JSONObject) -> Iterator[JSONObject]:
    for number, event in enumerate(_events(response)):
        yield event | {"sequence_number": number}


def _events(response: JSONObject) -> Iterator[JSONObject]:
    begun = response | {"status": "in_progress", "output": [], "usage": None, "error": None, "incomplete_details": None}
    begun.pop("completed_at", None)
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    for index, item in enumerate(response["output"]):
        yield from _item_events(item, index)
    yield {"type": f"response.{response['status']}", "response": response}


def _item_events(item: JSONObject, index: int) -> Iterator[JSONObject]:
    empty: JSONObject = {"status": "in_progress"} if "status" in item else {}
    inner = _INNER_EVENTS.get(item["type"])
    if inner is not None:
        empty |= {name: type(item[name])() for name in ("content", "summary", "arguments", "input") if item.get(name)}
    yield {"type": "response.output_item.added", "output_index": index, "item": item | empty}
    if inner is not None:
        place = {"item_id": item["id"], "output_index": index}
        yield from (event | place for event in inner(item))
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _message(item: JSONObject) -> Iterator[JSONObject]:
    for content_index, part in enumerate(objects_at(item, "content")):
        yield from (event | {"content_index": content_index} for event in _part(part))


def _part(part: JSONObject) -> Iterator[JSONObject]:
    if part["type"] == "refusal":
        yield {"type": "response.content_part.added", "part": {**part, "refusal": ""}}
        yield from _pieces("response.refusal", string_at(part, "refusal"), "refusal")
    elif part["type"] == "output_text":
        text = string_at(part, "text")
        yield {"type": "response.content_part.added", "part": {**part, "text": "", "annotations": [], "logprobs": []}}
        yield from (event | {"logprobs": []} for event in _pieces("response.output_text", text, "text"))
        for position, annotation in enumerate(objects_at(part, "annotations")):
            added = {"annotation_index": position, "annotation": annotation}
            yield {"type": "response.output_text.annotation.added"} | added
    else:
        yield {"type": "response.content_part.added", "part": {**part, "text": ""}}
        yield from _pieces("response.reasoning_text", string_at(part, "text"), "text")
    yield {"type": "response.content_part.done", "part": part}


def _reasoning(item: JSONObject) -> Iterator[JSONObject]:
    for position, part in enumerate(objects_at(item, "summary")):
        place = {"summary_index": position}
        yield {"type": "response.reasoning_summary_part.added", "part": {**part, "text": ""}} | place
        pieces = _pieces("response.reasoning_summary_text", string_at(part, "text"), "text")
        yield from (event | place for event in pieces)
        yield {"type": "response.reasoning_summary_part.done", "part": part} | place
    yield from _message(item)


def _function_call(item: JSONObject) -> Iterator[JSONObject]:
    *deltas, done = _pieces("response.function_call_arguments", string_at(item, "arguments"), "arguments")
    yield from deltas
    yield done | {"name": item["name"]}


def _custom_tool_call(item: JSONObject) -> Iterator[JSONObject]:
    return _pieces("response.custom_tool_call_input", string_at(item, "input"), "input")


def _pieces(kind: str, text: str, whole: str) -> Iterator[JSONObject]:
    yield from ({"type": f"{kind}.delta", "delta": piece} for piece in pieces_of(text))
    yield {"type": f"{kind}.done", whole: text}


_INNER_EVENTS: dict[str, Callable[[JSONObject], Iterator[dict[str, Any]]]] = {
    "message": _message,
    "reasoning": _reasoning,
    "function_call": _function_call,
    "custom_tool_call": _custom_tool_call,
}
