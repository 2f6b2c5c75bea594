"""Tools as OpenAI's models read them: a TypeScript namespace, whose text is what they cost.

OpenAI publishes the form for gpt-oss (github.com/openai/harmony); what its API reports for the models before and after
is the same to the token, or within a few (tests/core/test_recorded_usage.py). A schema whose fields carry no comment is
written on one line, any other with a line for each field and no indentation; what TypeScript cannot say (`minimum`,
`pattern`, `format`) is not written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any]

_DEEPEST = 8
"""Levels of a schema that are written; a schema that contains itself has no end."""
_PARALLEL = '{"recipient_name":"functions.%s","parameters":%s}'
_TEXTS = ("string", "boolean", "null")


def namespace_of(tools: Sequence[Mapping[str, Any]]) -> str:
    """The text that stands for `tools`, of Chat Completions or Responses, in a request; no built-in ones are in it."""
    return (
        "namespace functions {\n\n" + "".join(_declared(_function(tool)) for tool in tools) + "} // namespace functions"
    )


def parallel_calls(calls: Sequence[tuple[str, str]]) -> str:
    """The text of several calls `(name, arguments)` that an answer made at once: they are sent as one call."""
    return '{"tool_uses":[' + ",".join(_PARALLEL % (name, _compact(arguments)) for name, arguments in calls) + "]}"


def _compact(arguments: str) -> str:
    try:
        return json.dumps(json.loads(arguments), separators=(",", ":"), ensure_ascii=False)
    except ValueError:
        return arguments


def _function(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    function = tool.get("function") or tool.get("custom") or tool
    return function if isinstance(function, Mapping) else {}


def _declared(function: Mapping[str, Any]) -> str:
    name = function.get("name")
    if not isinstance(name, str):
        return ""
    comment = _comment(function.get("description")) + _comment(_grammar(function))
    schema = function.get("parameters")
    has_fields = isinstance(schema, Mapping) and bool(schema.get("properties"))
    arguments = f"_: {_Writer(schema).kind(schema)}" if has_fields else ""
    return f"{comment}type {name} = ({arguments}) => any;\n\n"


def _grammar(function: Mapping[str, Any]) -> Any:
    """What a custom tool takes instead of fields."""
    form = function.get("format")
    grammar = form.get("grammar", form) if isinstance(form, Mapping) else None
    return grammar.get("definition") if isinstance(grammar, Mapping) else None


def _comment(text: Any) -> str:
    if not isinstance(text, str) or not text:
        return ""
    return "// " + "\n".join(line.strip() for line in text.strip().splitlines()) + "\n"


def _literal(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


class _Writer:
    """Writes the schema `root`, whose definitions its parts refer to."""

    def __init__(self, root: Any) -> None:
        self._root = root

    def kind(self, schema: Any, level: int = 0) -> str:
        """The type that `schema` stands for."""
        if not isinstance(schema, Mapping) or level > _DEEPEST:
            return "any"
        if "$ref" in schema:
            return self.kind(self._referred(schema["$ref"]), level + 1)
        if isinstance(schema.get("enum"), Sequence):
            return " | ".join(map(_literal, schema["enum"]))
        if "const" in schema:
            return _literal(schema["const"])
        for key, sign in (("anyOf", " | "), ("oneOf", " | "), ("allOf", " & ")):
            if isinstance(schema.get(key), Sequence):
                return sign.join(self.kind(each, level + 1) for each in schema[key])
        return self._typed(schema, level)

    def _typed(self, schema: Schema, level: int) -> str:
        named = schema.get("type")
        if isinstance(named, Sequence) and not isinstance(named, str):
            return " | ".join(self._typed({**schema, "type": each}, level) for each in named)
        written: dict[Any, Callable[[], str]] = {
            "integer": lambda: "number",
            "number": lambda: "number",
            "array": lambda: f"{self.kind(schema.get('items'), level + 1)}[]",
            "object": lambda: self._fields(schema, level),
        }
        if named in written:
            return written[named]()
        return named if named in _TEXTS else "any"

    def _fields(self, schema: Schema, level: int) -> str:
        fields = schema.get("properties")
        if not isinstance(fields, Mapping) or not fields:
            return "object"
        required = schema.get("required") or ()
        comments = [_field_comment(each) for each in fields.values()]
        types = [
            f"{name}{'' if name in required else '?'}: {self.kind(each, level + 1)}" for name, each in fields.items()
        ]
        defaults = [_default(each) for each in fields.values()]
        if not any(comments) and not any(defaults) and not any("\n" in each for each in types):
            return "{ " + ", ".join(types) + " }"
        lines = zip(comments, types, defaults, strict=True)
        return "{\n" + "".join(f"{comment}{each},{default}\n" for comment, each, default in lines) + "}"

    def _referred(self, reference: Any) -> Any:
        found: Any = self._root
        for step in str(reference).removeprefix("#").strip("/").split("/"):
            found = found.get(step) if isinstance(found, Mapping) else None
        return found


def _field_comment(schema: Any) -> str:
    if not isinstance(schema, Mapping):
        return ""
    return _comment(schema.get("title")) + _comment(schema.get("description"))


def _default(schema: Any) -> str:
    return f" // default: {_literal(schema['default'])}" if isinstance(schema, Mapping) and "default" in schema else ""
