"""The kit passes on every provider of ours, and fails on providers that are broken in one way each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI

from memexllm.memory.embeddings import (
    AsyncOpenAIEmbeddings,
    CallableEmbeddings,
    EmbeddingProvider,
    HashingEmbeddings,
    OpenAIEmbeddings,
)
from memexllm.testing import EmbeddingProviderConformance, OpenAIServer
from tests.memory.kits import failures, kit_run

SMALL = HashingEmbeddings(64)


@pytest.fixture(scope="module")
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(record=False) as server:
        yield server


class TestHashing(EmbeddingProviderConformance):
    @pytest.fixture
    def provider(self) -> EmbeddingProvider:
        return HashingEmbeddings()


class TestCallable(EmbeddingProviderConformance):
    @pytest.fixture
    def provider(self) -> EmbeddingProvider:
        return CallableEmbeddings(lambda text: SMALL.embed(text).tolist())


class TestBatchedCallable(EmbeddingProviderConformance):
    @pytest.fixture
    def provider(self) -> EmbeddingProvider:
        return CallableEmbeddings(SMALL.embed_batch, batched=True)


class TestAsyncCallable(EmbeddingProviderConformance):
    @pytest.fixture
    def provider(self) -> EmbeddingProvider:
        async def embedded(text: str) -> Any:
            return SMALL.embed(text)

        return CallableEmbeddings(embedded)


class TestAsyncBatchedCallable(EmbeddingProviderConformance):
    @pytest.fixture
    def provider(self) -> EmbeddingProvider:
        async def embedded(texts: list[str]) -> Any:
            return SMALL.embed_batch(texts)

        return CallableEmbeddings(embedded, batched=True)


class TestOpenAI(EmbeddingProviderConformance):
    @pytest.fixture
    def provider(self, server: OpenAIServer) -> Iterator[EmbeddingProvider]:
        with OpenAI(base_url=server.base_url, api_key="local") as client:
            yield OpenAIEmbeddings(client=client, dimensions=64, max_batch_texts=30)


class TestAnotherModel(EmbeddingProviderConformance):
    n_long_words = 2000

    @pytest.fixture
    def provider(self, server: OpenAIServer) -> Iterator[EmbeddingProvider]:
        with OpenAI(base_url=server.base_url, api_key="local") as client:
            yield OpenAIEmbeddings("any-model", client=client, encoding_format="float")


class TestAsyncOpenAI(EmbeddingProviderConformance):
    @pytest.fixture
    def provider(self, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> EmbeddingProvider:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "local")
        return AsyncOpenAIEmbeddings(dimensions=64)


KIT_FINDS = {
    "Constant": "test_different_texts_have_different_vectors",
    "Reversing": "test_a_batch_gives_each_text_its_own_vector_in_order",
    "Dropping": "test_a_large_batch_loses_nothing",
    "DroppingEmpty": "test_an_empty_text_is_embedded_or_refused",
    "Cutting": "test_a_long_text_is_embedded_whole_or_refused",
    "NotFinite": "test_a_text_gives_a_finite_vector_of_the_dimensions",
    "Wrong": "test_a_text_gives_a_finite_vector_of_the_dimensions",
    "Counting": "test_the_same_text_gives_the_same_vector",
    "Sharing": "test_an_answer_is_the_callers_to_change",
    "Consuming": "test_the_list_of_texts_stays_as_it_is",
    "NoRows": "test_no_texts_give_no_rows",
    "OneMethod": "test_it_has_the_three_members",
    "Racing": "test_it_can_be_asked_from_several_places_at_once",
    "Growing": "test_the_dimensions_are_a_positive_number_that_stays",
}


def test_the_kit_finds_what_is_broken(pytester: pytest.Pytester) -> None:
    failed = failures(pytester, "EmbeddingProviderConformance", "provider", "tests.memory.broken_providers", KIT_FINDS)
    assert {name: laws for name, laws in failed.items() if KIT_FINDS[name] not in laws} == {}
    assert failed.keys() == KIT_FINDS.keys()


def test_a_law_is_declared_not_kept_or_it_binds(pytester: pytest.Pytester) -> None:
    result = kit_run(
        pytester,
        """
        import pytest
        from memexllm.memory.embeddings import HashingEmbeddings
        from memexllm.testing import EmbeddingProviderConformance

        class TestIt(EmbeddingProviderConformance):
            deviations = {"test_no_texts_give_no_rows": "the model needs one"}

            @pytest.fixture
            def provider(self):
                return HashingEmbeddings()

            def test_a_large_batch_loses_nothing(self):
                pass
        """,
    )
    outcomes = result.parseoutcomes()
    assert (outcomes["failed"], outcomes["skipped"]) == (1, 1)
    result.stdout.fnmatch_lines(["*overrides tests of the kit*test_a_large_batch_loses_nothing*"])
