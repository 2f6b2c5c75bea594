"""Streams of responses: the API's events in its order, numbered, and what can go wrong on the way."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from memexllm.testing.server import (
    Answer,
    Drop,
    Failed,
    Gate,
    Hold,
    OpenAIServer,
    Outcome,
    ServerError,
    Slow,
    StreamError,
    Turnstile,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

Event = dict[str, Any]

CITATION = {"type": "url_citation", "url": "https://example.org", "title": "x", "start_index": 0, "end_index": 2}
EVERYTHING: list[Event] = [
    {
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "let me see"}],
        "content": [{"type": "reasoning_text", "text": "well well"}],
    },
    {"type": "web_search_call", "action": {"type": "search", "query": "x"}},
    {
        "type": "message",
        "content": [
            {"type": "output_text", "text": "Hello there", "annotations": [CITATION], "logprobs": []},
            {"type": "refusal", "refusal": "I can't"},
        ],
    },
    {"type": "function_call", "name": "f", "arguments": '{"x": 1}'},
    {"type": "custom_tool_call", "name": "g", "input": "do it"},
]
# What wraps an item in the stream, without its repeated deltas.
ORDER = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.reasoning_summary_part.added",
    "response.reasoning_summary_text.delta",
    "response.reasoning_summary_text.done",
    "response.reasoning_summary_part.done",
    "response.content_part.added",
    "response.reasoning_text.delta",
    "response.reasoning_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.output_item.added",
    "response.output_item.done",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.output_text.annotation.added",
    "response.content_part.done",
    "response.content_part.added",
    "response.refusal.delta",
    "response.refusal.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.output_item.added",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.output_item.done",
    "response.output_item.added",
    "response.custom_tool_call_input.delta",
    "response.custom_tool_call_input.done",
    "response.output_item.done",
    "response.completed",
]


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


def stream(client: OpenAI, **parameters: Any) -> list[Any]:
    return list(client.responses.create(model="any", input="hello", stream=True, **parameters))


def sent_events(server: OpenAIServer, **parameters: Any) -> list[tuple[str, Event]]:
    """The names and data of the events as they are on the wire."""
    connection = HTTPConnection(server.origin.removeprefix("http://"))
    body = {"model": "any", "input": "hello", "stream": True, **parameters}
    connection.request("POST", "/v1/responses", json.dumps(body))
    frames = connection.getresponse().read().decode().split("\n\n")
    connection.close()
    assert frames.pop() == ""
    lines = [frame.split("\n") for frame in frames]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in lines]


def test_events_come_in_the_order_of_the_api_and_are_numbered(server: OpenAIServer) -> None:
    server.plan(Answer(items=EVERYTHING))
    events = sent_events(server)
    names = [name for name, _ in events]
    once = [name for i, name in enumerate(names) if not (name.endswith(".delta") and names[i - 1] == name)]
    assert once == ORDER
    assert names == [event["type"] for _, event in events]
    assert [event["sequence_number"] for _, event in events] == list(range(len(events)))


def test_the_deltas_join_to_what_is_done(server: OpenAIServer) -> None:
    server.plan(Answer(items=EVERYTHING))
    wholes: dict[str, str] = {}
    for name, event in sent_events(server):
        if name.endswith(".delta"):
            kind = name.removesuffix(".delta")
            wholes[kind] = wholes.get(kind, "") + event["delta"]
        elif (kind := name.removesuffix(".done")) in wholes:
            assert wholes[kind] == next(event[key] for key in ("text", "refusal", "arguments", "input") if key in event)
    assert sorted(wholes.values()) == sorted(["let me see", "well well", "Hello there", "I can't", '{"x": 1}', "do it"])


def test_an_item_is_empty_when_added_and_whole_when_done(server: OpenAIServer) -> None:
    server.plan(Answer(items=EVERYTHING))
    events = sent_events(server)
    added = [event["item"] for name, event in events if name == "response.output_item.added"]
    done = [event["item"] for name, event in events if name == "response.output_item.done"]
    response = events[-1][1]["response"]
    assert done == response["output"]
    assert [item["id"] for item in added] == [item["id"] for item in done]
    assert [item.get("status") for item in added] == [None, "in_progress", "in_progress", "in_progress", None]
    assert (added[2]["content"], added[3]["arguments"], added[4]["input"], added[0]["summary"]) == ([], "", "", [])
    begun = events[0][1]["response"]
    assert (begun["status"], begun["output"], begun["usage"]) == ("in_progress", [], None)
    assert (response["status"], response["id"]) == ("completed", begun["id"])


def test_the_sdk_puts_the_answer_together(server: OpenAIServer, client: OpenAI) -> None:
    server.plan(Answer(items=EVERYTHING))
    with client.responses.stream(model="any", input="hello") as events:
        final = events.get_final_response()
    assert final.output_text == "Hello there"
    assert [item.type for item in final.output] == [item["type"] for item in EVERYTHING]
    kept = client.responses.retrieve(final.id)
    assert final.to_dict().keys() == kept.to_dict().keys()
    assert final.usage == kept.usage


def test_a_stream_without_text_still_begins_and_ends(server: OpenAIServer, client: OpenAI) -> None:
    server.plan(Answer(items=()))
    assert [event.type for event in stream(client)] == ORDER[:2] + ORDER[-1:]


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Answer("Once", finish_reason="length"), "incomplete"),
        (Failed("No luck.", answer="Once"), "failed"),
    ],
)
def test_the_last_event_is_named_for_how_it_ended(
    server: OpenAIServer, client: OpenAI, outcome: Outcome, status: str
) -> None:
    server.plan(outcome)
    last = stream(client)[-1]
    assert (last.type, last.response.status, last.response.output_text) == (f"response.{status}", status, "Once")


def test_an_error_event_breaks_in_with_its_number(server: OpenAIServer, client: OpenAI) -> None:
    server.plan(StreamError(3, "Too hot.", code="overheated"))
    *before, error = stream(client)
    assert [event.type for event in before] == ORDER[:3]
    assert (error.type, error.code, error.message, error.sequence_number) == ("error", "overheated", "Too hot.", 3)
    server.plan(StreamError(3))
    with pytest.raises(openai.InternalServerError):
        client.responses.create(model="any", input="hello")


def test_a_dropped_stream_ends_where_it_was_dropped(server: OpenAIServer, client: OpenAI) -> None:
    server.plan(Drop(after_chunks=5))
    received: list[str] = []
    with pytest.raises(openai.APIConnectionError):  # noqa: PT012 - the events before the error are the point
        for event in client.responses.create(model="any", input="hello", stream=True):
            received.append(event.type)  # noqa: PERF401 - a comprehension would lose them
    assert len(received) == 5
    server.plan(Drop())
    with pytest.raises(openai.APIConnectionError):
        client.responses.create(model="any", input="hello")


def test_given_events_are_sent_exactly(server: OpenAIServer) -> None:
    events: list[Event] = [{"type": "response.created", "response": None}, {"type": "anything", "x": 1}]
    server.answer(chunks=events)
    assert sent_events(server) == [(event["type"], event) for event in events]


def test_a_gate_holds_a_stream_of_events(server: OpenAIServer, client: OpenAI) -> None:
    with Gate() as gate:
        server.plan(Hold(gate, before_chunk=2))
        events = iter(client.responses.create(model="any", input="hello", stream=True))
        assert [next(events).type for _ in range(2)] == ORDER[:2]
        gate.wait_until_reached()
        gate.open()
        assert [event.type for event in events][-1] == "response.completed"


def test_a_turnstile_lets_events_out_one_by_one(server: OpenAIServer, client: OpenAI) -> None:
    with Turnstile() as turnstile:
        server.plan(Slow(turnstile))
        turnstile.let_through()
        events = iter(client.responses.create(model="any", input="hello", stream=True))
        assert next(events).type == ORDER[0]
        turnstile.let_through(2)
        assert [next(events).type for _ in range(2)] == ORDER[1:3]
        turnstile.open()
        assert [event.type for event in events][-1] == "response.completed"


def test_a_turnstile_paces_chat_chunks_and_answers_in_one_piece(server: OpenAIServer, client: OpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "hello"}]
    with Turnstile() as turnstile:
        turnstile.let_through()
        server.plan(Slow(turnstile, "one piece"), Slow(turnstile, "one two three"))
        assert client.chat.completions.create(model="any", messages=messages).choices[0].message.content == "one piece"
        turnstile.let_through()
        chunks = iter(client.chat.completions.create(model="any", messages=messages, stream=True))
        assert next(chunks).choices[0].delta.role == "assistant"
        turnstile.open()
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "one two three"


def test_a_pace_in_seconds_outlasts_an_impatient_client(server: OpenAIServer) -> None:
    server.plan(Slow(60.0, "late"))
    with (
        OpenAI(base_url=server.base_url, api_key="local", max_retries=0, timeout=0.2) as impatient,
        pytest.raises(openai.APITimeoutError),
    ):
        impatient.responses.create(model="any", input="hello")


def test_a_pace_in_seconds_passes_in_its_time(server: OpenAIServer, client: OpenAI) -> None:
    server.plan(Slow(0.001, ServerError(503)), Slow(0.001))
    with pytest.raises(openai.InternalServerError):
        stream(client)
    assert stream(client)[-1].type == "response.completed"


async def test_the_asynchronous_client_reads_events_too(server: OpenAIServer) -> None:
    async with AsyncOpenAI(base_url=server.base_url, api_key="local", max_retries=0) as client:
        events = [event async for event in await client.responses.create(model="any", input="hello", stream=True)]
    assert [events[0].type, events[-1].type] == [ORDER[0], ORDER[-1]]
