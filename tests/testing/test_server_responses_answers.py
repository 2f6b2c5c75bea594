"""POST /responses: answers made from the items received, planned ones, and what is stored of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai import AsyncOpenAI, AzureOpenAI, OpenAI
from pydantic import BaseModel

from memexllm.testing.server import Answer, ChatRequest, Failed, OpenAIServer, ServerError
from memexllm.testing.server.item_store import MAX_KEPT, ItemStore

if TYPE_CHECKING:
    from collections.abc import Iterator

WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "get_weather",
    "description": "the weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": True,
}


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[OpenAIServer, OpenAI]]:
    with (
        OpenAIServer() as server,
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


def ask(client: OpenAI, question: Any, **parameters: Any) -> Any:
    return client.responses.create(**{"model": "any", "input": question, **parameters})


def output(client: OpenAI, question: Any = "hi", **parameters: Any) -> list[dict[str, Any]]:
    """The items as they are on the wire."""
    return [item.model_dump(exclude_unset=True) for item in ask(client, question, **parameters).output]


def test_it_answers_from_the_items_it_received(client: OpenAI) -> None:
    said = [
        {"role": "user", "content": [{"type": "input_text", "text": "My name is Ada."}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Hello Ada.", "annotations": []}]},
        {"role": "user", "content": "What is my name?"},
    ]
    assert ask(client, said).output_text == "Your name is Ada."
    assert ask(client, said[2:]).output_text == "I don't know your name."
    assert ask(client, said[2:], instructions="The user's name is Eve.").output_text == "Your name is Eve."
    assert ask(client, "How many messages?").output_text == "I received 1 messages."


async def test_the_asynchronous_client_is_answered_as_well(server: OpenAIServer) -> None:
    async with AsyncOpenAI(base_url=server.base_url, api_key="local", max_retries=0) as client:
        assert (await client.responses.create(model="any", input="My name is Ada.")).output_text
        async with client.responses.stream(model="any", input="hello") as stream:
            assert (await stream.get_final_response()).output_text == "You said: hello"


def test_a_fitting_tool_is_called_once_for_each_place(client: OpenAI) -> None:
    question = {"role": "user", "content": "weather in Paris and Rome"}
    calls = output(client, [question], tools=[WEATHER])
    assert [(call["type"], call["name"], call["arguments"]) for call in calls] == [
        ("function_call", "get_weather", '{"city": "Paris"}'),
        ("function_call", "get_weather", '{"city": "Rome"}'),
    ]
    results = [
        {"type": "function_call_output", "call_id": call["call_id"], "output": f"sun {position}"}
        for position, call in enumerate(calls)
    ]
    answer = ask(client, [question, *calls, *results], tools=[WEATHER])
    assert answer.output_text == "The result of get_weather is: sun 0\nThe result of get_weather is: sun 1"
    assert len(output(client, [question], tools=[WEATHER], parallel_tool_calls=False)) == 1


@pytest.mark.parametrize(
    ("tool_choice", "kind"),
    [
        ("none", "message"),
        ("required", "function_call"),
        ({"type": "function", "name": "get_weather"}, "function_call"),
        ({"type": "allowed_tools", "mode": "required", "tools": []}, "function_call"),
        ({"type": "web_search"}, "message"),
    ],
)
def test_the_tool_choice_is_obeyed(client: OpenAI, tool_choice: Any, kind: str) -> None:
    search = {"type": "web_search"}
    [item] = output(client, "hello", tools=[search, WEATHER], tool_choice=tool_choice)
    assert item["type"] == kind
    assert output(client, "hello", tools=[search], tool_choice="required")[0]["type"] == "message"


def test_a_custom_tool_is_called_with_the_text(client: OpenAI) -> None:
    question = {"role": "user", "content": "run the code"}
    [call] = output(client, [question], tools=[{"type": "custom", "name": "code"}])
    assert (call["type"], call["name"], call["input"]) == ("custom_tool_call", "code", "run the code")
    result = {"type": "custom_tool_call_output", "call_id": call["call_id"], "output": "42"}
    assert ask(client, [question, call, result]).output_text == "The result of code is: 42"


def test_the_sdk_parses_a_structured_answer(client: OpenAI) -> None:
    parsed = client.responses.parse(model="any", input='"Ada" is 36', text_format=Person)
    assert parsed.output_parsed == Person(name="Ada", age=36)
    with client.responses.stream(model="any", input='"Ada" is 36', text_format=Person) as stream:
        assert stream.get_final_response().output_parsed == Person(name="Ada", age=36)


def test_a_raw_answer_carries_a_request_id(client: OpenAI) -> None:
    raw = client.responses.with_raw_response.create(model="any", input="hello")
    assert raw.headers["x-request-id"].startswith("req_")
    assert raw.parse().output_text == "You said: hello"


def test_a_response_says_what_was_asked(client: OpenAI) -> None:
    found = ask(client, "hi", instructions="Be brief.", metadata={"a": "b"}, temperature=0.2, tools=[WEATHER])
    assert (found.object, found.status, found.model, found.instructions) == (
        "response",
        "completed",
        "any",
        "Be brief.",
    )
    assert (found.metadata, found.temperature, found.tools[0].name) == ({"a": "b"}, 0.2, "get_weather")
    assert found.error is None
    assert found.incomplete_details is None


def test_models_that_reason_put_a_reasoning_item_first(client: OpenAI) -> None:
    for model in ("o3", "gpt-5-mini", "openai/o4-mini"):
        reasoning, message = output(client, model=model)
        assert (reasoning["type"], message["type"]) == ("reasoning", "message")
        assert reasoning.keys() == {"id", "type", "summary"}
        assert reasoning["summary"] == []
        assert reasoning["id"].startswith("rs_")
    for model, parameters in {
        "gpt-4o": {},
        "gpt-5-chat-latest": {},
        "gpt-5": {"reasoning": {"effort": "none"}},
    }.items():
        assert [item["type"] for item in output(client, model=model, **parameters)] == ["message"]


def test_reasoning_is_summarised_and_sealed_when_asked(client: OpenAI) -> None:
    found = ask(client, "hi", model="o3", reasoning={"summary": "auto"}, include=["reasoning.encrypted_content"])
    reasoning = found.output[0]
    assert reasoning.summary[0].text
    assert reasoning.encrypted_content
    assert found.usage.output_tokens_details.reasoning_tokens > 0
    assert found.usage.output_tokens > found.usage.output_tokens_details.reasoning_tokens


def test_one_plan_serves_both_apis(server: OpenAIServer, client: OpenAI) -> None:
    message = {
        "content": "Looking.",
        "reasoning_content": "let me see",
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
            {"type": "custom", "custom": {"name": "g", "input": "x"}},
        ],
    }
    server.plan(message, message)
    chat = client.chat.completions.create(model="any", messages=[{"role": "user", "content": "hi"}])
    reasoning, spoken, function, custom = output(client)
    assert chat.choices[0].message.content == spoken["content"][0]["text"] == "Looking."
    assert reasoning["summary"] == [{"type": "summary_text", "text": "let me see"}]
    assert (function["type"], function["call_id"], function["name"]) == ("function_call", "a", "f")
    assert (custom["type"], custom["name"], custom["input"]) == ("custom_tool_call", "g", "x")
    assert custom["call_id"]


def test_a_refusal_is_a_part(server: OpenAIServer, client: OpenAI) -> None:
    server.answer({"content": None, "refusal": "No."})
    [message] = output(client)
    assert message["content"] == [{"type": "refusal", "refusal": "No."}]


def test_exact_items_are_sent_with_what_is_missing_filled_in(server: OpenAIServer, client: OpenAI) -> None:
    search = {
        "type": "web_search_call",
        "id": "ws_1",
        "status": "completed",
        "action": {"type": "search", "query": "x"},
    }
    server.plan(
        Answer(
            items=[
                search,
                {"type": "message", "content": "Found."},
                {"type": "function_call", "name": "f", "arguments": ""},
            ]
        )
    )
    found, message, call = output(client, model="o3")
    assert found == search
    assert (message["role"], message["status"], message["content"][0]["text"]) == ("assistant", "completed", "Found.")
    assert call["id"].startswith("fc_")
    assert call["call_id"].startswith("call_")


@pytest.mark.parametrize(
    ("finish_reason", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
def test_an_answer_can_end_incomplete(server: OpenAIServer, client: OpenAI, finish_reason: str, reason: str) -> None:
    server.answer("Once upon", finish_reason=finish_reason)
    found = ask(client, "hi")
    assert (found.status, found.incomplete_details.reason) == ("incomplete", reason)
    assert (found.output_text, found.output[0].status) == ("Once upon", "incomplete")


def test_an_answer_can_fail_over_http_200(server: OpenAIServer, client: OpenAI) -> None:
    server.plan(Failed("No luck.", answer="Well,"), Failed())
    found = ask(client, "hi")
    assert (found.status, found.error.code, found.error.message) == ("failed", "server_error", "No luck.")
    assert found.output_text == "Well,"
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="any", messages=[{"role": "user", "content": "hi"}])


def test_errors_are_planned_as_for_chat(server: OpenAIServer, client: OpenAI) -> None:
    server.plan(ServerError(429), "fine")
    with pytest.raises(openai.RateLimitError):
        ask(client, "hi")
    assert ask(client, "hi").output_text == "fine"


def test_usage_and_top_level_fields_can_be_planned(server: OpenAIServer, client: OpenAI) -> None:
    usage = {
        "input_tokens": 1,
        "output_tokens": 2,
        "total_tokens": 3,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    server.answer("hi", usage=usage, extra={"id": "resp_mine", "model": "any-2025-01-01"})
    found = ask(client, "hi")
    assert (found.id, found.model, found.usage.total_tokens) == ("resp_mine", "any-2025-01-01", 3)


def test_a_reply_function_reads_the_items_as_messages() -> None:
    def reply(request: ChatRequest) -> str:
        assert request.responses is not None
        return f"{request.last_user_text} {len(request.messages)} {len(request.responses.items)}"

    with OpenAIServer(reply) as server, OpenAI(base_url=server.base_url, api_key="local") as client:
        assert ask(client, "hello", instructions="Be brief.").output_text == "hello 2 1"


def test_the_server_shows_the_items_it_received(server: OpenAIServer, client: OpenAI) -> None:
    ask(client, "hello")
    ask(client, [{"role": "user", "content": "again"}])
    assert [request.items for request in server.responses_requests] == [
        [{"type": "message", "role": "user", "content": "hello"}],
        [{"role": "user", "content": "again"}],
    ]
    assert server.last_items == [{"role": "user", "content": "again"}]
    assert server.chat_requests == []


def test_azure_clients_find_it_under_their_paths(server: OpenAIServer) -> None:
    with AzureOpenAI(azure_endpoint=server.origin, api_key="local", api_version="2025-04-01-preview") as client:
        first = client.responses.create(model="any", input="My name is Ada.")
        assert ask(client, "What is my name?", previous_response_id=first.id).output_text == "Your name is Ada."
    with OpenAI(base_url=f"{server.origin}/openai/v1", api_key="local") as client:
        assert ask(client, "hello").output_text == "You said: hello"
    assert [request.path.partition("?")[0] for request in server.requests] == [
        "/openai/responses",
        "/openai/responses",
        "/openai/v1/responses",
    ]


def test_a_stored_response_can_be_fetched_continued_and_deleted(client: OpenAI) -> None:
    first = ask(client, "My name is Ada.", instructions="The user's name is Eve.")
    assert client.responses.retrieve(first.id) == first
    [item] = client.responses.input_items.list(first.id).data
    assert item.to_dict()["content"] == [{"type": "input_text", "text": "My name is Ada."}]
    second = ask(client, "What is my name?", previous_response_id=first.id)
    # Instructions hold for one call.
    assert second.output_text == "Your name is Ada."
    assert second.previous_response_id == first.id
    third = ask(client, "How many messages?", previous_response_id=second.id)
    assert third.output_text == "I received 5 messages."
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)


@pytest.mark.parametrize("store", [False, True])
def test_only_what_is_stored_can_be_continued(server: OpenAIServer, client: OpenAI, store: bool) -> None:
    first = ask(client, "My name is Ada.", store=store)
    if store:
        client.responses.delete(first.id)
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, "What is my name?", previous_response_id=first.id)
    assert refused.value.code == "previous_response_not_found"
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)


def test_a_chain_is_one_context_for_the_rules_too(client: OpenAI) -> None:
    first = ask(client, "weather in Paris", tools=[WEATHER])
    with pytest.raises(openai.BadRequestError, match="No tool output found"):
        ask(client, "Well?", previous_response_id=first.id)
    result = {"type": "function_call_output", "call_id": first.output[0].call_id, "output": "sun"}
    assert ask(client, [result], previous_response_id=first.id).output_text == "The result of get_weather is: sun"
    again = [first.output[0].to_dict(), result]
    with pytest.raises(openai.BadRequestError, match="Duplicate item found"):
        ask(client, again, previous_response_id=first.id)


def test_a_reference_stands_for_the_stored_item(client: OpenAI) -> None:
    first = ask(client, "weather in Paris", tools=[WEATHER])
    call = first.output[0]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sun"}
    reference = {"type": "item_reference", "id": call.id}
    question = {"role": "user", "content": "weather in Paris"}
    assert ask(client, [question, reference, result]).output_text == "The result of get_weather is: sun"


def test_a_conversation_gathers_what_is_said_in_it(client: OpenAI) -> None:
    conversation = client.conversations.create(items=[{"role": "user", "content": "My name is Ada."}])
    found = ask(client, "What is my name?", conversation=conversation.id, store=False)
    assert found.output_text == "Your name is Ada."
    assert found.conversation.id == conversation.id
    assert (
        ask(client, "How many messages?", conversation={"id": conversation.id}).output_text == "I received 4 messages."
    )
    assert len(client.conversations.items.list(conversation.id).data) == 5
    client.conversations.delete(conversation.id)
    with pytest.raises(openai.NotFoundError):
        ask(client, "hi", conversation=conversation.id)


def test_a_prefix_seen_before_is_cached_whichever_api_saw_it(client: OpenAI) -> None:
    long: list[Any] = [{"role": "user", "content": "word " * 2000}]
    assert ask(client, long).usage.input_tokens_details.cached_tokens == 0
    cached = ask(client, [*long, {"role": "user", "content": "and now?"}]).usage.input_tokens_details.cached_tokens
    assert cached >= 1024
    assert cached % 128 == 0
    assert ask(client, long, model="other").usage.input_tokens_details.cached_tokens == 0
    chat = client.chat.completions.create(model="any", messages=long)
    assert chat.usage is not None
    assert chat.usage.prompt_tokens_details is not None
    assert chat.usage.prompt_tokens_details.cached_tokens == cached
    first = ask(client, "hi")
    continued = ask(client, long, previous_response_id=first.id).usage.input_tokens_details
    assert continued.cached_tokens == 0
    again = ask(client, long, previous_response_id=first.id).usage.input_tokens_details
    assert again.cached_tokens >= 1024


def test_a_server_that_runs_long_forgets_the_oldest() -> None:
    store = ItemStore()
    for number in range(MAX_KEPT + 1):
        store.note_produced(
            [{"type": "reasoning", "id": f"rs_{number}"}, {"type": "message", "id": f"msg_{number}"}], "o3"
        )
    assert store.reasoning_before("msg_0") is None
    assert store.reasoning_before("msg_1") == "rs_1"
