"""`OpenAIEmbeddings` and its twin, against the local server."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest
import tiktoken
from openai import AsyncOpenAI, OpenAI

from memexllm.core.errors import ConfigurationError, EmbeddingError, TextTooLongError, ValidationError
from memexllm.core.vocabularies import encoding
from memexllm.memory.embeddings import AsyncOpenAIEmbeddings, EmbeddingUsage, OpenAIEmbeddings
from memexllm.testing.server import Drop, OpenAIServer, ServerError, Vectors


@pytest.fixture(scope="module")
def shared() -> Iterator[OpenAIServer]:
    with OpenAIServer(encode=encoding("cl100k_base").encode_ordinary) as server:
        yield server


@pytest.fixture
def server(shared: OpenAIServer) -> OpenAIServer:
    shared.clear()
    return shared


@pytest.fixture
def client(server: OpenAIServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.base_url, api_key="local", max_retries=2) as client:
        yield client


def embedded(server: OpenAIServer, sync: bool, texts: list[str], **options: Any) -> Any:
    """The rows, by either provider."""

    async def by_the_async_one() -> Any:
        async with AsyncOpenAI(base_url=server.base_url, api_key="local", max_retries=0) as client:
            return await AsyncOpenAIEmbeddings(client=client, **options).embed_batch(texts)

    if not sync:
        return asyncio.run(by_the_async_one())
    with OpenAI(base_url=server.base_url, api_key="local", max_retries=0) as client:
        return OpenAIEmbeddings(client=client, **options).embed_batch(texts)


both = pytest.mark.parametrize("sync", [True, False], ids=["sync", "async"])


@both
@pytest.mark.parametrize("encoding_format", ["base64", "float"])
def test_both_encodings_give_the_same_vectors(server: OpenAIServer, sync: bool, encoding_format: str) -> None:
    rows = embedded(server, sync, ["one", "two"], encoding_format=encoding_format, dimensions=32)
    assert server.embedding_requests[0].encoding_format == encoding_format
    assert rows.dtype == np.float32
    server.plan_embeddings(Vectors([[0.25, -1e-7, 3.5]] * 2))
    assert embedded(server, sync, ["a", "b"], encoding_format=encoding_format, model="m")[0].tolist() == [
        0.25,
        pytest.approx(-1e-7),
        3.5,
    ]


@both
def test_vectors_go_by_their_index_and_not_by_their_place(server: OpenAIServer, sync: bool) -> None:
    texts = ["one", "two", "three"]
    expected = embedded(server, sync, texts)
    server.plan_embeddings(Vectors(backwards=True))
    assert np.array_equal(embedded(server, sync, texts), expected)


@both
@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Vectors(n=2), "gave 2 embeddings for 3 texts; none is used"),
        (Vectors(n=0), "gave 0 embeddings for 3 texts"),
        (Vectors([[1.0]] * 4), "gave 4 embeddings for 3 texts"),
        (Vectors(extra={"data": None}), "gave 0 embeddings for 3 texts"),
        (Vectors([[1.0], [1.0, 2.0], [1.0]]), "no vectors of numbers, all of one length"),
        (Vectors([[float("nan")] * 1536] * 3), "not finite for text 0 of 3"),
        (Vectors([[]] * 3), "array of shape"),
        (Vectors([[1.0, 2.0]] * 3), "vectors of 2 dimensions; expected 1536"),
        (Vectors(extra={"data": [{"index": 0, "embedding": [1.0]}] * 3}), "indexes [0, 0, 0]"),
        (Vectors(extra={"data": [{"index": i + 1, "embedding": [1.0]} for i in range(3)]}), "indexes [1, 2, 3]"),
        (Vectors(extra={"data": [{"index": i, "embedding": "no base64"} for i in range(3)]}), "no base64"),
        (Vectors(extra={"data": [{"index": i, "embedding": "AAA="} for i in range(3)]}), "2 bytes"),
        (Vectors(extra={"data": [{"index": i} for i in range(3)]}), "an array of shape (3,)"),
    ],
    ids=[
        "short",
        "none",
        "long",
        "null",
        "ragged",
        "nan",
        "empty vectors",
        "other dimensions",
        "doubled index",
        "index of no text",
        "no base64",
        "no float32",
        "no vector",
    ],
)
def test_an_answer_that_is_not_one_vector_for_each_text_is_an_error(
    server: OpenAIServer, sync: bool, answer: Vectors, told: str
) -> None:
    server.plan_embeddings(answer)
    with pytest.raises(EmbeddingError) as refused:
        embedded(server, sync, ["a", "b", "c"], encoding_format="float")
    assert told in str(refused.value)


def test_a_server_that_numbers_nothing_is_taken_in_its_order(server: OpenAIServer, client: OpenAI) -> None:
    server.plan_embeddings(Vectors(extra={"data": [{"embedding": [1.0]}, {"embedding": [2.0]}]}))
    assert OpenAIEmbeddings("m", client=client).embed_batch(["a", "b"]).tolist() == [[1.0], [2.0]]


@both
def test_requests_hold_so_many_texts(server: OpenAIServer, sync: bool) -> None:
    texts = [f"text {number}" for number in range(25)]
    rows = embedded(server, sync, texts, max_batch_texts=10)
    assert [len(request.inputs) for request in server.embedding_requests] == [10, 10, 5]
    assert np.array_equal(rows, embedded(server, sync, texts))


@both
def test_requests_hold_so_many_tokens(server: OpenAIServer, sync: bool) -> None:
    """Two texts of 1,000 tokens fit in 2,500, a third does not; one that is larger than all goes alone."""
    texts = ["word " * 1000] * 5 + ["word " * 3000] + ["word"]
    embedded(server, sync, texts, max_batch_tokens=2500, dimensions=8)
    assert [len(request.inputs) for request in server.embedding_requests] == [2, 2, 1, 1, 1]


def test_a_large_corpus_stays_below_the_servers_limits(server: OpenAIServer, client: OpenAI) -> None:
    """3,000 texts are too many for one request, and 420,000 tokens too large; the server refuses both."""
    provider = OpenAIEmbeddings(client=client, dimensions=4)
    assert provider.embed_batch(["word " * 139] * 3000).shape == (3000, 4)
    assert provider.usage == EmbeddingUsage(requests=2, texts=3000, tokens=3000 * 140)


@both
def test_a_text_that_is_too_long_is_refused_before_any_request(server: OpenAIServer, sync: bool) -> None:
    with pytest.raises(TextTooLongError) as refused:
        embedded(server, sync, ["fine", "word " * 9000])
    assert (refused.value.position, refused.value.tokens, refused.value.limit) == (1, 9001, 8192)
    assert "word" not in str(refused.value)
    assert server.requests == []


def test_the_longest_text_the_model_takes_is_sent_whole(server: OpenAIServer, client: OpenAI) -> None:
    text = "word " * 8191
    OpenAIEmbeddings(client=client, dimensions=4).embed(text)
    assert server.embedding_requests[0].inputs == [text]


@both
def test_a_servers_own_refusal_of_a_long_text_is_told_as_ours(server: OpenAIServer, sync: bool) -> None:
    with pytest.raises(TextTooLongError) as refused:
        embedded(server, sync, ["word " * 9000], model="unknown-to-us")
    assert isinstance(refused.value.__cause__, openai.BadRequestError)


@pytest.mark.parametrize(
    "message",
    [
        "Input validation error: `inputs` must have less than 512 tokens. Given: 1002",
        "the input length exceeds the context length",
        "input is too large to process. increase the physical batch size",
    ],
)
def test_other_servers_words_for_too_long_are_known(server: OpenAIServer, client: OpenAI, message: str) -> None:
    server.plan_embeddings(ServerError(413, message))
    with pytest.raises(TextTooLongError):
        OpenAIEmbeddings("m", client=client).embed("text")


@both
@pytest.mark.parametrize("text", ["", "lone \ud800 surrogate", 7], ids=["empty", "surrogate", "number"])
def test_a_text_that_cannot_be_sent_is_refused_by_its_position(server: OpenAIServer, sync: bool, text: Any) -> None:
    with pytest.raises(ValidationError, match="text 1 "):
        embedded(server, sync, ["fine", text])
    assert server.requests == []


def test_one_text_is_no_batch(client: OpenAI) -> None:
    with pytest.raises(ValidationError, match="embed"):
        OpenAIEmbeddings(client=client).embed_batch("text")


@both
def test_no_texts_make_no_request(server: OpenAIServer, sync: bool) -> None:
    assert embedded(server, sync, []).shape == (0, 1536)
    assert server.requests == []


def test_the_sdk_retries_and_its_errors_pass_through(server: OpenAIServer, client: OpenAI) -> None:
    provider = OpenAIEmbeddings(client=client, dimensions=4)
    server.plan_embeddings(ServerError(429, retry_after_s=0), ServerError(503, retry_after_s=0))
    assert provider.embed("text").shape == (4,)
    server.plan_embeddings(ServerError(401))
    with pytest.raises(openai.AuthenticationError):
        provider.embed("text")
    assert provider.usage.requests == 1


def test_a_dropped_line_in_the_middle_gives_nothing_and_can_be_tried_again(server: OpenAIServer) -> None:
    with OpenAI(base_url=server.base_url, api_key="local", max_retries=0) as client:
        provider = OpenAIEmbeddings(client=client, dimensions=4, max_batch_texts=1)
        server.plan_embeddings(Vectors(), Drop())
        with pytest.raises(openai.APIConnectionError):
            provider.embed_batch(["a", "b", "c"])
        assert provider.embed_batch(["a", "b", "c"]).shape == (3, 4)


def test_dimensions_are_asked_for_and_checked(server: OpenAIServer, client: OpenAI) -> None:
    provider = OpenAIEmbeddings(client=client, dimensions=256)
    assert provider.embed("text").shape == (256,)
    assert server.embedding_requests[0].body["dimensions"] == 256
    server.plan_embeddings(Vectors([[1.0, 2.0]]))
    with pytest.raises(EmbeddingError, match="expected 256"):
        provider.embed("text")


def test_known_models_know_their_dimensions_without_a_request(server: OpenAIServer, client: OpenAI) -> None:
    assert OpenAIEmbeddings(client=client).dimensions == 1536
    assert OpenAIEmbeddings("text-embedding-3-large", client=client).dimensions == 3072
    assert server.requests == []


def test_another_models_dimensions_are_learnt_once(server: OpenAIServer, client: OpenAI) -> None:
    provider = OpenAIEmbeddings("nomic-embed", client=client)
    assert (provider.dimensions, provider.dimensions) == (384, 384)
    assert len(server.requests) == 1
    assert "dimensions" not in server.embedding_requests[0].body


async def test_an_async_provider_of_an_unknown_model_says_when_it_will_know(server: OpenAIServer) -> None:
    async with AsyncOpenAI(base_url=server.base_url, api_key="local") as client:
        provider = AsyncOpenAIEmbeddings("nomic-embed", client=client)
        with pytest.raises(ConfigurationError, match="await embed"):
            _ = provider.dimensions
        await provider.embed("text")
        assert provider.dimensions == 384


def test_tokens_a_server_does_not_report_count_nothing(server: OpenAIServer, client: OpenAI) -> None:
    provider = OpenAIEmbeddings("m", client=client)
    server.plan_embeddings(Vectors(extra={"usage": None}))
    provider.embed("text")
    assert provider.usage == EmbeddingUsage(requests=1, texts=1, tokens=0)


def test_texts_are_counted_by_the_callers_own_counter(server: OpenAIServer, client: OpenAI) -> None:
    provider = OpenAIEmbeddings("m", client=client, max_text_tokens=3, count_tokens=lambda text: len(text.split()))
    provider.embed("one two three")
    with pytest.raises(TextTooLongError):
        provider.embed("one two three four")


def test_a_client_of_the_other_kind_is_refused_at_construction(server: OpenAIServer, client: OpenAI) -> None:
    with pytest.raises(ConfigurationError, match="use OpenAIEmbeddings"):
        AsyncOpenAIEmbeddings(client=client)
    with pytest.raises(ConfigurationError, match="use AsyncOpenAIEmbeddings"):
        OpenAIEmbeddings(client=AsyncOpenAI(base_url=server.base_url, api_key="local"))
    with pytest.raises(ConfigurationError, match=r"embeddings\.create"):
        OpenAIEmbeddings(client="https://example.org")


@pytest.mark.parametrize(
    "options", [{"dimensions": 0}, {"max_batch_texts": -1}, {"encoding_format": "hex"}, {"max_text_tokens": 512}]
)
def test_options_that_cannot_work_are_refused_at_construction(client: OpenAI, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        OpenAIEmbeddings("m", client=client, **options)


def test_only_a_client_made_here_is_closed_here(
    server: OpenAIServer, client: OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    with OpenAIEmbeddings(client=client):
        pass
    assert not client.is_closed()
    monkeypatch.setenv("OPENAI_API_KEY", "local")
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    with OpenAIEmbeddings(dimensions=4) as provider:
        assert provider.embed("text").shape == (4,)
    assert provider.client.is_closed()


def test_the_twins_have_the_same_methods_and_parameters() -> None:
    def shape(provider: type) -> dict[str, Any]:
        return {
            name.replace("__a", "__"): [*inspect.signature(member).parameters] if callable(member) else None
            for name in dir(provider)
            if not name.startswith("_") or name in ("__init__", "__enter__", "__aenter__", "__exit__", "__aexit__")
            for member in [getattr(provider, name)]
        }

    assert shape(OpenAIEmbeddings) == shape(AsyncOpenAIEmbeddings)


def test_nothing_said_is_in_a_repr(client: OpenAI) -> None:
    assert repr(OpenAIEmbeddings(client=client)) == "OpenAIEmbeddings('text-embedding-3-small')"


def test_the_vocabulary_of_these_models_is_the_one_counted_with() -> None:
    assert tiktoken.encoding_name_for_model("text-embedding-3-small") == "cl100k_base"
