"""Laws 1, 2 and 3: what is saved comes back equal, what you hold is yours, order is insertion order."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from memexllm.core.errors import ValidationError
from memexllm.core.models import Message, Thread
from memexllm.core.wire import plain
from memexllm.testing import _corpus
from memexllm.testing._corpus import METADATA, OUR_FIELDS, WIRES, fingerprint, fingerprints
from memexllm.testing._driven import DrivenStorage, says

MEGABYTE = "0123456789abcdef🙂" * 50_000
SAME_MOMENT = datetime(2025, 1, 1, tzinfo=UTC)


class KeepingLaws:
    # Law 1: what is saved comes back equal.

    @pytest.mark.parametrize("kind", WIRES)
    def test_law01_every_kind_of_message_comes_back_equal(self, store: DrivenStorage, kind: str) -> None:
        message = Message(wire=WIRES[kind])
        store.start("t", message)
        (found,) = store.read_messages("t")
        assert fingerprint(found) == fingerprint(message)
        assert found == message

    @pytest.mark.parametrize("kind", OUR_FIELDS)
    def test_law01_every_field_of_ours_comes_back_equal(self, store: DrivenStorage, kind: str) -> None:
        message = Message("hi", "assistant", **OUR_FIELDS[kind])
        store.start("t", message)
        (found,) = store.read_messages("t", include_superseded=True)
        assert fingerprint(found) == fingerprint(message)
        assert found == message

    @pytest.mark.parametrize("seed", range(4))
    def test_law01_random_messages_come_back_equal(self, store: DrivenStorage, seed: int) -> None:
        messages = _corpus.random_messages(seed, 25)
        store.start("t", *messages)
        assert fingerprints(store.read_messages("t", include_superseded=True)) == fingerprints(messages)

    def test_law01_keys_keep_their_order(self, store: DrivenStorage) -> None:
        wire = {"z": 1, "content": [{"text": "b", "type": "text", "a": {"y": 1, "x": 2}}], "role": "user", "a": 2}
        store.start("t", Message(wire=wire))
        assert json.dumps(store.read_messages("t")[0].wire) == json.dumps(wire)
        assert json.dumps(store.read_rows("t")[0]["wire"]) == json.dumps(wire)

    def test_law01_metadata_of_a_message_has_any_json_type(self, store: DrivenStorage) -> None:
        store.start("t", Message("hi", "user", metadata=METADATA))
        found = store.read_messages("t")[0].metadata
        assert json.dumps(found, sort_keys=True) == json.dumps(METADATA, sort_keys=True)

    def test_law01_metadata_of_a_thread_has_any_json_type(self, store: DrivenStorage) -> None:
        store.append("t", create={"metadata": METADATA})
        found = store.head("t").metadata
        assert json.dumps(found, sort_keys=True) == json.dumps(METADATA, sort_keys=True)

    def test_law01_a_thread_keeps_its_user_and_title(self, store: DrivenStorage) -> None:
        store.append("t", create={"user_id": "ü'%", "title": "Brot & 🙂"})
        assert (store.head("t").user_id, store.head("t").title) == ("ü'%", "Brot & 🙂")

    def test_law01_times_are_aware_utc(self, store: DrivenStorage) -> None:
        local = datetime.fromisoformat("2025-06-01T12:00:00.123457+05:30")
        before = datetime.now(UTC)
        store.start("t", Message("hi", "user", created_at=local))
        after = datetime.now(UTC)
        (message,) = store.read_messages("t")
        head = store.head("t")
        assert message.created_at == local
        assert before <= head.created_at <= head.updated_at <= after
        assert {moment.tzinfo for moment in (message.created_at, head.created_at, head.updated_at)} == {UTC}

    def test_law01_a_message_of_a_megabyte_comes_back_equal(self, store: DrivenStorage) -> None:
        store.start("t", Message(MEGABYTE, "user"))
        assert store.read_messages("t")[0].text == MEGABYTE

    def test_law01_a_saved_thread_comes_back_equal(self, store: DrivenStorage) -> None:
        thread = _thread("t", _corpus.random_messages(9, 10))
        store.save_thread(thread)
        found = store.whole_thread("t")
        assert fingerprints(found.messages) == fingerprints(thread.messages)
        assert found == thread

    def test_law01_a_thread_restored_in_batches_comes_back_equal(self, store: DrivenStorage) -> None:
        thread = _thread("t", _corpus.random_messages(9, 10))
        for number, message in enumerate(thread.messages):
            message.seq = 3 * number + 1
        torn = thread.changed(messages=[], state={"torn": True}, title=None, version=2)
        whole = thread.changed(messages=[])
        for head, batch in ((torn, thread.messages[:4]), (torn, thread.messages[4:]), (whole, [])):
            store.call("restore_messages", head, batch)
        assert store.whole_thread("t") == thread
        assert [message.seq for message in store.whole_thread("t").messages] == list(range(1, 30, 3))
        assert store.listed_ids(order_by="-updated") == ["t"]
        with pytest.raises(ValidationError):
            store.call("restore_messages", whole, says("no seq"))
        with pytest.raises(ValidationError):
            store.call("restore_messages", whole, [Message("x", "user", seq=28)])
        assert store.whole_thread("t") == thread
        store.append("t", *says("on"))
        assert store.seqs("t")[-1] == 29

    def test_law01_a_restored_thread_is_its_users_and_its_forks_stay_as_they_are(self, store: DrivenStorage) -> None:
        store.append("t", *says(*map(str, range(60))), create={"user_id": "ann"})
        store.call("fork_thread", "t", "fork")
        fork = store.whole_thread("fork")
        head = store.head("t").changed(user_id="bob", title="his", partial=False, stored_messages=None)
        store.call("restore_messages", head, [Message("more", "user", seq=77)])
        assert store.whole_thread("fork") == fork
        assert (store.head("t").title, store.seqs("t")) == ("his", [*range(60), 77])
        for order in ("created", "-updated"):
            assert [store.listed_ids(user_id=user, order_by=order) for user in ("ann", "bob")] == [["fork"], ["t"]]
        store.delete_thread("fork")
        assert store.texts("t", limit=2) == ["59", "more"]

    def test_law01_saving_again_replaces_the_thread(self, store: DrivenStorage) -> None:
        store.save_thread(_thread("t", says("one", "two", "three")))
        found = store.whole_thread("t")
        found.messages = found.messages[1:2]
        found.metadata = {"now": "other"}
        store.save_thread(found)
        assert store.texts("t") == ["two"]
        assert store.head("t").metadata == {"now": "other"}
        assert store.head("t").message_count == 1

    def test_law01_an_empty_thread_comes_back_empty(self, store: DrivenStorage) -> None:
        store.save_thread(Thread("t"))
        assert store.whole_thread("t").messages == []
        assert store.read_messages("t") == []
        assert store.head("t").message_count == 0

    def test_law01_an_unknown_thread_is_none(self, store: DrivenStorage) -> None:
        assert store.call("get_thread", "nobody") is None
        assert store.read_head("nobody") is None
        assert store.read_messages("nobody") == []

    # Law 2: what you hold is yours.

    def test_law02_appended_messages_can_be_changed_afterwards(self, store: DrivenStorage) -> None:
        message = _intricate_message()
        before = fingerprint(message)
        state: dict[str, Any] = {"key": {"deep": [1]}}
        store.start("t", message, state=state)
        _spoil(message)
        state["key"]["deep"].append(2)
        assert fingerprints(store.read_messages("t")) == [before]
        assert store.head("t").state == {"key": {"deep": [1]}}

    def test_law02_a_saved_thread_can_be_changed_afterwards(self, store: DrivenStorage) -> None:
        thread = _thread("t", [_intricate_message()])
        before = thread.model_copy(deep=True)
        store.save_thread(thread)
        _spoil_thread(thread)
        assert store.whole_thread("t") == before

    @pytest.mark.parametrize("read", ["whole_thread", "head", "read_messages", "read_rows"])
    def test_law02_what_was_read_can_be_changed(self, store: DrivenStorage, read: str) -> None:
        thread = _thread("t", [_intricate_message()])
        store.save_thread(thread)
        _SPOIL[read](getattr(store, read)("t"))
        assert store.whole_thread("t") == thread

    def test_law02_listed_threads_can_be_changed(self, store: DrivenStorage) -> None:
        store.skip_unless_it_overrides("append_messages", "law 2 on list_threads")
        thread = _thread("t", [_intricate_message()])
        store.save_thread(thread)
        (listed,) = store.call("list_threads")
        _spoil_thread(listed)
        assert store.whole_thread("t") == thread

    def test_law02_metadata_that_was_patched_in_can_be_changed_afterwards(self, store: DrivenStorage) -> None:
        metadata: dict[str, Any] = {"list": [1]}
        state: dict[str, Any] = {"list": [1]}
        store.start("t")
        store.call("patch_thread", "t", metadata=metadata, state=state)
        metadata["list"].append(2)
        state["list"].append(2)
        assert store.head("t").metadata == {"list": [1]}
        assert store.head("t").state == {"list": [1]}

    # Law 3: order is insertion order.

    def test_law03_messages_of_one_moment_keep_their_order(self, store: DrivenStorage) -> None:
        texts = [str(number) for number in range(30)]
        store.start("t")
        for start in range(0, 30, 3):
            store.append("t", *says(*texts[start : start + 3], created_at=SAME_MOMENT))
        assert store.texts("t") == texts
        assert [message.text for message in store.whole_thread("t").messages] == texts

    def test_law03_a_clock_that_goes_back_changes_nothing(self, store: DrivenStorage) -> None:
        texts = [str(number) for number in range(10)]
        messages = [Message(text, "user", created_at=SAME_MOMENT - timedelta(days=int(text))) for text in texts]
        store.start("t", *messages[:5])
        store.append("t", *messages[5:])
        assert store.texts("t") == texts
        assert store.texts("t", limit=3) == texts[-3:]

    def test_law03_seqs_ascend_from_append_to_append(self, store: DrivenStorage) -> None:
        store.start("t", *says("a", "b"))
        store.append("t", *says("c"))
        store.append("t")
        store.append("t", *says("d", "e"))
        seqs = store.seqs("t")
        assert seqs == sorted(set(seqs))
        assert [row.get("seq") for row in store.read_rows("t")] == seqs

    def test_law03_a_saved_thread_keeps_its_order_and_seqs(self, store: DrivenStorage) -> None:
        store.start("t", *says("a", "b", "c", "d", created_at=SAME_MOMENT))
        thread = store.whole_thread("t")
        del thread.messages[1]
        store.save_thread(thread)
        kept = [message.seq for message in thread.messages]
        assert store.seqs("t") == kept
        store.append("t", *says("e"))
        assert store.texts("t") == ["a", "c", "d", "e"]
        assert store.seqs("t")[-1] > (kept[-1] or 0)

    def test_law03_threads_are_listed_in_the_order_they_were_made(self, store: DrivenStorage) -> None:
        names = ["m", "z", "a", "Z", "10", "9"]
        for name in names:
            store.start(name, *says(name))
        store.append("a", *says("again"))
        store.save_thread(store.whole_thread("z"))
        assert store.list_ids() == names

    def test_law03_paging_shows_every_thread_once(self, store: DrivenStorage) -> None:
        names = [f"t{number}" for number in range(11)]
        for name in names:
            store.start(name)
        pages = [store.list_ids(limit=4, offset=offset) for offset in (0, 4, 8, 12)]
        assert pages == [names[:4], names[4:8], names[8:], []]


def _thread(thread_id: str, messages: list[Message]) -> Thread:
    """A thread with a value in every field, at whole microseconds."""
    return Thread(
        thread_id,
        messages=messages,
        metadata={"tags": ["a", {"b": None}]},
        user_id="ann",
        title="Bread",
        created_at=SAME_MOMENT,
        updated_at=SAME_MOMENT + timedelta(microseconds=1),
        state={"cut": 3, "block": [{"role": "system", "content": "x"}]},
        version=7,
    )


def _intricate_message() -> Message:
    wire = plain({**WIRES["parallel tool calls"], "content": [{"type": "text", "text": "a"}], "extra": {"deep": [1]}})
    return Message(wire=wire, metadata={"deep": {"list": [1]}})


def _spoil_wire(wire: dict[str, Any]) -> None:
    wire["content"][0]["text"] = "spoiled"
    wire["tool_calls"][0]["function"]["name"] = "spoiled"
    del wire["tool_calls"][1]
    wire["extra"]["deep"].append(2)
    wire["new"] = 1


def _spoil(message: Message) -> None:
    _spoil_wire(message.wire)
    message.metadata["deep"]["list"].append(2)
    message.status = "incomplete"
    message.role = "user"


def _spoil_thread(thread: Thread) -> None:
    for message in thread.messages:
        _spoil(message)
    thread.messages.append(Message("more", "user"))
    thread.metadata["tags"].append("spoiled")
    thread.state["block"].append("spoiled")
    thread.title = "spoiled"
    thread.user_id = "spoiled"


def _spoil_messages(messages: list[Message]) -> None:
    for message in messages:
        _spoil(message)
    messages.clear()


def _spoil_rows(rows: list[Any]) -> None:
    for row in rows:
        _spoil_wire(row["wire"])
        row["seq"] = 99
    rows.clear()


_SPOIL: dict[str, Callable[[Any], None]] = {
    "whole_thread": _spoil_thread,
    "head": _spoil_thread,
    "read_messages": _spoil_messages,
    "read_rows": _spoil_rows,
}
