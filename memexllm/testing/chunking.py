"""The laws of a chunker, as tests: subclass `ChunkingConformance` and give it a strategy.

    class TestMine(ChunkingConformance):
        max_size = 500

        @pytest.fixture
        def strategy(self):
            return MyChunker(500)

The texts are the same ones on every run. Needs nothing but pytest.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from memexllm.memory.chunking.base import chunks_of
from memexllm.testing._kit import Kit

_WORDS = """
    the of and cat window memory interest Rates rose again in March 3.14 Größe naïve 猫 眠っている。 العربية don't e.g.
    Dr. U.S. \U0001f44b\U0001f3fd \U0001f469\u200d\U0001f469\u200d\U0001f467 a\u0308 #tag `code` *bold* --- ___ | [z]
    supercalifragilisticexpialidociously https://example.org/a?b=c {x} (y) \ufeff \u200b \x00
""".split()  # noqa: SIM905 - forty quoted words read worse
_ENDS = (". ", "? ", "!\n", ".\r\n", "\n\n", "\r\n\r\n", "\r", "\t", "\u2028", "\u00a0", "   \n   \n", ", ", "; ")
_LINES = (
    "# Heading\n",
    "### Deeper ###\n",
    "Title\n=====\n",
    "```python\n# no heading\n\nx = 1\n```\n",
    "~~~\nopen fence\n",
    "- item\n- item\n",
    "| a | b |\n|---|---|\n| 1 | 2 |\n",
    "def area(radius):\n    return 3.14159 * radius ** 2\n\n",
    "@cached\nclass Cat:\n    name = 'x'\n\n    def purr(self):\n        pass\n",
    "int main() {\n  return 0;\n}\n\n",
    "---\n",
    "\n\n\n",
)

TEXTS: dict[str, str] = {
    "one letter": "x",
    "one word": "word",
    "a long word": "x" * 5000,
    "a long line": "word " * 2000,
    "a long gap": "a" + " " * 5000 + "b",
    "stops only": "." * 3000,
    "sentences": "One sentence here. " * 300,
    "lines": "a line\n" * 800,
    "Windows lines": "a line\r\n" * 800,
    "old Macintosh lines": "a line\r" * 800,
    "paragraphs": "One paragraph.\n\n" * 200,
    "accents": "e\u0301" * 2000,
    "emoji": "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466" * 300,
    "no spaces": "猫は窓辺で眠っている。" * 200,
    "byte order mark": "\ufeffA text. " * 50,
    "zero bytes": "a\x00b " * 200,
    "lone surrogates": "a\ud800b " * 200,
    "repeated": "the same. the same. the same. " * 100,
}


class ChunkingConformance(Kit):
    """Inherit and give `strategy`: a fixture that returns the chunker to try, on `n_texts` random texts and others.

    `max_size` is what no chunk may exceed, as `size_of` measures it: characters unless you override that. A chunker
    that changes the text, or leaves some of it out on purpose, declares the laws it does not keep in `deviations`.
    """

    max_size: int | None = None
    n_texts = 30
    n_long_chars = 100_000

    @pytest.fixture
    def strategy(self) -> Any:
        pytest.fail(f"{type(self).__name__} needs a fixture `strategy` that returns the chunker to try")

    def size_of(self, chunk: str) -> int:
        return len(chunk)

    def test_chunks_are_a_list_of_texts(self, strategy: Any) -> None:
        for name, text in self._texts():
            chunks = strategy.chunk(text)
            assert isinstance(chunks, list), name
            assert all(isinstance(chunk, str) for chunk in chunks), name

    def test_a_text_without_any_has_no_chunks(self, strategy: Any) -> None:
        for text in ("", " ", "\n", "\r\n\t\u2028 \u00a0", " " * 5000):
            assert strategy.chunk(text) == []

    def test_no_chunk_is_empty(self, strategy: Any) -> None:
        for name, text in self._texts():
            assert [chunk for chunk in strategy.chunk(text) if not chunk.strip()] == [], name

    def test_chunks_stand_in_the_text_word_for_word_and_in_order(self, strategy: Any) -> None:
        for name, text in self._texts():
            for chunk in chunks_of(strategy, text):
                assert chunk.start is not None, f"{name}: a chunk is not in the text"
                assert text[chunk.start : chunk.end] == chunk.text, name
            starts = [(chunk.start, chunk.end) for chunk in chunks_of(strategy, text)]
            assert starts == sorted(set(starts)), name

    def test_nothing_but_whitespace_is_left_out(self, strategy: Any) -> None:
        """Every character for which `str.isspace()` is false is in a chunk."""
        for name, text in self._texts():
            end = 0
            for chunk in chunks_of(strategy, text):
                assert chunk.start is not None
                assert chunk.end is not None
                assert not text[end : chunk.start].strip(), f"{name}: {end} to {chunk.start} is in no chunk"
                end = max(end, chunk.end)
            assert not text[end:].strip(), f"{name}: what follows {end} is in no chunk"

    def test_offsets_and_chunks_agree(self, strategy: Any) -> None:
        if not callable(getattr(strategy, "spans", None)):
            pytest.skip(f"{type(strategy).__name__} has no spans()")
        for name, text in self._texts():
            spans = strategy.spans(text)
            assert [text[span.start : span.end] for span in spans] == strategy.chunk(text), name

    def test_no_chunk_is_too_large(self, strategy: Any) -> None:
        if self.max_size is None:
            pytest.skip("max_size is not set")
        for name, text in self._texts():
            sizes = [self.size_of(chunk) for chunk in strategy.chunk(text)]
            assert max(sizes, default=0) <= self.max_size, name

    def test_the_same_text_has_the_same_chunks(self, strategy: Any) -> None:
        first = [strategy.chunk(text) for _, text in self._texts()]
        again = [strategy.chunk(text) for _, text in reversed(list(self._texts()))]
        assert first == again[::-1]

    def test_time_grows_with_the_text_and_not_faster(self, strategy: Any) -> None:
        """Four times the text may take ten times the processor time, and no more; squared it would be sixteen."""
        for name, piece in (("sentences", "One sentence. "), ("a word", "x"), ("lines", "line\n"), ("stops", ".")):
            quarter = (piece * self.n_long_chars)[: self.n_long_chars // 4]
            assert _seconds(strategy, quarter * 4) <= 10 * _seconds(strategy, quarter) + 0.1, name

    def _texts(self) -> Iterator[tuple[str, str]]:
        yield from TEXTS.items()
        for seed in range(self.n_texts):
            yield f"random text {seed}", random_text(Random(seed))


def random_text(random: Random) -> str:
    """Prose, Markdown and code in turn, with characters that are seldom thought of."""
    pieces: list[str] = []
    for _ in range(random.randint(1, 60)):
        if random.random() < 0.3:
            pieces.append(random.choice(_LINES))
        else:
            words = (random.choice(_WORDS) for _ in range(random.randint(1, 25)))
            pieces.append(" ".join(words) + random.choice(_ENDS))
    return "".join(pieces)


def _seconds(strategy: Any, text: str) -> float:
    """Of processor time: the best of three tries, without the garbage of other tests."""
    tries: list[float] = []
    collects = gc.isenabled()
    gc.disable()
    try:
        for _ in range(3):
            began = time.process_time()
            strategy.chunk(text)
            tries.append(time.process_time() - began)
    finally:
        if collects:
            gc.enable()
    return min(tries)
