"""What the SDK gets from the server when nothing goes wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from openai import AsyncOpenAI, AzureOpenAI, OpenAI
from openai.types.chat import ChatCompletion
from pydantic import BaseModel

from memexllm.testing.server import Answer, ChatRequest, OpenAIServer, ServerError

if TYPE_CHECKING:
    from collections.abc import Iterator

HELLO: list[Any] = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[OpenAIServer, OpenAI]]:
    with (
        OpenAIServer(clock=lambda: 1700000000.9) as server,
        OpenAI(base_url=server.base_url, api_key="local", max_retries=0) as client,
    ):
        yield server, client


@pytest.fixture
def server(shared: tuple[OpenAIServer, OpenAI]) -> OpenAIServer:
    shared[0].clear()
    return shared[0]


@pytest.fixture
def client(shared: tuple[OpenAIServer, OpenAI]) -> OpenAI:
    return shared[1]


def create(client: OpenAI, **parameters: Any) -> ChatCompletion:
    completion = client.chat.completions.create(**{"model": "any-model", "messages": HELLO, **parameters})
    assert isinstance(completion, ChatCompletion)
    return completion


def raw_message(client: OpenAI, **parameters: Any) -> dict[str, Any]:
    response = client.chat.completions.with_raw_response.create(
        **{"model": "any-model", "messages": HELLO, **parameters}
    )
    message: dict[str, Any] = json.loads(response.content)["choices"][0]["message"]
    return message


def test_a_planned_message_arrives_exactly(server: OpenAIServer, client: OpenAI) -> None:
    message = {
        "role": "assistant",
        "content": None,
        "refusal": "No.",
        "reasoning_content": "hm",
        "x": {"y": [1, None]},
        "audio": {"id": "audio_1", "data": "UklGRg==", "transcript": "Hi", "expires_at": 1},
        "tool_calls": [
            {
                "id": "a",
                "type": "function",
                "function": {"name": "f", "arguments": "{ }"},
                "extra_content": {"s": 1},
            },
            {"id": "b", "type": "custom", "custom": {"name": "g", "input": "text"}},
        ],
    }
    server.answer(message)
    assert raw_message(client) == message


def test_planned_outcomes_come_in_order_then_the_own_reply(server: OpenAIServer, client: OpenAI) -> None:
    server.plan("one", {"content": "two"}, Answer("three"))
    contents = [create(client).choices[0].message.content for _ in range(4)]
    assert contents == ["one", "two", "three", "You said: hello"]


def test_a_text_becomes_the_message_the_api_makes_of_it(server: OpenAIServer, client: OpenAI) -> None:
    server.answer("Hi")
    assert raw_message(client) == {"role": "assistant", "content": "Hi", "refusal": None, "annotations": []}


def test_finish_reason_and_usage_can_be_given(server: OpenAIServer, client: OpenAI) -> None:
    server.answer("Hi", finish_reason="length", usage={"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3})
    completion = create(client)
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage is not None
    assert completion.usage.model_dump(exclude_unset=True) == {
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "total_tokens": 3,
    }


@pytest.mark.parametrize(
    ("message", "finish_reason"),
    [
        ({"content": "Hi"}, "stop"),
        ({"tool_calls": [{"type": "function", "function": {"name": "f", "arguments": ""}}]}, "tool_calls"),
        ({"function_call": {"name": "f", "arguments": ""}}, "function_call"),
    ],
)
def test_the_finish_reason_follows_from_the_message(
    server: OpenAIServer, client: OpenAI, message: dict[str, Any], finish_reason: str
) -> None:
    server.answer(message)
    assert create(client).choices[0].finish_reason == finish_reason


def test_missing_call_ids_are_filled_in_and_unique(server: OpenAIServer, client: OpenAI) -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    server.plan({"tool_calls": [call, call]}, {"tool_calls": [call]})
    ids = [call.id for _ in range(2) for call in create(client).choices[0].message.tool_calls or []]
    assert len(set(ids)) == 3
    assert all(call_id.startswith("call_") for call_id in ids)


def test_completion_ids_are_unique_and_created_is_the_clock(server: OpenAIServer, client: OpenAI) -> None:
    completions = [create(client) for _ in range(3)]
    assert len({completion.id for completion in completions}) == 3
    assert len({completion._request_id for completion in completions}) == 3
    assert {completion.created for completion in completions} == {1700000000}


def test_several_choices_are_the_alternatives(server: OpenAIServer, client: OpenAI) -> None:
    server.answer("first", alternatives=["second", {"content": "third"}])
    choices = create(client, n=3).choices
    assert [(c.index, c.message.content) for c in choices] == [(0, "first"), (1, "second"), (2, "third")]


def test_n_without_alternatives_repeats_the_message(server: OpenAIServer, client: OpenAI) -> None:
    server.answer("same")
    assert [c.message.content for c in create(client, n=2).choices] == ["same", "same"]


def test_extra_fields_reach_the_completion_and_each_chunk(server: OpenAIServer, client: OpenAI) -> None:
    server.plan(*[Answer("Hi", extra={"model": "other-2024", "x_id": 7})] * 2)
    completion = create(client)
    assert (completion.model, (completion.model_extra or {})["x_id"]) == ("other-2024", 7)
    chunks = list(client.chat.completions.create(model="any", messages=HELLO, stream=True))
    assert {(chunk.model, (chunk.model_extra or {})["x_id"]) for chunk in chunks} == {("other-2024", 7)}


def test_requests_are_recorded_as_sent(server: OpenAIServer, client: OpenAI) -> None:
    create(client, temperature=0, extra_headers={"X-Mine": "1"})
    [request] = server.requests
    assert (request.method, request.path, request.status) == ("POST", "/v1/chat/completions", 200)
    assert request.headers["x-mine"] == "1"
    assert request.headers["authorization"] == "Bearer local"
    assert request.body == json.loads(request.raw) == {"messages": HELLO, "model": "any-model", "temperature": 0}
    assert server.last_messages == server.chat_requests[0].messages == HELLO


def test_clear_forgets_requests_and_plan(server: OpenAIServer, client: OpenAI) -> None:
    server.plan(ServerError(500))
    server.clear()
    assert create(client).choices[0].message.content == "You said: hello"
    server.clear()
    assert server.requests == []


def test_models_are_listed_and_any_name_is_found(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["gpt-4o", "gpt-4o-mini"]
    assert client.models.retrieve("my/own").id == "my/own"


def test_an_azure_client_is_served(server: OpenAIServer) -> None:
    with AzureOpenAI(azure_endpoint=server.origin, api_key="local", api_version="2024-10-21") as client:
        assert create(client).choices[0].message.content == "You said: hello"
    assert server.last_messages == HELLO


async def test_an_async_client_is_served(server: OpenAIServer) -> None:
    async with AsyncOpenAI(base_url=server.base_url, api_key="local") as client:
        completion = await client.chat.completions.create(model="any", messages=HELLO)
    assert completion.choices[0].message.content == "You said: hello"


def test_parse_gets_an_object_of_the_schema(client: OpenAI) -> None:
    class Trip(BaseModel):
        city: str
        n_days: int
        note: str | None

    trip: list[Any] = [{"role": "user", "content": "I go to Rome for 3 days"}]
    completion = client.chat.completions.parse(model="any", messages=trip, response_format=Trip)
    parsed = completion.choices[0].message.parsed
    assert parsed == Trip(city="Rome", n_days=3, note="I go to Rome for 3 days")


def test_a_reply_function_is_the_brain() -> None:
    def reply(request: ChatRequest) -> str | dict[str, Any] | ServerError:
        match request.last_user_text:
            case "text":
                return f"{request.model} {request.n_choices} {request.stream}"
            case "message":
                return {"content": "a dict"}
            case _:
                return ServerError(503)

    with (
        OpenAIServer(reply) as server,
        OpenAI(base_url=server.base_url, api_key="local", max_retries=0) as client,
    ):
        answers = [
            create(client, messages=[{"role": "user", "content": text}]).choices[0].message.content
            for text in ("text", "message")
        ]
        assert answers == ["any-model 1 False", "a dict"]
        with pytest.raises(Exception, match="overloaded"):
            create(client)
