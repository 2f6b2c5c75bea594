"""The filter language: what it means for any value, and that SQLite finds what Python says."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memexllm.core.errors import ValidationError
from memexllm.core.flow import run
from memexllm.memory import MemoryRecord, SQLiteVectorDatabase
from memexllm.memory.embeddings import HashingEmbeddings
from memexllm.memory.filters import Filter, parsed_filters

NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)
WORDS = st.sampled_from(["", "a", "b", "a.b", 'quo"te', "$", "1", "é", "nul\x00", "gt "])
NUMBERS = st.sampled_from([0, 1, -1, 2**53, 2**53 + 1, 2**70, 1.0, 0.1, 0.30000000000000004, 1e300, -0.0])
SCALARS = st.none() | st.booleans() | NUMBERS | WORDS
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(WORDS, SCALARS, max_size=2)
CONDITIONS = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=3),
    st.builds(lambda value: {"eq": value}, VALUES),
    st.builds(lambda value: {"ne": value}, VALUES),
    st.builds(lambda values: {"any": values}, st.lists(VALUES, min_size=1, max_size=3)),
    st.builds(lambda values: {"all": values}, st.lists(VALUES, min_size=1, max_size=3)),
    st.builds(lambda sign, bound: {sign: bound}, st.sampled_from(["gt", "gte", "lt", "lte"]), NUMBERS | WORDS),
    st.builds(lambda low, high: {"gte": low, "lt": high}, NUMBERS, NUMBERS),
)
METADATA = st.dictionaries(WORDS, VALUES, max_size=3)
WISHES = st.dictionaries(WORDS, CONDITIONS | st.builds(lambda key, wish: {key: wish}, WORDS, CONDITIONS), max_size=2)


def matches(metadata: dict[str, Any], wanted: Any) -> bool:
    return parsed_filters({"metadata": {"k": wanted}}).matches(MemoryRecord("tea", metadata=metadata))


@pytest.mark.parametrize(
    ("value", "wanted", "expected"),
    [
        (True, 1, False),
        (1, True, False),
        ("1", 1, False),
        (1, 1.0, True),
        (0, False, False),
        (None, None, True),
        ([1, 2], [1, 2], True),
        ([1, 2], [2, 1], False),
        ([1], 1, False),
        ([1], {"any": [1]}, True),
        ([1], {"any": [True]}, False),
        ([1, 2, 3], {"all": [3, 1]}, True),
        ([1, 2, 3], {"all": [3, 4]}, False),
        ([1, 2, 3], {"any": [3, 4]}, True),
        (3, {"any": [3, 4]}, True),
        (3, {"all": [3, 4]}, False),
        (3, {"gt": 2, "lt": 4}, True),
        (3, {"gte": 3, "lt": 3}, False),
        (2.5, {"gt": 2, "lte": 2.5}, True),
        (True, {"gte": 0}, False),
        ("b", {"gte": "a", "lt": "c"}, True),
        ("3", {"gt": 2}, False),
        ([3], {"gt": 2}, False),
        (1, {"ne": 2}, True),
        (1, {"ne": 1.0}, False),
        ({"a": {"b": 1}}, {"a": {"b": 1}}, True),
        ({"a": {"b": 1}}, {"a": {"b": {"gt": 0}}}, True),
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1, "b": 2}, {"eq": {"a": 1}}, False),
        (2**53 + 1, 2**53, False),
        (2**53 + 1, {"gt": 2**53}, True),
    ],
    ids=str,
)
def test_values_are_compared_as_json_has_them(value: Any, wanted: Any, expected: bool) -> None:
    assert matches({"k": value}, wanted) is expected


@pytest.mark.parametrize("wanted", [None, 1, {"any": [None]}, {"all": [1]}, {"gt": 0}, {"deeper": 1}], ids=str)
def test_a_key_that_is_not_there_matches_nothing_but_ne(wanted: Any) -> None:
    assert not matches({}, wanted)
    assert matches({}, {"ne": 1})


@given(VALUES, VALUES)
def test_every_value_is_equal_or_unequal_to_any_other(one: Any, other: Any) -> None:
    equal = matches({"k": one}, {"eq": other})
    assert matches({"k": one}, {"ne": other}) is not equal
    assert matches({"k": other}, {"eq": one}) is equal
    assert matches({"k": one}, {"eq": one})


@given(VALUES, st.lists(VALUES, min_size=1, max_size=3))
def test_any_is_wider_than_all(value: Any, wanted: list[Any]) -> None:
    each = [matches({"k": value}, {"any": [one]}) for one in wanted]
    assert matches({"k": value}, {"any": wanted}) is any(each)
    assert matches({"k": value}, {"all": wanted}) is all(each)


@given(NUMBERS | WORDS, NUMBERS | WORDS)
def test_ranges_split_what_can_be_compared(value: Any, bound: Any) -> None:
    below, above = matches({"k": value}, {"lt": bound}), matches({"k": value}, {"gte": bound})
    comparable = isinstance(value, str) == isinstance(bound, str)
    assert below is not above if comparable else not (below or above)


@pytest.mark.parametrize(
    "filters",
    [
        {"session": "x"},
        {"text": "x"},
        {"user_id": 1},
        {"user_id": {}},
        {"user_id": {"like": "a"}},
        {"user_id": {"any": []}},
        {"user_id": {"any": "ab"}},
        {"user_id": {"gt": None}},
        {"created_at": 5},
        {"created_at": {"gt": "soon"}},
        {"metadata": "en"},
        {"metadata": {"k": {}}},
        {"metadata": {"k": {"gt": 1, "name": 2}}},
        {"metadata": {"k": {"gt": True}}},
        {"metadata": {"k": {"gt": [1]}}},
        {"metadata": {"k": {"any": 1}}},
        {"metadata": {"k": float("nan")}},
    ],
    ids=str,
)
def test_what_is_not_understood_is_refused_and_not_ignored(filters: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        parsed_filters(filters)


def test_an_unknown_filter_is_told_with_those_there_are() -> None:
    with pytest.raises(ValidationError, match=r"'session'.*user_id.*kind.*metadata"):
        parsed_filters({"session": "x"})


def test_none_is_the_same_as_not_given() -> None:
    assert parsed_filters({"user_id": None, "metadata": None, "created_at": None}) == Filter()


@settings(max_examples=60, deadline=None)
@given(st.lists(METADATA, min_size=1, max_size=6), st.lists(WISHES, min_size=1, max_size=6))
def test_sqlite_finds_what_the_language_means(stored: list[dict[str, Any]], wishes: list[dict[str, Any]]) -> None:
    database = SQLiteVectorDatabase(":memory:", HashingEmbeddings(8))
    records = [MemoryRecord(f"tea {n}", metadata=metadata) for n, metadata in enumerate(stored)]
    run(database.adding(records))
    for wish in wishes:
        try:
            wanted = parsed_filters({"metadata": wish})
        except ValidationError:
            continue
        expected = [record.id for record in records if wanted.matches(record)]
        assert [record.id for record in run(database.listing(metadata=wish))] == expected
        assert run(database.counting(metadata=wish)) == len(expected)
        assert sorted(record.id for record in run(database.searching("tea", metadata=wish))) == sorted(expected)
    run(database.closing())


@pytest.mark.parametrize("n_values", [1, 499, 501, 1500])
def test_a_long_list_of_values_is_no_limit(n_values: int) -> None:
    database = SQLiteVectorDatabase(":memory:", HashingEmbeddings(8))
    run(database.adding([MemoryRecord("tea", id="0", metadata={"n": n_values - 1})]))
    ids = [str(n) for n in reversed(range(n_values))]
    assert run(database.counting(id={"any": ids})) == 1
    assert run(database.counting(metadata={"n": {"any": list(range(n_values))}})) == 1
    run(database.closing())
