"""Streams: the same answer in deltas, shaped as the API shapes them."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import OpenAI

from memexllm.testing.server import Answer, OpenAIServer
from memexllm.testing.server.chunks import pieces_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openai.types.chat import ChatCompletionChunk

HELLO: list[Any] = [{"role": "user", "content": "hello"}]


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


def stream(client: OpenAI, **parameters: Any) -> list[ChatCompletionChunk]:
    return list(client.chat.completions.create(model="any", messages=HELLO, stream=True, **parameters))


def deltas(chunks: list[ChatCompletionChunk], index: int = 0) -> list[dict[str, Any]]:
    return [
        choice.delta.model_dump(exclude_unset=True)
        for chunk in chunks
        for choice in chunk.choices
        if choice.index == index
    ]


def sent_events(server: OpenAIServer, **parameters: Any) -> list[str]:
    """The events as they are on the wire, which the SDK hides."""
    connection = HTTPConnection(server.origin.removeprefix("http://"))
    body = {"model": "any", "messages": HELLO, "stream": True, **parameters}
    connection.request("POST", "/v1/chat/completions", json.dumps(body))
    lines = connection.getresponse().read().decode().split("\n\n")
    connection.close()
    assert lines.pop() == ""
    return [line.removeprefix("data: ") for line in lines]


def test_the_role_comes_first_and_the_finish_reason_last(server: OpenAIServer, client: OpenAI) -> None:
    server.answer("Hello there", finish_reason="length")
    chunks = stream(client)
    assert deltas(chunks)[0] == {"role": "assistant", "content": "", "refusal": None}
    assert deltas(chunks)[-1] == {}
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["length"]


def test_content_comes_in_several_deltas_that_join_to_it(server: OpenAIServer, client: OpenAI) -> None:
    server.answer("Hello there,\n  wörld 👩‍👩‍👧 ")
    contents = [delta["content"] for delta in deltas(stream(client))[1:-1]]
    assert len(contents) > 2
    assert "".join(contents) == "Hello there,\n  wörld 👩‍👩‍👧 "


@given(st.text())
def test_the_pieces_of_any_text_join_to_it(text: str) -> None:
    pieces = pieces_of(text)
    assert "".join(pieces) == text
    assert len(pieces) >= min(len(text), 2)


def test_calls_stream_as_a_head_and_then_their_text(server: OpenAIServer, client: OpenAI) -> None:
    server.answer(
        {
            "content": None,
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
                {"id": "b", "type": "custom", "custom": {"name": "g", "input": "do it"}},
            ],
        }
    )
    chunks = stream(client)
    calls = [delta["tool_calls"][0] for delta in deltas(chunks)[1:-1]]
    functions = [call for call in calls if call["index"] == 0]
    customs = [call for call in calls if call["index"] == 1]
    assert deltas(chunks)[0]["content"] is None
    assert functions[0] == {
        "index": 0,
        "id": "a",
        "type": "function",
        "function": {"name": "f", "arguments": ""},
    }
    assert "".join(call["function"]["arguments"] for call in functions) == '{"x": 1}'
    assert customs[0] == {"index": 1, "id": "b", "type": "custom", "custom": {"name": "g", "input": ""}}
    assert "".join(call["custom"]["input"] for call in customs) == "do it"
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_the_sdk_puts_a_streamed_call_together_again(server: OpenAIServer, client: OpenAI) -> None:
    server.answer({"tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}]})
    with client.chat.completions.stream(model="any", messages=HELLO) as events:
        [call] = events.get_final_completion().choices[0].message.tool_calls or []
    assert (call.id, call.function.name, call.function.arguments) == ("a", "f", '{"x": 1}')


def test_refusal_function_call_audio_and_unknown_fields_have_their_own_deltas(
    server: OpenAIServer, client: OpenAI
) -> None:
    server.answer(
        {
            "content": None,
            "reasoning_content": "let me see",
            "refusal": "I can't",
            "function_call": {"name": "f", "arguments": "{}"},
            "audio": {"id": "audio_1", "transcript": "Hi there", "data": "AAAA", "expires_at": 5},
        }
    )
    found = deltas(stream(client))[1:]
    assert [delta["reasoning_content"] for delta in found[:3]] == ["let", " me", " see"]
    assert "".join(delta.get("refusal") or "" for delta in found) == "I can't"
    assert {"function_call": {"name": "f", "arguments": ""}} in found
    audio = [delta["audio"] for delta in found if "audio" in delta]
    assert audio[0] == {"id": "audio_1"}
    assert "".join(part.get("transcript", "") for part in audio) == "Hi there"
    assert audio[-2:] == [{"data": "AAAA"}, {"expires_at": 5}]


def test_choices_take_turns(server: OpenAIServer, client: OpenAI) -> None:
    server.answer("one one one", alternatives=["two"])
    chunks = stream(client, n=2)
    assert [chunk.choices[0].index for chunk in chunks[:4]] == [0, 1, 0, 1]
    texts = ["".join(delta.get("content", "") for delta in deltas(chunks, index)) for index in (0, 1)]
    assert texts == ["one one one", "two"]


def test_the_usage_chunk_is_last_has_no_choices_and_is_sent_when_asked_for(
    server: OpenAIServer, client: OpenAI
) -> None:
    chunks = stream(client, stream_options={"include_usage": True})
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert all("usage" in chunk.model_fields_set for chunk in chunks)
    assert all("usage" not in chunk.model_fields_set for chunk in stream(client))


def test_all_chunks_of_an_answer_share_one_id(client: OpenAI) -> None:
    assert len({chunk.id for chunk in stream(client)}) == 1


def test_given_chunks_are_sent_exactly(server: OpenAIServer) -> None:
    chunks: list[dict[str, Any]] = [{"choices": [{"delta": None}]}, {"anything": 1}]
    server.answer(chunks=chunks)
    assert sent_events(server) == [*(json.dumps(chunk) for chunk in chunks), "[DONE]"]


def test_done_can_be_left_out(server: OpenAIServer) -> None:
    server.plan(Answer("Hi", done=False))
    assert json.loads(sent_events(server)[-1])["choices"][0]["finish_reason"] == "stop"
    assert sent_events(server)[-1] == "[DONE]"
