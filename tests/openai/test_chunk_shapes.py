"""Chunks as real servers send them: each stream is heard as the answer it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from memexllm import with_history
from memexllm.testing.server import Answer
from tests.openai.storages import CountingStorage
from tests.openai.talking import async_sdk_client, sdk_client, user

if TYPE_CHECKING:
    from memexllm.testing.server import OpenAIServer

Wire = dict[str, Any]
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


def chunk(*choices: Wire, **fields: Any) -> Wire:
    return {
        "id": "c-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m-1",
        "choices": list(choices),
        **fields,
    }


def choice(delta: Wire | None, index: int = 0, finish: str | None = None, **fields: Any) -> Wire:
    return {"index": index, "delta": delta, "finish_reason": finish, **fields}


def said(delta: Wire | None, **fields: Any) -> Wire:
    return chunk(choice(delta), **fields)


def called(*calls: Wire) -> Wire:
    return said({"tool_calls": list(calls)})


END = chunk(choice({}, finish="stop"))
END_CALLS = chunk(choice({}, finish="tool_calls"))


def a_call(call_id: str, name: str, arguments: str) -> Wire:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def text(content: Any, **fields: Any) -> Wire:
    return {"role": "assistant", "content": content, **fields}


SHAPES: dict[str, tuple[list[Wire], Wire]] = {
    "plain text": (
        [said({"role": "assistant", "content": ""}), said({"content": "Hi "}), said({"content": "you"}), END],
        text("Hi you"),
    ),
    "no role at all": ([said({"content": "Hi"}), END], text("Hi")),
    "role in every chunk": (
        [said({"role": "assistant", "content": "Hi "}), said({"role": "assistant", "content": "you"}), END],
        text("Hi you"),
    ),
    "delta is null": ([said({"content": "Hi"}), said(None), chunk(choice(None, finish="stop"))], text("Hi")),
    "content is null between": (
        [said({"content": "Hi "}), said({"content": None}), said({"content": "you"}), END],
        text("Hi you"),
    ),
    "the finish reason comes with the last text": (
        [said({"content": "Hi "}), chunk(choice({"content": "you"}, finish="stop"))],
        text("Hi you"),
    ),
    "a finish reason in every chunk": (
        [chunk(choice({"content": piece}, finish="stop")) for piece in ("Hi ", "my ", "friend")],
        text("Hi my friend"),
    ),
    "text after the finish reason": ([said({"content": "Hi "}), END, said({"content": "you"})], text("Hi you")),
    "an empty delta after the finish reason": ([said({"content": "Hi"}), END, said({})], text("Hi")),
    "usage, then another chunk": (
        [said({"content": "Hi"}), END, chunk(usage=USAGE), chunk(usage=None)],
        text("Hi"),
    ),
    "azure's filter chunk first": (
        [chunk(prompt_filter_results=[{"prompt_index": 0}]), said({"content": "Hi"}), END],
        text("Hi"),
    ),
    "azure's filter after the end": (
        [
            said({"content": "Hi"}),
            END,
            chunk({"index": 0, "finish_reason": None, "content_filter_results": {}, "delta": None}),
        ],
        text("Hi"),
    ),
    "a refusal": (
        [said({"role": "assistant", "content": None}), said({"refusal": "I "}), said({"refusal": "can't"}), END],
        text(None, refusal="I can't"),
    ),
    "a tool call in pieces": (
        [
            called({"index": 0, **a_call("c1", "look", "")}),
            called({"index": 0, "function": {"arguments": '{"a"'}}),
            called({"index": 0, "function": {"arguments": ":1}"}}),
            END_CALLS,
        ],
        text(None, tool_calls=[a_call("c1", "look", '{"a":1}')]),
    ),
    "two tool calls in one chunk": (
        [called({"index": 0, **a_call("c1", "look", "{}")}, {"index": 1, **a_call("c2", "see", "{}")}), END_CALLS],
        text(None, tool_calls=[a_call("c1", "look", "{}"), a_call("c2", "see", "{}")]),
    ),
    "id and name repeated in every chunk": (
        [
            called({"index": 0, **a_call("c1", "look", "{")}),
            called({"index": 0, **a_call("c1", "look", "}")}),
            END_CALLS,
        ],
        text(None, tool_calls=[a_call("c1", "look", "{}")]),
    ),
    "id and name emptied in later chunks": (
        [
            called({"index": 0, **a_call("c1", "look", "{")}),
            called({"index": 0, "id": "", "type": "function", "function": {"name": "", "arguments": "}"}}),
            END_CALLS,
        ],
        text(None, tool_calls=[a_call("c1", "look", "{}")]),
    ),
    "no index, whole calls": (
        [called(a_call("c1", "look", "{}")), called(a_call("c2", "see", "{}")), END_CALLS],
        text(None, tool_calls=[a_call("c1", "look", "{}"), a_call("c2", "see", "{}")]),
    ),
    "no index, in pieces": (
        [called(a_call("c1", "look", "{")), called({"function": {"arguments": "}"}}), END_CALLS],
        text(None, tool_calls=[a_call("c1", "look", "{}")]),
    ),
    "the index starts at 1": (
        [
            called({"index": 1, **a_call("c1", "look", "{}")}),
            called({"index": 2, **a_call("c2", "see", "{}")}),
            END_CALLS,
        ],
        text(None, tool_calls=[a_call("c1", "look", "{}"), a_call("c2", "see", "{}")]),
    ),
    "a name in a later chunk than the id": (
        [
            called({"index": 0, "id": "c1", "type": "function"}),
            called({"index": 0, "function": {"name": "look", "arguments": ""}}),
            called({"index": 0, "function": {"arguments": "{}"}}),
            END_CALLS,
        ],
        text(None, tool_calls=[a_call("c1", "look", "{}")]),
    ),
    "two calls that share index 0": (
        [
            called({"index": 0, **a_call("c1", "look", "{}")}),
            called({"index": 0, **a_call("c2", "see", "{}")}),
            END_CALLS,
        ],
        text(None, tool_calls=[a_call("c1", "look", "{}"), a_call("c2", "see", "{}")]),
    ),
    "a custom tool call": (
        [
            called({"index": 0, "id": "c1", "type": "custom", "custom": {"name": "sql", "input": ""}}),
            called({"index": 0, "custom": {"input": "SELECT "}}),
            called({"index": 0, "custom": {"input": "1"}}),
            END_CALLS,
        ],
        text(None, tool_calls=[{"id": "c1", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}}]),
    ),
    "a function call of old": (
        [
            said({"function_call": {"name": "look", "arguments": "{"}}),
            said({"function_call": {"arguments": "}"}}),
            chunk(choice({}, finish="function_call")),
        ],
        text(None, function_call={"name": "look", "arguments": "{}"}),
    ),
    "reasoning before the text": (
        [said({"reasoning_content": "Let me "}), said({"reasoning_content": "think"}), said({"content": "Hi"}), END],
        text("Hi", reasoning_content="Let me think"),
    ),
    "reasoning details without an index": (
        [
            said({"reasoning_details": [{"type": "t", "text": "a"}]}),
            said({"reasoning_details": [{"type": "t", "text": "b"}]}),
            said({"content": "Hi"}),
            END,
        ],
        text("Hi", reasoning_details=[{"type": "t", "text": "a"}, {"type": "t", "text": "b"}]),
    ),
    "reasoning details with an index": (
        [
            said({"reasoning_details": [{"index": 0, "type": "t", "text": "a"}]}),
            said({"reasoning_details": [{"index": 0, "type": "t", "text": "b", "signature": "s"}]}),
            said({"content": "Hi"}),
            END,
        ],
        text("Hi", reasoning_details=[{"index": 0, "type": "t", "text": "ab", "signature": "s"}]),
    ),
    "audio with its id in every chunk": (
        [
            said({"audio": {"id": "au1", "transcript": "Hel"}}),
            said({"audio": {"id": "au1", "transcript": "lo"}}),
            said({"audio": {"id": "au1", "expires_at": 4000000000}}),
            END,
        ],
        text(None, audio={"id": "au1", "transcript": "Hello", "expires_at": 4000000000}),
    ),
    "annotations": (
        [said({"content": "Hi"}), said({"annotations": [{"type": "url_citation", "url_citation": {"url": "u"}}]}), END],
        text("Hi", annotations=[{"type": "url_citation", "url_citation": {"url": "u"}}]),
    ),
    "unknown fields": (
        [said({"content": "Hi", "x_note": {"a": 1}}), said({"x_note": {"b": [2]}, "x_flag": True}), END],
        text("Hi", x_note={"a": 1, "b": [2]}, x_flag=True),
    ),
    "an unknown field in a tool call": (
        [
            called(
                {"index": 0, **a_call("c1", "look", "{}"), "extra_content": {"google": {"thought_signature": "sig"}}}
            ),
            END_CALLS,
        ],
        text(
            None, tool_calls=[{**a_call("c1", "look", "{}"), "extra_content": {"google": {"thought_signature": "sig"}}}]
        ),
    ),
    "no choice index": ([chunk({"delta": {"content": "Hi"}, "finish_reason": None}), END], text("Hi")),
    "content in parts": (
        [said({"content": [{"type": "text", "text": "Hi"}]}), END],
        text([{"type": "text", "text": "Hi"}]),
    ),
    "an emoji cut in half": ([said({"content": "\ud83d"}), said({"content": "\ude00!"}), END], text("😀!")),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_stream_is_stored_as_what_it_said(server: OpenAIServer, client: Any, shape: str) -> None:
    chunks, heard = SHAPES[shape]
    server.answer(chunks=chunks)
    received = list(client.chat.completions.create(model="m", messages=[user("?")], stream=True, thread_id="t"))
    assert len(received) == len(chunks)
    message = client.history.get_messages("t")[-1]
    assert message.wire == heard
    assert message.status == "complete"
    if any(sent.get("usage") for sent in chunks):
        assert message.call.usage == USAGE


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_stream_is_stored_as_what_it_said_async(server: OpenAIServer, async_client: Any, shape: str) -> None:
    chunks, heard = SHAPES[shape]
    server.answer(chunks=chunks)
    stream = await async_client.chat.completions.create(model="m", messages=[user("?")], stream=True, thread_id="t")
    assert len([chunk async for chunk in stream]) == len(chunks)
    assert (await async_client.history.get_messages("t"))[-1].wire == heard


@pytest.mark.parametrize("order", [(1, 0), (0, 1)])
def test_choices_in_any_order_choice_0_is_history_and_the_others_are_kept(
    server: OpenAIServer, client: Any, order: tuple[int, int]
) -> None:
    chunks = [
        piece
        for index in order
        for piece in (
            chunk(choice({"content": f"answer {index}"}, index)),
            chunk(choice({}, index, finish="stop")),
        )
    ]
    server.answer(chunks=chunks)
    list(client.chat.completions.create(model="m", messages=[user("?")], n=2, stream=True, thread_id="t"))
    message = client.history.get_messages("t")[-1]
    assert message.wire == text("answer 0")
    assert message.metadata == {"alternatives": [text("answer 1")]}


@pytest.mark.parametrize("late", ["usage", "filter"])
def test_a_chunk_after_the_end_costs_a_write_only_when_it_says_something(server: OpenAIServer, late: str) -> None:
    storage = CountingStorage()
    last = chunk(usage=USAGE) if late == "usage" else chunk(choice(None, content_filter_results={}))
    server.answer(chunks=[said({"content": "Hi"}), END, last])
    with sdk_client(server) as original:
        client: Any = with_history(original, storage=storage)
        list(client.chat.completions.create(model="m", messages=[user("?")], stream=True, thread_id="t"))
    assert (storage.n_appends, storage.n_replaced) == (1, 1 if late == "usage" else 0)


async def test_the_model_and_id_of_a_stream_are_kept(server: OpenAIServer) -> None:
    async with async_sdk_client(server) as original:
        client: Any = with_history(original, storage=CountingStorage())
        server.plan(Answer("Hi", extra={"model": "m-2026-01-01", "id": "chatcmpl-9"}))
        stream = await client.chat.completions.create(model="m", messages=[user("?")], stream=True, thread_id="t")
        async for _ in stream:
            pass
        call = (await client.history.get_messages("t"))[-1].call
    assert (call.model, call.response_id, call.finish_reason) == ("m-2026-01-01", "chatcmpl-9", "stop")


def test_half_a_character_left_alone_does_not_cost_the_turn(server: OpenAIServer, client: Any) -> None:
    server.answer("cut off: \ud83d")
    client.chat.completions.create(model="m", messages=[user("?")], thread_id="t")
    assert client.history.get_messages("t")[-1].wire["content"] == "cut off: \ufffd"
