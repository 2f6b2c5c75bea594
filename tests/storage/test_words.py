"""What a word is: the same for the index, the scan and the highlights."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from hypothesis import example, given
from hypothesis import strategies as st

from memexllm.storage._stems import stem
from memexllm.storage._words import MAX_PHRASES, indexed_text, phrases_of, snippet_of, stemmed, stems_of, words_of

_ENDINGS = (
    "ational tional enci anci izer logi bli alli entli eli ousli ization ation ator alism iveness fulness ousness "
    "aliti iviti biliti icate ative alize iciti ical ful ness al ance ence er ic able ible ant ement ment ent ion sion "
    "tion ou ism ate iti ous ive ize eed ed ing s ies sses y e ll"
)
ENDINGS = _ENDINGS.split()
beginnings = st.text("aeioublstyxz", min_size=1, max_size=7)
english = st.builds("{}{}{}".format, beginnings, st.sampled_from(ENDINGS), st.sampled_from(["", *ENDINGS]))


def terms_in_fts5(text: str) -> list[str]:
    """The terms SQLite's tokenizer makes of a text, in order."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute("CREATE VIRTUAL TABLE t USING fts5 (text, tokenize = 'porter unicode61')")
        db.execute("CREATE VIRTUAL TABLE v USING fts5vocab (t, instance)")
        db.execute("INSERT INTO t VALUES (?)", (text,))
        return [term for (term,) in db.execute("SELECT term FROM v ORDER BY offset")]


@given(english)
@example("sses")
@example("beyyed")
def test_a_stem_is_that_of_fts5(word: str) -> None:
    assert [stem(word)] == terms_in_fts5(word)


@given(english)
@example("sssing")
def test_a_stem_begins_as_its_word(word: str) -> None:
    assert stem(word)[0] == word[0]


@given(st.text("abé🙂\u0301東京 '\"*_-\x00\nЖß", max_size=30))
def test_a_text_has_the_words_the_index_sees(text: str) -> None:
    assert terms_in_fts5(indexed_text(text)) == stemmed(text)


@given(st.text(max_size=60))
def test_words_lie_in_the_text_one_after_the_other(text: str) -> None:
    last = 0
    for word in words_of(text):
        assert last <= word.start < word.end <= len(text)
        assert word.terms
        last = word.end


def test_a_query_asks_for_each_word_once_without_stop_words() -> None:
    assert phrases_of("What does the dog, or the dogs, like?") == [("dog",), ("like",)]
    assert phrases_of("to be or not to be") == [("to",), ("be",), ("or",), ("not",)]
    assert phrases_of("*** ()") == []
    assert len(phrases_of(" ".join(f"word{number}" for number in range(2000)))) == MAX_PHRASES


@given(st.text("zebra okapi.\n\t日本🙂é", max_size=600), st.integers(0, 600))
def test_a_snippet_shows_a_match_and_marks_it(filler: str, place: int) -> None:
    text = f"{filler[:place]} giraffes {filler[place:]}"
    snippet, highlights = snippet_of(text, frozenset([stems_of(("giraffe",))]))
    assert [snippet[start:end] for start, end in highlights] == ["giraffes"]
    assert len(snippet) <= 170
    assert "\n" not in snippet


@given(st.lists(st.sampled_from(["Dogs", "dog.", "running", "u4eac", "a-b", "x"]), max_size=8), st.sets(english))
def test_plain_text_is_marked_as_it_would_be_beside_a_foreign_letter(words: list[str], others: set[str]) -> None:
    text, wanted = " ".join(words), frozenset({("dog",), ("run",), ("b",), *((each,) for each in others)})
    assert snippet_of(text, wanted)[1] == snippet_of(f"{text} é", wanted)[1]
