"""An answer as the items of a response, with ids, roles and statuses filled in."""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from memexllm.testing.server.brain import thought_about
from memexllm.testing.server.item_kinds import KINDS, kind_of
from memexllm.testing.server.item_store import seal
from memexllm.testing.server.jsontypes import JSONObject, is_list, object_at, objects_at, string_at
from memexllm.testing.server.outcomes import Answer
from memexllm.testing.server.received import ResponsesRequest

ENCRYPTED_REASONING = "reasoning.encrypted_content"
_REASONING_MODEL = re.compile(r"(?:.*/)?(?:o\d|gpt-5(?!.*chat)|gpt-oss|codex)")
_WITHOUT_STATUS = frozenset({"reasoning", "mcp_approval_request", "mcp_list_tools", "compaction", "custom_tool_call"})


class ItemIds:
    """Ids with the API's prefixes. They hold a mark of this server, so that no other server knows them."""

    def __init__(self) -> None:
        self._mark = secrets.token_hex(4)
        self._numbers = itertools.count(1)

    def new(self, prefix: str) -> str:
        return f"{prefix}_{self._mark}{next(self._numbers):024d}"


def output_items(answer: Answer, request: ResponsesRequest, ids: ItemIds) -> list[JSONObject]:
    items = _spoken(answer.message, request) if answer.items is None else ({**item} for item in answer.items)
    output = [_complete(item, ids) for item in items]
    if ENCRYPTED_REASONING in request.includes:
        output = [_sealed(item) for item in output]
    if answer.finish_reason in ("length", "content_filter") and output and "status" in output[-1]:
        output[-1]["status"] = "incomplete"
    return output


def kept_item(item: JSONObject, ids: ItemIds) -> JSONObject:
    """An input item as the API gives it back: with an id, a type, and its text in a part."""
    kind = kind_of(item)
    kept: JSONObject = {"id": ids.new(_id_prefix(kind)), "type": kind, **item}
    if kind == "message" and isinstance(item["content"], str):
        text = item["content"]
        part = _text_part(text) if item["role"] == "assistant" else {"type": "input_text", "text": text}
        kept |= {"content": [part], "status": "completed"}
    return kept


def reasons(request: ResponsesRequest) -> bool:
    """Whether the model is one of those that think first, and was not told not to."""
    if object_at(request.body, "reasoning").get("effort") == "none":
        return False
    return _REASONING_MODEL.match(request.model) is not None


def _spoken(message: str | Mapping[str, Any], request: ResponsesRequest) -> Iterator[JSONObject]:
    said: JSONObject = {"content": message} if isinstance(message, str) else dict(message)
    if (thought := said.get("reasoning_content")) or reasons(request):
        yield _reasoning(thought if isinstance(thought, str) else None, request)
    if parts := list(_parts(said)):
        yield {"type": "message", "content": parts}
    for call in objects_at(said, "tool_calls"):
        shape = object_at(call, string_at(call, "type") or "function")
        text_field, kind = (
            ("input", "custom_tool_call") if call.get("type") == "custom" else ("arguments", "function_call")
        )
        named: JSONObject = {"type": kind, "name": shape.get("name"), text_field: shape.get(text_field)}
        yield named | ({"call_id": call["id"]} if "id" in call else {})


def _reasoning(thought: str | None, request: ResponsesRequest) -> JSONObject:
    """What the model thought is shown as a summary when it was planned or asked for."""
    shown = thought is not None or object_at(request.body, "reasoning").get("summary") is not None
    text = thought or thought_about(request.as_chat)
    return {"type": "reasoning", "summary": [{"type": "summary_text", "text": text}] if shown else []}


def _parts(message: JSONObject) -> Iterator[JSONObject]:
    content = message.get("content")
    if isinstance(content, str):
        yield _text_part(content)
    for part in content if is_list(content) else []:
        yield _text_part(part["text"]) if part.get("type") == "text" else part
    if refusal := string_at(message, "refusal"):
        yield {"type": "refusal", "refusal": refusal}


def _text_part(text: str) -> JSONObject:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _complete(item: JSONObject, ids: ItemIds) -> JSONObject:
    kind = kind_of(item) or "message"
    known = KINDS.get(kind)
    complete: JSONObject = {"id": ids.new(_id_prefix(kind)), "type": kind}
    if kind not in _WITHOUT_STATUS:
        complete["status"] = "completed"
    if known and "call_id" in known.required:
        complete["call_id"] = ids.new("call")
    if kind == "message":
        complete["role"] = "assistant"
    complete |= item
    if kind == "message" and isinstance(complete.get("content"), str):
        complete["content"] = [_text_part(complete["content"])]
    return complete


def _id_prefix(kind: str) -> str:
    known = KINDS.get(kind)
    return (known.id_prefix if known else None) or kind.removesuffix("_call")


def _sealed(item: JSONObject) -> JSONObject:
    if item["type"] != "reasoning" or item.get("encrypted_content") is not None:
        return item
    thought = "\n".join(string_at(part, "text") for part in objects_at(item, "summary"))
    return {**item, "encrypted_content": seal(item["id"], thought)}
