"""Chunks that end where the subject changes."""

from __future__ import annotations

import bisect
import inspect
import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from memexllm.core.errors import ConfigurationError
from memexllm.memory.chunking.base import Span, SpanChunker
from memexllm.memory.chunking.cutting import checked_size, packed, refined, spans_between, trimmed, words
from memexllm.memory.chunking.sentence import sentences
from memexllm.memory.embeddings.base import EmbeddingProvider, checked_provider
from memexllm.memory.embeddings.vectors import checked_vectors, numpy_for

if TYPE_CHECKING:
    from numpy.typing import NDArray

_AT_ONCE = 1024
"""Sentences embedded at a time; a book's vectors would take a gigabyte."""


class SemanticChunker(SpanChunker):
    """Sentences stay together while each is similar to the one before, up to `max_chars`.

    A chunk ends where the cosine of two neighbours falls below `threshold`; what is similar depends on the model, so
    look at your own texts. The provider is asked once for each sentence, and must be synchronous.
    """

    def __init__(self, provider: EmbeddingProvider, threshold: float = 0.5, *, max_chars: int = 2000) -> None:
        checked_size(max_chars, "max_chars")
        if not -1 <= threshold <= 1:
            raise ConfigurationError(f"threshold is a cosine, a number from -1 to 1; got {threshold!r:.20}")
        self.provider = checked_provider(provider)
        if inspect.iscoroutinefunction(provider.embed_batch):
            raise _asynchronous(provider)
        self._np = numpy_for("SemanticChunker")
        self.threshold = float(threshold)
        self.max_chars = max_chars

    def __repr__(self) -> str:
        return f"SemanticChunker({self.provider!r}, {self.threshold})"

    def spans(self, text: str) -> list[Span]:
        if not text.strip():
            return []
        places = self._sentences(text)
        parts = [text[slice(*trimmed(text, *piece))] for piece in _pairs(places)]
        cuts = [0]
        for place, similarity in zip(places[1:-1], self._similarities(parts), strict=True):
            if similarity < self.threshold:
                cuts.append(place)
        cuts.append(len(text))
        return spans_between(text, self._sized(text, cuts, places))

    def _sentences(self, text: str) -> list[int]:
        """The cuts between sentences, none of which is empty or too large."""
        cuts = [0]
        found = sentences(text, 0, len(text))
        for start, end in _pairs(found):
            for left, right in _pairs(refined(text, start, end, self.max_chars, [words])):
                if text[left:right].strip():
                    cuts.append(right)
        return [*cuts[:-1], len(text)] if len(cuts) > 1 else [0, len(text)]

    def _similarities(self, parts: Sequence[str]) -> Iterator[float]:
        """The cosine of each part and the next; 1.0 beside a vector of zeros, which says nothing."""
        before: NDArray[Any] | None = None
        for first in range(0, len(parts), _AT_ONCE):
            some = list(parts[first : first + _AT_ONCE])
            answer: Any = self.provider.embed_batch(some)
            if inspect.isawaitable(answer):
                if inspect.iscoroutine(answer):
                    answer.close()
                raise _asynchronous(self.provider)
            rows = checked_vectors(answer, len(some), None, type(self.provider).__name__)
            lengths = self._np.linalg.norm(rows, axis=1, keepdims=True)
            rows = rows / self._np.where(lengths == 0, 1, lengths)
            for row in rows:
                if before is not None:
                    yield float(before @ row) if before.any() and row.any() else 1.0
                before = row

    def _sized(self, text: str, cuts: Sequence[int], places: Sequence[int]) -> list[int]:
        """The cuts, with more of the places where a piece between them is too large."""
        found = [0]
        first = 0
        for cut in cuts[1:]:
            last = bisect.bisect_left(places, cut)
            found.extend(packed(text, places[first : last + 1], self.max_chars)[1:])
            first = last
        return found


def _pairs(cuts: Sequence[int]) -> Iterator[tuple[int, int]]:
    return itertools.pairwise(cuts)


def _asynchronous(provider: Any) -> ConfigurationError:
    return ConfigurationError(
        f"SemanticChunker calls {type(provider).__name__}.embed_batch and cannot wait for it: give a synchronous "
        "provider (OpenAIEmbeddings, HashingEmbeddings)"
    )
