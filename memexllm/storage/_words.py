"""What a word is, for the index, the scan and the highlights alike: pure functions over text.

Words are runs of letters and digits, without case and accents, compared by their stems. Scripts written without spaces
(Chinese, Japanese, Thai, …) have no words to be found in a text, so each of their characters stands for itself and a
query asks for pairs of neighbouring ones; so does each symbol, such as an emoji, alone.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal

from memexllm.core.errors import ValidationError
from memexllm.storage._stems import stem

MAX_PHRASES = 64
"""Words of a query that are looked for; a longer one is cut there."""
SNIPPET_CHARS = 160

_STOP_WORDS = """
    a about above after again against all also am an and any are aren as at be because been before being below between
    both but by can cannot could couldn d did didn do does doesn doing don down during each few for from further had
    hadn has hasn have haven having he her here hers herself him himself his how i if in into is isn it its itself just
    let ll m me more most mustn my myself no nor not now of off on once only or other ought our ours ourselves out over
    own re s same shall shan she should shouldn so some such t than that the their theirs them themselves then there
    these they this those through to too under until up upon ve very was wasn we were weren what when where which while
    who whom whose why will with won would wouldn you your yours yourself yourselves
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())

# Ideographs, kana, Hangul, Thai, Lao, Burmese, Khmer.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_PLANES_WITH_MARKS = range(0x300, 0x20000)
_SYMBOLS = "\u2190-\u2bff\U0001f000-\U0001faff"
_ASCII_WORD = re.compile(r"[A-Za-z0-9]+")
_NO_WORD = re.compile(r"(?!)")
# Canonical class up to which a mark belongs to the letter (vowel signs, kana voicing) and is no accent.
_LAST_CLASS_OF_LETTERS = 9
_PLACEHOLDERS = re.compile(r"[\s\x00-\x1f\x7f-\x9f]")

