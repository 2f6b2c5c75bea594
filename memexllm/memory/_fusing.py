"""Search by words and by meaning made one: which records answer best, and what full text is where there is no index.

Scores of the two have nothing in common but their order, so the best of each are stretched to 0..1 and both count one
half, as in the recall of past turns. How many are looked at is fixed, so that pages of one search follow each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from math import log
from typing import TYPE_CHECKING, Any

from memexllm.memory.embeddings.vectors import numpy_for
from memexllm.storage._words import Phrase, phrases_of, refuse_surrogates, stemmed, stems_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FOUND_BY_WORDS, FOUND_BY_MEANING = 50, 100
"""How many of the best by either search gain by it."""
# BM25 as FTS5 computes it; a word in more than half of the texts still orders them.
_K1, _B, _LEAST_IDF = 1.2, 0.75, 1e-6

Words = Sequence[tuple[int, float]]
"""Places of records and their scores by words, which are positive; the best first."""


def asked_phrases(query: str) -> list[Phrase]:
    """The words of a query that are looked for, as written."""
    refuse_surrogates(query, "memory query")
    return phrases_of(query)


def fused(
    nearness: NDArray[np.float32], words: Words, limit: int, offset: int, min_score: float | None
) -> tuple[list[tuple[int, float]], int]:
    """Places from `offset` on with their scores, the best first, and how many are wanted at all.

    `words` are no more than `FOUND_BY_WORDS`.

    What is among the best of neither has 0 and comes last, the nearest first.
    """
    numpy = numpy_for("memory")
    if not len(nearness):
        return [], 0
    depth = max(0, len(nearness) - FOUND_BY_MEANING)
    low, high = float(numpy.partition(nearness, depth)[depth]), float(nearness.max())
    spread = high - low
    stretched: Any = numpy.clip((nearness - low) / spread, 0.0, 1.0) if spread > 0 else nearness >= high
    scores = stretched.astype("float32") / 2
    if words:
        scores[[place for place, _ in words]] += [score / words[0][1] / 2 for _, score in words]
    total = len(scores) if min_score is None else int((scores >= min_score).sum())
    end = min(offset + limit, total)
    places = numpy.flatnonzero(scores > 0)
    if len(places) < end:
        places = numpy.arange(len(scores))
    # Ties are broken by nearness, and then by place.
    order = places[numpy.lexsort((-nearness[places], -scores[places]))]
    return [(int(place), float(scores[place])) for place in order[offset:end]], total


def stems_in(text: str) -> list[str]:
    """What `scanned` looks at of a text, which is worth keeping."""
    return stemmed(text)


def scanned(query: str, texts: Sequence[Sequence[str]]) -> list[tuple[int, float]]:
    """Places of texts that hold a word of the query, with scores as FTS5's bm25() has them; texts come as stems."""
    wanted = frozenset(stems_of(phrase) for phrase in asked_phrases(query))
    counts = {place: found for place, stems in enumerate(texts) if (found := _counted(wanted, stems))}
    if not counts:
        return []
    average = sum(map(len, texts)) / len(texts)
    weights = {
        phrase: max(_LEAST_IDF, log((len(texts) - n_with + 0.5) / (n_with + 0.5)))
        for phrase, n_with in Counter(chain.from_iterable(counts.values())).items()
    }
    scored: list[tuple[int, float]] = []
    for place, found in counts.items():
        length = _K1 * (1 - _B + _B * len(texts[place]) / average)
        score = sum(weights[phrase] * n * (_K1 + 1) / (n + length) for phrase, n in found.items())
        scored.append((place, score))
    return sorted(scored, key=lambda pair: (-pair[1], pair[0]))


def _counted(wanted: frozenset[Phrase], stems: Sequence[str]) -> Counter[Phrase]:
    phrases: Iterator[Phrase] = chain(((each,) for each in stems), pairwise(stems))
    return Counter(phrase for phrase in phrases if phrase in wanted)
