"""Chunks along the functions and classes of source code."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

from memexllm.memory.chunking.base import Span, SpanChunker
from memexllm.memory.chunking.cutting import (
    checked_size,
    cuts_after,
    line_starts,
    packed,
    paragraphs,
    refined,
    spans_between,
    words,
)
from memexllm.memory.chunking.python_units import Unit, python_units

_LINE_END = re.compile(r"\r\n|\n|\r")
# A line that begins no block: indented, or the rest of the one above.
_CONTINUES = re.compile(r"[\s})\]]|(?:else|elif|end|except|finally|catch|then|esac|fi|done)\b")
_CLOSES = re.compile(r"(?:[})\]]+[;,)]*|end)\s*$")


class CodeChunker(SpanChunker):
    """One chunk for each function and class that fits in `max_chars`; other statements go together.

    Python is read by its own parser: decorators and the comments above stay with their function, a class that is too
    large is divided into its methods, and `metadata["symbol"]` is the name, `Class.method` of a method. Other languages
    are divided where a line begins at the margin after a blank line or a closing brace, and small blocks go together.
    `language` is "python" or any other name; None takes the text for Python when it can be parsed as such.
    """

    def __init__(self, max_chars: int = 1500, language: str | None = None) -> None:
        checked_size(max_chars, "max_chars")
        self.max_chars = max_chars
        self.language = language

    def __repr__(self) -> str:
        return f"CodeChunker({self.max_chars}, {self.language!r})"

    def spans(self, text: str) -> list[Span]:
        units = python_units(text, self.max_chars) if self.language in (None, "python") else None
        if units is None:
            return self._in_blocks(text, {"language": self.language} if self.language else {})
        return [span for unit in units for span in self._of_unit(text, unit)]

    def _of_unit(self, text: str, unit: Unit) -> list[Span]:
        metadata: dict[str, Any] = {"language": "python"}
        if unit.symbol:
            metadata["symbol"] = unit.symbol
        cuts = refined(text, unit.start, unit.end, self.max_chars, [paragraphs, lines, words])
        return _with(metadata, spans_between(text, cuts))

    def _in_blocks(self, text: str, metadata: Mapping[str, Any]) -> list[Span]:
        cuts = refined(text, 0, len(text), self.max_chars, [blocks, paragraphs, lines, words])
        return _with(metadata, spans_between(text, packed(text, cuts, self.max_chars)))


def lines(text: str, start: int, end: int) -> list[int]:
    return cuts_after(_LINE_END, text, start, end)


def blocks(text: str, start: int, end: int) -> list[int]:
    """Cuts where something new begins at the margin, after a blank line or what closes a block."""
    starts = line_starts(text)
    cuts = [start]
    for before, place in itertools.pairwise(starts):
        above = text[before:place]
        closed = not above.strip() or _CLOSES.match(above)
        if start < place < end and closed and not _CONTINUES.match(text, place):
            cuts.append(place)
    return [*cuts, end]


def _with(metadata: Mapping[str, Any], spans: list[Span]) -> list[Span]:
    return [Span(span.start, span.end, metadata) for span in spans]
