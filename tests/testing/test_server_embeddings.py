"""POST /v1/embeddings: what it answers, what it refuses, and what it can be told to do."""

from __future__ import annotations

import array
import base64
import json
import math
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import openai
import pytest
from openai import OpenAI

from memexllm.testing.server import Drop, Gate, Hold, OpenAIServer, ServerError, Slow, Vectors

INPUT_INVALID = "'$.input' is invalid. Please check the API reference: https://platform.openai.com/docs/api-reference."


@pytest.fixture(scope="module")
def shared() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture
def server(shared: OpenAIServer) -> OpenAIServer:
    shared.clear()
    return shared


@pytest.fixture
def client(server: OpenAIServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.base_url, api_key="local", max_retries=0) as client:
        yield client


def post(server: OpenAIServer, body: object) -> tuple[int, dict[str, Any]]:
    connection = HTTPConnection(server.origin.removeprefix("http://"))
    connection.request("POST", "/v1/embeddings", json.dumps(body))
    response = connection.getresponse()
    answer: dict[str, Any] = json.loads(response.read())
    connection.close()
    return response.status, answer


def vectors(client: OpenAI, *texts: str, **parameters: Any) -> list[list[float]]:
    params: dict[str, Any] = {"model": "text-embedding-3-small", "dimensions": 64} | parameters
    return [each.embedding for each in client.embeddings.create(input=list(texts), **params).data]


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_an_answer_has_the_shape_of_the_apis(server: OpenAIServer) -> None:
    status, answer = post(server, {"model": "m", "input": ["eight by", "tes"], "dimensions": 2})
    assert status == 200
    assert [*answer] == ["object", "data", "model", "usage"]
    assert [(each["object"], each["index"], len(each["embedding"])) for each in answer["data"]] == [
        ("embedding", 0, 2),
        ("embedding", 1, 2),
    ]
    # A token is four bytes.
    assert answer["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


def test_vectors_have_length_one_and_share_what_the_texts_share(client: OpenAI) -> None:
    cat, other_cat, march = vectors(client, "the cat sat", "a cat sat", "March")
    assert [math.hypot(*vector) for vector in (cat, other_cat, march)] == [pytest.approx(1)] * 3
    assert dot(cat, other_cat) > dot(cat, march)


def test_both_encodings_hold_the_same_numbers(server: OpenAIServer) -> None:
    body = {"model": "m", "input": "the cat sat", "dimensions": 64}
    numbers = post(server, body | {"encoding_format": "float"})[1]["data"][0]["embedding"]
    packed = base64.b64decode(post(server, body | {"encoding_format": "base64"})[1]["data"][0]["embedding"])
    assert array.array("f", packed).tolist() == pytest.approx(numbers)


@pytest.mark.parametrize(
    ("model", "dimensions"),
    [("text-embedding-3-small", 1536), ("text-embedding-3-large", 3072), ("text-embedding-ada-002", 1536), ("m", 384)],
)
def test_models_have_their_own_dimensions(server: OpenAIServer, model: str, dimensions: int) -> None:
    assert len(post(server, {"model": model, "input": "x"})[1]["data"][0]["embedding"]) == dimensions


@pytest.mark.parametrize(("given", "n"), [("x", 1), (["x", "y"], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 2)])
def test_texts_and_tokens_are_taken(server: OpenAIServer, given: Any, n: int) -> None:
    status, answer = post(server, {"model": "m", "input": given, "dimensions": 4})
    assert (status, len(answer["data"]), len(server.embedding_requests[0].inputs)) == (200, n, n)


@pytest.mark.parametrize(
    "given",
    [None, "", [], [""], ["x", ""], 7, ["x", 7], [[]], [[1], []], [True], {}, ["x"] * 2049],
    ids=lambda given: repr(given)[:20],
)
def test_input_the_api_refuses_is_refused(server: OpenAIServer, given: Any) -> None:
    status, answer = post(server, {"model": "m", "input": given})
    assert (status, answer["error"]["message"]) == (400, INPUT_INVALID)


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"model": None}, "you must provide a model parameter"),
        ({"stream": True}, "Unrecognized request argument supplied: stream"),
        ({"encoding_format": "hex"}, "Invalid value: 'hex'. Supported values are: 'float' and 'base64'."),
        ({"dimensions": 0}, "Invalid 'dimensions': expected an integer >= 1, but got 0 instead."),
        ({"dimensions": 1537}, "Invalid value for 'dimensions' = 1537. Must be less than or equal to 1536."),
        (
            {"model": "text-embedding-ada-002", "dimensions": 8},
            "This model does not support specifying dimensions.",
        ),
        (
            {"input": "x" * 32_769},
            (
                "This model's maximum context length is 8192 tokens, however you requested 8193 tokens (8193 in your "
                "prompt; 0 for the completion). Please reduce your prompt; or completion length."
            ),
        ),
        ({"input": ["x" * 4000] * 301}, "Requested 301000 tokens, max 300000 tokens per request"),
    ],
    ids=["model", "unknown", "encoding", "no dimensions", "many dimensions", "ada", "long text", "large request"],
)
def test_what_the_api_refuses_is_refused_in_its_words(server: OpenAIServer, parameters: Any, told: str) -> None:
    server.plan_embeddings(ServerError(500))
    status, answer = post(server, {"model": "text-embedding-3-small", "input": "x"} | parameters)
    assert (status, answer["error"]["message"]) == (400, told)
    assert post(server, {"model": "m", "input": "x"})[0] == 500, "a refused request used up the plan"


