"""What the API refuses, the server refuses: with 400, its words, and nothing of the plan used up."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai import OpenAI

from memexllm.testing.server import OpenAIServer

if TYPE_CHECKING:
    from collections.abc import Iterator

USER: dict[str, Any] = {"role": "user", "content": "hello"}


def call(call_id: str = "a", **fields: Any) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": "f", "arguments": "{}"}, **fields}


def assistant(*calls: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls), **fields}


def result(call_id: str = "a") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": "done"}


@pytest.fixture(scope="module")
def lenient() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture(scope="module")
def strict() -> Iterator[OpenAIServer]:
    with OpenAIServer(strict_fields=True) as server:
        yield server


def post(server: OpenAIServer, body: object, headers: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    connection = HTTPConnection(server.origin.removeprefix("http://"))
    raw = body if isinstance(body, str) else json.dumps(body)
    connection.request("POST", "/v1/chat/completions", raw, headers or {})
    response = connection.getresponse()
    answer: dict[str, Any] = json.loads(response.read())
    connection.close()
    return response.status, answer


def refusal(server: OpenAIServer, *messages: Any, **parameters: Any) -> dict[str, Any] | None:
    """The error of the 400; None when the request is accepted."""
    status, answer = post(server, {"model": "any", "messages": list(messages), **parameters})
    if status == 200:
        return None
    assert status == 400
    error: dict[str, Any] = answer["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    return error


PNG = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
SOUND = {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}
TEXT = {"type": "text", "text": "hello"}

VALID: dict[str, list[dict[str, Any]]] = {
    "every role": [
        {"role": "system", "content": "s"},
        {"role": "developer", "content": [TEXT]},
        USER,
        {"role": "assistant", "content": ""},
        {"role": "function", "name": "f", "content": None},
        USER,
    ],
    "parts of a user": [
        {
            "role": "user",
            "name": "ada",
            "content": [TEXT, PNG, SOUND, {"type": "file", "file": {"file_id": "f"}}],
        }
    ],
    "parts of an assistant": [
        USER,
        {"role": "assistant", "content": [TEXT, {"type": "refusal", "refusal": "no"}]},
    ],
    "an assistant that only refuses": [USER, {"role": "assistant", "content": None, "refusal": "no"}],
    "an assistant that only speaks": [USER, {"role": "assistant", "audio": {"id": "audio_1"}}],
    "an assistant that calls a function": [
        USER,
        {"role": "assistant", "function_call": {"name": "f", "arguments": ""}},
        {"role": "function", "name": "f", "content": "done"},
    ],
    "parallel calls, answered in any order": [
        USER,
        assistant(call("a"), {"id": "b", "type": "custom", "custom": {"name": "g", "input": "x"}}),
        result("b"),
        result("a"),
        USER,
    ],
    "the same id in two messages": [USER, assistant(call()), result(), assistant(call()), result()],
}


@pytest.mark.parametrize("messages", VALID.values(), ids=list(VALID))
def test_what_the_api_takes_is_taken_strictly_too(
    lenient: OpenAIServer, strict: OpenAIServer, messages: list[dict[str, Any]]
) -> None:
    assert refusal(lenient, *messages) is None
    assert refusal(strict, *messages) is None


# name: (messages, words of the error, its param)
INVALID: dict[str, tuple[list[Any], str, str]] = {
    "no message": ([], "Invalid 'messages': empty array.", "messages"),
    "no object": (["hi"], "Invalid type for 'messages[0]'", "messages[0]"),
    "no role": ([{"content": "x"}], "Missing required parameter: 'messages[0].role'", "messages[0].role"),
    "unknown role": ([{"role": "bot", "content": "x"}], "Invalid value: 'bot'.", "messages[0].role"),
    "no content": ([{"role": "user"}], "Missing required parameter", "messages[0].content"),
    "null content of a user": ([{"role": "user", "content": None}], "got null", "messages[0].content"),
    "null content of a system": ([{"role": "system", "content": None}], "got null", "messages[0].content"),
    "null content of a tool": (
        [USER, assistant(call()), {"role": "tool", "tool_call_id": "a", "content": None}],
        "got null",
        "messages[2].content",
    ),
    "content that is a number": ([{"role": "user", "content": 3}], "Invalid type", "messages[0].content"),
    "no part": ([{"role": "user", "content": []}], "empty array", "messages[0].content"),
    "a part without type": ([{"role": "user", "content": [{}]}], "Missing", "messages[0].content[0].type"),
    "an unknown part": (
        [{"role": "user", "content": [TEXT, {"type": "video"}]}],
        "Invalid value: 'video'.",
        "messages[0].content[1].type",
    ),
    "an image from an assistant": (
        [{"role": "assistant", "content": [PNG]}],
        "Supported values are: 'text', 'refusal'.",
        "messages[0].content[0].type",
    ),
    "an image from a system": (
        [{"role": "system", "content": [PNG]}],
        "'text'.",
        "messages[0].content[0].type",
    ),
    "a refusal from a user": (
        [{"role": "user", "content": [{"type": "refusal", "refusal": "no"}]}],
        "Invalid value: 'refusal'",
        "messages[0].content[0].type",
    ),
    "a text part without text": (
        [{"role": "user", "content": [{"type": "text"}]}],
        "Missing",
        "messages[0].content[0].text",
    ),
    "an image without url": (
        [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}],
        "Missing",
        "messages[0].content[0].image_url.url",
    ),
    "a name that is no string": ([{**USER, "name": 1}], "Invalid type", "messages[0].name"),
    "an assistant with nothing": ([USER, {"role": "assistant"}], "got null", "messages[1].content"),
    "an assistant with nothing but nulls": (
        [USER, {"role": "assistant", "content": None, "tool_calls": None, "refusal": None}],
        "got null",
        "messages[1].content",
    ),
    "no calls in tool_calls": ([USER, assistant(content="x")], "empty array", "messages[1].tool_calls"),
    "a call without id": ([USER, assistant({"type": "function"})], "Missing", "messages[1].tool_calls[0].id"),
    "a call without type": ([USER, assistant({"id": "a"})], "Missing", "messages[1].tool_calls[0].type"),
    "a call of unknown type": ([USER, assistant(call(type="x"))], "'x'", "messages[1].tool_calls[0].type"),
    "a call without function": (
        [USER, assistant(call(function=None))],
        "Missing",
        "messages[1].tool_calls[0].function",
    ),
    "arguments as an object": (
        [USER, assistant(call(function={"name": "f", "arguments": {}}))],
        "expected a string",
        "messages[1].tool_calls[0].function.arguments",
    ),
    "a custom call without input": (
        [USER, assistant({"id": "a", "type": "custom", "custom": {"name": "g"}})],
        "Missing",
        "messages[1].tool_calls[0].custom.input",
    ),
    "a call id of 41": (
        [USER, assistant(call("x" * 41)), result("x" * 41)],
        "string too long. Expected a string with maximum length 40, but got a string with length 41 instead.",
        "messages[1].tool_calls[0].id",
    ),
    "an id twice": ([USER, assistant(call(), call()), result()], "duplicate", "messages[1].tool_calls[1].id"),
    "a function call without arguments": (
        [USER, {"role": "assistant", "function_call": {"name": "f"}}],
        "Missing",
        "messages[1].function_call.arguments",
    ),
    "a tool message without id": (
        [USER, assistant(call()), {"role": "tool", "content": "x"}],
        "Missing",
        "messages[2].tool_call_id",
    ),
    "a function message without name": (
        [{"role": "function", "content": "x"}],
        "Missing",
        "messages[0].name",
    ),
}


@pytest.mark.parametrize(("messages", "words", "param"), INVALID.values(), ids=list(INVALID))
def test_a_malformed_message_is_refused(lenient: OpenAIServer, messages: list[Any], words: str, param: str) -> None:
    error = refusal(lenient, *messages)
    assert error is not None
    assert words in error["message"]
    assert error["param"] == param


@pytest.mark.parametrize(
    "messages",
    [
        [USER, result()],
        [USER, assistant(call("a")), result("a"), result("b")],
        [USER, assistant(call("a")), result("a"), USER, result("a")],
        [USER, {"role": "user", "content": "x", "tool_calls": [call("a")]}, result("a")],
    ],
    ids=["no call", "another id", "not directly after", "a user's call"],
)
def test_a_tool_message_answers_a_call_directly_before_it(lenient: OpenAIServer, messages: list[Any]) -> None:
    error = refusal(lenient, *messages)
    assert error is not None
    assert "must be a response to a preceeding message with 'tool_calls'." in error["message"]
    assert error["param"] == f"messages.[{len(messages) - 1}].role"


@pytest.mark.parametrize(
    ("messages", "unanswered"),
    [
        ([USER, assistant(call("a"), call("b"))], "a, b"),
        ([USER, assistant(call("a"), call("b")), result("a")], "b"),
        ([USER, assistant(call("a"), call("b")), result("b"), USER, result("a")], "a"),
    ],
    ids=["at the end", "one of two", "a user in between"],
)
def test_every_call_is_answered_before_any_other_message(
    lenient: OpenAIServer, messages: list[Any], unanswered: str
) -> None:
    error = refusal(lenient, *messages)
    assert error is not None
    assert error["message"] == (
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
        f"'tool_call_id'. The following tool_call_ids did not have response messages: {unanswered}"
    )


def test_model_and_messages_are_required(lenient: OpenAIServer) -> None:
    assert "model parameter" in post(lenient, {"messages": [USER]})[1]["error"]["message"]
    assert post(lenient, {"model": "any"})[1]["error"] == {
        "message": "Missing required parameter: 'messages'.",
        "type": "invalid_request_error",
        "param": "messages",
        "code": "missing_required_parameter",
    }
    assert "expected an array" in post(lenient, {"model": "any", "messages": "hi"})[1]["error"]["message"]


@pytest.mark.parametrize("body", ["{", "", "[]", '"x"'])
def test_a_body_that_is_no_json_object_is_refused(lenient: OpenAIServer, body: str) -> None:
    status, answer = post(lenient, body)
    assert status == 400
    assert "could not parse the JSON body" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"thread_id": "t"}, "Unrecognized request argument supplied: thread_id"),
        ({"thread_id": "t", "merge": "auto"}, "Unrecognized request arguments supplied: thread_id, merge"),
        ({"tools": []}, "Invalid 'tools': empty array"),
        ({"tools": "x"}, "Invalid type for 'tools'"),
        ({"tools": [{"type": "x"}]}, "Invalid value: 'x'"),
        (
            {"tools": [{"type": "function", "function": {}}]},
            "Missing required parameter: 'tools[0].function.name'",
        ),
        ({"tool_choice": "auto"}, "'tool_choice' is only allowed when 'tools' are specified"),
        ({"parallel_tool_calls": True}, "'parallel_tool_calls' is only allowed when 'tools' are specified"),
        ({"stream_options": {"include_usage": True}}, "only allowed when 'stream' is enabled"),
        ({"stream": "yes"}, "Invalid type for 'stream'"),
        ({"n": 0}, "Invalid 'n'"),
        ({"n": True}, "Invalid 'n'"),
    ],
)
def test_a_wrong_parameter_is_refused(lenient: OpenAIServer, parameters: dict[str, Any], words: str) -> None:
    error = refusal(lenient, USER, **parameters)
    assert error is not None
    assert words in error["message"]


def test_every_parameter_of_the_sdk_is_known(lenient: OpenAIServer) -> None:
    from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming

    unset = dict.fromkeys(CompletionCreateParamsNonStreaming.__annotations__)
    assert post(lenient, unset | {"model": "any", "messages": [USER]})[0] == 200


def test_a_private_header_on_the_wire_is_refused(lenient: OpenAIServer) -> None:
    status, answer = post(lenient, {"model": "any", "messages": [USER]}, {"X-Memexllm-Thread-Id": "t"})
    assert status == 400
    assert "x-memexllm-thread-id" in answer["error"]["message"]


STRICTLY_REFUSED: dict[str, tuple[list[Any], str]] = {
    "annotations": (
        [USER, {"role": "assistant", "content": "x", "annotations": []}],
        "messages[1].annotations",
    ),
    "parsed": ([USER, {"role": "assistant", "content": "x", "parsed": None}], "messages[1].parsed"),
    "reasoning": (
        [USER, {"role": "assistant", "content": "x", "reasoning_content": "h"}],
        "messages[1].reasoning_content",
    ),
    "null refusal": ([USER, {"role": "assistant", "content": "x", "refusal": None}], "messages[1].refusal"),
    "null tool_calls": (
        [USER, {"role": "assistant", "content": "x", "tool_calls": None}],
        "messages[1].tool_calls",
    ),
    "a tool's name": ([USER, assistant(call()), {**result(), "name": "f"}], "messages[2].name"),
    "a stream's index": ([USER, assistant(call(index=0)), result()], "messages[1].tool_calls[0].index"),
    "parsed arguments": (
        [USER, assistant(call(function={"name": "f", "arguments": "{}", "parsed_arguments": {}})), result()],
        "messages[1].tool_calls[0].function.parsed_arguments",
    ),
    "a field of a part": ([{"role": "user", "content": [{**TEXT, "x": 1}]}], "messages[0].content[0].x"),
    "a field of an image": (
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u", "x": 1}}]}],
        "messages[0].content[0].image_url.x",
    ),
    "the sound of an answer": (
        [USER, {"role": "assistant", "content": None, "audio": {"id": "a", "data": "AA=="}}],
        "messages[1].audio.data",
    ),
}


@pytest.mark.parametrize(("messages", "param"), STRICTLY_REFUSED.values(), ids=list(STRICTLY_REFUSED))
def test_unknown_fields_are_refused_only_with_strict_fields(
    lenient: OpenAIServer, strict: OpenAIServer, messages: list[Any], param: str
) -> None:
    error = refusal(strict, *messages)
    assert error is not None
    assert (error["message"], error["param"]) == (f"Unrecognized field: '{param}'.", param)
    assert refusal(lenient, *messages) is None


def test_an_invalid_request_uses_up_nothing_of_the_plan(lenient: OpenAIServer) -> None:
    lenient.answer("planned")
    with OpenAI(base_url=lenient.base_url, api_key="local", max_retries=0) as client:
        with pytest.raises(openai.BadRequestError, match="preceeding message"):
            client.chat.completions.create(
                model="any", messages=[{"role": "tool", "tool_call_id": "a", "content": "x"}]
            )
        completion = client.chat.completions.create(model="any", messages=[{"role": "user", "content": "x"}])
    assert completion.choices[0].message.content == "planned"
    assert [request.status for request in lenient.requests][-2:] == [400, 200]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/nothing"), ("GET", "/v1/chat/completions"), ("POST", "/v1/models"), ("PUT", "/")],
)
def test_any_other_url_is_a_404_in_json(lenient: OpenAIServer, method: str, path: str) -> None:
    connection = HTTPConnection(lenient.origin.removeprefix("http://"))
    connection.request(method, path)
    response = connection.getresponse()
    assert response.status == 404
    assert json.loads(response.read())["error"]["message"] == f"Invalid URL ({method} {path})"
    connection.close()
