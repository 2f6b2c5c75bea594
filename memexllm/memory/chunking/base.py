"""The contract of a chunker: one method; offsets are found when it does not tell them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from memexllm.core.errors import ValidationError


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a text: `text[start:end]`, and what is known of it (its headings, the name of its function)."""

    start: int
    end: int
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk with its place; `start` and `end` are None when it does not stand in the text word for word."""

    text: str
    start: int | None = None
    end: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])


class ChunkingStrategy(ABC):
    """Subclasses implement `chunk`; those of this package implement `spans` and are `SpanChunker`s."""

    @abstractmethod
    def chunk(self, text: str) -> list[str]:
        """The pieces to remember, in order; none for a text without any."""

    def spans(self, text: str) -> list[Span]:
        """Where the chunks are: `text[span.start:span.end]`, ascending; they may overlap.

        Found by looking for each chunk after the beginning of the one before it. A chunk that is not there word for
        word is a `ValidationError`.
        """
        found = located(text, self.chunk(text))
        if found is None:
            raise ValidationError(
                f"{type(self).__name__} gives chunks that are not in the text word for word, so they have no offsets; "
                "use chunk()"
            )
        return found


class SpanChunker(ChunkingStrategy):
    """A chunker that knows its offsets: implement `spans`."""

    def chunk(self, text: str) -> list[str]:
        return [text[span.start : span.end] for span in self.spans(text)]

    @abstractmethod
    def spans(self, text: str) -> list[Span]:
        """Where the chunks are: ascending in start and in end, none of whitespace alone.

        Together they hold every character of the text for which `str.isspace()` is false.
        """


def chunks_of(strategy: Any, text: str) -> list[Chunk]:
    """The chunks that any object with a `chunk` method makes, with offsets and metadata as far as they can be had."""
    if isinstance(strategy, SpanChunker):
        return [
            Chunk(text[span.start : span.end], span.start, span.end, span.metadata) for span in strategy.spans(text)
        ]
    pieces = _checked(strategy.chunk(text), strategy)
    found = located(text, pieces)
    if found is None:
        return [Chunk(piece) for piece in pieces]
    return [Chunk(piece, span.start, span.end) for piece, span in zip(pieces, found, strict=True)]


def located(text: str, pieces: Sequence[str]) -> list[Span] | None:
    """Where each piece stands, after the beginning of the one before; None when one does not stand there.

    A piece that follows directly, whitespace apart, is found at once; one that overlaps or was said twice at the first
    place that is possible.
    """
    found: list[Span] = []
    start, end = -1, 0
    for piece in pieces:
        place = _next_place(text, piece, start, end)
        if place < 0:
            return None
        start, end = place, place + len(piece)
        found.append(Span(start, end))
    return found


def _next_place(text: str, piece: str, start: int, end: int) -> int:
    following = end
    while following < len(text) and text[following].isspace() and not text.startswith(piece, following):
        following += 1
    return following if text.startswith(piece, following) else text.find(piece, start + 1)


def _checked(pieces: Any, strategy: Any) -> list[str]:
    if isinstance(pieces, list | tuple) and all(isinstance(piece, str) for piece in pieces):
        return list(pieces)
    raise ValidationError(f"{type(strategy).__name__}.chunk() must return a list of texts; got {type(pieces).__name__}")
