"""How tools are written for a model."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memexllm.core.tokens import TokenCounter, byte_bound, tools_bound
from memexllm.core.tool_tokens import namespace_of, parallel_calls


def tool(parameters: Any = None, name: str = "f", **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters, **more}}


def fields(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


def written(parameters: Any, **more: Any) -> str:
    return namespace_of([tool(parameters, **more)]).removeprefix("namespace functions {\n\n").split("\n\n}")[0]


def test_a_tool_without_fields_takes_nothing() -> None:
    assert written(fields()) == written(None) == "type f = () => any;"


def test_fields_without_comments_are_written_on_one_line() -> None:
    schema = fields(("a",), a={"type": "string"}, b={"type": "integer"})
    assert written(schema) == "type f = (_: { a: string, b?: number }) => any;"


def test_a_comment_gives_each_field_a_line() -> None:
    schema = fields(("a",), a={"type": "string", "title": "A", "description": "The first"}, b={"default": False})
    assert written(schema, description="Does it") == (
        "// Does it\ntype f = (_: {\n// A\n// The first\na: string,\nb?: any, // default: false\n}) => any;"
    )


def test_the_lines_of_a_description_are_not_indented() -> None:
    assert written(None, description="\n    Does it.\n\n        Well.\n    ") == (
        "// Does it.\n\nWell.\ntype f = () => any;"
    )


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ({"type": "string", "enum": ["x", "y"]}, '"x" | "y"'),
        ({"enum": [-1, 1]}, "-1 | 1"),
        ({"const": "é"}, '"é"'),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "string | null"),
        ({"allOf": [{"type": "string"}]}, "string"),
        ({"type": ["number", "null"]}, "number | null"),
        ({"type": "array", "items": {"type": "string"}}, "string[]"),
        ({"type": "array"}, "any[]"),
        ({"type": "array", "items": fields(x={"type": "boolean"})}, "{ x?: boolean }[]"),
        ({"type": "object"}, "object"),
        ({"$ref": "#/$defs/Point"}, "{ x: number }"),
        ({"$ref": "#/$defs/missing"}, "any"),
        ({"type": "who knows"}, "any"),
        (True, "any"),
    ],
)
def test_each_schema_has_its_type(schema: Any, kind: str) -> None:
    definitions = {"$defs": {"Point": fields(("x",), x={"type": "number"})}}
    assert written({**fields(("a",), a=schema), **definitions}) == f"type f = (_: {{ a: {kind} }}) => any;"


def test_a_schema_that_contains_itself_has_an_end() -> None:
    node = {"$ref": "#/$defs/Node"}
    text = written({**fields(a=node), "$defs": {"Node": fields(child=node)}})
    assert "child?: any" in text
    assert len(text) < 200


def test_tools_of_responses_and_custom_tools_are_written_too() -> None:
    flat = {"type": "function", **tool(fields(a={"type": "string"}))["function"]}
    assert namespace_of([flat]) == namespace_of([tool(fields(a={"type": "string"}))])
    grammar = {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: WORD"}}
    custom = {"type": "custom", "custom": {"name": "say", "description": "Says", "format": grammar}}
    assert "// Says\n// start: WORD\ntype say = () => any;" in namespace_of([custom])


def test_a_tool_without_a_name_is_not_written() -> None:
    assert namespace_of([{"type": "web_search"}]) == namespace_of([])


def test_calls_made_at_once_are_sent_as_one() -> None:
    assert parallel_calls([("f", '{"a": 1}'), ("g", "no json")]) == (
        '{"tool_uses":[{"recipient_name":"functions.f","parameters":{"a":1}},'
        '{"recipient_name":"functions.g","parameters":no json}]}'
    )


def test_ids_of_calls_cost_nothing() -> None:
    def exchange(call_id: str) -> list[dict[str, Any]]:
        call = {"id": call_id, "type": "function", "function": {"name": "f", "arguments": "{}"}}
        return [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call_id, "content": "1"},
        ]

    counter = TokenCounter("gpt-4o")
    assert counter.count_messages(exchange("1")) == counter.count_messages(exchange("call_" + "x" * 500))


SCHEMAS = st.recursive(
    st.sampled_from([{"type": "string"}, {"type": "integer"}, {"$ref": "#"}, {"$ref": "#/properties/a"}, True, None])
    | st.fixed_dictionaries({"enum": st.lists(st.text(max_size=5) | st.integers(), max_size=3)})
    | st.fixed_dictionaries({"description": st.text(max_size=20), "default": st.none() | st.booleans()}),
    lambda inner: (
        st.fixed_dictionaries({"type": st.just("array"), "items": inner})
        | st.fixed_dictionaries({"anyOf": st.lists(inner, max_size=2)})
        | st.fixed_dictionaries(
            {"type": st.just("object"), "properties": st.dictionaries(st.text(max_size=5), inner, max_size=2)}
        )
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.text(max_size=5), SCHEMAS, max_size=2), st.sampled_from(["gpt-4o", "gpt-5", "gpt-4"]))
def test_any_schema_is_written_and_never_above_its_bound(properties: dict[str, Any], model: str) -> None:
    tools = [tool({"type": "object", "properties": properties}, description="does it")]
    assert 0 < TokenCounter(model).count_tools(tools) <= tools_bound(tools)


@given(st.lists(st.tuples(st.text(max_size=80), st.text(max_size=80)), min_size=1, max_size=8))
def test_calls_of_any_number_cost_something_and_never_more_than_their_bound(called: list[tuple[str, str]]) -> None:
    calls = [{"id": "1", "type": "function", "function": {"name": n, "arguments": a}} for n, a in called]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    for model in ("gpt-4o", "gpt-5", "gpt-4"):
        assert 4 < TokenCounter(model).count_message(message) <= byte_bound(message, model)