Kind = Literal["word", "unspaced", "symbol"]


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a text: its terms (nearly always one), and where it stands."""

    terms: tuple[str, ...]
    start: int
    end: int
    kind: Kind


Phrase = tuple[str, ...]
"""Terms that follow one another; one for a word."""


def words_of(text: str) -> Iterator[Word]:
    """The words in order, their terms not yet stemmed."""
    if text.isascii():
        for match in _ASCII_WORD.finditer(text):
            yield Word((match[0].lower(),), match.start(), match.end(), "word")
        return
    for match in _any_word().finditer(text):
        kind: Kind = "unspaced" if match[1] else "symbol" if match[2] else "word"
        yield Word(_terms(match[0], kind), match.start(), match.end(), kind)


def indexed_text(text: str) -> str:
    """The text for a tokenizer that knows letters and digits only: its terms joined by blanks, or as it is."""
    if text.isascii():
        return text.replace("\x00", " ")
    return " ".join([" ".join(word.terms) for word in words_of(text)])


def phrases_of(query: str) -> list[Phrase]:
    """What a query asks for, each once, not stemmed: its words but stop words, unless there are no others."""
    found: dict[Phrase, Phrase] = {}
    for phrase in _phrases(query):
        found.setdefault(stems_of(phrase), phrase)
    wanted = [phrase for phrase in found.values() if not STOP_WORDS.issuperset(phrase)]
    return (wanted or list(found.values()))[:MAX_PHRASES]


def stems_of(phrase: Phrase) -> Phrase:
    return tuple([stem(term) for term in phrase])


def stemmed(text: str) -> list[str]:
    """The stems of a text, in order."""
    return [stem(term) for word in words_of(text) for term in word.terms]


def snippet_of(text: str, wanted: frozenset[Phrase]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """A line of the text around most of the `wanted` phrases (of stems), and the ranges of it that are such."""
    matches = _matches(text, wanted)
    start, end = _window(text, matches)
    before, after = "…" if start > 0 else "", "…" if end < len(text) else ""
    shown = _PLACEHOLDERS.sub(" ", text[start:end])
    shift = len(before) - start
    inside = [(low + shift, high + shift) for low, high, _ in matches if low >= start and high <= end]
    return before + shown + after, tuple(inside)


def refuse_surrogates(text: str, what: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValidationError(f"the {what} holds a lone surrogate, which no text that is stored can hold") from None


@lru_cache(maxsize=512)
def _ascii_words(initials: str) -> re.Pattern[str]:
    """Words of an ASCII text that begin with one of these letters, small or capital."""
    letters = re.escape(initials + initials.upper())
    return re.compile(rf"(?<![A-Za-z0-9])[{letters}][A-Za-z0-9]*") if initials else _NO_WORD


@lru_cache(maxsize=1)
def _any_word() -> re.Pattern[str]:
    marks = "".join(chr(code) for code in _PLANES_WITH_MARKS if unicodedata.category(chr(code)).startswith("M"))
    return re.compile(rf"([{_UNSPACED}])|([{_SYMBOLS}])|(?:[^\W_{_UNSPACED}][{marks}]*)+")


@lru_cache(maxsize=1 << 16)
def _terms(word: str, kind: Kind) -> Phrase:
    """Without case and accents. Characters that stand for themselves become words no tokenizer can take apart."""
    decomposed = unicodedata.normalize("NFKD", word).casefold()
    if kind != "word":
        return ("u" + "".join(f"{ord(letter):x}" for letter in unicodedata.normalize("NFC", decomposed)),)
    bare = "".join(letter for letter in decomposed if unicodedata.combining(letter) <= _LAST_CLASS_OF_LETTERS)
    # Compatibility forms may decompose into several words, or into one with a sign in it.
    return tuple(match[0] for match in _any_word().finditer(bare)) or (word.casefold(),)


def _phrases(query: str) -> Iterator[Phrase]:
    run: list[Word] = []
    for word in words_of(query):
        if run and (word.kind != "unspaced" or word.start != run[-1].end):
            yield from _pairs(run)
            run = []
        if word.kind == "unspaced":
            run.append(word)
        else:
            for term in word.terms:
                yield (term,)
    yield from _pairs(run)


def _pairs(run: list[Word]) -> Iterator[Phrase]:
    if len(run) == 1:
        yield run[0].terms
    for first, second in pairwise(run):
        yield first.terms + second.terms


def _matches(text: str, wanted: frozenset[Phrase]) -> list[tuple[int, int, Phrase]]:
    """Ranges of the text that are wanted; those of pairs that overlap are joined."""
    if text.isascii() and all(len(phrase) == 1 for phrase in wanted):
        # Each word of such a text is one term, and no pair of them is looked for.
        by_stem = {phrase[0]: phrase for phrase in wanted}
        # A stem begins as its words do, so no other words are looked at.
        words = _ascii_words("".join(sorted({term[0] for term in by_stem if term})))
        return [
            (match.start(), match.end(), by_stem[term])
            for match in words.finditer(text)
            if (term := stem(match[0].lower())) in by_stem
        ]
    found: list[tuple[int, int, Phrase]] = []
    last: Word | None = None
    last_stems: Phrase = ()
    for word in words_of(text):
        stems = stems_of(word.terms)
        pair = last_stems + stems
        if last is not None and pair in wanted:
            if found and found[-1][1] == last.end:
                found[-1] = (found[-1][0], word.end, pair)
            else:
                found.append((last.start, word.end, pair))
        elif any((each,) in wanted for each in stems):
            found.append((word.start, word.end, stems))
        last, last_stems = word, stems
    return found


def _window(text: str, matches: list[tuple[int, int, Phrase]]) -> tuple[int, int]:
    """Where to cut: around the `SNIPPET_CHARS` with the most different matches, at blanks where there are any."""
    if len(text) <= SNIPPET_CHARS:
        return 0, len(text)
    best, best_range = 0, (0, 0)
    for index, (low, _, _) in enumerate(matches):
        kinds: set[Phrase] = set()
        high = low
        for _, end, phrase in matches[index : index + SNIPPET_CHARS]:
            if end - low > SNIPPET_CHARS and kinds:
                break
            kinds.add(phrase)
            high = end
        if len(kinds) > best:
            best, best_range = len(kinds), (low, high)
    low, high = best_range
    room = max(0, SNIPPET_CHARS - (high - low))
    start = max(0, min(low - room // 3, len(text) - SNIPPET_CHARS))
    end = min(len(text), max(start + SNIPPET_CHARS, high))
    if start > 0:
        blank = text.find(" ", start, low)
        start = blank + 1 if blank >= 0 else start
    if end < len(text):
        blank = text.rfind(" ", high, end)
        end = blank if blank > high else end
    return start, end
