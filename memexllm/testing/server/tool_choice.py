"""Which tool the server's own reply calls, and the message that calls it."""

from __future__ import annotations

import json
import re

from memexllm.testing.server.jsontypes import JSONObject, is_object, object_at, objects_at, string_at
from memexllm.testing.server.schema_values import places_in, value_for

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[^\W\d_a-zA-Z]+")
_COMMON = frozenset(
    """
    about all and any are can does find for from get give given has have how into its let look make one please
    return returns send set some tell that the their them then this tool use used what when where
    which will with would you your
    """.split()  # noqa: SIM905 - fifty quoted lines read worse
)
_NAME_WEIGHT = 3


def called_tools(body: JSONObject, text: str) -> JSONObject | None:
    """A message calling the tool that `tool_choice` names or `text` asks for; None when there is none.

    Several places in the text ("in Paris and Rome") make parallel calls, unless those are turned off.
    """
    if body.get("tool_choice") == "none":
        return None
    if tool := _chosen(objects_at(body, "tools"), body.get("tool_choice"), text):
        texts = _single_place_texts(text) if body.get("parallel_tool_calls") is not False else [text]
        calls = [_call(tool, one_text) for one_text in texts]
        unlike = [call for position, call in enumerate(calls) if call not in calls[:position]]
        return {"content": None, "refusal": None, "annotations": [], "tool_calls": unlike}
    functions = [{"type": "function", "function": function} for function in objects_at(body, "functions")]
    if body.get("function_call") != "none" and (tool := _best(functions, text)):
        return {"content": None, "refusal": None, "function_call": _call(tool, text)["function"]}
    return None


def _chosen(tools: list[JSONObject], tool_choice: object, text: str) -> JSONObject | None:
    if is_object(tool_choice):
        name = _shape(tool_choice).get("name")
        return next((tool for tool in tools if _shape(tool).get("name") == name), None)
    best = _best(tools, text)
    return tools[0] if best is None and tool_choice == "required" else best


def _best(tools: list[JSONObject], text: str) -> JSONObject | None:
    asked = _words(text)
    scored = [(_score(tool, asked), -position) for position, tool in enumerate(tools)]
    score, place = max(scored, default=(0, 0))
    return tools[-place] if score else None


def _score(tool: JSONObject, asked: set[str]) -> int:
    shape = _shape(tool)
    by_name = len(asked & _words(string_at(shape, "name")))
    return by_name * _NAME_WEIGHT + len(asked & _words(string_at(shape, "description")))


def _shape(tool: JSONObject) -> JSONObject:
    return object_at(tool, string_at(tool, "type"))


def _words(text: str) -> set[str]:
    """Lower-case words that mean something, without a plural's s."""
    words = {word.lower() for word in _WORD.findall(text)}
    return {word.removesuffix("s") for word in words - _COMMON if len(word) > 2}


def _single_place_texts(text: str) -> list[str]:
    places = places_in(text)
    return [f"{text} in {place}" for place in places] if len(places) > 1 else [text]


def _call(tool: JSONObject, text: str) -> JSONObject:
    shape = _shape(tool)
    if tool["type"] == "custom":
        return {"type": "custom", "custom": {"name": shape["name"], "input": text}}
    arguments = json.dumps(value_for(object_at(shape, "parameters"), text))
    return {"type": "function", "function": {"name": shape["name"], "arguments": arguments}}
