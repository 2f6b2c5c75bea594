"""Providers that need no server: any function, and hashed words."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memexllm.core.errors import ConfigurationError, EmbeddingError, ValidationError
from memexllm.memory.embeddings import CallableEmbeddings, EmbeddingProvider, HashingEmbeddings
from memexllm.memory.embeddings.base import checked_provider

ROOT = Path(__file__).parents[2]


def test_what_has_the_three_members_is_a_provider() -> None:
    class Structural:
        dimensions = 2

        def embed(self, text: str) -> Any: ...
        def embed_batch(self, texts: list[str]) -> Any: ...

    class Lacking:
        def embed(self, text: str) -> Any: ...

    assert isinstance(Structural(), EmbeddingProvider)
    assert not isinstance(Lacking(), EmbeddingProvider)
    assert not isinstance("text", EmbeddingProvider)


def test_a_subclass_without_a_member_cannot_be_made() -> None:
    class Half(EmbeddingProvider):
        def embed(self, text: str) -> Any: ...

    with pytest.raises(TypeError, match="dimensions"):
        Half()  # type: ignore[abstract]  # the law


def test_a_provider_is_checked_without_being_called() -> None:
    class Learning:
        def __init__(self) -> None:
            self.embed_batch = list

        def embed(self, text: str) -> Any: ...

        @property
        def dimensions(self) -> int:
            raise AssertionError

    provider = Learning()
    assert checked_provider(provider) is provider


@pytest.mark.parametrize(
    ("given", "told"),
    [(HashingEmbeddings, "is a class"), (len, "lacks embed, embed_batch, dimensions; wrap it"), ({}, "dict is no")],
    ids=["class", "function", "dict"],
)
def test_what_is_no_provider_is_refused_with_what_it_lacks(given: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        checked_provider(given)


@pytest.mark.parametrize("answer", [[1, 2], (1.0, 2.0), np.array([1, 2], dtype=np.float64), [True, 2]])
def test_any_numbers_are_a_vector(answer: Any) -> None:
    vector: Any = CallableEmbeddings(lambda text: answer).embed("text")
    assert (vector.dtype, vector.tolist()) == (np.float32, [1.0, 2.0])


@pytest.mark.parametrize(
    "answer",
    [None, "vector", 3.0, [], [[1.0]], ["a"], [1.0, None], [1.0, float("inf")], {"a": 1}, [1e39]],
    ids=["None", "text", "number", "empty", "nested", "texts", "hole", "infinite", "dict", "beyond float32"],
)
def test_anything_else_is_an_error(answer: Any) -> None:
    with pytest.raises(EmbeddingError, match="CallableEmbeddings"):
        CallableEmbeddings(lambda text: answer).embed("text")


@pytest.mark.parametrize("rows", [[[1.0]], [[1.0]] * 3, [[1.0], [1.0, 2.0]], [1.0, 2.0]])
def test_a_batch_that_is_not_one_row_for_each_text_is_an_error(rows: Any) -> None:
    with pytest.raises(EmbeddingError):
        CallableEmbeddings(lambda texts: rows, batched=True).embed_batch(["a", "b"])


def test_vectors_of_another_length_than_the_first_are_an_error() -> None:
    provider = CallableEmbeddings(lambda text: [1.0] * len(text))
    provider.embed("four")
    with pytest.raises(EmbeddingError, match="3 dimensions; expected 4"):
        provider.embed("two")


def test_dimensions_are_learnt_from_one_call() -> None:
    asked: list[str] = []

    def embedded(text: str) -> list[float]:
        asked.append(text)
        return [1.0, 2.0, 3.0]

    provider = CallableEmbeddings(embedded)
    assert (provider.dimensions, provider.dimensions) == (3, 3)
    assert len(asked) == 1


@pytest.mark.parametrize("batched", [True, False])
async def test_an_async_function_makes_an_async_provider(batched: bool) -> None:
    async def embedded(given: Any) -> Any:
        return [[1.0, 2.0]] * len(given) if batched else [1.0, 2.0]

    provider = CallableEmbeddings(embedded, batched=batched)
    with pytest.raises(ConfigurationError, match="after the first text"):
        _ = provider.dimensions
    assert (await provider.embed_batch([])).shape == (0, 0)  # type: ignore[misc]  # asynchronous, as its function is
    assert (await provider.embed_batch(["a", "b"])).shape == (2, 2)  # type: ignore[misc]  # the same
    assert (await provider.embed("a")).shape == (2,)  # type: ignore[misc]  # the same
    assert provider.dimensions == 2


@pytest.mark.parametrize(
    "made",
    [
        lambda: CallableEmbeddings("model"),  # type: ignore[arg-type]  # the law
        lambda: CallableEmbeddings(len, dimensions=0),
        lambda: HashingEmbeddings(0),
        lambda: HashingEmbeddings(2.5),  # type: ignore[arg-type]  # the law
    ],
    ids=["no function", "no dimension", "none", "a half"],
)
def test_what_cannot_work_is_refused_at_construction(made: Any) -> None:
    with pytest.raises((ConfigurationError, ValidationError)):
        made()


def cosine(one: str, other: str) -> float:
    a, b = HashingEmbeddings().embed_batch([one, other])
    return float(a @ b)


def test_texts_are_near_that_share_words_or_their_pieces() -> None:
    assert cosine("The cat sat on the mat", "a cat on a mat") > 0.3
    assert cosine("baking bread", "she bakes breads") > 0.1
    assert cosine("猫はマットの上に座っている", "猫がマットの上に寝ている") > 0.2
    assert cosine("\uff26\uff35\uff2c\uff2c Width", "full width") == pytest.approx(1.0)
    assert abs(cosine("The cat sat on the mat", "Interest rates rose in March")) < 0.1


@given(st.text(st.characters(), max_size=60))
def test_a_hashed_vector_has_length_one_or_is_zero(text: str) -> None:
    length = float(np.linalg.norm(HashingEmbeddings(256).embed(text)))
    assert length == pytest.approx(1.0, abs=1e-5) or (length == 0 and len(text.split()) <= 4)


GOLDEN = ["The quick brown fox", "Größe 12,5 €", "猫 🐈 cat", ""]
PROGRAM = f"""
import hashlib
from memexllm.memory.embeddings import HashingEmbeddings
print(hashlib.sha256(HashingEmbeddings(128).embed_batch({GOLDEN!r}).astype("<f4").tobytes()).hexdigest())
"""


def test_hashed_vectors_are_the_same_everywhere() -> None:
    """Stored vectors outlive the process, the machine and the release that made them."""
    digest = hashlib.sha256(HashingEmbeddings(128).embed_batch(GOLDEN).astype("<f4").tobytes()).hexdigest()
    command = [sys.executable, "-c", PROGRAM]
    elsewhere = subprocess.run(
        command, cwd=ROOT, env={"PYTHONHASHSEED": "7"}, capture_output=True, text=True, check=True
    )
    assert elsewhere.stdout.strip() == digest
    assert digest == "8a84adb2f270b94a6b116f68ada1987d2ab895b856031450f9e98b3303c01379"
