"""The server's own replies show what the request contained."""

from __future__ import annotations

import json
from typing import Any

import pytest

from memexllm.testing.server import Answer, ChatRequest, reply_from_history


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def answer(*messages: dict[str, Any], **parameters: Any) -> Answer:
    return reply_from_history(ChatRequest({"model": "any", "messages": list(messages), **parameters}, {}))


def said(*texts: str) -> object:
    """The reply to the last of these user messages."""
    return answer(*map(user, texts)).message


def tool(name: str, description: str = "", **parameters: Any) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


def calls(text: str, *tools: dict[str, Any], **parameters: Any) -> list[tuple[str, Any]]:
    """Name and arguments of the calls made; none for a text."""
    message = answer(user(text), tools=list(tools), **parameters).message
    if isinstance(message, str):
        return []
    return [(c["function"]["name"], json.loads(c["function"]["arguments"])) for c in message["tool_calls"]]


WEATHER = tool(
    "get_weather",
    "The current weather of a place.",
    type="object",
    properties={"city": {"type": "string"}, "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}},
    required=["city"],
)
SEARCH = tool("searchNotes", "Looks something up.", properties={"query": {"type": "string"}})


@pytest.mark.parametrize(
    ("introduction", "name"),
    [
        ("My name is Ada.", "Ada"),
        ("hello, my name is ada", "ada"),
        ("I'm Ada Lovelace, and you?", "Ada Lovelace"),
        ("I am Zoë", "Zoë"),
        ("Please call me O'Brien!", "O'Brien"),
    ],
)
def test_a_name_is_known_from_an_earlier_message(introduction: str, name: str) -> None:
    assert said(introduction, "What is my name?") == f"Your name is {name}."


@pytest.mark.parametrize("introductions", [[], ["I am tired"], ["What is my name?"]])
def test_without_the_history_the_name_is_not_known(introductions: list[str]) -> None:
    assert said(*introductions, "what's my name?") == "I don't know your name."


def test_the_newest_statement_counts() -> None:
    assert said("my name is Ada", "my name is Bob", "do you remember my name?") == "Your name is Bob."


def test_only_what_the_user_said_or_a_system_message_tells_is_a_fact() -> None:
    question = user("what is my name?")
    assert answer({"role": "assistant", "content": "my name is Bot"}, question).message == "I don't know your name."
    summary = {"role": "system", "content": "Summary: the user's name is Ada."}
    assert answer(summary, question).message == "Your name is Ada."


@pytest.mark.parametrize(
    ("fact", "question", "reply"),
    [
        (
            "My favourite colour is dark blue. Yes.",
            "What is my favourite colour?",
            "Your favourite colour is dark blue.",
        ),
        ("my cats are Tom and Kit", "what are my cats?", "Your cats are Tom and Kit."),
        ("my height is 1.80 m, and my age is 36", "What's my height", "Your height is 1.80 m."),
        ("nothing", "what is my PIN (the new one)?", "I don't know your PIN (the new one)."),
    ],
)
def test_a_fact_is_recalled_as_it_was_said(fact: str, question: str, reply: str) -> None:
    assert said(fact, question) == reply


def test_what_was_said_about_a_topic_is_quoted() -> None:
    assert said("Rex barks", "It rains", "I love rex", "What did I say about Rex?") == (
        'You said: "Rex barks"; "I love rex"'
    )
    assert said("It rains", "what did I say about Rex?") == "You have not said anything about Rex."


def test_messages_are_counted_as_received() -> None:
    system = {"role": "system", "content": "Be brief."}
    assert answer(system, user("a"), user("How many messages do you see?")).message == "I received 3 messages."


def test_anything_else_is_echoed() -> None:
    parts = [{"type": "text", "text": "good"}, {"type": "text", "text": "day"}]
    assert said("hello") == "You said: hello"
    assert answer({"role": "user", "content": parts}).message == "You said: good day"
    assert answer({"role": "system", "content": "x"}).message == "You said: "


def test_choices_can_be_told_apart() -> None:
    assert answer(user("a"), n=3).alternatives == ["You said: a (choice 2)", "You said: a (choice 3)"]


@pytest.mark.parametrize("text", ["How is the weather in Paris?", "Weathers of Paris, in Paris"])
def test_a_tool_the_text_names_is_called_with_what_the_text_says(text: str) -> None:
    assert calls(text, SEARCH, WEATHER) == [("get_weather", {"city": "Paris"})]


def test_a_tool_named_in_camel_case_is_found_and_gets_the_text() -> None:
    assert calls('search for "cats"', WEATHER, SEARCH) == [("searchNotes", {"query": "cats"})]
    assert calls("my notes", WEATHER, SEARCH) == [("searchNotes", {"query": "my notes"})]


def test_several_places_make_parallel_calls_unless_they_are_off() -> None:
    text = "the weather in Paris, New York and Rome"
    cities = [arguments["city"] for _, arguments in calls(text, WEATHER)]
    assert cities == ["Paris", "New York", "Rome"]
    assert len(calls(text, WEATHER, parallel_tool_calls=False)) == 1


def test_no_fitting_tool_no_call() -> None:
    assert calls("hello", WEATHER, SEARCH) == []
    assert calls("the weather in Rome", WEATHER, tool_choice="none") == []


def test_a_forced_tool_is_called() -> None:
    chosen = {"type": "function", "function": {"name": "get_weather"}}
    assert calls("hello", SEARCH, WEATHER, tool_choice="required") == [("searchNotes", {"query": "hello"})]
    assert calls("what is my name?", SEARCH, WEATHER, tool_choice=chosen)[0][0] == "get_weather"


def test_arguments_fit_the_schema() -> None:
    schema: dict[str, Any] = {
        "properties": {
            "n": {"type": "integer"},
            "price": {"type": ["number", "null"]},
            "sure": {"type": "boolean"},
            "nothing": {"type": "null"},
            "kind": {"const": "order"},
            "unit": {"enum": ["kg", "lb"]},
            "limit": {"type": "integer", "default": 9},
            "tags": {"type": "array", "items": {"type": "string"}},
            "to": {"$ref": "#/$defs/Address"},
            "maybe": {"anyOf": [{"type": "null"}, {"type": "integer"}]},
        },
        "$defs": {
            "Address": {
                "properties": {"town": {"type": "string"}, "next": {"$ref": "#/$defs/Address"}},
                "required": ["town"],
            }
        },
    }
    assert calls("order 12 lb to Rome", tool("order", **schema)) == [
        (
            "order",
            {
                "n": 12,
                "price": 12,
                "sure": True,
                "nothing": None,
                "kind": "order",
                "unit": "lb",
                "limit": 9,
                "tags": ["order 12 lb to Rome"],
                "to": {"town": "Rome"},
                "maybe": 12,
            },
        )
    ]


def test_a_schema_that_contains_itself_comes_to_an_end() -> None:
    endless: dict[str, Any] = {
        "$defs": {"T": {"properties": {"t": {"$ref": "#/$defs/T"}}}},
        "properties": {"t": {"$ref": "#/$defs/T"}},
    }
    assert calls("grow", tool("grow", **endless))[0][0] == "grow"


def test_a_custom_tool_gets_the_text() -> None:
    custom = {"type": "custom", "custom": {"name": "run_sql"}}
    message = answer(user("run the sql"), tools=[custom]).message
    assert isinstance(message, dict)
    assert message["tool_calls"] == [{"type": "custom", "custom": {"name": "run_sql", "input": "run the sql"}}]


def test_an_old_style_function_is_called_and_its_result_reported() -> None:
    message = answer(user("weather in Rome"), functions=[WEATHER["function"]]).message
    assert isinstance(message, dict)
    assert message["function_call"] == {"name": "get_weather", "arguments": '{"city": "Rome"}'}
    result = {"role": "function", "name": "get_weather", "content": "sunny"}
    report = answer(user("weather in Rome"), {"role": "assistant", **message}, result).message
    assert report == "The result of get_weather is: sunny"


def test_tool_results_are_reported_by_the_name_of_their_tool() -> None:
    request = {
        "role": "assistant",
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}},
            {"id": "b", "type": "custom", "custom": {"name": "run_sql", "input": ""}},
        ],
    }
    results: list[dict[str, Any]] = [
        {"role": "tool", "tool_call_id": "a", "content": "sunny"},
        {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "3 rows"}]},
    ]
    assert answer(user("weather"), request, *results, tools=[WEATHER]).message == (
        "The result of get_weather is: sunny\nThe result of run_sql is: 3 rows"
    )


def test_json_is_answered_when_json_is_asked_for() -> None:
    assert answer(user("hi"), response_format={"type": "json_object"}).message == '{"reply": "hi"}'
    schema = {"type": "json_schema", "json_schema": {"schema": {"properties": {"n": {"type": "integer"}}}}}
    assert answer(user("7 cats"), response_format=schema).message == '{"n": 7}'


def test_the_same_request_gets_the_same_reply() -> None:
    assert answer(user("weather in Rome"), tools=[WEATHER]) == answer(user("weather in Rome"), tools=[WEATHER])
