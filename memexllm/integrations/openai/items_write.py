"""Messages as items of the Responses API: exactly those they came as, or made from their chat form."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from memexllm.core.exchanges import call_ids
from memexllm.core.wire import MessageRow, text_of
from memexllm.integrations.openai.items_read import Item, call_id_of, is_call

Wire = dict[str, Any]
MayReplay = Callable[[MessageRow], bool]

# `agents.models.fake_id.FAKE_RESPONSES_ID`
_MADE_UP_ID = "__fake_id__"
_NEEDS_NO_REASONING = frozenset({"message", "function_call", "custom_tool_call"})


def items_of(rows: Sequence[MessageRow], may_replay_reasoning: MayReplay) -> list[Item]:
    """The items to send for `rows`, in order.

    Reasoning goes back only in its encrypted form and to where it came from. Without it, the ids of what was said after
    it go as well: the server would ask for the reasoning by them ("provided without its required reasoning item").
    """
    custom = {call["id"] for row in rows for call in _calls(row["wire"]) if call.get("type") == "custom"}
    items: list[Item] = []
    for row in rows:
        if "items" in row:
            items.extend(_stored_items(row, may_replay_reasoning(row)))
        else:
            items.extend(_made_items(row["wire"], custom))
    return items


def _stored_items(row: MessageRow, may_replay: bool) -> Iterator[Item]:
    stored = list(map(_without_sdk_marks, row.get("items", [])))
    answered = set(call_ids(row["wire"]))
    reasoned = any(item.get("type") == "reasoning" for item in stored)
    whole = not reasoned or (may_replay and all(map(_is_portable, stored)))
    thoughts: list[Item] = []
    for item in stored:
        if item.get("type") == "reasoning":
            thoughts.append(item)
        # A repair took the call out of the chat form: its result is missing.
        elif is_call(item) and row["wire"].get("role") == "assistant" and call_id_of(item) not in answered:
            thoughts.clear()
        elif whole:
            yield from thoughts
            yield item
            thoughts.clear()
        elif item.get("type") in _NEEDS_NO_REASONING or is_call(item):
            yield _without_id(item)
    # The API refuses thoughts that led to nothing ("provided without its required following item"): none are left.


def _without_sdk_marks(item: Item) -> Item:
    """What the Agents SDK notes on the items of other APIs, and its runner takes off before it sends them."""
    if "provider_data" in item:
        item = {key: value for key, value in item.items() if key != "provider_data"}
    return _without_id(item) if item.get("id") == _MADE_UP_ID else item


def _is_portable(item: Item) -> bool:
    return item.get("type") != "reasoning" or bool(item.get("encrypted_content"))


def _without_id(item: Item) -> Item:
    if item.get("type") == "message":
        # As it is, a message of the model's needs an id; its text alone does not.
        phase = {"phase": item["phase"]} if "phase" in item else {}
        return {"role": "assistant", "content": _said(item), **phase}
    if item.get("type") in _NEEDS_NO_REASONING:
        return {key: value for key, value in item.items() if key != "id"}
    return item


def _said(item: Item) -> str:
    parts = item.get("content")
    if not isinstance(parts, list):
        return str(parts or "")
    return "".join(str(part.get("text") or part.get("refusal") or "") for part in parts if isinstance(part, dict))


def _made_items(wire: Wire, custom: set[Any]) -> Iterator[Item]:
    role = wire.get("role")
    if role == "tool":
        kind = "custom_tool_call_output" if wire.get("tool_call_id") in custom else "function_call_output"
        yield {"type": kind, "call_id": wire.get("tool_call_id"), "output": _result(wire.get("content"))}
    elif role == "function":
        yield {"type": "function_call_output", "call_id": _old_id(wire), "output": text_of(wire)}
    elif role == "assistant":
        yield from _made_answer(wire)
    else:
        yield {"role": role, "content": _input_content(wire.get("content"))}


def _made_answer(wire: Wire) -> Iterator[Item]:
    audio = wire.get("audio")
    spoken = audio.get("transcript") if isinstance(audio, dict) else None
    text = text_of(wire) or wire.get("refusal") or spoken
    calls = _calls(wire)
    if text or not (calls or wire.get("function_call")):
        yield {"role": "assistant", "content": text or ""}
    for call in calls:
        if call.get("type") == "custom":
            made = call.get("custom") or {}
            yield {
                "type": "custom_tool_call",
                "call_id": call.get("id"),
                "name": made.get("name"),
                "input": made.get("input"),
            }
        else:
            yield _function_call(call.get("id"), call.get("function") or {})
    if isinstance(wire.get("function_call"), dict):
        yield _function_call(_old_id(wire["function_call"]), wire["function_call"])


def _function_call(call_id: Any, function: Wire) -> Item:
    arguments = function.get("arguments")
    return {"type": "function_call", "call_id": call_id, "name": function.get("name"), "arguments": arguments}


def _old_id(named: Wire) -> str:
    """The chat API's first function calls had no id; a result follows its call directly."""
    return f"function_{named.get('name')}"


def _calls(wire: Wire) -> list[Wire]:
    calls = wire.get("tool_calls")
    return [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []


def _result(content: Any) -> Any:
    return [_input_part(part) for part in content] if isinstance(content, list) else content or ""


def _input_content(content: Any) -> Any:
    return [_input_part(part) for part in content] if isinstance(content, list) else content or ""


def _input_part(part: Any) -> Any:
    if isinstance(part, str):
        return {"type": "input_text", "text": part}
    if not isinstance(part, dict):
        return part
    kind = part.get("type")
    if kind == "text":
        return {"type": "input_text", "text": part.get("text")}
    if kind == "image_url":
        image = part.get("image_url")
        fields = image if isinstance(image, dict) else {"url": image}
        return {"type": "input_image", "image_url": fields.get("url"), "detail": fields.get("detail") or "auto"}
    if kind == "file" and isinstance(part.get("file"), dict):
        return {"type": "input_file", **part["file"]}
    return part
