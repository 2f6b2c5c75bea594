"""What each chunker does beyond the laws of the kit."""

from __future__ import annotations

import os
import textwrap
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memexllm.core.errors import ConfigurationError, EmbeddingError, ValidationError
from memexllm.core.tokens import TokenCounter
from memexllm.memory.chunking import (
    ChunkingStrategy,
    CodeChunker,
    FixedSizeChunker,
    MarkdownChunker,
    SemanticChunker,
    SentenceChunker,
    SpanChunker,
    TokenChunker,
    chunks_of,
    named_chunker,
)
from memexllm.memory.embeddings import AsyncOpenAIEmbeddings, CallableEmbeddings, HashingEmbeddings

ALL: list[Any] = [
    FixedSizeChunker(12),
    FixedSizeChunker(12, 5),
    SentenceChunker(20),
    SentenceChunker(20, 2),
    MarkdownChunker(25),
    CodeChunker(25),
    CodeChunker(25, "c"),
    TokenChunker(6),
    TokenChunker(8, 3),
    SemanticChunker(HashingEmbeddings(8), 0.1, max_chars=30),
]
PIECES = st.sampled_from(
    [
        "# ",
        "## T\n",
        "\n",
        "\r\n",
        "\r",
        " ",
        "\t",
        ". ",
        "a",
        "word",
        "猫",
        "é",
        "�",
        "```\n",
        "~~~\n",
        "---\n",
        "===\n",
        "def f():\n    pass\n",
        "class A:\n",
        "    x = 1\n",
        "@d\n",
        "}\n",
        "{",
        "- ",
        "|",
        ";",
        "#c\n",
        "\x00",
        "\u2028",
    ]
)
TEXTS = st.lists(PIECES | st.text(st.characters(), max_size=8), max_size=25).map("".join)


@pytest.mark.parametrize("strategy", ALL, ids=repr)
@settings(deadline=None)  # the first to count loads a vocabulary
@given(text=TEXTS)
def test_chunks_ascend_and_leave_out_nothing_but_whitespace(strategy: SpanChunker, text: str) -> None:
    spans = strategy.spans(text)
    end = 0
    for before, span in zip([None, *spans], spans, strict=False):
        assert before is None or (before.start < span.start and before.end < span.end)
        assert text[span.start : span.end] == text[span.start : span.end].strip() != ""
        assert not text[end : span.start].strip()
        end = span.end
    assert not text[end:].strip()
    assert [chunk.text for chunk in chunks_of(strategy, text)] == strategy.chunk(text)


@settings(deadline=None)  # the first to count loads a vocabulary
@given(text=TEXTS, size=st.integers(1, 40), overlap=st.integers(0, 39))
def test_sizes_hold(text: str, size: int, overlap: int) -> None:
    count = TokenCounter("text-embedding-3-small").count_text
    fixed = FixedSizeChunker(size, min(overlap, size - 1)).chunk(text)
    assert max(map(len, fixed), default=0) <= size
    for strategy in (SentenceChunker(size), MarkdownChunker(size), CodeChunker(size)):
        assert max(map(len, strategy.chunk(text)), default=0) <= size
    tokens = TokenChunker(size + 4, min(overlap, size)).chunk(text)
    assert max(map(count, tokens), default=0) <= size + 4


def test_words_are_whole_and_repeated_in_an_overlap() -> None:
    text = "The quick brown fox jumps over the lazy dog"
    assert FixedSizeChunker(16).chunk(text) == ["The quick brown", "fox jumps over", "the lazy dog"]
    assert FixedSizeChunker(20, 10).chunk(text) == [
        "The quick",
        "quick brown fox",
        "brown fox jumps over",
        "over the lazy",
        "the lazy dog",
    ]


def test_a_sign_made_of_several_characters_is_not_torn() -> None:
    assert FixedSizeChunker(3).chunk("ae\u0301o\u0308u") == ["ae\u0301", "o\u0308u"]
    family = "\U0001f469\u200d\U0001f469\u200d\U0001f467"
    assert FixedSizeChunker(7).chunk(family * 2) == [family, family]


SENTENCES = [
    ("One. Two? Three! Four", ["One.", "Two?", "Three!", "Four"]),
    ("Dr. Smith of the U.S. and J. Doe came, e.g. by bus. They sat.", None),
    ("It costs 3.14 dollars. vs. nothing.", ["It costs 3.14 dollars. vs. nothing."]),
    ('He said "Stop." She did.', ['He said "Stop."', "She did."]),
    ("猫は寝ている。犬は起きた\uff01終わり", ["猫は寝ている。", "犬は起きた\uff01", "終わり"]),
    ("A title\n\nA text", ["A title", "A text"]),
    ("List:\n- one\n- two\n3. three", ["List:", "- one", "- two", "3. three"]),
    ("Wait... what? Well… Yes.", ["Wait... what?", "Well…", "Yes."]),
]


