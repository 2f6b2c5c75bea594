"""What the chunkers share: a text is divided by cuts, and pieces are packed, refined and trimmed.

A list of cuts divides a whole text, so nothing between two cuts can be lost; only whitespace at a chunk's edges is left
out, in one place (`trimmed`). Sizes are characters.
"""

from __future__ import annotations

import bisect
import itertools
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence

from memexllm.core.errors import ConfigurationError
from memexllm.memory.chunking.base import Span

# A paragraph ends with its blank lines, a line with its end.
_PARAGRAPH_END = re.compile(r"(?:\r\n|\n|\r)[^\S\r\n]*(?:\r\n|\n|\r)\s*")
_WORD_END = re.compile(r"\s+")
_JOINERS = "\u200d\ufe0e\ufe0f"
_SKIN_TONES = ("\U0001f3fb", "\U0001f3ff")


def checked_size(value: object, name: str, least: int = 1) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigurationError(f"{name} must be an integer of at least {least}; got {value!r:.20}")


def checked_overlap(overlap: object, size: int, name: str) -> None:
    if not isinstance(overlap, int) or isinstance(overlap, bool) or not 0 <= overlap < size:
        raise ConfigurationError(
            f"{name} must be an integer from 0 to less than a chunk's size, {size}; got {overlap!r:.20}"
        )


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """`start` and `end` moved inwards over whitespace; equal when there is nothing else."""
    piece = text[start:end]
    kept = piece.strip()
    if not kept:
        return start, start
    first = start + len(piece) - len(piece.lstrip())
    return first, first + len(kept)


def spans_between(text: str, cuts: Iterable[int]) -> list[Span]:
    """One span between each cut and the next, trimmed; those of whitespace alone are left out."""
    places = list(cuts)
    found = (trimmed(text, start, end) for start, end in itertools.pairwise(places))
    return [Span(start, end) for start, end in found if start < end]


def packed(text: str, cuts: Sequence[int], max_chars: int) -> list[int]:
    """Of these cuts as few as make pieces of at most `max_chars`; a piece that is larger alone stays so.

    Whitespace at a piece's end does not count.
    """
    kept = [cuts[0]]
    for cut, following in itertools.pairwise(cuts):
        if cut + len(text[cut:following].rstrip()) - kept[-1] > max_chars:
            kept.append(cut)
    return [*kept, cuts[-1]]


Divide = Callable[[str, int, int], Sequence[int]]
"""Divides `text[start:end]`: its cuts, `start` and `end` included."""


def refined(text: str, start: int, end: int, max_chars: int, ways: Sequence[Divide]) -> list[int]:
    """Cuts into pieces of at most `max_chars`, by the first of `ways` as far as it goes, then by the next."""
    if end - start <= max_chars or len(text[start:end].rstrip()) <= max_chars:
        return [start, end]
    if not ways:
        return hard_cuts(text, start, end, max_chars)
    divided = ways[0](text, start, end)
    pieces = packed(text, divided, max_chars)
    found = [start]
    for left, right in itertools.pairwise(pieces):
        found.extend(refined(text, left, right, max_chars, ways[1:])[1:])
    return found


def cuts_after(pattern: re.Pattern[str], text: str, start: int, end: int) -> list[int]:
    """`start`, the end of each match inside, and `end`."""
    found = [match.end() for match in pattern.finditer(text, start, end)]
    return [start, *(cut for cut in found if start < cut < end), end]


def paragraphs(text: str, start: int, end: int) -> list[int]:
    return cuts_after(_PARAGRAPH_END, text, start, end)


def words(text: str, start: int, end: int) -> list[int]:
    return cuts_after(_WORD_END, text, start, end)


def hard_cuts(text: str, start: int, end: int, max_chars: int) -> list[int]:
    """Every `max_chars`, or a little before where a letter and its accent or an emoji would be torn apart."""
    cuts = [start]
    while end - cuts[-1] > max_chars:
        limit = cuts[-1] + max_chars
        cuts.append(next((cut for cut in range(limit, max(cuts[-1], limit - 16), -1) if not _tears(text, cut)), limit))
    return [*cuts, end]


def _tears(text: str, cut: int) -> bool:
    """Whether a cut here parts what is seen as one sign, or a line's end."""
    before, after = text[cut - 1], text[cut]
    return (
        unicodedata.combining(after) != 0
        or after in _JOINERS
        or before == "\u200d"
        or _SKIN_TONES[0] <= after <= _SKIN_TONES[1]
        or (before == "\r" and after == "\n")
    )


def line_starts(text: str) -> list[int]:
    """0, and where a line begins after LF, CRLF or CR, as the Python parser counts lines."""
    return [0, *(match.end() for match in re.finditer(r"\r\n|\n|\r", text))]


def overlapping(text: str, pieces: Sequence[int], places: Sequence[int], overlap: int) -> list[Span]:
    """A span for each piece, begun up to `overlap` earlier, at one of the `places`; both are cuts of the whole text.

    Where nothing is gained by it, a piece begins where it begins: chunks ascend in start and in end.
    """
    found: list[Span] = []
    for start, end in itertools.pairwise(pieces):
        before = found[-1] if found else None
        nearest = max(start - overlap, before.start + 1 if before else 0)
        earlier = min(places[bisect.bisect_left(places, nearest)], start) if overlap else start
        span = ascending(text, earlier, start, end, before)
        if span is not None:
            found.append(span)
    return found


def ascending(text: str, earlier: int, start: int, end: int, before: Span | None) -> Span | None:
    """`text[earlier:end]` trimmed, from `start` where that would not begin after `before`; None if nothing is new."""
    left, right = trimmed(text, earlier, end)
    if before is not None and left <= before.start:
        left, right = trimmed(text, start, end)
    if left == right or (before is not None and right <= before.end):
        return None
    return Span(left, right)