def test_a_request_that_is_too_large_has_its_own_type(server: OpenAIServer) -> None:
    error = post(server, {"model": "m", "input": ["x" * 4000] * 301})[1]["error"]
    assert (error["type"], error["code"]) == ("max_tokens_per_request", "max_tokens_per_request")


def test_it_answers_short_backwards_or_otherwise_when_told(server: OpenAIServer, client: OpenAI) -> None:
    first, second = vectors(client, "one", "two")
    server.plan_embeddings(Vectors(n=1), Vectors(backwards=True), Vectors([[1.0, 2.0]]), Vectors(extra={"data": []}))
    assert vectors(client, "one", "two") == [first]
    answer = client.embeddings.create(
        model="text-embedding-3-small", input=["one", "two"], dimensions=64, encoding_format="float"
    )
    assert [each.index for each in answer.data] == [1, 0]
    assert answer.data[0].embedding == pytest.approx(second)
    assert vectors(client, "one", "two") == [[1.0, 2.0]]
    with pytest.raises(ValueError, match="No embedding data"):
        vectors(client, "one")


def test_faults_are_planned_apart_from_those_of_conversations(server: OpenAIServer, client: OpenAI) -> None:
    server.plan("Hello")
    server.plan_embeddings(ServerError(429), Drop())
    with pytest.raises(openai.RateLimitError):
        vectors(client, "one")
    with pytest.raises(openai.APIConnectionError):
        vectors(client, "one")
    answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
    assert answer.choices[0].message.content == "Hello"
    server.plan_embeddings(ServerError(500))
    server.clear()
    assert len(vectors(client, "one")) == 1


def test_an_answer_waits_at_a_gate(server: OpenAIServer, client: OpenAI) -> None:
    with Gate() as gate:
        server.plan_embeddings(Hold(gate, ServerError(500)), Slow(0.0))
        gate.open()
        with pytest.raises(openai.InternalServerError):
            vectors(client, "one")
        assert len(vectors(client, "one")) == 1


@pytest.mark.parametrize("outcome", ["Hello", Hold(Gate(), "Hello"), Vectors], ids=["text", "held", "class"])
def test_only_what_answers_such_a_request_can_be_planned(server: OpenAIServer, outcome: Any) -> None:
    with pytest.raises(TypeError, match="plan Vectors"):
        server.plan_embeddings(outcome)


def test_azures_path_is_served(server: OpenAIServer) -> None:
    with openai.AzureOpenAI(azure_endpoint=server.origin, api_key="local", api_version="2024-10-21") as client:
        assert len(client.embeddings.create(model="mine", input="x", dimensions=4).data[0].embedding) == 4
    assert server.embedding_requests[0].model == "mine"
