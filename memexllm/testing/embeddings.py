"""The laws of an embedding provider, as tests: subclass `EmbeddingProviderConformance` and give it a provider.

    class TestMine(EmbeddingProviderConformance):
        @pytest.fixture
        def provider(self):
            return MyProvider(...)

Methods may be `def` or `async def`. Needs pytest, and NumPy as every provider does.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from memexllm.core.errors import TextTooLongError
from memexllm.memory.embeddings.base import MEMBERS, checked_provider
from memexllm.testing._kit import Kit

TEXTS = (
    "The cat sat on the mat.",
    "Rates of interest rose again in March",
    "def area(radius): return 3.14159 * radius ** 2",
    "猫は窓辺で眠っている。",
    "Größe und Maß: a\u0308 ist ä",
    "👩‍👩‍👧‍👦 waved 👋🏽",
    "first line\r\nsecond\tline\u2028third",
    "x",
)


class DrivenProvider:
    """A provider, called synchronously: what it returns is awaited on one event loop when it is awaitable."""

    def __init__(self, provider: Any, runner: asyncio.Runner) -> None:
        self.provider = provider
        self._runner = runner

    def embed(self, text: str) -> Any:
        return self.answer(self.provider.embed(text))

    def embed_batch(self, texts: Sequence[str]) -> Any:
        return self.answer(self.provider.embed_batch(list(texts)))

    def answer(self, result: Any) -> Any:
        return self._runner.run(_result_of(result)) if inspect.isawaitable(result) else result


async def _result_of(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


class EmbeddingProviderConformance(Kit):
    """Inherit and give `provider`: a fixture that returns the provider to try.

    A model that computes a batch otherwise than its texts alone may differ by `tolerance`, relative to a vector's
    length. `n_large` texts are more than one request holds. A text of `n_long_words` is too long for most models.
    """

    tolerance = 1e-3
    n_large = 100
    n_long_words = 20_000

    @pytest.fixture
    def provider(self) -> Any:
        pytest.fail(f"{type(self).__name__} needs a fixture `provider` that returns the provider to try")

    @pytest.fixture
    def driven(self, declared_deviation: None, provider: Any) -> Iterator[DrivenProvider]:
        with asyncio.Runner() as runner:
            yield DrivenProvider(provider, runner)
            close = getattr(provider, "close", None)
            if callable(close):
                result = close()
                if inspect.isawaitable(result):
                    runner.run(_result_of(result))

    def test_it_has_the_three_members(self, driven: DrivenProvider) -> None:
        assert checked_provider(driven.provider) is driven.provider
        for name in MEMBERS[:2]:
            assert callable(getattr(driven.provider, name)), f"{name} is a method"

    def test_a_text_gives_a_finite_vector_of_the_dimensions(self, driven: DrivenProvider) -> None:
        for text in TEXTS:
            vector = driven.embed(text)
            assert vector.shape == (driven.provider.dimensions,), f"the shape for text {TEXTS.index(text)} of TEXTS"
            assert _is_finite(vector)

    def test_the_dimensions_are_a_positive_number_that_stays(self, driven: DrivenProvider) -> None:
        driven.embed(TEXTS[0])
        dimensions = driven.provider.dimensions
        driven.embed_batch(TEXTS)
        assert isinstance(dimensions, int)
        assert dimensions > 0
        assert driven.provider.dimensions == dimensions

    def test_a_batch_gives_each_text_its_own_vector_in_order(self, driven: DrivenProvider) -> None:
        for texts in (TEXTS, TEXTS[::-1], TEXTS[:1], (TEXTS[0], TEXTS[1], TEXTS[0])):
            rows = driven.embed_batch(texts)
            assert rows.shape == (len(texts), driven.provider.dimensions)
            for row, text in zip(rows, texts, strict=True):
                assert self._distance(row, driven.embed(text)) <= self.tolerance

    def test_no_texts_give_no_rows(self, driven: DrivenProvider) -> None:
        driven.embed(TEXTS[0])
        assert driven.embed_batch([]).shape == (0, driven.provider.dimensions)

    def test_a_large_batch_loses_nothing(self, driven: DrivenProvider) -> None:
        texts = [f"{TEXTS[number % len(TEXTS)]} {number}" for number in range(self.n_large)]
        rows = driven.embed_batch(texts)
        assert rows.shape == (self.n_large, driven.provider.dimensions)
        for number in (0, self.n_large // 2, self.n_large - 1):
            assert self._distance(rows[number], driven.embed(texts[number])) <= self.tolerance

    def test_different_texts_have_different_vectors(self, driven: DrivenProvider) -> None:
        rows = list(driven.embed_batch(TEXTS))
        while rows:
            row = rows.pop()
            assert all(self._distance(row, other) > self.tolerance for other in rows)

    def test_the_same_text_gives_the_same_vector(self, driven: DrivenProvider) -> None:
        first = driven.embed(TEXTS[0])
        driven.embed(TEXTS[1])
        assert self._distance(first, driven.embed(TEXTS[0])) <= self.tolerance

    def test_an_answer_is_the_callers_to_change(self, driven: DrivenProvider) -> None:
        asked: list[Callable[[], Any]] = [lambda: driven.embed(TEXTS[0]), lambda: driven.embed_batch(TEXTS)[0]]
        for embedded in asked:
            before = _numbers(embedded())
            answer: Any = embedded()
            if answer.flags.writeable:
                answer[:] = 0
            assert self._distance(embedded(), before) <= self.tolerance

    def test_the_list_of_texts_stays_as_it_is(self, driven: DrivenProvider) -> None:
        texts = list(TEXTS)
        driven.answer(driven.provider.embed_batch(texts))
        assert texts == list(TEXTS)

    def test_an_empty_text_is_embedded_or_refused(self, driven: DrivenProvider) -> None:
        """A `ValueError` (our `ValidationError` is one) refuses it; a batch is never answered with fewer rows."""
        for texts in (["", TEXTS[0]], [TEXTS[0], ""], [""]):
            try:
                rows = driven.embed_batch(texts)
            except ValueError:
                continue
            assert rows.shape == (len(texts), driven.provider.dimensions)
            assert _is_finite(rows)

    def test_a_long_text_is_embedded_whole_or_refused(self, driven: DrivenProvider) -> None:
        """`TextTooLongError` refuses it. Two texts that differ at the end only would be one to a model that cuts."""
        start = "word " * self.n_long_words
        try:
            ends = driven.embed_batch([start + "zebra " * 2000, start + "quartz " * 2000])
        except TextTooLongError:
            return
        assert self._distance(ends[0], ends[1]) > 0

    def test_it_can_be_asked_from_several_places_at_once(self, driven: DrivenProvider) -> None:
        expected = [driven.embed(text) for text in TEXTS]
        found = driven.answer(_together(driven.provider.embed, TEXTS))
        assert all(self._distance(a, b) <= self.tolerance for a, b in zip(found, expected, strict=True))

    def _distance(self, one: Any, other: Any) -> float:
        """Of two vectors, in lengths of the second."""
        a, b = _numbers(one), _numbers(other)
        return math.dist(a, b) / (math.hypot(*b) or 1.0)


def _together(embed: Callable[[str], Any], texts: Sequence[str]) -> Any:
    """The vectors of texts asked for at once: by threads, or as tasks where the answers are awaited."""
    with ThreadPoolExecutor(len(texts)) as pool:
        answers = list(pool.map(embed, texts))
    return _gathered(answers)


def _gathered(answers: list[Any]) -> Any:
    async def gathered() -> list[Any]:
        return list(await asyncio.gather(*answers))

    return gathered() if inspect.isawaitable(answers[0]) else answers


def _numbers(vector: Any) -> list[float]:
    return [float(number) for number in vector]


def _is_finite(vector: Any) -> bool:
    return bool((abs(vector) < float("inf")).all())
