"""Items of the Responses API as messages: what a caller's `input` and a response's `output` hold.

A thread is one list of messages whichever API speaks. A message that came as items keeps them (`items`), to be sent
back exactly, and `wire` is their chat form: what windows, merging, repair, counting and the other API look at. What a
model says in one go (reasoning, text, calls of tools) is one message, so that a window cannot tear it apart.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from memexllm.core.errors import ValidationError
from memexllm.core.wire import Draft, plain

Item = dict[str, Any]
Wire = dict[str, Any]

# What the SDK's parser adds to an answer, and what no server takes back.
_NOT_INPUT = frozenset({"parsed", "logprobs", "parsed_arguments"})
_TEXT_PARTS = frozenset({"input_text", "output_text", "text", "summary_text", "reasoning_text"})
_BARE = frozenset({"role", "content"})


def drafts_of_input(given: Any) -> list[Draft]:
    """The messages of a call's `input`: a text, or a list of items."""
    if given is None:
        return []
    if isinstance(given, str):
        return [{"wire": {"role": "user", "content": given}}]
    if isinstance(given, bytes | Mapping) or not isinstance(given, Iterable):
        raise ValidationError(f"input must be a text or a list of items, got {type(given).__name__}")
    items = [cleaned(item) for item in given]
    for item in items:
        if not isinstance(item, dict):
            raise ValidationError(
                f"each item of input must be a dict or an item of the SDK's, got {type(item).__name__}"
            )
    return drafts_of_items(items)


def drafts_of_items(items: Sequence[Item]) -> list[Draft]:
    """Messages in order; a run of items that a model said is one."""
    drafts: list[Draft] = []
    said: list[Item] = []
    for item in items:
        if _said_by_model(item, said):
            said.append(item)
            continue
        if said:
            drafts.append(draft_of_answer(said))
            said = []
        drafts.append(_draft_of_result(item) if is_result(item) else _draft_of_message(item))
    if said:
        drafts.append(draft_of_answer(said))
    return drafts


def draft_of_answer(items: Sequence[Item]) -> Draft:
    """What a model said, as one message."""
    if len(items) == 1 and items[0].keys() == _BARE and isinstance(items[0]["content"], str):
        return {"wire": {**items[0]}}
    wire: Wire = {"role": "assistant", "content": None}
    texts = [text for item in items if (text := _said_text(item))]
    calls = [_call_wire(item) for item in items if waits_for_result(item, items)]
    refusals = [text for item in items if (text := _said_text(item, "refusal"))]
    if texts:
        wire["content"] = "\n\n".join(texts)
    elif not calls and not refusals:
        # Reasoning or hosted tools alone: to the chat API an empty text, which it takes.
        wire["content"] = ""
    if refusals:
        wire["refusal"] = "\n\n".join(refusals)
    if calls:
        wire["tool_calls"] = calls
    return {"wire": wire, "items": list(items)}


def cleaned(item: Any) -> Any:
    """An item as plain JSON without nulls and what a server does not take back (`parsed`, logprobs)."""
    if hasattr(item, "model_dump"):
        copied = item.model_dump(exclude_unset=True, mode="json", by_alias=True, warnings=False)
    else:
        copied = plain(item)
    if not isinstance(copied, dict):
        return copied
    kept = {key: value for key, value in copied.items() if value is not None and key not in _NOT_INPUT}
    if isinstance(kept.get("content"), list):
        kept["content"] = [_cleaned_part(part) for part in kept["content"]]
    return kept


def call_id_of(item: Item) -> str | None:
    """What ties a call and its result together; None for what is neither."""
    kind = str(item.get("type"))
    if kind == "mcp_approval_request":
        found = item.get("id")
    elif kind == "mcp_approval_response":
        found = item.get("approval_request_id")
    elif kind.endswith(("_call", "_output")):
        found = item.get("call_id") or (item.get("id") if kind == "local_shell_call_output" else None)
    else:
        found = None
    return found if isinstance(found, str) else None


def is_result(item: Item) -> bool:
    kind = str(item.get("type"))
    return kind == "mcp_approval_response" or (kind.endswith("_output") and call_id_of(item) is not None)


def is_call(item: Item) -> bool:
    """Whether it asks the application for something; hosted tools' calls carry no `call_id`."""
    return not is_result(item) and call_id_of(item) is not None and not _hosted(item)


