"""Usage: a deterministic count, and the tokens a prompt cache would have saved."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

import pytest
from openai import OpenAI
from openai.types import CompletionUsage

from memexllm.testing.server import OpenAIServer

if TYPE_CHECKING:
    from collections.abc import Iterator


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[OpenAIServer, OpenAI]]:
    with (
        OpenAIServer() as server,
        OpenAI(base_url=server.base_url, api_key="local", max_retries=0) as client,
    ):
        yield server, client


@pytest.fixture
def client(shared: tuple[OpenAIServer, OpenAI]) -> OpenAI:
    shared[0].clear()
    return shared[1]


def usage(client: OpenAI, *messages: Any, model: str = "any", **parameters: Any) -> CompletionUsage:
    found = client.chat.completions.create(model=model, messages=list(messages), **parameters).usage
    assert isinstance(found, CompletionUsage)
    return found


def cached(client: OpenAI, *messages: Any, **parameters: Any) -> int:
    details = usage(client, *messages, **parameters).prompt_tokens_details
    assert details is not None
    return details.cached_tokens or 0


def test_the_total_is_prompt_and_completion(client: OpenAI) -> None:
    found = usage(client, user("hello"))
    # "user: hello\n" is 12 bytes, "You said: hello" 15; a token is 4.
    assert (found.prompt_tokens, found.completion_tokens, found.total_tokens) == (3, 4, 7)


def test_the_count_sees_text_calls_and_tools_and_not_the_form(client: OpenAI) -> None:
    plain = usage(client, user("hello")).prompt_tokens
    parts = usage(client, user([{"type": "text", "text": "hello"}]))  # type: ignore[arg-type] # parts are content too
    image = {"type": "image_url", "image_url": {"url": "data:" + "A" * 9000}}
    with_image = usage(client, user([{"type": "text", "text": "hello"}, image]))  # type: ignore[arg-type] # as above
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert parts.prompt_tokens == plain < with_image.prompt_tokens < 100
    assert usage(client, user("hello"), tools=tools).prompt_tokens > plain


def test_a_stream_counts_as_the_same_answer_in_one_piece(client: OpenAI) -> None:
    *_, last = client.chat.completions.create(
        model="any",
        messages=[{"role": "user", "content": "hello"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    assert last.usage == usage(client, user("hello"))


def test_a_prompt_seen_before_is_cached_in_steps_of_128_from_1024(client: OpenAI) -> None:
    long = user("x" * 4 * 1200)
    assert cached(client, long) == 0
    assert cached(client, long) == 1152
    assert cached(client, long, {"role": "assistant", "content": "ok"}, user("more " * 500)) == 1152
    short = user("y" * 4 * 1000)
    assert [cached(client, short), cached(client, short)] == [0, 0]


def test_only_the_common_beginning_is_cached(client: OpenAI) -> None:
    head = user("x" * 4 * 1100)
    cached(client, head, user("a" * 4000))
    assert cached(client, head, user("b" * 4000)) == 1024
    assert cached(client, user("new"), head, user("a" * 4000)) == 0


def test_each_model_has_its_own_cache(client: OpenAI) -> None:
    long = user("x" * 4 * 1200)
    assert cached(client, long, model="one") == 0
    assert cached(client, long, model="two") == 0
    assert cached(client, long, model="one") == 1152


def test_clear_empties_the_cache(shared: tuple[OpenAIServer, OpenAI]) -> None:
    server, client = shared
    cached(client, user("x" * 4 * 1200))
    server.clear()
    assert cached(client, user("x" * 4 * 1200)) == 0


def test_a_tokenizer_can_be_given() -> None:
    def encode(text: str) -> list[int]:
        return [len(word) for word in text.split()]

    with OpenAIServer(encode=encode) as server, OpenAI(base_url=server.base_url, api_key="local") as client:
        found = usage(client, user("one two three"))
        assert (found.prompt_tokens, found.completion_tokens) == (4, 5)
        long = user("word " * 1300)
        assert [cached(client, long), cached(client, long)] == [0, 1280]


def test_a_lone_surrogate_is_counted_and_not_a_crash(shared: tuple[OpenAIServer, OpenAI]) -> None:
    connection = HTTPConnection(shared[0].origin.removeprefix("http://"))
    raw = r'{"model": "any", "messages": [{"role": "user", "content": "\ud83d"}]}'
    connection.request("POST", "/v1/chat/completions", raw)
    answer = json.loads(connection.getresponse().read())
    connection.close()
    assert answer["choices"][0]["message"]["content"] == "You said: \ud83d"
    assert answer["usage"]["prompt_tokens"] == 3
