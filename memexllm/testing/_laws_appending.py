"""The contract of the writes: what each changes, and what a refusal leaves as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from memexllm.core.errors import (
    ConcurrencyError,
    MessageNotFoundError,
    ResourceNotFoundError,
    ThreadNotFoundError,
    ValidationError,
)
from memexllm.core.models import CallInfo, Message
from memexllm.testing._corpus import fingerprint, fingerprints
from memexllm.testing._driven import DrivenStorage, says

UNSTORABLE: dict[str, Callable[[Message], Any]] = {
    "an object in metadata": lambda message: message.metadata.update(value=object()),
    "an object in the wire form": lambda message: message.wire.update(value=object()),
    "not a number": lambda message: message.wire.update(value=float("nan")),
    "not a number in items": lambda message: setattr(message, "items", [{"type": "x", "n": float("nan")}]),
    "a lone surrogate": lambda message: message.wire.update(content="\ud83d"),
}


class AppendingLaws:
    def test_append_to_an_unknown_thread_is_refused(self, store: DrivenStorage) -> None:
        with pytest.raises(ThreadNotFoundError):
            store.append("t", *says("hi"))
        assert store.read_head("t") is None
        assert store.list_ids() == []

    def test_append_creates_the_thread_when_asked(self, store: DrivenStorage) -> None:
        create = {"user_id": "ann", "title": "Bread", "metadata": {"k": 1}}
        version = store.append("t", *says("hi"), create=create)
        head = store.head("t")
        assert (head.user_id, head.title, head.metadata) == ("ann", "Bread", {"k": 1})
        assert head.version == version
        assert store.texts("t") == ["hi"]

    def test_append_creates_a_thread_only_once(self, store: DrivenStorage) -> None:
        store.append("t", *says("one"), create={"title": "first", "metadata": {"k": 1}})
        store.append("t", *says("two"), create={"title": "second", "metadata": {"k": 2}})
        head = store.head("t")
        assert (head.title, head.metadata) == ("first", {"k": 1})
        assert store.texts("t") == ["one", "two"]

    @pytest.mark.parametrize("owner", ["ann", None])
    def test_append_to_the_thread_of_another_user_is_refused(self, store: DrivenStorage, owner: str | None) -> None:
        store.append("t", *says("secret"), create={"user_id": owner})
        before = store.whole_thread("t")
        with pytest.raises(ThreadNotFoundError):
            store.append("t", *says("hello"), create={"user_id": "bob"}, state={"k": 1}, supersede_from=0)
        assert store.whole_thread("t") == before

    def test_append_by_nobody_in_particular_reaches_every_thread(self, store: DrivenStorage) -> None:
        store.append("t", *says("a"), create={"user_id": "ann"})
        store.append("t", *says("b"), create={})
        store.append("t", *says("c"))
        assert store.texts("t") == ["a", "b", "c"]

    def test_append_returns_the_version_and_counts_it_up(self, store: DrivenStorage) -> None:
        versions = [store.start("t", *says("a"))]
        versions.extend(store.append("t", *says("b")) for _ in range(3))
        assert versions == [versions[0] + step for step in range(4)]
        assert store.head("t").version == versions[-1]

    def test_append_at_the_expected_version_is_accepted(self, store: DrivenStorage) -> None:
        version = store.start("t", *says("a"))
        assert store.append("t", *says("b"), expected_version=version) == version + 1
        assert store.texts("t") == ["a", "b"]

    @pytest.mark.parametrize("off", [-1, 1, 100])
    def test_append_at_another_version_changes_nothing(self, store: DrivenStorage, off: int) -> None:
        version = store.start("t", *says("a"), state={"k": 0})
        before = store.whole_thread("t")
        with pytest.raises(ConcurrencyError):
            store.append("t", *says("b"), expected_version=version + off, supersede_from=0, state={"k": 1})
        assert store.whole_thread("t") == before

    def test_every_kind_of_write_changes_the_version(self, store: DrivenStorage) -> None:
        (message,) = says("a")
        versions = [store.start("t", message)]
        store.call("patch_thread", "t", title="x")
        versions.append(store.head("t").version)
        store.call("replace_message", "t", message.id, message)
        versions.append(store.head("t").version)
        store.save_thread(store.whole_thread("t"))
        versions.append(store.append("t"))
        assert versions == sorted(set(versions))

    def test_append_supersedes_the_tail_when_asked(self, store: DrivenStorage) -> None:
        store.start("t", *says("a", "b", "c"))
        seqs = store.seqs("t")
        store.append("t", *says("d"), supersede_from=seqs[1])
        assert store.texts("t") == ["a", "d"]
        assert store.texts("t", include_superseded=True) == ["a", "b", "c", "d"]
        assert [m.superseded for m in store.whole_thread("t").messages] == [False, True, True, False]
        assert store.head("t").message_count == 2

    def test_append_supersedes_single_messages_when_asked(self, store: DrivenStorage) -> None:
        store.start("t", *says("a", "b", "c", "d"))
        seqs = store.seqs("t")
        store.append("t", *says("e"), supersede=[seqs[0], seqs[2]])
        assert store.texts("t") == ["b", "d", "e"]
        assert store.head("t").message_count == 3

    def test_superseding_twice_counts_once(self, store: DrivenStorage) -> None:
        store.start("t", *says("a", "b", "c"))
        seqs = store.seqs("t")
        store.append("t", supersede=[seqs[1], seqs[1]], supersede_from=seqs[1])
        store.append("t", supersede_from=seqs[2])
        assert store.texts("t") == ["a"]
        assert store.head("t").message_count == 1

    @pytest.mark.parametrize("seq", [-1, -(2**40), 2**32, 2**32 + 1, 2**40, 2**80])
    def test_append_supersedes_nothing_of_other_threads(self, store: DrivenStorage, seq: int) -> None:
        for thread_id in ("s", "t", "u", "v"):
            store.start(thread_id, *says("a", "b"))
        store.append("u", supersede=[seq])
        store.append("u", supersede_from=seq)
        store.append("u", counts={seq: (5, "cl100k_base")})
        for thread_id in ("s", "t", "v"):
            assert store.texts(thread_id) == ["a", "b"]
            assert [message.tokens for message in store.read_messages(thread_id)] == [None, None]
        assert store.texts("u") == ([] if seq < 0 else ["a", "b"])

    def test_append_replaces_only_the_given_keys_of_state(self, store: DrivenStorage) -> None:
        store.start("t", state={"block": {"a": 1, "b": 2}, "cut": 1})
        store.append("t", *says("a"), state={"block": {"c": 3}, "new": None})
        assert store.head("t").state == {"block": {"c": 3}, "cut": 1, "new": None}
        store.append("t", *says("b"))
        assert store.head("t").state == {"block": {"c": 3}, "cut": 1, "new": None}

    def test_state_can_name_the_messages_of_its_own_batch(self, store: DrivenStorage) -> None:
        store.start("t", *says("a", "b"))
        state = {"cut": {"$new": 1}, "deep": [{"seqs": [{"$new": 0}, {"$new": 1}]}], "plain": {"$new": 0, "x": 1}}
        store.append("t", *says("c", "d"), state=state)
        _, _, third, fourth = store.seqs("t")
        found = store.head("t").state
        assert found == {"cut": fourth, "deep": [{"seqs": [third, fourth]}], "plain": {"$new": 0, "x": 1}}
        assert state["cut"] == {"$new": 1}

    def test_append_notes_token_counts(self, store: DrivenStorage) -> None:
        store.start("t", *says("a", "b", "c"))
        seqs = store.seqs("t")
        store.append("t", *says("d"), counts={seqs[0]: (11, "o200k_base"), seqs[2]: (13, "cl100k_base")})
        tokens = [message.tokens for message in store.read_messages("t")]
        assert [(each.count, each.encoding) if each else None for each in tokens] == [
            (11, "o200k_base"),
            None,
            (13, "cl100k_base"),
            None,
        ]
        assert store.read_rows("t")[2].get("tokens") == [13, "cl100k_base"]

    def test_append_of_nothing_is_a_write(self, store: DrivenStorage) -> None:
        version = store.start("t")
        assert store.append("t", state={"k": 1}) == version + 1
        assert store.read_messages("t") == []
        assert store.head("t").state == {"k": 1}

    def test_everything_of_one_append_is_there_together(self, store: DrivenStorage) -> None:
        version = store.start("t", *says("system", "old block", "a", "b"))
        seqs = store.seqs("t")
        store.append(
            "t",
            *says("a2", "b2"),
            expected_version=version,
            supersede=[seqs[1]],
            supersede_from=seqs[2],
            state={"cut": {"$new": 0}},
            counts={seqs[0]: (1, "e")},
        )
        assert store.texts("t") == ["system", "a2", "b2"]
        assert store.head("t").state == {"cut": store.seqs("t")[1]}
        assert store.head("t").version == version + 1

    @pytest.mark.parametrize("what", UNSTORABLE)
    def test_a_batch_with_a_message_that_cannot_be_stored_changes_nothing(
        self, store: DrivenStorage, what: str
    ) -> None:
        store.start("t", *says("a"))
        before = store.whole_thread("t")
        batch = says("b", "c", "d")
        UNSTORABLE[what](batch[1])
        with pytest.raises(ValidationError):
            store.append("t", *batch, supersede_from=0, state={"k": 1})
        with pytest.raises(ValidationError):
            store.append("new", *batch, create={})
        assert store.whole_thread("t") == before
        assert store.read_head("new") is None

    def test_state_that_cannot_be_stored_changes_nothing(self, store: DrivenStorage) -> None:
        store.start("t", *says("a"))
        before = store.whole_thread("t")
        with pytest.raises(ValidationError):
            store.append("t", *says("b"), supersede_from=0, state={"k": object()})
        with pytest.raises(ValidationError):
            store.call("patch_thread", "t", title="x", state={"k": object()})
        assert store.whole_thread("t") == before

    def test_metadata_that_cannot_be_stored_changes_nothing(self, store: DrivenStorage) -> None:
        store.start("t", *says("a"))
        before = store.whole_thread("t")
        with pytest.raises(ValidationError):
            store.call("patch_thread", "t", title="x", metadata={"k": object()})
        with pytest.raises(ValidationError):
            store.append("new", *says("b"), create={"metadata": {"k": object()}})
        assert store.whole_thread("t") == before
        assert store.read_head("new") is None

    def test_a_message_is_replaced_in_its_place(self, store: DrivenStorage) -> None:
        partial = Message("Hel", "assistant", status="incomplete")
        store.start("t", *says("a"), partial, *says("b"))
        seqs = store.seqs("t")
        whole = Message("Hello", "assistant", id=partial.id, call=CallInfo(model="m"), pinned=True, metadata={"k": 1})
        store.call("replace_message", "t", partial.id, whole)
        assert store.texts("t") == ["a", "Hello", "b"]
        assert store.seqs("t") == seqs
        assert fingerprint(store.read_messages("t")[1]) == fingerprint(whole)

    def test_a_replaced_message_counts_as_what_it_is_now(self, store: DrivenStorage) -> None:
        first, second = says("a", "b")
        store.start("t", first, second)
        store.call("replace_message", "t", first.id, Message("a", "user", id=first.id, superseded=True))
        assert (store.head("t").message_count, store.texts("t")) == (1, ["b"])
        store.call("replace_message", "t", first.id, Message("a", "user", id=first.id))
        assert (store.head("t").message_count, store.texts("t")) == (2, ["a", "b"])

    def test_a_message_is_replaced_together_with_the_state_or_not_at_all(self, store: DrivenStorage) -> None:
        (message,) = says("a")
        version = store.start("t", message, state={"k": 1, "l": 1})
        before = store.whole_thread("t")
        (other,) = says("b", id=message.id)
        with pytest.raises(ConcurrencyError):
            store.call("replace_message", "t", message.id, other, expected_version=version + 1, state={"k": 2})
        with pytest.raises(ValidationError):
            store.call("replace_message", "t", message.id, other, state={"k": object()})
        with pytest.raises(MessageNotFoundError):
            store.call("replace_message", "t", "nobody", other, state={"k": 2})
        assert store.whole_thread("t") == before
        store.call("replace_message", "t", message.id, other, expected_version=version, state={"k": 2})
        head = store.head("t")
        assert (store.texts("t"), head.state, head.version) == (["b"], {"k": 2, "l": 1}, version + 1)

    def test_replacing_an_unknown_message_changes_nothing(self, store: DrivenStorage) -> None:
        (message,) = says("a")
        store.start("t", message)
        store.start("u", *says("b"))
        before = store.whole_thread("u")
        for thread_id in ("u", "nobody"):
            with pytest.raises(ResourceNotFoundError):
                store.call("replace_message", thread_id, message.id, *says("x"))
        with pytest.raises(MessageNotFoundError):
            store.call("replace_message", "u", message.id, *says("x"))
        assert store.whole_thread("u") == before

    def test_patching_a_thread_sets_only_what_is_given(self, store: DrivenStorage) -> None:
        create: dict[str, Any] = {"user_id": "ann", "title": "Bread", "metadata": {"a": 1, "b": 2}}
        store.append("t", *says("hi"), create=create, state={"k": 1, "l": 1})
        store.call("patch_thread", "t", title="Ships")
        store.call("patch_thread", "t", metadata={"c": 3})
        store.call("patch_thread", "t", state={"l": 2})
        head = store.head("t")
        assert (head.user_id, head.title, head.metadata, head.state) == ("ann", "Ships", {"c": 3}, {"k": 1, "l": 2})
        store.call("patch_thread", "t", title=None, user_id=None)
        head = store.head("t")
        assert (head.user_id, head.title, head.metadata) == (None, None, {"c": 3})
        assert store.texts("t") == ["hi"]

    def test_patching_an_unknown_thread_is_refused(self, store: DrivenStorage) -> None:
        with pytest.raises(ThreadNotFoundError):
            store.call("patch_thread", "t", title="x")
        assert store.read_head("t") is None

    def test_patching_leaves_the_messages_as_they_are(self, store: DrivenStorage) -> None:
        messages = says("a", "b")
        store.start("t", *messages)
        seqs = store.seqs("t")
        store.call("patch_thread", "t", metadata={"memo": "x"}, user_id="ann", title="t", state={"k": 1})
        assert fingerprints(store.read_messages("t")) == fingerprints(messages)
        assert store.seqs("t") == seqs
