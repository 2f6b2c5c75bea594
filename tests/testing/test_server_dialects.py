"""Servers that are spoken to differently: three dialects of reasoning fields, and spoken answers."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai import OpenAI

from memexllm.testing import FakeClock
from memexllm.testing.server import OpenAIServer, ReasoningDialect
from memexllm.testing.server.audio import LIFETIME_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from openai.types.chat import ChatCompletionChunk

Message = dict[str, Any]

USER: Message = {"role": "user", "content": "weather in Paris?"}
CALLING: Message = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
}
RESULT: Message = {"role": "tool", "tool_call_id": "a", "content": "sun"}
TOOL: Any = {"type": "function", "function": {"name": "weather"}}
FIELDS: dict[str, Any] = {
    "reasoning_content": "let me see",
    "reasoning": "let me see",
    "reasoning_details": [{"type": "reasoning.text", "text": "let me see"}],
}


def calling(**reasoning: Any) -> Message:
    return CALLING | reasoning


@pytest.fixture
def client_of() -> Iterator[Callable[..., OpenAI]]:
    servers: list[OpenAIServer] = []
    clients: list[OpenAI] = []

    def client(**options: Any) -> OpenAI:
        servers.append(OpenAIServer(**options).start())
        clients.append(OpenAI(base_url=servers[-1].base_url, api_key="local", max_retries=0))
        return clients[-1]

    yield client
    for one in clients:
        one.close()
    for server in servers:
        server.close()


def send(client: OpenAI, *messages: Any, **parameters: Any) -> Message:
    completion = client.chat.completions.create(model="any", messages=messages, **parameters)
    message: Message = completion.choices[0].message.model_dump(exclude_unset=True)
    return message


def stream(client: OpenAI, **parameters: Any) -> list[ChatCompletionChunk]:
    messages: list[Any] = [USER]
    return list(client.chat.completions.create(model="any", messages=messages, stream=True, **parameters))


@pytest.mark.parametrize("name", FIELDS)
def test_one_dialect_refuses_reasoning_fields_by_name(client_of: Callable[..., OpenAI], name: str) -> None:
    client = client_of(reasoning="reject")
    with pytest.raises(openai.BadRequestError) as refused:
        send(client, USER, calling(**{name: FIELDS[name]}), RESULT)
    assert refused.value.param == f"messages[1].{name}"
    assert send(client, USER, CALLING, RESULT)["content"] == "The result of weather is: sun"


@pytest.mark.parametrize("name", FIELDS)
def test_one_dialect_passes_over_them(client_of: Callable[..., OpenAI], name: str) -> None:
    client = client_of(reasoning="ignore")
    answer = send(client, USER, calling(**{name: FIELDS[name]}), RESULT)
    assert answer["content"] == "The result of weather is: sun"
    assert not FIELDS.keys() & answer.keys()


@pytest.mark.parametrize("strict", [False, True])
def test_one_dialect_asks_for_the_reasoning_of_calls_in_the_current_turn(
    client_of: Callable[..., OpenAI], strict: bool
) -> None:
    client = client_of(reasoning="require", strict_fields=strict)
    for without in ({}, {"reasoning_content": ""}):
        with pytest.raises(openai.BadRequestError) as refused:
            send(client, USER, calling(**without), RESULT)
        assert refused.value.param == "messages[1].reasoning_content"
    assert send(client, USER, calling(reasoning_content="let me see"), RESULT)["content"]


def test_it_asks_for_nothing_of_an_earlier_turn_or_of_plain_answers(client_of: Callable[..., OpenAI]) -> None:
    client = client_of(reasoning="require")
    said: Message = {"role": "assistant", "content": "Sun."}
    assert send(client, USER, CALLING, RESULT, said, USER)["content"]
    assert send(client, USER, said)["content"]


def test_it_produces_the_reasoning_that_it_asks_for(client_of: Callable[..., OpenAI]) -> None:
    client = client_of(reasoning="require")
    answer = send(client, USER, tools=[TOOL])
    [call] = answer["tool_calls"]
    assert answer["reasoning_content"]
    assert send(client, USER, answer, {**RESULT, "tool_call_id": call["id"]})["content"]


def test_reasoning_streams_before_the_content_and_is_counted(client_of: Callable[..., OpenAI]) -> None:
    client = client_of(reasoning="require")
    chunks = stream(client, stream_options={"include_usage": True})
    deltas = [chunk.choices[0].delta.model_dump(exclude_unset=True) for chunk in chunks if chunk.choices]
    thoughts = [delta["reasoning_content"] for delta in deltas if "reasoning_content" in delta]
    assert len(thoughts) > 2
    assert [*deltas[1]] == ["reasoning_content"]
    assert "".join(thoughts) == send(client, USER)["reasoning_content"]
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.completion_tokens_details is not None
    # A token is four bytes.
    assert usage.completion_tokens_details.reasoning_tokens == -(-len("".join(thoughts)) // 4)


@pytest.mark.parametrize("dialect", ["reject", "ignore"])
def test_the_other_dialects_produce_reasoning_by_plan(
    client_of: Callable[..., OpenAI], dialect: ReasoningDialect
) -> None:
    with OpenAIServer(reasoning=dialect) as server, OpenAI(base_url=server.base_url, api_key="local") as client:
        assert "reasoning_content" not in send(client, USER)
        server.answer({"content": "Hi", "reasoning_content": "let me see"})
        assert send(client, USER)["reasoning_content"] == "let me see"


SPOKEN: dict[str, Any] = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}


def test_an_answer_is_spoken_when_asked_for(client_of: Callable[..., OpenAI]) -> None:
    answer = send(client_of(clock=lambda: 1000.0), {"role": "user", "content": "hello"}, **SPOKEN)
    assert answer["content"] is None
    audio = answer["audio"]
    assert audio["transcript"] == "You said: hello"
    assert base64.b64decode(audio["data"])
    assert audio["id"].startswith("audio_")
    assert audio["expires_at"] == 1000 + LIFETIME_S


def test_a_spoken_answer_streams_as_a_transcript_and_data(client_of: Callable[..., OpenAI]) -> None:
    deltas = [chunk.choices[0].delta.model_dump(exclude_unset=True) for chunk in stream(client_of(), **SPOKEN)]
    pieces = [delta["audio"] for delta in deltas if "audio" in delta]
    assert "".join(piece.get("transcript", "") for piece in pieces) == "You said: weather in Paris?"
    assert sum("id" in piece for piece in pieces) == 1


def test_a_spoken_answer_is_known_by_its_id_until_it_expires(client_of: Callable[..., OpenAI]) -> None:
    clock = FakeClock()
    client = client_of(clock=lambda: clock().timestamp())
    said = send(client, USER, **SPOKEN)
    again = (USER, {"role": "assistant", "audio": {"id": said["audio"]["id"]}}, USER)
    assert send(client, *again)["content"]
    clock.advance(LIFETIME_S)
    with pytest.raises(openai.BadRequestError, match="has expired") as refused:
        send(client, *again)
    assert refused.value.param == "messages[1].audio.id"


def test_what_a_planned_spoken_answer_lacks_is_filled_in() -> None:
    with OpenAIServer() as server, OpenAI(base_url=server.base_url, api_key="local") as client:
        server.answer({"content": None, "audio": {"transcript": "Hi", "expires_at": 7}})
        audio = send(client, USER)["audio"]
        assert (audio["transcript"], audio["expires_at"]) == ("Hi", 7)
        assert audio.keys() == {"id", "expires_at", "data", "transcript"}


def test_a_refusal_is_planned() -> None:
    with OpenAIServer() as server, OpenAI(base_url=server.base_url, api_key="local") as client:
        server.answer({"content": None, "refusal": "I can't help with that."})
        answer = send(client, USER)
        assert (answer["content"], answer["refusal"]) == (None, "I can't help with that.")
        assert send(client, USER, {"role": "assistant", "content": None, "refusal": answer["refusal"]}, USER)["content"]
