"""Chunks of whole sentences."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from memexllm.memory.chunking.base import Span, SpanChunker
from memexllm.memory.chunking.cutting import checked_size, packed, refined, spans_between, words

# Quotation marks and brackets that close, of several scripts.
_CLOSING = r"[\"'\u201d\u2019\u00bb)\]\u300d\u300f\uff09\u3011*_]*+"
# A run of full stops is looked at once, from its beginning; without the look-behind a long one takes quadratic time.
_END = re.compile(
    rf"""(?P<stop>(?<![.!?…])[.!?…]++{_CLOSING}(?=\s))\s*
       | [\u3002\uff01\uff1f\uff61]++{_CLOSING}\s*
       | (?:\r\n|\n|\r)[^\S\r\n]*(?:\r\n|\n|\r)\s*
       | (?:\r\n|\n|\r)(?=[^\S\r\n]*(?:[-*•+]|\d{{1,9}}[.)])\s)""",
    re.VERBOSE,
)
_LAST_WORD = re.compile(r"(?:^|[^\w.])([\w.]+)$")
_ABBREVIATIONS = frozenset(
    """
    mr mrs ms dr prof sr jr st mt vs etc e.g i.e cf al fig figs eq no nos vol pp p ed eds inc ltd co corp dept gen col
    lt sgt rev hon approx est min max jan feb mar apr jun jul aug sep sept oct nov dec bzw ca z.b d.h usw nr
    """.split()  # noqa: SIM905 - forty quoted words read worse
)
_LONGEST_ABBREVIATION = 12


class SentenceChunker(SpanChunker):
    """Whole sentences, as many as fit in `max_chars` and at most `max_sentences`.

    A sentence ends with its full stop, question or exclamation mark, and with a blank line or the next item of a list;
    not after an initial, a common abbreviation, or before a small letter. One longer than `max_chars` is cut between
    words.
    """

    def __init__(self, max_chars: int = 1000, max_sentences: int | None = None) -> None:
        checked_size(max_chars, "max_chars")
        if max_sentences is not None:
            checked_size(max_sentences, "max_sentences")
        self.max_chars = max_chars
        self.max_sentences = max_sentences

    def __repr__(self) -> str:
        return f"SentenceChunker({self.max_chars}, {self.max_sentences})"

    def spans(self, text: str) -> list[Span]:
        found = sentences(text, 0, len(text))
        if self.max_sentences is None:
            return spans_between(text, refined_pack(text, found, self.max_chars))
        cuts = [0]
        for number in range(0, len(found) - 1, self.max_sentences):
            few = found[number : number + self.max_sentences + 1]
            cuts.extend(refined_pack(text, few, self.max_chars)[1:])
        return spans_between(text, cuts)


def sentences(text: str, start: int, end: int) -> list[int]:
    """The cuts between sentences of `text[start:end]`, both ends included."""
    matches = (match for match in _END.finditer(text, start, end) if match.end() < end)
    ends = (match.end() for match in matches if match["stop"] is None or _is_the_end(text, match))
    return [start, *ends, end]


def refined_pack(text: str, cuts: Sequence[int], max_chars: int) -> list[int]:
    """The cuts packed into pieces of at most `max_chars`; a larger one is cut between words, or anywhere."""
    pieces = packed(text, cuts, max_chars)
    found = [pieces[0]]
    for start, end in itertools.pairwise(pieces):
        found.extend(refined(text, start, end, max_chars, [words])[1:])
    return found


def _is_the_end(text: str, match: re.Match[str]) -> bool:
    if match["stop"] != ".":
        return not text[match.end()].islower() or match["stop"][0] != "."
    if text[match.end()].islower():
        return False
    word = _LAST_WORD.search(text, max(0, match.start() - _LONGEST_ABBREVIATION), match.start())
    return word is None or not ((len(word[1]) == 1 and word[1].isupper()) or word[1].casefold() in _ABBREVIATIONS)
