"""The kit passes on every chunker of ours, and fails on chunkers that are broken in one way each."""

from __future__ import annotations

import pytest

from memexllm.core.tokens import TokenCounter
from memexllm.memory.chunking import (
    ChunkingStrategy,
    CodeChunker,
    FixedSizeChunker,
    MarkdownChunker,
    SemanticChunker,
    SentenceChunker,
    TokenChunker,
)
from memexllm.memory.embeddings import CallableEmbeddings, HashingEmbeddings
from memexllm.testing import ChunkingConformance
from tests.memory.kits import failures

COUNTER = TokenCounter("text-embedding-3-small")


class TestFixedSize(ChunkingConformance):
    max_size = 100

    @pytest.fixture(params=[0, 30, 60])
    def strategy(self, request: pytest.FixtureRequest) -> ChunkingStrategy:
        return FixedSizeChunker(100, request.param)


class TestOverlapOfAlmostAll(ChunkingConformance):
    max_size = 100
    n_texts = 3
    n_long_chars = 5000

    @pytest.fixture
    def strategy(self) -> ChunkingStrategy:
        return FixedSizeChunker(100, 99)


class TestTiny(ChunkingConformance):
    max_size = 1
    n_texts = 5
    n_long_chars = 20_000

    @pytest.fixture
    def strategy(self) -> ChunkingStrategy:
        return FixedSizeChunker(1)


class TestSentence(ChunkingConformance):
    max_size = 120

    @pytest.fixture(params=[None, 1, 3])
    def strategy(self, request: pytest.FixtureRequest) -> ChunkingStrategy:
        return SentenceChunker(120, request.param)


class TestMarkdown(ChunkingConformance):
    max_size = 120

    @pytest.fixture
    def strategy(self) -> ChunkingStrategy:
        return MarkdownChunker(120)


class TestCode(ChunkingConformance):
    max_size = 120

    @pytest.fixture(params=[None, "python", "c"])
    def strategy(self, request: pytest.FixtureRequest) -> ChunkingStrategy:
        return CodeChunker(120, request.param)


class TestToken(ChunkingConformance):
    max_size = 20
    n_texts = 30

    @pytest.fixture(params=[0, 8])
    def strategy(self, request: pytest.FixtureRequest) -> ChunkingStrategy:
        return TokenChunker(20, request.param)

    def size_of(self, chunk: str) -> int:
        return COUNTER.count_text(chunk)


class TestOddTokens(ChunkingConformance):
    """A counter for which two texts together are more than their sum."""

    max_size = 30
    n_texts = 20

    @pytest.fixture
    def strategy(self) -> ChunkingStrategy:
        return TokenChunker(30, 5, count_tokens=self.size_of)

    def size_of(self, chunk: str) -> int:
        return 1 + len(chunk) + len(chunk) ** 2 // 100


class TestSemantic(ChunkingConformance):
    max_size = 200
    n_texts = 20
    n_long_chars = 20_000

    @pytest.fixture(params=[-1, 0.2, 1])
    def strategy(self, request: pytest.FixtureRequest) -> ChunkingStrategy:
        return SemanticChunker(HashingEmbeddings(32), request.param, max_chars=200)


class TestSemanticWithoutMeaning(ChunkingConformance):
    max_size = 200
    n_texts = 10
    n_long_chars = 20_000

    @pytest.fixture
    def strategy(self) -> ChunkingStrategy:
        return SemanticChunker(CallableEmbeddings(lambda text: [0.0, 0.0]), max_chars=200)


KIT_FINDS = {
    "Lazy": "test_chunks_are_a_list_of_texts",
    "KeepsNothing": "test_a_text_without_any_has_no_chunks",
    "KeepsGaps": "test_no_chunk_is_empty",
    "ChangesLines": "test_chunks_stand_in_the_text_word_for_word_and_in_order",
    "LosesTheEnd": "test_nothing_but_whitespace_is_left_out",
    "KeepsLongWords": "test_no_chunk_is_too_large",
    "Wanders": "test_the_same_text_has_the_same_chunks",
    "SaysOtherwise": "test_offsets_and_chunks_agree",
    "Quadratic": "test_time_grows_with_the_text_and_not_faster",
}


def test_the_kit_finds_what_is_broken(pytester: pytest.Pytester) -> None:
    failed = failures(
        pytester, "ChunkingConformance", "strategy", "tests.memory.broken_chunkers", KIT_FINDS, "max_size = 100"
    )
    assert {name: laws for name, laws in failed.items() if KIT_FINDS[name] not in laws} == {}
    assert failed.keys() == KIT_FINDS.keys()
