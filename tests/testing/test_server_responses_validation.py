"""What the Responses API refuses, the server refuses: with its words, and nothing of the plan used up."""

from __future__ import annotations

import json
import typing
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

import pytest
from openai import OpenAI
from openai.types.responses import response_input_item_param
from openai.types.responses.response_create_params import ResponseCreateParamsBase

from memexllm.testing.server import OpenAIServer
from memexllm.testing.server.item_kinds import KINDS, OUTPUT_OF
from memexllm.testing.server.responses_rules import KNOWN_PARAMETERS

if TYPE_CHECKING:
    from collections.abc import Iterator

Item = dict[str, Any]

USER: Item = {"role": "user", "content": "hello"}
CALL: Item = {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}
RESULT: Item = {"type": "function_call_output", "call_id": "a", "output": "done"}
SPOKEN: Item = {"type": "output_text", "text": "hi", "annotations": []}
ASSISTANT: Item = {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed", "content": [SPOKEN]}
ASKED: Item = {"type": "input_text", "text": "hello"}
IMAGE: Item = {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "auto"}
FILE: Item = {"type": "input_file", "file_id": "file_1"}

# A call the client runs, and what it sends back.
EXCHANGES: dict[str, tuple[Item, Item]] = {
    "function_call": (CALL, RESULT),
    "custom_tool_call": (
        {"type": "custom_tool_call", "call_id": "a", "name": "g", "input": "x"},
        {"type": "custom_tool_call_output", "call_id": "a", "output": "done"},
    ),
    "computer_call": (
        {
            "type": "computer_call",
            "id": "cu_1",
            "call_id": "a",
            "action": {"type": "screenshot"},
            "pending_safety_checks": [],
            "status": "completed",
        },
        {
            "type": "computer_call_output",
            "call_id": "a",
            "output": {"type": "computer_screenshot", "image_url": "data:image/png;base64,AA=="},
        },
    ),
    "local_shell_call": (
        {
            "type": "local_shell_call",
            "id": "lsh_1",
            "call_id": "a",
            "action": {"type": "exec", "command": ["ls"], "env": {}},
            "status": "completed",
        },
        {"type": "local_shell_call_output", "id": "a", "output": "done"},
    ),
    "shell_call": (
        {"type": "shell_call", "call_id": "a", "action": {"commands": ["ls"]}},
        {"type": "shell_call_output", "call_id": "a", "output": []},
    ),
    "apply_patch_call": (
        {
            "type": "apply_patch_call",
            "call_id": "a",
            "operation": {"type": "delete_file", "path": "x"},
            "status": "completed",
        },
        {"type": "apply_patch_call_output", "call_id": "a", "status": "completed"},
    ),
    "mcp_approval_request": (
        {"type": "mcp_approval_request", "id": "mcpr_a", "server_label": "s", "name": "f", "arguments": "{}"},
        {"type": "mcp_approval_response", "approval_request_id": "mcpr_a", "approve": True},
    ),
}


@pytest.fixture(scope="module")
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture(scope="module")
def client(server: OpenAIServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.base_url, api_key="local", max_retries=0) as client:
        yield client


def post(server: OpenAIServer, body: object, path: str = "/v1/responses") -> tuple[int, Item]:
    connection = HTTPConnection(server.origin.removeprefix("http://"))
    connection.request("POST", path, json.dumps(body))
    response = connection.getresponse()
    answer: Item = json.loads(response.read())
    connection.close()
    return response.status, answer


def refusal(server: OpenAIServer, *items: Any, status: int = 400, model: str = "any", **parameters: Any) -> Item | None:
    """The error; None when the request is accepted."""
    found, answer = post(server, {"model": model, "input": list(items), **parameters})
    if found == 200:
        return None
    assert found == status
    error: Item = answer["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    return error


VALID: dict[str, list[Item]] = {
    "a text of every role": [{"role": role, "content": "x"} for role in ("system", "developer", "user", "assistant")],
    "parts of a user": [{"type": "message", "role": "user", "content": [ASKED, IMAGE, FILE]}],
    "parts of an assistant": [
        USER,
        ASSISTANT,
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
    ],
    "parallel calls, answered in any order": [
        USER,
        CALL,
        {**CALL, "call_id": "b", "id": "fc_b", "status": "completed"},
        {**RESULT, "call_id": "b", "output": [ASKED, IMAGE], "status": None},
        RESULT,
    ],
    "a message between a call and its output": [USER, CALL, ASSISTANT, RESULT],
    "a shell output by either id of its call": [
        USER,
        EXCHANGES["local_shell_call"][0],
        {"type": "local_shell_call_output", "id": "lsh_1", "output": "done"},
    ],
    **{kind: [USER, *exchange] for kind, exchange in EXCHANGES.items()},
}


@pytest.mark.parametrize("items", VALID.values(), ids=list(VALID))
def test_what_the_api_takes_is_taken(server: OpenAIServer, items: list[Item]) -> None:
    assert refusal(server, *items) is None


def test_every_kind_of_call_the_client_runs_is_exercised_here() -> None:
    assert EXCHANGES.keys() == OUTPUT_OF.keys()
    assert {call: output["type"] for call, (_, output) in EXCHANGES.items()} == OUTPUT_OF


@pytest.mark.parametrize(("call", "output"), EXCHANGES.values(), ids=list(EXCHANGES))
def test_an_output_needs_its_call_before_it(server: OpenAIServer, call: Item, output: Item) -> None:
    for items in ([USER, output], [USER, output, call]):
        error = refusal(server, *items)
        assert error is not None
        assert error["message"].startswith("No tool call found for ")
        assert error["message"].endswith(f"output with call_id {call.get('call_id', call.get('id'))}.")
        assert error["param"] == "input"


@pytest.mark.parametrize(("call", "output"), EXCHANGES.values(), ids=list(EXCHANGES))
def test_a_call_needs_its_output(server: OpenAIServer, call: Item, output: Item) -> None:
    error = refusal(server, USER, call, USER)
    assert error is not None
    assert error["message"].startswith("No tool output found for ")
    assert error["message"].endswith(f"call {call['call_id']}." if "call_id" in call else f"request {call['id']}.")
    assert error["param"] == "input"


def test_an_output_of_another_kind_is_none(server: OpenAIServer) -> None:
    error = refusal(server, USER, CALL, EXCHANGES["custom_tool_call"][1])
    assert error is not None
    assert error["message"] == "No tool call found for custom tool call output with call_id a."


# items, and the param and code of the refusal
INVALID: dict[str, tuple[list[Any], str | None, str | None]] = {
    "a status of null": ([USER, {**ASSISTANT, "status": None}], "input[1].status", "invalid_type"),
    "an unknown status": ([{**CALL, "status": "done"}], "input[0].status", "invalid_value"),
    "an unknown field": ([USER, {**USER, "name": "ada"}], "input[1].name", "unknown_parameter"),
    "parsed in a part": (
        [{**ASSISTANT, "content": [{**SPOKEN, "parsed": {"x": 1}}]}],
        "input[0].content[0].parsed",
        "unknown_parameter",
    ),
    "parsed arguments": ([{**CALL, "parsed_arguments": None}], "input[0].parsed_arguments", "unknown_parameter"),
    "a chat part": (
        [{"role": "user", "content": [{"type": "text", "text": "x"}]}],
        "input[0].content[0]",
        "invalid_value",
    ),
    "what a user says, of an assistant": (
        [{"role": "assistant", "content": [ASKED]}],
        "input[0].content[0]",
        "invalid_value",
    ),
    "what an assistant says, of a user": (
        [{"role": "user", "content": [SPOKEN]}],
        "input[0].content[0]",
        "invalid_value",
    ),
    "a chat tool message": (
        [{"role": "tool", "tool_call_id": "a", "content": "x"}],
        "input[0].tool_call_id",
        "unknown_parameter",
    ),
    "a role of chat": ([{"role": "function", "content": "x"}], "input[0].role", "invalid_value"),
    "chat's tool calls": (
        [{"role": "assistant", "content": "", "tool_calls": []}],
        "input[0].tool_calls",
        "unknown_parameter",
    ),
    "content of null": ([{"role": "assistant", "content": None}], "input[0].content", "invalid_type"),
    "no content": ([{"role": "user"}], "input[0].content", "missing_required_parameter"),
    "empty content": ([{"role": "user", "content": []}], "input[0].content", "empty_array"),
    "a type nobody knows": ([{"type": "thought"}], "input[0].type", "invalid_value"),
    "nothing at all": ([{}], "input[0]", "invalid_value"),
    "a text among items": (["hello"], "input[0]", "invalid_type"),
    "a call id for an item id": ([{**CALL, "id": "call_1"}], "input[0].id", "invalid_value"),
    "a message's id for a call": ([{**CALL, "id": "msg_1"}], "input[0].id", "invalid_value"),
    "a call without an id": (
        [{"type": "function_call", "name": "f", "arguments": ""}],
        "input[0].call_id",
        "missing_required_parameter",
    ),
    "an empty call id": ([{**CALL, "call_id": ""}], "input[0].call_id", "empty_string"),
    "a long call id": ([{**CALL, "call_id": "a" * 65}], "input[0].call_id", "string_above_max_length"),
    "arguments that are no text": ([{**CALL, "arguments": {}}], "input[0].arguments", "invalid_type"),
    "one id twice": ([USER, ASSISTANT, USER, ASSISTANT], "input", None),
    "reasoning without a summary": (
        [{"type": "reasoning", "id": "rs_1"}],
        "input[0].summary",
        "missing_required_parameter",
    ),
}


@pytest.mark.parametrize(("items", "param", "code"), INVALID.values(), ids=list(INVALID))
def test_what_the_api_refuses_is_refused(
    server: OpenAIServer, items: list[Any], param: str | None, code: str | None
) -> None:
    error = refusal(server, *items)
    assert error is not None
    assert (error["param"], error["code"]) == (param, code)


INVALID_BODIES: dict[str, tuple[Item, str | None, str | None]] = {
    "no input": ({}, None, "missing_required_parameter"),
    "an empty input": ({"input": []}, None, "missing_required_parameter"),
    "an input of null": ({"input": None}, None, "missing_required_parameter"),
    "an object for an input": ({"input": {"role": "user"}}, "input", "invalid_type"),
    "messages": ({"input": "x", "messages": [USER]}, "messages", "unsupported_parameter"),
    "a response format": ({"input": "x", "response_format": {}}, "response_format", "unsupported_parameter"),
    "thread_id": ({"input": "x", "thread_id": "t"}, "thread_id", "unknown_parameter"),
    "no model": ({"input": "x", "model": None}, "model", "missing_required_parameter"),
    "a tool of chat": (
        {"input": "x", "tools": [{"type": "function", "function": {"name": "f"}}]},
        "tools[0].name",
        "missing_required_parameter",
    ),
    "stream as a text": ({"input": "x", "stream": "yes"}, "stream", "invalid_type"),
    "a previous response nobody knows": (
        {"input": "x", "previous_response_id": "resp_1"},
        "previous_response_id",
        "previous_response_not_found",
    ),
    "two ways to continue": (
        {"input": "x", "previous_response_id": "resp_1", "conversation": "conv_1"},
        None,
        "mutually_exclusive_parameters",
    ),
}


@pytest.mark.parametrize(("body", "param", "code"), INVALID_BODIES.values(), ids=list(INVALID_BODIES))
def test_parameters_the_api_refuses_are_refused(
    server: OpenAIServer, body: Item, param: str | None, code: str | None
) -> None:
    status, answer = post(server, {"model": "any", **body})
    assert status == 400
    assert (answer["error"]["param"], answer["error"]["code"]) == (param, code)


def test_a_refused_request_uses_up_nothing_of_the_plan(server: OpenAIServer, client: OpenAI) -> None:
    server.answer("planned")
    assert refusal(server, RESULT) is not None
    assert client.responses.create(model="any", input="x").output_text == "planned"


def test_ids_nobody_stored_are_not_found(server: OpenAIServer) -> None:
    for reference in ({"type": "item_reference", "id": "msg_9"}, {"id": "msg_9"}):
        error = refusal(server, USER, reference, status=404)
        assert error is not None
        assert error["message"].startswith("Item with id 'msg_9' not found.")
    assert refusal(server, USER, status=404, conversation="conv_9") is not None


def sdk_items() -> dict[str, set[str]]:
    """Each kind of input item the SDK can send, with its fields."""
    fields: dict[str, set[str]] = {}
    for item in typing.get_args(response_input_item_param.ResponseInputItemParam):
        hints = typing.get_type_hints(item, include_extras=True)
        literal = typing.get_type_hints(item)["type"]
        options = [literal, *typing.get_args(literal)]
        name = next(kind for option in options for kind in typing.get_args(option) if isinstance(kind, str))
        fields.setdefault(name, set()).update(hints)
    return fields


def test_every_item_and_field_of_the_installed_sdk_is_known() -> None:
    unknown = {
        kind: fields - (KINDS[kind].known if kind in KINDS else set())
        for kind, fields in sdk_items().items()
        if kind not in KINDS or fields - KINDS[kind].known
    }
    assert unknown == {}


def test_every_parameter_of_the_installed_sdk_is_known() -> None:
    assert set(ResponseCreateParamsBase.__annotations__) <= KNOWN_PARAMETERS
