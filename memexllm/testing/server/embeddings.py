"""POST /embeddings: lexical vectors, so that texts with words in common are near."""

from __future__ import annotations

import array
import base64
import math
import sys
from collections import deque
from collections.abc import Iterable, Sequence

from memexllm.memory.embeddings._features import features
from memexllm.testing.server.delivery import NO_ANSWER, Delivery, error_delivery, held, json_delivery, slowed
from memexllm.testing.server.embedding_rules import (
    DIMENSIONS,
    OTHER_DIMENSIONS,
    check_embedding_body,
    check_token_counts,
)
from memexllm.testing.server.jsontypes import JSONObject
from memexllm.testing.server.outcomes import EmbeddingOutcome, Hold, ServerError, Slow, Vectors
from memexllm.testing.server.received import EmbeddingRequest
from memexllm.testing.server.usage import TokenMeter


class Embeddings:
    """Judges a request, then gives it the next outcome of `plan`, or else its vectors."""

    def __init__(self, meter: TokenMeter) -> None:
        self._meter = meter
        self.plan: deque[EmbeddingOutcome] = deque()

    def delivery(self, request: EmbeddingRequest) -> Delivery:
        """Raises `InvalidRequestError` for a request the API refuses; nothing of the plan is used up then."""
        check_embedding_body(request.body)
        counts = self._meter.embedding_tokens(request.inputs)
        check_token_counts(counts)
        try:
            outcome = self.plan.popleft()
        except IndexError:
            outcome = Vectors()
        return _deliver(request, outcome, sum(counts))


def checked_outcomes(outcomes: Iterable[object]) -> list[EmbeddingOutcome]:
    """Refuses what only answers a conversation."""
    checked: list[EmbeddingOutcome] = []
    for outcome in outcomes:
        if not isinstance(outcome, EmbeddingOutcome):
            raise TypeError(f"{outcome!r:.80} is no outcome of a request for embeddings: plan Vectors, or an error")
        if isinstance(outcome, Hold | Slow) and outcome.then is not None:
            checked_outcomes([outcome.then])
        checked.append(outcome)
    return checked


def _deliver(request: EmbeddingRequest, outcome: object, n_tokens: int) -> Delivery:
    match outcome:
        case ServerError():
            return error_delivery(outcome)
        case Hold(gate, then):
            return held(_deliver(request, then or Vectors(), n_tokens), gate, None)
        case Slow(pace, then):
            return slowed(_deliver(request, then or Vectors(), n_tokens), pace)
        case Vectors():
            return json_delivery(_answer(request, outcome, n_tokens))
        case _:
            return NO_ANSWER


def _answer(request: EmbeddingRequest, outcome: Vectors, n_tokens: int) -> JSONObject:
    vectors = outcome.embeddings
    if vectors is None:
        dimensions = request.dimensions or DIMENSIONS.get(request.model, OTHER_DIMENSIONS)
        vectors = [vector_of(given, dimensions) for given in request.inputs]
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(vector, request.encoding_format)}
        for index, vector in enumerate(vectors[: outcome.n])
    ]
    if outcome.backwards:
        data.reverse()
    usage = {"prompt_tokens": n_tokens, "total_tokens": n_tokens}
    return {"object": "list", "data": data, "model": request.model, "usage": usage} | dict(outcome.extra)


def vector_of(given: str | list[int], dimensions: int) -> list[float]:
    """A unit vector; tokens are taken for words."""
    weights = features(given if isinstance(given, str) else " ".join(map(str, given)), dimensions) or {0: 1}
    norm = math.sqrt(sum(weight * weight for weight in weights.values()))
    vector = [0.0] * dimensions
    for dimension, weight in weights.items():
        vector[dimension] = weight / norm
    return vector


def _encoded(vector: Sequence[float], encoding_format: str) -> list[float] | str:
    if encoding_format == "float":
        return list(vector)
    numbers = array.array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode()
