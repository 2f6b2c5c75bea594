"""The stem of an English word by Porter's algorithm (1980), as SQLite's FTS5 computes it.

M. F. Porter, "An algorithm for suffix stripping", Program 14(3). The scan and the highlights need the very stems of the
index, so short, long and non-English words are left alone where FTS5 does.
"""

from __future__ import annotations

from functools import lru_cache

_SHORTEST, _LONGEST = 3, 64
_STEP_2 = {
    "ational": "ate", "tional": "tion", "enci": "ence", "anci": "ance", "izer": "ize", "logi": "log", "bli": "ble",
    "alli": "al", "entli": "ent", "eli": "e", "ousli": "ous", "ization": "ize", "ation": "ate", "ator": "ate",
    "alism": "al", "iveness": "ive", "fulness": "ful", "ousness": "ous", "aliti": "al", "iviti": "ive",
    "biliti": "ble",
}  # fmt: skip
_STEP_3 = {"icate": "ic", "ative": "", "alize": "al", "iciti": "ic", "ical": "ic", "ful": "", "ness": ""}
_ENDINGS_4 = "al ance ence er ic able ible ant ement ment ent sion tion ou ism ate iti ous ive ize"
_STEP_4: dict[str, str] = dict.fromkeys(_ENDINGS_4.split(), "")
_STEP_4.update(sion="s", tion="t")


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """`word` is in lower case."""
    if not _SHORTEST <= len(word.encode()) <= _LONGEST:
        return word
    word = _without_plural(word)
    word = _without_past(word)
    if word.endswith("y") and "v" in _shape(word[:-1]):
        word = word[:-1] + "i"
    word = _replaced(word, _STEP_2, 0)
    word = _replaced(word, _STEP_3, 0)
    word = _replaced(word, _STEP_4, 1)
    return _without_final_e(word)


def _shape(word: str) -> str:
    """A letter v for each vowel, c for each consonant; y is a vowel after a consonant."""
    shape = ""
    for letter in word:
        vowel = letter in "aeiou" or (letter == "y" and shape.endswith("c"))
        shape += "v" if vowel else "c"
    return shape


def _measure(word: str) -> int:
    """How often a vowel is followed by a consonant: Porter's m."""
    return _shape(word).count("vc")


def _is_short(word: str) -> bool:
    """Ends in consonant, vowel, consonant, the last one not w, x or y: Porter's *o."""
    return _shape(word).endswith("cvc") and word[-1] not in "wxy"


def _without_plural(word: str) -> str:
    if (word.endswith("sses") and len(word) > 4) or (word.endswith("ies") and len(word) > 3):
        return word[:-2]
    if word.endswith("s") and not word.endswith("ss"):
        return word[:-1]
    return word


def _without_past(word: str) -> str:
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    for suffix in ("ed", "ing"):
        rest = word.removesuffix(suffix)
        if rest != word and "v" in _shape(rest):
            return _mended(rest)
    return word


def _mended(word: str) -> str:
    if word.endswith(("at", "bl", "iz")):
        return word + "e"
    if len(word) > 1 and word[-1] == word[-2] and word[-1] not in "aeioulsz":
        return word[:-1]
    if _measure(word) == 1 and _is_short(word):
        return word + "e"
    return word


def _replaced(word: str, endings: dict[str, str], above: int) -> str:
    """The longest ending replaced, when the measure of what stands before it is `above` that."""
    for length in range(min(7, len(word) - 1), 1, -1):
        suffix = word[-length:]
        if suffix in endings:
            kept = endings[suffix]
            # The s or t of -sion and -tion belongs to what stands before.
            before = word[:-length] + (kept if suffix in ("sion", "tion") and endings is _STEP_4 else "")
            return word[:-length] + kept if _measure(before) > above else word
    return word


def _without_final_e(word: str) -> str:
    if word.endswith("e"):
        rest = word[:-1]
        measure = _measure(rest)
        if measure > 1 or (measure == 1 and not _is_short(rest)):
            word = rest
    if word.endswith("ll") and _measure(word[:-1]) > 1:
        word = word[:-1]
    return word
