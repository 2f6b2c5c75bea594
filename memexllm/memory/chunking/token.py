"""Chunks of so many tokens."""

from __future__ import annotations

import functools
import re

from memexllm.core.errors import ValidationError
from memexllm.core.tokens import TextCounter, TokenCounter
from memexllm.memory.chunking.base import Span, SpanChunker
from memexllm.memory.chunking.cutting import ascending, checked_overlap, checked_size

# A word with the space before it is what vocabularies begin a token with; a longer run is taken in parts.
_PIECE = re.compile(r"\s?[^\s]{1,48}|\s{1,48}(?!\S)|\s")


class TokenChunker(SpanChunker):
    """As many whole words as fit in `max_tokens`, counted as `model` counts them or by `count_tokens`.

    Each chunk begins with up to `overlap_tokens` of the one before, which count. A word of more tokens than fit is cut.
    A `max_tokens` that a single character exceeds is a `ValidationError` when such a character comes.
    """

    def __init__(
        self,
        max_tokens: int = 256,
        overlap_tokens: int = 0,
        *,
        model: str = "text-embedding-3-small",
        count_tokens: TextCounter | None = None,
    ) -> None:
        checked_size(max_tokens, "max_tokens")
        checked_overlap(overlap_tokens, max_tokens, "overlap_tokens")
        self.max_tokens = max_tokens
        self.overlap_tokens = overlap_tokens
        self._count: TextCounter = count_tokens or TokenCounter(model).count_text

    def __repr__(self) -> str:
        return f"TokenChunker({self.max_tokens}, {self.overlap_tokens})"

    def spans(self, text: str) -> list[Span]:
        count = functools.lru_cache(maxsize=20_000)(self._count)  # a text says the same words again and again
        places, sizes = [0], list[int]()
        for match in _PIECE.finditer(text):
            for end, size in self._parts(text, match.start(), match.end(), count):
                places.append(end)
                sizes.append(size)
        return self._filled(text, places, sizes)

    def _parts(self, text: str, start: int, end: int, count: TextCounter) -> list[tuple[int, int]]:
        """(end, tokens) of the pieces, halved until each fits beside the overlap."""
        size = count(text[start:end])
        if size <= self.max_tokens - self.overlap_tokens or end - start == 1:
            return [(end, size)]
        middle = (start + end) // 2
        return self._parts(text, start, middle, count) + self._parts(text, middle, end, count)

    def _filled(self, text: str, places: list[int], sizes: list[int]) -> list[Span]:
        """Chunks of whole pieces: the sum of their tokens is an estimate, so each chunk is counted before it is one."""
        found: list[Span] = []
        first = 0
        while first < len(sizes):
            begin = self._overlap_begin(first, sizes)
            while found and begin < first and places[begin] <= found[-1].start:
                begin += 1
            end = self._end(begin, first, sizes)
            while True:
                span = ascending(text, places[begin], places[first], places[end], found[-1] if found else None)
                n_tokens = self._count(text[span.start : span.end]) if span else 0
                if n_tokens <= self.max_tokens:
                    break
                begin, end = self._smaller(begin, first, end, n_tokens)
            found.extend([span] if span else [])
            first = end
        return found

    def _overlap_begin(self, first: int, sizes: list[int]) -> int:
        begin, total = first, 0
        while begin > 0 and total + sizes[begin - 1] <= self.overlap_tokens:
            begin -= 1
            total += sizes[begin]
        return begin

    def _end(self, begin: int, first: int, sizes: list[int]) -> int:
        """After the last piece that fits; one is always taken."""
        end, total = first + 1, sum(sizes[begin : first + 1])
        while end < len(sizes) and total + sizes[end] <= self.max_tokens:
            total += sizes[end]
            end += 1
        return end

    def _smaller(self, begin: int, first: int, end: int, n_tokens: int) -> tuple[int, int]:
        """The overlap is given up first, then the last pieces."""
        if begin < first:
            return begin + 1, end
        if end - first > 1:
            return begin, end - 1
        raise ValidationError(f"max_tokens is {self.max_tokens}; a single character of the text has {n_tokens} tokens")
