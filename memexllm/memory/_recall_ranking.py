"""Which past turn answers best: scores of full text and of vectors made one, and what a speaker's name says.

Scores of the two searches have nothing in common but their order, so each is stretched to 0..1 and both count one half.
On top of that, the turns of a speaker whom the query names gain, and so do those said in the same sitting as other good
ones. The weights are those that did best over ten long dialogues (LoCoMo, https://arxiv.org/abs/2402.17753).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from memexllm.storage._words import STOP_WORDS, words_of

SPEAKER_WEIGHT = 0.2
SITTING_WEIGHT = 0.2
SITTING_PAUSE_MICROS = 3_600_000_000
"""Turns of one thread with a longer pause between them were said in two sittings."""
_BEST_OF_A_SITTING = 3

Place = tuple[str, int]
"""Where a turn stands: its thread's id and its seq."""


@dataclass(slots=True)
class Candidate:
    """A turn that one of the searches found, or both; scores are those of the searches, None for not found."""

    place: Place
    created_at: int
    speaker: str | None
    lexical: float | None = None
    dense: float | None = None


def ranked(
    query: str, candidates: Sequence[Candidate], *, fused: bool, speaker_weight: float
) -> list[tuple[float, Place]]:
    """The candidates with their scores, the best first; among equals, what was said last."""
    # What full text does not find has a score of 0 there; what is not among the nearest is as far as the farthest.
    lexical = _stretched([each.lexical for each in candidates], floor=0.0)
    scores = lexical
    if fused:
        dense = _stretched([each.dense for each in candidates])
        scores = [(one + other) / 2 for one, other in zip(lexical, dense, strict=True)]
    named = (
        _named(query, {each.speaker for each in candidates if each.speaker is not None}) if speaker_weight else set()
    )
    scores = [
        score + (speaker_weight if each.speaker in named else 0.0)
        for score, each in zip(scores, candidates, strict=True)
    ]
    sittings = _sittings(candidates)
    gains = _gains(sittings, scores)
    scores = [score + SITTING_WEIGHT * gains[sitting] for score, sitting in zip(scores, sittings, strict=True)]
    order = sorted(range(len(candidates)), key=lambda n: (-scores[n], -candidates[n].created_at, candidates[n].place))
    return [(scores[n], candidates[n].place) for n in order]


def _stretched(scores: Sequence[float | None], floor: float | None = None) -> list[float]:
    """Scores from 0 to 1; those that are None are 0."""
    there = [score for score in scores if score is not None]
    if not there:
        return [0.0] * len(scores)
    low, high = min(there) if floor is None else floor, max(there)
    if high <= low:
        return [0.0 if score is None else 1.0 for score in scores]
    return [0.0 if score is None else max(0.0, (score - low) / (high - low)) for score in scores]


def _named(query: str, speakers: Iterable[str]) -> set[str]:
    """The speakers whose name, or a part of it, is a word of the query."""
    asked = set(_terms(query)) - STOP_WORDS
    return {speaker for speaker in speakers if not asked.isdisjoint(_terms(speaker))}


def _terms(text: str) -> list[str]:
    # A name in the genitive is taken apart at its apostrophe, as every word is.
    return [term for word in words_of(text) for term in word.terms]


def _sittings(candidates: Sequence[Candidate]) -> list[int]:
    """For each candidate the number of its sitting."""
    order = sorted(range(len(candidates)), key=lambda n: (candidates[n].place[0], candidates[n].created_at))
    numbers = [0] * len(candidates)
    number = 0
    for before, after in pairwise(order):
        one, other = candidates[before], candidates[after]
        if one.place[0] != other.place[0] or other.created_at - one.created_at > SITTING_PAUSE_MICROS:
            number += 1
        numbers[after] = number
    return numbers


def _gains(sittings: Sequence[int], scores: Sequence[float]) -> Mapping[int, float]:
    """How good each sitting is, from 0 to 1, by its best turns; a search within one sitting tells none apart."""
    found: dict[int, list[float]] = {}
    for sitting, score in zip(sittings, scores, strict=True):
        found.setdefault(sitting, []).append(score)
    means = {
        sitting: sum(sorted(each, reverse=True)[:_BEST_OF_A_SITTING]) / _BEST_OF_A_SITTING
        for sitting, each in found.items()
    }
    low, high = min(means.values(), default=0.0), max(means.values(), default=0.0)
    return {sitting: (mean - low) / (high - low) if high > low else 0.0 for sitting, mean in means.items()}
