"""Laws on lists of threads: order, pages, filters, previews. They bind every storage, as the managers list it.

A storage that names the keywords in its `list_threads` answers itself; for any other its threads are paged through.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from memexllm.core.errors import ValidationError
from memexllm.core.models import Message, Thread
from memexllm.testing._corpus import METADATA
from memexllm.testing._driven import DrivenStorage, says

ORDERS = ("created", "-created", "updated", "-updated")
START = datetime(2025, 6, 1, 12, 0, tzinfo=UTC)
CREATED = ("d", "a", "c", "b", "e")
UPDATED = ("c", "d", "b", "e", "a")
"""b and e at the same time, which goes by creation."""
EXPECTED = {"created": CREATED, "-created": CREATED[::-1], "updated": UPDATED, "-updated": UPDATED[::-1]}
NUMBERS = (0, 1, -1, 1.5, 4007, 2**53 + 1, 10**16, 1e300, 2**70)
HOSTILE = (
    "a.b",
    "$.a",
    "$",
    "%",
    "_",
    "'; --",
    'say "a"',
    '{"a":1}',
    '":"',
    "a\\",
    "[0]",
    "é",
    "e\u0301",
    "🙂",
    "nul \x00 end",
    "nul \x00",
    "\u2028",
    "",
    " ",
    "A",
    "a",
    "1",
    "null",
)


class ListingLaws:
    @pytest.fixture
    def five(self, store: DrivenStorage) -> DrivenStorage:
        """Five threads, made and written to in different orders."""
        times = {"c": 1, "d": 2, "b": 3, "e": 3, "a": 4}
        for name in CREATED:
            moment = START + timedelta(seconds=times[name])
            store.save_thread(Thread(name, messages=says(name), created_at=START, updated_at=moment))
        return store

    # Order.

    @pytest.mark.parametrize("order_by", ORDERS)
    def test_listing_is_in_the_order_asked_for(self, five: DrivenStorage, order_by: Any) -> None:
        assert five.listed_ids(order_by=order_by) == list(EXPECTED[order_by])
        assert five.listed_ids(2, 1, order_by=order_by) == list(EXPECTED[order_by][1:3])
        assert five.listed_ids(2**70, 2**70, order_by=order_by) == []

    def test_listing_without_more_is_the_order_of_creation(self, five: DrivenStorage) -> None:
        assert five.listed_ids() == list(CREATED)
        assert five.listed_ids(2, 3) == list(CREATED[3:])

    def test_listing_shows_the_thread_written_to_last_first(self, five: DrivenStorage) -> None:
        for name in ("b", "c", "c", "d", "b"):
            five.append(name, *says("more"))
        assert five.listed_ids(3, order_by="-updated") == ["b", "d", "c"]
        five.start("new")
        assert five.listed_ids(2, order_by="-updated") == ["new", "b"]
        five.call("patch_thread", "a", title="a title")
        assert five.listed_ids(2, order_by="-updated") == ["a", "new"]
        five.delete_thread("new")
        assert five.listed_ids(2, order_by="-updated") == ["a", "b"]

    @pytest.mark.parametrize("seed", range(8))
    def test_listing_agrees_with_the_times_of_the_threads(self, store: DrivenStorage, seed: int) -> None:
        """Whatever is written in whichever order, also with times of the past and the future."""
        rng = random.Random(seed)
        names = [f"t{number}" for number in range(6)]
        for _ in range(40):
            _write_something(store, rng, rng.choice(names))
            made = store.listed()
            for order_by in ("updated", "-updated"):
                expected = sorted(made, key=lambda thread: thread.updated_at)
                if order_by == "-updated":
                    expected.reverse()
                found = store.listed(order_by=order_by)
                assert [each.id for each in found] == [each.id for each in expected]
                _check_cursors(store, found, order_by, rng)

    # Pages.

    @pytest.mark.parametrize("order_by", ORDERS)
    @pytest.mark.parametrize("size", [1, 2, 3, 5, 9])
    def test_listing_by_pages_shows_every_thread_once(self, five: DrivenStorage, order_by: Any, size: int) -> None:
        found: list[str] = []
        after: Any = None
        while page := five.listed(size, order_by=order_by, after=after):
            found += [thread.id for thread in page]
            after = page[-1].cursor
            assert len(found) <= 5
        assert found == list(EXPECTED[order_by])

    @pytest.mark.parametrize("order_by", ORDERS)
    def test_listing_back_gives_the_page_before(self, five: DrivenStorage, order_by: Any) -> None:
        found = five.listed(order_by=order_by)
        assert five.listed_ids(2, order_by=order_by, before=found[4]) == [each.id for each in found[2:4]]
        assert five.listed_ids(2, order_by=order_by, before=found[1].cursor) == [found[0].id]
        assert five.listed_ids(2, order_by=order_by, before=found[0]) == []
        assert five.listed_ids(2, 1, order_by=order_by, before=found[4]) == [each.id for each in found[1:3]]
        between = five.listed_ids(2, order_by=order_by, after=found[0], before=found[4])
        assert between == [found[1].id, found[2].id]

    @pytest.mark.parametrize("order_by", ORDERS)
    def test_a_cursor_outlives_its_thread(self, store: DrivenStorage, order_by: Any) -> None:
        for number in range(5):
            moment = START + timedelta(seconds=number)
            store.save_thread(Thread(f"t{number}", created_at=moment, updated_at=moment))
        found = store.listed(order_by=order_by)
        store.delete_thread(found[2].id)
        assert store.listed_ids(order_by=order_by, after=found[2].cursor) == [found[3].id, found[4].id]
        assert store.listed_ids(order_by=order_by, before=found[2].cursor) == [found[0].id, found[1].id]

    def test_pages_hold_while_others_are_written_to(self, five: DrivenStorage) -> None:
        """What moves to the top is on no later page; everything else is there once."""
        first = five.listed(2, order_by="-updated")
        assert [each.id for each in first] == ["a", "e"]
        five.append("d", *says("more"))
        five.append("e", *says("more"))
        five.start("new")
        assert five.listed_ids(order_by="-updated", after=first[-1].cursor) == ["b", "c"]
        five.delete_thread("a")
        five.delete_thread("new")
        five.delete_thread("e")
        five.append("b", *says("more"))
        assert five.listed_ids(order_by="-updated", after=first[-1].cursor) == ["c"]
        assert five.listed_ids(order_by="-updated", before=first[-1].cursor) == ["b", "d"]

    @pytest.mark.parametrize("damaged", ["", "x", "=", "é", "A" * 52, "\x00", 5, b"x"], ids=repr)
    def test_a_damaged_cursor_is_refused(self, five: DrivenStorage, damaged: Any) -> None:
        for bound in ("before", "after"):
            with pytest.raises(ValidationError, match="cursor"):
                five.listed(**{bound: damaged})

    def test_a_cursor_with_another_character_is_refused(self, five: DrivenStorage) -> None:
        whole = five.listed()[2].cursor
        for place, character in enumerate(whole):
            changed = whole[:place] + ("A" if character != "A" else "B") + whole[place + 1 :]
            for damaged in (changed, whole[:place]):
                with pytest.raises(ValidationError, match="cursor"):
                    five.listed(after=damaged)

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"limit": 0}, "Limit must be a positive integer"),
            ({"limit": -1}, "Limit must be a positive integer"),
            ({"limit": "5"}, "Limit must be a positive integer"),
            ({"offset": -1}, "Offset must be a non-negative integer"),
            ({"offset": 0.5}, "Offset must be a non-negative integer"),
            ({"order_by": "title; DROP TABLE threads"}, "order_by is one of"),
            ({"user_id": 5}, "user_id must be a string"),
            ({"user_id": "\ud83d"}, "surrogate"),
            ({"metadata": [1]}, "dict of metadata"),
            ({"metadata": {"k": "\ud83d"}}, "surrogate"),
            ({"metadata": {"k": len}}, "metadata"),
        ],
        ids=repr,
    )
    def test_a_list_that_is_none_is_refused(self, store: DrivenStorage, wrong: dict[str, Any], said: str) -> None:
        with pytest.raises(ValidationError, match=said):
            store.listed(**wrong)
        if store.names_in_list_threads(*wrong, "order_by"):
            with pytest.raises(ValidationError, match=said):
                store.call("list_threads", **wrong)

    # Filters.

    def test_listing_keeps_to_one_user(self, store: DrivenStorage) -> None:
        users = (None, *HOSTILE, None)
        for number, user_id in enumerate(users * 2):
            store.start_for(user_id, f"t{number}")
        assert len(store.listed()) == 2 * len(users)
        for user_id in HOSTILE:
            number = users.index(user_id)
            for order_by, expected in (("created", [number, number + len(users)]), ("-updated", [number + len(users)])):
                found = store.listed_ids(len(expected), order_by=order_by, user_id=user_id)
                assert found == [f"t{each}" for each in expected]
            last = store.listed(1, order_by="-updated", user_id=user_id)[0]
            assert store.listed_ids(order_by="-updated", user_id=user_id, after=last) == [f"t{number}"]
        assert store.listed(user_id="nobody") == []

    def test_metadata_is_compared_with_its_type(self, store: DrivenStorage) -> None:
        for name, value in METADATA.items():
            store.start_for(None, name or "empty key", {"k": value, "other": name})
        for name, value in METADATA.items():
            assert store.listed_ids(metadata={"k": value}) == [name or "empty key"]
            assert store.listed_ids(metadata={"k": value, "other": name}) == [name or "empty key"]
            assert store.listed_ids(metadata={"k": value, "other": "of nobody"}) == []
        for absent in (1, "1", "true", "null", "0.1", 7, [], [1], "None", {"x": 1}):
            assert store.listed_ids(metadata={"k": absent}) == []
        assert store.listed_ids(metadata={"absent": None}) == []

    def test_numbers_in_metadata_are_equal_by_value(self, store: DrivenStorage) -> None:
        for number in NUMBERS:
            store.start_for(None, repr(number), {"k": number})
        for number in NUMBERS:
            assert store.listed_ids(metadata={"k": number}) == [repr(number)]
        store.start_for(None, "float", {"k": 4007.0})
        store.start_for(None, "zero", {"k": -0.0})
        store.start_for(None, "large", {"k": 1e16})
        for equal, expected in ((4007, "float"), (4007.0, "float"), (0, "zero"), (0.0, "zero"), (10**16, "large")):
            assert store.listed_ids(metadata={"k": equal}) == [repr(int(equal)), expected]
        assert store.listed_ids(metadata={"k": 400}) == store.listed_ids(metadata={"k": True}) == []

    def test_a_dict_in_a_query_names_what_must_be_there(self, store: DrivenStorage) -> None:
        store.start_for(None, "deep", {"a": {"b": {"c": 1, "d": None}}, "l": [{"x": 1, "y": 2}], "e": {}})
        store.start_for(None, "flat", {"a": {"b": 1}, "b": {"c": 1}, "a.b": {"c": 1}, "l": [{"x": 1}]})
        store.start_for(None, "text", {"a": '{"b":{"c":1}}', "l": "[]"})
        queries: list[tuple[dict[str, Any], list[str]]] = [
            ({"a": {"b": {"c": 1}}}, ["deep"]),
            ({"a": {"b": {"d": None}}}, ["deep"]),
            ({"a": {"b": {}}}, ["deep"]),
            ({"a": {}}, ["deep", "flat"]),
            ({"a": {"b": 1}}, ["flat"]),
            ({"e": {"k": None}}, []),
            ({"l": [{"x": 1}]}, ["flat"]),
            ({"l": [{"y": 2, "x": 1.0}]}, ["deep"]),
            ({"l": []}, []),
            ({"a": {"b": {"c": True}}}, []),
            ({}, ["deep", "flat", "text"]),
        ]
        for query, expected in queries:
            assert store.listed_ids(metadata=query) == expected, query

    def test_keys_and_values_of_metadata_are_data(self, store: DrivenStorage) -> None:
        for number, text in enumerate(HOSTILE):
            store.start_for(None, f"key {number}", {text: "here"})
            store.start_for(None, f"value {number}", {"k": text})
            store.start_for(None, f"deep {number}", {"d": {text: {text: [text]}}})
        for number, text in enumerate(HOSTILE):
            assert store.listed_ids(metadata={text: "here"}) == [f"key {number}"]
            assert store.listed_ids(metadata={"k": text}) == [f"value {number}"]
            assert store.listed_ids(metadata={"d": {text: {text: [text]}}}) == [f"deep {number}"]

    def test_filters_pages_and_order_go_together(self, store: DrivenStorage) -> None:
        for number in range(12):
            store.start_for("ann" if number % 3 else "bob", f"t{number:02}", {"even": number % 2 == 0})
        asked: dict[str, Any] = {"order_by": "-updated", "user_id": "ann", "metadata": {"even": True}}
        expected = ["t10", "t08", "t04", "t02"]
        assert store.listed_ids(**asked) == expected
        assert store.listed_ids(2, 1, **asked) == expected[1:3]
        page = store.listed(2, **asked)
        assert store.listed_ids(2, after=page[-1], **asked) == expected[2:]
        last = store.listed(1, 3, **asked)[0]
        assert store.listed_ids(2, before=last, **asked) == expected[1:3]

    def test_searching_is_listing_by_metadata(self, store: DrivenStorage) -> None:
        for number in range(4):
            store.start_for("ann" if number else "bob", f"t{number}", {"k": number % 2 == 0, "n": {"m": number}})
        found = store.call("search_threads", {"k": True})
        assert [each.id for each in found] == ["t0", "t2"]
        assert [each.metadata for each in found] == [{"k": True, "n": {"m": number}} for number in (0, 2)]
        found = store.call("search_threads", {"k": True}, 1, user_id="ann", order_by="-created")
        assert [each.id for each in found] == ["t2"]
        assert store.call("search_threads", {"k": 1}) == []
        assert [each.id for each in store.call("search_threads", {"n": {"m": 3}})] == ["t3"]
        with pytest.raises(ValidationError, match="Search query cannot be empty"):
            store.call("search_threads", {})

    # What is shown of each.

    def test_a_list_counts_live_messages(self, store: DrivenStorage) -> None:
        store.start("a", *says("1", "2", "3"))
        store.append("a", *says("4"), supersede_from=store.seqs("a")[1])
        store.start("b")
        assert {each.id: each.message_count for each in store.listed(order_by="-updated")} == {"a": 2, "b": 0}

    def test_a_list_leaves_the_messages_where_they_are(self, store: DrivenStorage) -> None:
        if not store.names_in_list_threads("order_by"):
            pytest.skip(f"lists without messages bind storages that name order_by; {store.name} does not")
        store.start("a", *says("1", "2"))
        for found in (store.listed(), store.listed(order_by="-updated", preview=True)):
            assert [(each.messages, each.partial, each.message_count) for each in found] == [([], True, 2)]

    def test_a_preview_is_what_was_said_last(self, store: DrivenStorage) -> None:
        calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
        conversations: dict[str, tuple[list[Message], str | None]] = {
            "plain": ([*says("first"), *says("last", role="assistant")], "last"),
            "nothing": ([], None),
            "only instructions": (says("be brief", role="system"), None),
            "a call": (
                [*says("what?"), Message(None, "assistant", tool_calls=calls), Message("7", "tool", tool_call_id="c")],
                "what?",
            ),
            "a refusal": ([*says("do it"), Message(None, "assistant", refusal="I will not")], "I will not"),
            "parts": ([Message([{"type": "text", "text": "a "}, {"type": "text", "text": " b"}], "user")], "a b"),
            "lines": (says(" one\n\ttwo  \n"), "one two"),
            "blank": ([*says("before"), *says(" \n ", role="assistant")], "before"),
            "superseded": ([*says("live"), Message("gone", "user", superseded=True)], "live"),
        }
        for name, (messages, _) in conversations.items():
            store.start(name, *messages)
        assert [each.preview for each in store.listed()] == [None] * len(conversations)
        found = {each.id: each.preview for each in store.listed(preview=True)}
        assert found == {name: preview for name, (_, preview) in conversations.items()}
        assert {each.id: each.preview for each in store.listed(preview=True, order_by="-updated")} == found

    def test_a_preview_is_short_and_not_in_a_repr(self, store: DrivenStorage) -> None:
        for name, text in {
            "words": "secret " * 10_000,
            "spaces": f"secret {' ' * 10_000} end",
            "one": "s" * 101,
        }.items():
            store.start(name, *says(text))
        store.start("whole", *says("s" * 100))
        for thread in store.listed(preview=True):
            assert thread.preview is not None
            assert len(thread.preview) <= 100
            assert thread.preview.endswith("…") == (thread.id != "whole")
            assert thread.preview[:6] not in repr(thread)


def _write_something(store: DrivenStorage, rng: random.Random, name: str) -> None:
    kind = rng.choices(("append", "save", "delete", "patch"), (10, 3, 1, 1))[0]
    known = store.read_head(name) is not None
    if kind == "append" or not known:
        store.start(name, *says("x"))
    elif kind == "save":
        moment = datetime.now(UTC) + timedelta(microseconds=rng.choice((-(10**9), -2000, -200, -20, 0, 2000, 10**9)))
        store.save_thread(Thread(name, messages=says("y"), updated_at=moment))
    elif kind == "patch":
        store.call("patch_thread", name, metadata={"k": 1})
    else:
        store.delete_thread(name)


def _check_cursors(store: DrivenStorage, found: list[Thread], order_by: Any, rng: random.Random) -> None:
    ids = [each.id for each in found]
    if ids:
        at = rng.randrange(len(ids))
        assert store.listed_ids(order_by=order_by, after=found[at]) == ids[at + 1 :]
        assert store.listed_ids(order_by=order_by, before=found[at].cursor) == ids[:at]