@pytest.mark.parametrize(("text", "expected"), SENTENCES, ids=[text[:12] for text, _ in SENTENCES])
def test_sentences_end_where_a_reader_ends_them(text: str, expected: list[str] | None) -> None:
    found = SentenceChunker(1000, 1).chunk(text)
    assert found == (expected or ["Dr. Smith of the U.S. and J. Doe came, e.g. by bus.", "They sat."])


def test_sentences_go_together_as_far_as_they_fit() -> None:
    assert SentenceChunker(12).chunk("One. Two. Three. Four. Five.") == ["One. Two.", "Three. Four.", "Five."]
    assert SentenceChunker(1000, 2).chunk("One. Two. Three.") == ["One. Two.", "Three."]


MARKDOWN = """---
title: no heading
---
Before any heading.

# Guide

## Install

Run it.

```sh
# not a heading

pip install it
```

Second
------

Text of the second.

### Deep ###
More.
"""


def test_a_section_is_a_chunk_that_knows_its_headings() -> None:
    chunks = chunks_of(MarkdownChunker(200), MARKDOWN)
    assert [chunk.metadata.get("headings") for chunk in chunks] == [
        None,
        ["Guide", "Install"],
        ["Guide", "Second"],
        ["Guide", "Second", "Deep"],
    ]
    assert chunks[1].text.startswith("# Guide\n\n## Install")
    assert chunks[1].text.endswith("pip install it\n```")
    assert chunks[3].text == "### Deep ###\nMore."


def test_a_long_section_is_divided_between_its_paragraphs_and_not_in_a_fence() -> None:
    fence = "```\na\n\nb\n```"
    text = f"# T\n\n{'One. ' * 8}\n\n{fence}\n\n{'Two. ' * 8}"
    assert MarkdownChunker(50).chunk(text) == [f"# T\n\n{('One. ' * 8).strip()}", fence, ("Two. " * 8).strip()]


def test_a_long_fence_or_table_is_divided_between_lines() -> None:
    rows = [f"| row {number} | x |" for number in range(9)]
    assert all(chunk.splitlines()[0] in rows for chunk in MarkdownChunker(40).chunk("\n".join(rows)))
    code = ["```", *(f"print({number}, 'a b c')" for number in range(9)), "```"]
    assert all(line in code for chunk in MarkdownChunker(60).chunk("\n".join(code)) for line in chunk.splitlines())


PYTHON = '''"""A module."""
import os

LIMIT = 3


# Above the function.
@cached
def area(radius):
    """Of a circle."""
    return 3.14 * radius ** 2


class Cat:
    """Purrs."""

    name = "x"

    def purr(self):
        return "purr"

    async def sleep(self):
        pass


print(area(2))
'''


def test_a_function_and_a_class_are_chunks_with_their_names() -> None:
    chunks = chunks_of(CodeChunker(400), PYTHON)
    assert [chunk.metadata.get("symbol") for chunk in chunks] == [None, "area", "Cat", None]
    assert chunks[1].text.startswith("# Above the function.\n@cached\ndef area")
    assert all(chunk.metadata["language"] == "python" for chunk in chunks)


def test_a_class_that_is_too_large_is_its_methods() -> None:
    chunks = chunks_of(CodeChunker(120), PYTHON)
    assert [chunk.metadata.get("symbol") for chunk in chunks][2:] == ["Cat", "Cat.purr", "Cat.sleep", None]
    assert chunks[2].text == 'class Cat:\n    """Purrs."""\n\n    name = "x"'


def test_other_languages_are_divided_at_the_margin() -> None:
    text = textwrap.dedent(
        """
        int one() {
          int x;

          return 1;
        }
        int two() {
          return 2;
        }

        int three;
        """
    )
    chunks = chunks_of(CodeChunker(45, "c"), text)
    assert [chunk.text.splitlines()[0] for chunk in chunks] == ["int one() {", "int two() {"]
    assert chunks[0].metadata == {"language": "c"}


@pytest.mark.parametrize("text", ["def broken(:\n  pass", "\x00", "Hello", "(" * 5000, "x = 1 \ud800"])
def test_what_python_cannot_read_is_cut_all_the_same(text: str) -> None:
    assert "".join(CodeChunker(50).chunk(text)).split() == text.split() or len(text) > 50


def test_a_subject_ends_where_the_similarity_falls() -> None:
    subjects = {"cat": [1.0, 0.0], "tax": [0.0, 1.0]}
    provider = CallableEmbeddings(lambda text: subjects["cat" if "cat" in text.lower() else "tax"])
    text = "Cats sleep. A cat purrs. Taxes rise. Tax is due. The cat again."
    expected = ["Cats sleep. A cat purrs.", "Taxes rise. Tax is due.", "The cat again."]
    assert SemanticChunker(provider).chunk(text) == expected
    assert SemanticChunker(provider, max_chars=15).chunk(text) == [
        "Cats sleep.",
        "A cat purrs.",
        "Taxes rise.",
        "Tax is due.",
        "The cat again.",
    ]