def waits_for_result(item: Item, said: Sequence[Item]) -> bool:
    if not is_call(item):
        return False
    call_id = call_id_of(item)
    return not any(is_result(other) and call_id_of(other) == call_id for other in said)


def _hosted(item: Item) -> bool:
    """Whether the server runs this tool itself, so that its result comes with the answer."""
    environment = item.get("environment")
    in_container = isinstance(environment, dict) and environment.get("type") != "local"
    return item.get("execution") == "server" or in_container


def _said_by_model(item: Item, said: Sequence[Item]) -> bool:
    if is_result(item):
        call_id = call_id_of(item)
        return any(call_id_of(other) == call_id and _hosted(other) for other in said)
    role = item.get("role")
    return role == "assistant" if role is not None else True


def _draft_of_message(item: Item) -> Draft:
    content = item.get("content")
    wire: Wire = {"role": str(item.get("role")), "content": content}
    if item.keys() == _BARE and isinstance(content, str):
        return {"wire": wire}
    if isinstance(content, list):
        wire["content"] = [_chat_part(part) for part in content]
    return {"wire": wire, "items": [item]}


def _draft_of_result(item: Item) -> Draft:
    if item.get("type") == "mcp_approval_response":
        content = "approved" if item.get("approve") else "denied"
    else:
        content = _result_text(item.get("output"))
    return {"wire": {"role": "tool", "tool_call_id": call_id_of(item), "content": content}, "items": [item]}


def _result_text(output: Any) -> str:
    if isinstance(output, str):
        return output
    if isinstance(output, list):
        texts = [_part_text(part) for part in output]
        if all(text is not None for text in texts):
            return "\n".join(text for text in texts if text is not None)
    kind = output.get("type") if isinstance(output, dict) else None
    # A screenshot is no text; the item holds it.
    return f"({kind})" if isinstance(kind, str) else json.dumps(output, ensure_ascii=False, default=str)


def _part_text(part: Any) -> str | None:
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        return None
    return str(part.get("text", "")) if part["type"] in _TEXT_PARTS else f"({part['type']})"


def _said_text(item: Item, key: str = "text") -> str:
    content = item.get("content") if item.get("role") == "assistant" else None
    if isinstance(content, str):
        return content if key == "text" else ""
    parts = content if isinstance(content, list) else []
    return "".join(part[key] for part in parts if isinstance(part, dict) and isinstance(part.get(key), str))


def _call_wire(item: Item) -> Wire:
    kind = str(item.get("type"))
    call: Wire = {"id": call_id_of(item)}
    if kind == "custom_tool_call":
        return {**call, "type": "custom", "custom": {"name": item.get("name"), "input": item.get("input", "")}}
    if kind == "function_call":
        return {
            **call,
            "type": "function",
            "function": {"name": item.get("name"), "arguments": item.get("arguments", "")},
        }
    # A tool the chat API does not have: a function of its name, called with what is particular to this call.
    asked = {key: value for key, value in item.items() if key not in ("type", "id", "call_id", "status")}
    arguments = json.dumps(asked, ensure_ascii=False, default=str)
    return {**call, "type": "function", "function": {"name": kind.removesuffix("_call"), "arguments": arguments}}


def _chat_part(part: Any) -> Any:
    if not isinstance(part, dict):
        return part
    kind = part.get("type")
    if kind in _TEXT_PARTS:
        return {"type": "text", "text": part.get("text")}
    if kind == "input_image" and isinstance(part.get("image_url"), str):
        detail = {"detail": part["detail"]} if isinstance(part.get("detail"), str) else {}
        return {"type": "image_url", "image_url": {"url": part["image_url"], **detail}}
    if kind == "input_file" and ("file_id" in part or "file_data" in part):
        known = ("file_id", "file_data", "filename")
        return {"type": "file", "file": {key: part[key] for key in known if key in part}}
    if kind == "input_audio":
        return {"type": "input_audio", "input_audio": part.get("input_audio")}
    # The chat API has no such part; the item holds it.
    return {"type": "text", "text": f"({kind})"}


def _cleaned_part(part: Any) -> Any:
    return {key: value for key, value in part.items() if key not in _NOT_INPUT} if isinstance(part, dict) else part
