"""Chunks of one size, whatever the text is."""

from __future__ import annotations

from memexllm.memory.chunking.base import Span, SpanChunker
from memexllm.memory.chunking.cutting import checked_overlap, checked_size, overlapping, refined, words


class FixedSizeChunker(SpanChunker):
    """As many whole words as fit in `max_chars`; a longer word is cut.

    Each chunk begins with up to `overlap_chars` of the one before, which count: a chunk is never larger than
    `max_chars`.
    """

    def __init__(self, max_chars: int = 1000, overlap_chars: int = 0) -> None:
        checked_size(max_chars, "max_chars")
        checked_overlap(overlap_chars, max_chars, "overlap_chars")
        self.max_chars = max_chars
        self.overlap_chars = overlap_chars

    def __repr__(self) -> str:
        return f"FixedSizeChunker({self.max_chars}, {self.overlap_chars})"

    def spans(self, text: str) -> list[Span]:
        pieces = refined(text, 0, len(text), self.max_chars - self.overlap_chars, [words])
        places = sorted({*pieces, *words(text, 0, len(text))}) if self.overlap_chars else pieces
        return overlapping(text, pieces, places, self.overlap_chars)
