"""Reasoning items: what has to be sent back with them, and where they are worth something."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

import pytest
from openai import OpenAI

from memexllm.testing.server import OpenAIServer

if TYPE_CHECKING:
    from collections.abc import Iterator

Item = dict[str, Any]

USER: Item = {"role": "user", "content": "hello"}


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


TOOL: Item = {"type": "function", "name": "weather", "parameters": {"properties": {"city": {"type": "string"}}}}
QUESTION: Item = {"role": "user", "content": "weather in Paris and Rome"}


def thought(server: OpenAIServer, *, model: str = "o3", **parameters: Any) -> list[Item]:
    """A reasoning item and the two calls it led to."""
    status, answer = post(server, {"model": model, "input": [QUESTION], "tools": [TOOL], **parameters})
    assert status == 200
    output: list[Item] = answer["output"]
    assert [item["type"] for item in output] == ["reasoning", "function_call", "function_call"]
    return output


def results(output: list[Item]) -> list[Item]:
    calls = [item for item in output if item["type"] == "function_call"]
    return [{"type": "function_call_output", "call_id": call["call_id"], "output": "sun"} for call in calls]


SEALED: Item = {"store": False, "include": ["reasoning.encrypted_content"]}


@pytest.mark.parametrize("parameters", [{}, SEALED], ids=["stored", "sealed"])
def test_reasoning_sent_back_whole_is_taken(server: OpenAIServer, parameters: Item) -> None:
    output = thought(server, **parameters)
    assert refusal(server, QUESTION, *output, *results(output), model="o3", store=False) is None


def test_reasoning_neither_stored_nor_sealed_is_not_found(server: OpenAIServer) -> None:
    output = thought(server, store=False)
    error = refusal(server, QUESTION, *output, *results(output), model="o3", status=404)
    assert error is not None
    assert error["message"].startswith(f"Item with id '{output[0]['id']}' not found. Items are not persisted")


def test_sealed_reasoning_opens_for_its_own_model_and_server_alone(server: OpenAIServer) -> None:
    output = thought(server, **SEALED)
    again = [QUESTION, *output, *results(output)]
    assert refusal(server, *again, model="o3-2025-04-16") is None
    with OpenAIServer() as other:
        for refused in (refusal(server, *again, model="gpt-5"), refusal(other, *again, model="o3")):
            assert refused is not None
            assert refused["code"] == "invalid_encrypted_content"


def test_sealed_reasoning_belongs_to_its_item(server: OpenAIServer) -> None:
    output, other = thought(server, **SEALED), thought(server, **SEALED)
    swapped = {**output[0], "encrypted_content": other[0]["encrypted_content"]}
    error = refusal(server, QUESTION, swapped, *output[1:], *results(output), model="o3")
    assert error is not None
    assert error["code"] == "invalid_encrypted_content"


def test_reasoning_needs_what_it_led_to(server: OpenAIServer) -> None:
    reasoning, *_ = thought(server)
    for items in ([QUESTION, reasoning], [QUESTION, reasoning, USER]):
        error = refusal(server, *items, model="o3")
        assert error is not None
        assert error["message"] == (
            f"Item '{reasoning['id']}' of type 'reasoning' was provided without its required following item."
        )


def test_what_reasoning_led_to_needs_it_as_long_as_it_has_its_id(server: OpenAIServer) -> None:
    reasoning, first, second = output = thought(server, store=False)
    error = refusal(server, QUESTION, first, second, *results(output), model="o3")
    assert error is not None
    assert error["message"] == (
        f"Item '{first['id']}' of type 'function_call' was provided without its required 'reasoning' item: "
        f"'{reasoning['id']}'."
    )
    nameless = [{name: value for name, value in call.items() if name != "id"} for call in (first, second)]
    assert refusal(server, QUESTION, *nameless, *results(output), model="o3") is None


def test_a_message_needs_its_reasoning_too(server: OpenAIServer) -> None:
    _, answer = post(server, {"model": "gpt-5", "input": "hi", **SEALED})
    reasoning, message = answer["output"]
    assert refusal(server, USER, reasoning, message, USER, model="gpt-5") is None
    error = refusal(server, USER, message, USER, model="gpt-5")
    assert error is not None
    assert f"required 'reasoning' item: '{reasoning['id']}'" in error["message"]


def test_the_status_of_null_a_plain_dump_gives_reasoning_is_refused(server: OpenAIServer, client: OpenAI) -> None:
    items = [item.model_dump() for item in client.responses.create(model="o3", input="hi").output]
    assert items[0]["status"] is None
    error = refusal(server, USER, *items, USER, model="o3")
    assert error is not None
    assert error["param"] == "input[1].status"