def test_a_provider_that_must_be_awaited_is_refused() -> None:
    async def embedded(text: str) -> Any:
        return [1.0]

    with pytest.raises(ConfigurationError, match="synchronous"):
        SemanticChunker(CallableEmbeddings(embedded)).chunk("One. Two.")
    with pytest.raises(ConfigurationError, match="synchronous"):
        SemanticChunker(AsyncOpenAIEmbeddings.__new__(AsyncOpenAIEmbeddings))
    with pytest.raises(ConfigurationError, match="lacks"):
        SemanticChunker(len)  # type: ignore[arg-type]  # the law


def test_a_provider_that_answers_short_is_an_error_and_no_short_text() -> None:
    class Short(HashingEmbeddings):
        def embed_batch(self, texts: Any) -> Any:
            return np.ones((len(texts) - 1, 4))

    with pytest.raises(EmbeddingError):
        SemanticChunker(Short()).chunk("One. Two. Three.")


def test_a_character_of_more_tokens_than_a_chunk_is_refused() -> None:
    with pytest.raises(ValidationError, match="single character"):
        TokenChunker(1).chunk("fine \U0001f9ff")


class Paragraphs(ChunkingStrategy):
    """A user's."""

    def chunk(self, text: str) -> list[str]:
        return text.split("\n\n")


class Shouting:
    """A user's who changes the text, and knows no base class."""

    def chunk(self, text: str) -> list[str]:
        return text.upper().split("\n\n")


def test_a_users_chunks_are_found_in_the_text() -> None:
    text = "same\n\nsame\n\nother"
    chunks = chunks_of(Paragraphs(), text)
    assert [(chunk.start, chunk.end) for chunk in chunks] == [(0, 4), (6, 10), (12, 17)]
    assert [span.start for span in Paragraphs().spans(text)] == [0, 6, 12]


def test_changed_chunks_have_no_offsets() -> None:
    assert [(chunk.text, chunk.start) for chunk in chunks_of(Shouting(), "a\n\nb")] == [("A", None), ("B", None)]

    class Both(Paragraphs):
        def chunk(self, text: str) -> list[str]:
            return Shouting().chunk(text)

    with pytest.raises(ValidationError, match="no offsets"):
        Both().spans("a\n\nb")


@pytest.mark.parametrize("answer", [None, "text", [1], iter(["a"])], ids=["None", "text", "numbers", "iterator"])
def test_an_answer_that_is_no_list_of_texts_is_refused(answer: Any) -> None:
    class Wrong:
        def chunk(self, text: str) -> Any:
            return answer

    with pytest.raises(ValidationError, match="Wrong"):
        chunks_of(Wrong(), "text")


def test_chunkers_have_names() -> None:
    assert repr(named_chunker("fixed", max_chars=10)) == "FixedSizeChunker(10, 0)"
    with pytest.raises(ConfigurationError, match="fixed, sentence, markdown, code, token, semantic"):
        named_chunker("sentances")
    with pytest.raises(ConfigurationError, match="provider"):
        named_chunker("semantic")


@pytest.mark.parametrize(
    "made",
    [
        lambda: FixedSizeChunker(0),
        lambda: FixedSizeChunker(10, 10),
        lambda: FixedSizeChunker(10, -1),
        lambda: FixedSizeChunker(True),
        lambda: SentenceChunker(10, 0),
        lambda: MarkdownChunker(-5),
        lambda: CodeChunker(2.5),  # type: ignore[arg-type]  # the law
        lambda: TokenChunker(10, 11),
        lambda: SemanticChunker(HashingEmbeddings(), 1.5),
        lambda: SemanticChunker(HashingEmbeddings(), max_chars=0),
    ],
)
def test_sizes_that_cannot_work_are_refused(made: Any) -> None:
    with pytest.raises(ConfigurationError):
        made()


N_LONG = int(1_000_000 * float(os.environ.get("MEMEXLLM_TEST_SCALE", "1")))


@pytest.mark.parametrize(
    "strategy", [FixedSizeChunker(), SentenceChunker(), MarkdownChunker(), CodeChunker()], ids=repr
)
def test_a_long_text_takes_seconds(strategy: SpanChunker) -> None:
    """A megabyte; ten with `MEMEXLLM_TEST_SCALE=10`."""
    text = ("## A heading\n\n" + "The quick brown fox jumps over the lazy dog. " * 40 + "\n\n") * (N_LONG // 1800)
    began = time.process_time()
    assert strategy.chunk(text)
    assert time.process_time() - began < 3 * max(1, N_LONG / 1_000_000)
