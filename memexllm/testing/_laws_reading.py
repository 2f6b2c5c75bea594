"""The contract of the reads, of deletion, and law 8: what `max_messages` leaves can be replayed."""

from __future__ import annotations

from typing import Any

import pytest

from memexllm.core.errors import ThreadNotFoundError, ValidationError
from memexllm.core.exchanges import repair
from memexllm.core.models import Message
from memexllm.testing._corpus import fingerprints, random_messages
from memexllm.testing._driven import DrivenStorage, says

ALPHABET = "abcdefghij"


class ReadingLaws:
    @pytest.fixture
    def lettered(self, store: DrivenStorage) -> list[int]:
        """Thread "t" holds a … j, of which c, d and h are superseded; the seqs of all ten."""
        store.start("s", *says("before"))
        store.start("t", *says(*ALPHABET))
        store.start("u", *says("after"))
        seqs = store.seqs("t")
        store.append("t", supersede=[seqs[2], seqs[3], seqs[7]])
        return seqs

    @pytest.mark.parametrize(
        ("bounds", "expected"),
        [
            ({}, "abefgij"),
            ({"include_superseded": True}, "abcdefghij"),
            ({"limit": 0}, ""),
            ({"limit": 3}, "gij"),
            ({"limit": 4, "include_superseded": True}, "ghij"),
            ({"limit": 100}, "abefgij"),
            ({"before": 5}, "abe"),
            ({"before": 0}, ""),
            ({"before": 6, "limit": 2}, "ef"),
            ({"after": 5}, "gij"),
            ({"after": 9}, ""),
            ({"after": 1, "limit": 2}, "ef"),
            ({"after": 1, "limit": 2, "include_superseded": True}, "cd"),
            ({"after": 1, "before": 8}, "efg"),
            ({"after": 1, "before": 8, "limit": 1}, "e"),
            ({"after": 6, "before": 6}, ""),
        ],
        ids=str,
    )
    def test_reading_is_bounded(
        self, store: DrivenStorage, lettered: list[int], bounds: dict[str, Any], expected: str
    ) -> None:
        bounds = {key: lettered[value] if key in ("before", "after") else value for key, value in bounds.items()}
        assert store.texts("t", **bounds) == list(expected)
        rows = store.read_rows("t", **bounds)
        assert [row["wire"]["content"] for row in rows] == list(expected)

    @pytest.mark.parametrize("far", [2**31, 2**32, 2**33 + 5, 2**62, 2**63, 2**100])
    def test_law07_positions_beyond_a_thread_show_no_other_thread(
        self, store: DrivenStorage, lettered: list[int], far: int
    ) -> None:
        live = list("abefgij")
        assert store.texts("t", before=far) == live
        assert store.texts("t", after=-far) == live
        assert store.texts("t", after=-far, before=far, limit=100) == live
        assert store.texts("t", before=far, limit=2) == live[-2:]
        assert store.texts("t", after=far) == store.texts("t", before=-far) == []

    def test_rows_say_the_same_as_messages(self, store: DrivenStorage) -> None:
        store.start("t", *random_messages(5, 30))
        messages = store.read_messages("t", include_superseded=True)
        rows = store.read_rows("t", include_superseded=True)
        expected = [message.row() for message in messages]
        for row in expected:
            row.pop("metadata", None)
            row.pop("call", None)
        assert fingerprints(rows) == fingerprints(expected)
        assert [row.get("seq") for row in rows] == [message.seq for message in messages]

    def test_the_head_is_the_thread_without_its_messages(self, store: DrivenStorage, lettered: list[int]) -> None:
        head = store.head("t")
        whole = store.whole_thread("t")
        assert head.messages == []
        assert head.partial
        assert not whole.partial
        assert head.message_count == whole.message_count == 7
        assert head.changed(messages=whole.messages, partial=False) == whole

    def test_a_thread_read_in_part_says_so(self, store: DrivenStorage, lettered: list[int]) -> None:
        store.skip_unless_it_overrides("append_messages", "get_thread(message_limit=…)")
        part = store.call("get_thread", "t", message_limit=3)
        assert [message.text for message in part.messages] == list("gij")
        assert part.partial
        assert part.message_count == 7
        assert store.call("get_thread", "nobody", message_limit=3) is None

    def test_a_thread_read_in_part_cannot_be_saved(self, store: DrivenStorage, lettered: list[int]) -> None:
        store.skip_unless_it_overrides("append_messages", "the refusal of partial threads")
        before = store.whole_thread("t")
        for part in (store.call("get_thread", "t", message_limit=3), store.head("t"), *store.call("list_threads")):
            if part.partial:
                with pytest.raises(ValidationError):
                    store.call("save_thread", part)
        with pytest.raises(ValidationError):
            store.call("save_thread", before.changed(partial=True))
        assert store.whole_thread("t") == before

    def test_a_listed_thread_knows_its_own(self, store: DrivenStorage) -> None:
        store.skip_unless_it_overrides("append_messages", "the fields of listed threads")
        for name in ("a", "b"):
            store.append(name, *says(name, "x"), create={"user_id": name, "title": name, "metadata": {"is": name}})
        listed = store.call("list_threads")
        assert [(each.id, each.user_id, each.title, each.metadata) for each in listed] == [
            ("a", "a", "a", {"is": "a"}),
            ("b", "b", "b", {"is": "b"}),
        ]
        assert [each.message_count for each in listed] == [2, 2]
        assert [each.version for each in listed] == [store.head(name).version for name in ("a", "b")]

    def test_a_deleted_thread_is_gone(self, store: DrivenStorage) -> None:
        for name in ("a", "b", "c"):
            store.start(name, *says(name))
        assert store.delete_thread("b") is True
        assert store.read_head("b") is None
        assert store.read_messages("b", include_superseded=True) == []
        assert store.list_ids() == ["a", "c"]
        assert [store.texts(name) for name in ("a", "c")] == [["a"], ["c"]]
        with pytest.raises(ThreadNotFoundError):
            store.append("b", *says("more"))

    def test_deleting_a_thread_that_is_not_there_says_so(self, store: DrivenStorage) -> None:
        store.start("a")
        assert store.delete_thread("nobody") is False
        assert store.delete_thread("a") is True
        assert store.delete_thread("a") is False

    def test_a_thread_made_again_begins_anew(self, store: DrivenStorage) -> None:
        store.append("a", *says("old"), create={"user_id": "ann", "title": "Bread"}, state={"k": 1})
        store.start("b")
        store.delete_thread("a")
        store.append("a", *says("new"), create={"user_id": "bob"})
        head = store.head("a")
        assert (head.user_id, head.title, head.state, head.message_count) == ("bob", None, {}, 1)
        assert store.texts("a", include_superseded=True) == ["new"]
        assert store.list_ids() == ["b", "a"]

    # Law 8: what `max_messages` leaves can be replayed.

    @pytest.mark.parametrize("limit", range(1, 9))
    def test_law08_no_tool_result_is_replayed_without_its_call(self, limited: DrivenStorage, limit: int) -> None:
        limited.storage.max_messages = limit
        limited.start("t")
        for message in _tool_conversation():
            limited.append("t", message)
        kept = limited.read_rows("t")
        assert [row["id"] for row in kept] == [message.id for message in _tool_conversation()][-limit:]
        replayed = repair(kept).rows
        assert [row["wire"]["role"] for row in replayed[:1]] in (["user"], ["assistant"])
        called = {call["id"] for row in replayed for call in row["wire"].get("tool_calls", ())}
        assert {row["wire"]["tool_call_id"] for row in replayed if row["wire"]["role"] == "tool"} == called

    def test_law08_only_the_newest_messages_are_kept(self, limited: DrivenStorage) -> None:
        limited.storage.max_messages = 4
        limited.start("t", *says("a", "b", "c"))
        limited.append("t", *says("d"))
        assert limited.texts("t") == list("abcd")
        limited.append("t", *says("e", "f"))
        assert limited.texts("t") == list("cdef")
        limited.append("t", *says(*"ghijkl"))
        assert limited.texts("t", include_superseded=True) == list("ijkl")
        assert limited.head("t").message_count == 4
        limited.start("u", *says("x"))
        assert limited.texts("t") == list("ijkl")

    def test_law08_a_saved_thread_keeps_only_its_newest_messages(self, limited: DrivenStorage) -> None:
        limited.start("t", *says(*"abcdef"))
        whole = limited.whole_thread("t")
        limited.storage.max_messages = 2
        limited.save_thread(whole)
        assert limited.texts("t") == ["e", "f"]
        assert limited.head("t").message_count == 2

    def test_law08_only_live_messages_count(self, limited: DrivenStorage) -> None:
        limited.skip_unless_it_overrides("append_messages", "law 8 on superseded messages")
        limited.storage.max_messages = 3
        limited.start("t", *says("a", "b", "c"))
        seqs = limited.seqs("t")
        limited.append("t", *says("d"), supersede=[seqs[1]])
        assert limited.texts("t", include_superseded=True) == list("abcd")
        limited.append("t", *says("e"))
        assert limited.texts("t") == list("cde")
        assert limited.head("t").message_count == 3

    def test_law08_seqs_are_not_given_twice(self, limited: DrivenStorage) -> None:
        limited.storage.max_messages = 1
        limited.start("t")
        given: list[int] = []
        for text in "abcd":
            limited.append("t", *says(text))
            given.extend(limited.seqs("t"))
        assert given == sorted(set(given))
        assert len(given) == 4


def _tool_conversation() -> list[Message]:
    calls = [{"id": f"call_{n}", "type": "function", "function": {"name": "f", "arguments": "{}"}} for n in (1, 2)]
    wires: list[dict[str, Any]] = [
        {"role": "user", "content": "q1"},
        {"role": "assistant", "content": "a1"},
        {"role": "user", "content": "q2"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_1", "content": "1"},
        {"role": "tool", "tool_call_id": "call_2", "content": "2"},
        {"role": "assistant", "content": "a2"},
    ]
    return [Message(wire=wire, id=f"m{number}") for number, wire in enumerate(wires)]
