"""The lexical features of a text, hashed into dimensions with whole weights.

The hashing trick with signs (Weinberger et al. 2009, https://arxiv.org/abs/0902.2206), over words and their three- to
five-letter pieces, so that "bake" and "baking" share something and languages without spaces work.
"""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from collections import Counter

# Of a longer run the pieces say enough; a word of it is cut, so that none is kept that nobody says again.
_WORD = re.compile(r"\w{1,64}|[^\w\s]")
_WHOLE_WORD = 4
"""What a word weighs against one of its pieces."""
_PIECES = (3, 4, 5)


def features(text: str, dimensions: int) -> dict[int, int]:
    """Dimension → weight, never zero. A word said often counts by the length of its count in bits."""
    normal = unicodedata.normalize("NFKC", text).casefold()
    weights: Counter[int] = Counter()
    for word, count in Counter(_WORD.findall(normal)).items():
        emphasis = count.bit_length()
        for number, weight in _features_of(word):
            weights[number % dimensions] += weight * emphasis
    return {dimension: weight for dimension, weight in weights.items() if weight}


@functools.lru_cache(maxsize=50_000)
def _features_of(word: str) -> tuple[tuple[int, int], ...]:
    """(number, signed weight) of the word and its pieces."""
    framed = f"<{word}>"
    pieces = [framed[start : start + n] for n in _PIECES for start in range(len(framed) - n + 1)]
    return (_hashed(framed + "=", _WHOLE_WORD), *(_hashed(piece, 1) for piece in pieces))


def _hashed(feature: str, weight: int) -> tuple[int, int]:
    # A lone surrogate has no UTF-8.
    digest = hashlib.blake2b(feature.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    number = int.from_bytes(digest, "little")
    return number >> 1, weight if number & 1 else -weight
