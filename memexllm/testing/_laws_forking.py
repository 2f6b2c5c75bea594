"""A fork begins with what its parent has, and from then on neither changes with the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from memexllm.core.errors import MessageNotFoundError, ThreadNotFoundError, ValidationError
from memexllm.core.models import Message, Thread
from memexllm.testing import _corpus
from memexllm.testing._corpus import fingerprints
from memexllm.testing._driven import DrivenStorage, says

LONG = 80
"""So many messages that a storage which shares what is long shares them."""


class ForkingLaws:
    @pytest.mark.parametrize("length", [1, LONG])
    def test_fork_has_what_its_parent_has(self, store: DrivenStorage, length: int) -> None:
        messages = [*_corpus.random_messages(length, length - 1), Message("last", "user", pinned=True)]
        fields = {"user_id": "ann", "title": "Bread", "metadata": {"tags": [1, {"a": None}]}}
        store.append("t", *messages, create=fields, state={"cut": 1, "other": {"deep": [1]}}, supersede=[0])
        parent, found = store.whole_thread("t"), fork(store, "t", "f")
        assert found.id == "f"
        assert found.partial
        assert found.message_count == parent.message_count
        assert found.version == 1
        copied = store.whole_thread("f")
        assert fingerprints(copied.messages) == fingerprints(parent.messages)
        assert store.seqs("f", include_superseded=True) == store.seqs("t", include_superseded=True)
        for name in ("user_id", "title", "metadata", "state"):
            assert getattr(copied, name) == getattr(parent, name) == getattr(found, name), name
        assert store.whole_thread("t") == parent

    @pytest.mark.parametrize("length", [9, LONG])
    def test_fork_ends_with_the_message_it_is_made_at(self, store: DrivenStorage, length: int) -> None:
        messages = conversation(store, "t", length)
        store.append("t", supersede=[2])
        for place in (0, length // 2, length - 2, length - 1):
            found = fork(store, "t", f"f{place}", at=messages[place].id)
            expected = [each.text for each in messages[: place + 1] if each.seq != 2 and each.text != "2"]
            assert store.texts(f"f{place}") == expected
            assert found.message_count == len(expected)
            assert len(store.read_messages(f"f{place}", include_superseded=True)) == place + 1
            store.append(f"f{place}", *says("new"))
            assert store.texts(f"f{place}") == [*expected, "new"]
        assert len(store.texts("t")) == length - 1

    def test_fork_of_a_thread_without_messages(self, store: DrivenStorage) -> None:
        store.start_for("ann", "t", {"a": 1})
        fork(store, "t", "f")
        store.append("f", *says("hi"))
        assert (store.texts("f"), store.texts("t")) == (["hi"], [])
        assert store.head("f").metadata == {"a": 1}

    def test_fork_is_given_fields_of_its_own(self, store: DrivenStorage) -> None:
        store.append("t", *says("hi"), create={"user_id": "ann", "title": "Bread", "metadata": {"a": 1}})
        metadata: dict[str, Any] = {"b": [2]}
        fork(store, "t", "f", create={"user_id": "bob", "title": None, "metadata": metadata})
        metadata["b"].append(3)
        head = store.head("f")
        assert (head.user_id, head.title, head.metadata) == ("bob", None, {"b": [2]})
        assert store.head("t").user_id == "ann"
        with pytest.raises(ValidationError):
            fork(store, "t", "g", create={"messages": []})
        assert store.read_head("g") is None

    def test_fork_keeps_of_the_state_what_is_true_of_its_messages(self, store: DrivenStorage) -> None:
        messages = conversation(store, "t", 9)
        block = {"messages": [{"role": "system", "content": "Be brief."}], "seqs": [0, 7], "hash": "x"}
        store.append("t", state={"block": block, "pins": [1, 4, 8], "cut": 6, "other": {"upto": 8}})
        found = fork(store, "t", "f", at=messages[5].id)
        assert found.state == {"block": {**block, "seqs": [0]}, "pins": [1, 4]}
        assert store.head("t").state["cut"] == 6

    @pytest.mark.parametrize("length", [9, LONG])
    @pytest.mark.parametrize("write", ["append", "supersede", "edit", "replace", "count", "save", "patch", "delete"])
    def test_what_is_written_to_one_is_not_seen_in_another(self, store: DrivenStorage, length: int, write: str) -> None:
        for at in (None, 6):
            for written in ("parent", "fork", "fork of the fork"):
                names = [f"{each} {at} {written}" for each in ("parent", "fork", "fork of the fork")]
                messages = conversation(store, names[0], length)
                fork(store, names[0], names[1], at=None if at is None else messages[at].id)
                fork(store, names[1], names[2])
                before = {name: shown(store, name) for name in names}
                changed = f"{written} {at} {written}"
                WRITES[write](store, changed, messages)
                expected = expected_after(write, before[changed])
                assert {name: shown(store, name) for name in names} == {**before, changed: expected}

    def test_forks_of_forks_go_on_when_what_they_were_made_of_is_deleted(self, store: DrivenStorage) -> None:
        conversation(store, "0", LONG)
        for number in range(1, 5):
            fork(store, str(number - 1), str(number))
            store.append(str(number), *says(*[f"{number}.{place}" for place in range(40)]))
        expected = store.texts("4")
        for gone in ("2", "0", "3", "1"):
            assert store.delete_thread(gone)
            assert store.read_head(gone) is None
            assert store.texts("4") == expected
        store.append("4", *says("on"))
        assert store.texts("4", limit=2) == [expected[-1], "on"]

    def test_fork_is_read_in_part_like_any_thread(self, store: DrivenStorage) -> None:
        messages = conversation(store, "t", LONG)
        fork(store, "t", "f", at=messages[60].id)
        store.append("f", *says("a", "b", "c"))
        store.append("f", supersede=[3, 59, 62])
        whole = [str(number) for number in range(61)] + ["a", "b", "c"]
        live = [text for seq, text in enumerate(whole) if seq not in (3, 59, 62)]
        assert store.texts("f") == live
        assert store.texts("f", include_superseded=True) == whole
        assert store.texts("f", limit=5) == live[-5:]
        assert store.texts("f", limit=5, before=60) == ["54", "55", "56", "57", "58"]
        assert store.texts("f", limit=3, after=58) == ["60", "a", "c"]
        assert store.texts("f", after=1, before=5) == ["2", "4"]
        assert store.texts("f", after=57, include_superseded=True) == whole[58:]
        rows = store.read_rows("f", limit=5, include_superseded=True)
        assert [(row.get("seq"), row.get("superseded", False)) for row in rows] == [
            (59, True),
            (60, False),
            (61, False),
            (62, True),
            (63, False),
        ]

    def test_fork_of_what_is_not_there_is_an_error(self, store: DrivenStorage) -> None:
        messages = conversation(store, "t", 3)
        store.start("u", *says("elsewhere"))
        with pytest.raises(ThreadNotFoundError):
            fork(store, "nobody", "f")
        with pytest.raises(MessageNotFoundError):
            fork(store, "t", "f", at="no such message")
        with pytest.raises(MessageNotFoundError):
            fork(store, "t", "f", at=store.read_messages("u")[0].id)
        assert store.read_head("f") is None
        assert store.texts("t") == [message.text for message in messages]

    def test_fork_takes_no_place_of_another_thread(self, store: DrivenStorage) -> None:
        messages = conversation(store, "t", 3)
        store.start("u", *says("kept"))
        for new_id in ("u", "t"):
            with pytest.raises(ValidationError):
                fork(store, "t", new_id)
        assert store.texts("u") == ["kept"]
        assert store.texts("t") == [message.text for message in messages]

    def test_fork_ends_with_no_superseded_message(self, store: DrivenStorage) -> None:
        messages = conversation(store, "t", 4)
        store.append("t", supersede_from=2)
        with pytest.raises(ValidationError):
            fork(store, "t", "f", at=messages[3].id)
        assert store.read_head("f") is None

    def test_fork_ends_with_the_newest_message_of_an_id(self, store: DrivenStorage) -> None:
        store.start("t", *[Message(text, "user", id="same") for text in "abc"], *says("d"))
        fork(store, "t", "f", at="same")
        assert store.texts("f") == ["a", "b", "c"]

    def test_fork_is_listed_as_the_newest_thread(self, store: DrivenStorage) -> None:
        conversation(store, "t", LONG)
        store.start("u", *says("hi"))
        fork(store, "t", "f", create={"user_id": "ann"})
        assert store.listed_ids() == ["t", "u", "f"]
        assert store.listed_ids(order_by="-updated") == ["f", "u", "t"]
        assert store.listed_ids(user_id="ann") == ["f"]
        assert [thread.preview for thread in store.listed(preview=True)] == [str(LONG - 1), "hi", str(LONG - 1)]

    def test_forks_are_searched_apart(self, store: DrivenStorage) -> None:
        store.append("t", *says("rye bread", *map(str, range(LONG))), create={"user_id": "ann"})
        fork(store, "t", "f")
        fork(store, "t", "g", create={"user_id": "bob"})
        assert found_in(store, "bread") == {"t", "f", "g"}
        assert found_in(store, "bread", user_id="bob") == {"g"}
        assert found_in(store, "bread", thread_id="f") == {"f"}
        store.append("f", *says("wheat cake"), supersede=[0])
        assert found_in(store, "bread") == {"t", "g"}
        assert found_in(store, "cake") == {"f"}
        store.delete_thread("t")
        assert found_in(store, "bread") == {"g"}
        store.call("replace_message", "g", store.read_messages("g", limit=1, before=1)[0].id, *says("oat porridge"))
        assert (found_in(store, "bread"), found_in(store, "porridge")) == (set(), {"g"})

    @pytest.mark.parametrize("length", [9, LONG])
    def test_forks_keep_the_newest_messages_like_any_thread(self, limited: DrivenStorage, length: int) -> None:
        keep = length - 4
        conversation(limited, "t", length)
        fork(limited, "t", "early")
        limited.storage.max_messages = keep
        try:
            found = fork(limited, "t", "late")
            assert found.message_count == keep
            assert limited.texts("late") == [str(number) for number in range(4, length)]
            limited.append("early", *says("new"))
            assert limited.texts("early") == [*map(str, range(5, length)), "new"]
            assert limited.head("early").message_count == keep
            assert len(limited.texts("t")) == length
            limited.append("t", *says("new"))
            fork(limited, "early", "next")
            limited.append("early", *says("newer"))
            assert limited.texts("next") == [*map(str, range(5, length)), "new"]
        finally:
            limited.storage.max_messages = None

    def test_a_fork_that_changes_its_user_shares_nothing(self, store: DrivenStorage) -> None:
        conversation(store, "t", LONG)
        before = shown(store, "t")
        fork(store, "t", "f")
        store.call("patch_thread", "f", user_id="bob")
        assert shown(store, "f") == before
        store.delete_thread("t")
        assert shown(store, "f") == before


def fork(store: DrivenStorage, thread_id: str, new_id: str, **keywords: Any) -> Thread:
    found: Thread = store.call("fork_thread", thread_id, new_id, **keywords)
    return found


def conversation(store: DrivenStorage, thread_id: str, length: int) -> list[Message]:
    """A thread whose messages say 0, 1, 2 …"""
    messages = says(*map(str, range(length)))
    store.start(thread_id, *messages)
    return messages


class Shown(NamedTuple):
    """What counts of a message."""

    seq: int | None
    text: str
    superseded: bool = False
    tokens: int | None = None


def shown(store: DrivenStorage, thread_id: str) -> list[Shown]:
    """What a thread holds, nothing when there is none."""
    found = store.read_messages(thread_id, include_superseded=True)
    head = store.read_head(thread_id)
    assert (0 if head is None else head.message_count) == sum(not each.superseded for each in found)
    assert store.texts(thread_id) == [each.text for each in found if not each.superseded]
    return [
        Shown(each.seq, each.text, each.superseded, None if each.tokens is None else each.tokens.count)
        for each in found
    ]


def found_in(store: DrivenStorage, text: str, **scope: Any) -> set[str]:
    return {hit.thread_id for hit in store.call("search_messages", text, **scope)}


def _save_the_half(store: DrivenStorage, thread_id: str, _: list[Message]) -> None:
    thread = store.whole_thread(thread_id)
    thread.messages = thread.messages[:4]
    store.save_thread(thread)


WRITES: dict[str, Callable[[DrivenStorage, str, list[Message]], Any]] = {
    "append": lambda store, name, _: store.append(name, *says("new")),
    "supersede": lambda store, name, _: store.append(name, supersede=[0, 3, 4]),
    "edit": lambda store, name, _: store.append(name, *says("new"), supersede_from=2),
    "replace": lambda store, name, messages: store.call("replace_message", name, messages[1].id, *says("other")),
    "count": lambda store, name, _: store.append(name, counts={1: (7, "e"), 4: (8, "e")}),
    "save": _save_the_half,
    "patch": lambda store, name, _: store.call("patch_thread", name, user_id="zoe", title="x"),
    "delete": lambda store, name, _: store.delete_thread(name),
}


def expected_after(write: str, before: list[Shown]) -> list[Shown]:
    """What `shown` gives of a thread after the write."""
    new = Shown(len(before), "new")
    if write == "append":
        return [*before, new]
    if write == "edit":
        return [*before[:2], *(each._replace(superseded=True) for each in before[2:]), new]
    if write == "supersede":
        return [each._replace(superseded=each.seq in (0, 3, 4)) for each in before]
    if write == "replace":
        return [each._replace(text="other") if each.seq == 1 else each for each in before]
    if write == "count":
        counted = {1: 7, 4: 8}
        return [each._replace(tokens=counted.get(each.seq or 0)) for each in before]
    return {"save": before[:4], "delete": []}.get(write, before)
