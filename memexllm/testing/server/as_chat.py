"""A Responses request in its chat form, which is what reply functions and the counting of tokens read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from memexllm.testing.server.item_kinds import CALL_OF, OUTPUT_OF, answered_id, asked_ids, kind_of
from memexllm.testing.server.jsontypes import JSONObject, is_list, is_object, object_at, objects_at, string_at

_TEXT_PARTS = frozenset({"input_text", "output_text"})


def chat_body(body: JSONObject, items: Sequence[JSONObject]) -> JSONObject:
    """`items` are all the model reads: those of earlier responses and of the request."""
    chat: JSONObject = {"model": body.get("model"), "messages": list(_messages(body.get("instructions"), items))}
    for name in ("stream", "parallel_tool_calls", "metadata", "temperature", "top_p"):
        if body.get(name) is not None:
            chat[name] = body[name]
    if tools := [_tool(tool) for tool in objects_at(body, "tools") if tool.get("type") in ("function", "custom")]:
        chat["tools"] = tools
        chat["tool_choice"] = _tool_choice(body.get("tool_choice"))
    text_format = object_at(object_at(body, "text"), "format")
    if text_format.get("type") == "json_schema":
        schema = {name: value for name, value in text_format.items() if name != "type"}
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif text_format.get("type") == "json_object":
        chat["response_format"] = {"type": "json_object"}
    return chat


def _messages(instructions: object, items: Sequence[JSONObject]) -> Iterator[JSONObject]:
    if isinstance(instructions, str):
        yield {"role": "system", "content": instructions}
    usual_id: dict[str, str] = {}
    for item in items:
        kind = kind_of(item)
        if kind == "message":
            yield message_of(item)
        elif kind in OUTPUT_OF:
            usual_id |= dict.fromkeys(asked_ids(item), asked_ids(item)[0])
            yield {"role": "assistant", "content": None, "tool_calls": [_call(item)]}
        elif kind in CALL_OF:
            yield {"role": "tool", "tool_call_id": usual_id[answered_id(item)], "content": _output_text(item)}


def message_of(item: JSONObject) -> JSONObject:
    content = item.get("content")
    parts = [_part(part) for part in content if is_object(part)] if is_list(content) else content
    return {"role": item.get("role"), "content": parts}


def _part(part: JSONObject) -> JSONObject:
    kind = part.get("type")
    if kind in _TEXT_PARTS:
        return {"type": "text", "text": string_at(part, "text")}
    if kind == "input_image" and isinstance(part.get("image_url"), str):
        return {"type": "image_url", "image_url": {"url": part["image_url"]}}
    return part


def _call(item: JSONObject) -> JSONObject:
    call_id = asked_ids(item)[0]
    kind = kind_of(item)
    if kind == "custom_tool_call":
        return {"id": call_id, "type": "custom", "custom": {"name": item["name"], "input": item["input"]}}
    if kind in ("function_call", "mcp_approval_request"):
        function = {"name": item["name"], "arguments": item["arguments"]}
    else:
        asked = item.get("action", item.get("operation", item.get("actions")))
        function = {"name": kind.removesuffix("_call"), "arguments": json.dumps(asked)}
    return {"id": call_id, "type": "function", "function": function}


def _output_text(item: JSONObject) -> str:
    output = item.get("output", item.get("approve", item.get("status")))
    if isinstance(output, str):
        return output
    if is_list(output) and all(is_object(part) and part.get("type") in _TEXT_PARTS for part in output):
        return " ".join(string_at(part, "text") for part in output)
    return json.dumps(output)


def _tool(tool: JSONObject) -> JSONObject:
    shape = {name: value for name, value in tool.items() if name != "type"}
    return {"type": tool["type"], tool["type"]: shape}


def _tool_choice(choice: object) -> object:
    if not is_object(choice):
        return choice
    kind = string_at(choice, "type")
    if kind in ("function", "custom"):
        return {"type": kind, kind: {"name": choice.get("name")}}
    return choice.get("mode") if kind == "allowed_tools" else "none"
