"""Laws 6, 7 and 9: damage is said aloud, nobody sees another's thread, nothing outside is touched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from memexllm.core.errors import CorruptThreadError, StorageError, ValidationError
from memexllm.core.models import Message, Thread
from memexllm.storage._packing import KEY
from memexllm.testing._corpus import fingerprints
from memexllm.testing._driven import DrivenStorage, says

HOSTILE: tuple[str, ...] = (
    "plain",
    "",
    " ",
    "%",
    "_",
    "pl%",
    "plai_",
    "PLAIN",
    "plain ",
    "plain\n",
    "plain\x00",
    "plain\x00more",
    "\x00",
    "\n",
    "*",
    "?",
    "pl*",
    "[p]lain",
    "{}",
    "{plain}",
    "{0}",
    "%s",
    "%(id)s",
    ":id",
    "$1",
    "?1",
    "'",
    "''",
    '"',
    "`",
    "\\",
    "' OR '1'='1",
    "'; DROP TABLE threads; --",
    "plain' --",
    "../plain",
    "..",
    "/",
    "plain/plain",
    "plain:plain",
    "$.plain",
    "a.b[0]",
    "null",
    "None",
    "0",
    "-1",
    "1e3",
    "true",
    "é",
    "e\u0301",
    "É",
    "ß",
    "ss",
    "\u017f",
    "i",
    "İ",
    "🙂",
    "👨‍👩‍👧",
    "\u202eplain",
    "\ufeffplain",
    "\U0010ffff",
    "\ud83d",
    "x" * 10_000,
    "x" * 9_999 + "y",
    "🙂" * 2_500,
)
"""Ids and texts that a careless storage takes for SQL, keys, patterns, paths or each other."""


class ApartLaws:
    # Law 6: damaged data is a clear error, never an empty thread.

    def test_law06_a_damaged_thread_is_a_clear_error(
        self, store: DrivenStorage, damage: Callable[[str], None] | None
    ) -> None:
        if damage is None:
            pytest.skip(f"law 6 on damaged bytes needs the fixture damage; {store.name} is tested without it")
        for name in ("s", "t", "u"):
            store.start(name, *says("a", "b"))
        damage("t")
        reads: list[Callable[[], Any]] = [
            lambda: store.whole_thread("t"),
            lambda: store.read_messages("t"),
            lambda: store.read_rows("t"),
        ]
        for read in reads * 2:
            with pytest.raises(StorageError):
                read()
        assert [store.texts(name) for name in ("s", "u")] == [["a", "b"], ["a", "b"]]

    @pytest.mark.parametrize("changed", ["words", 1, [], {}, {"id": "m"}], ids=repr)
    def test_law06_packed_fields_that_were_changed_are_a_clear_error(self, store: DrivenStorage, changed: Any) -> None:
        if store.overrides("append_messages"):
            pytest.skip(f"packed fields bind storages that do not override append_messages; {store.name} does")
        store.call("save_thread", Thread("t", metadata={KEY: changed}, messages=says("a")))
        store.call("save_thread", Thread("u", messages=says("a", metadata={KEY: changed})))
        for name in ("t", "u"):
            with pytest.raises(CorruptThreadError):
                store.read_messages(name)
            with pytest.raises(CorruptThreadError):
                store.append(name, *says("b"))
            stored = store.call("get_thread", name)
            assert len(stored.messages) == 1

    # Law 7: ids, keys and texts are data.

    def test_law07_hostile_thread_ids_are_told_apart(self, store: DrivenStorage) -> None:
        accepted = _accepted(store, HOSTILE, lambda name: store.start(name, Message(repr(name), "user")))
        assert "plain" in accepted
        for name in accepted:
            assert store.texts(name) == [repr(name)]
            assert store.head(name).id == name
        assert store.list_ids(limit=len(HOSTILE)) == accepted

    def test_law07_hostile_ids_of_nobody_reach_nobody(self, store: DrivenStorage) -> None:
        store.start("a thread", *says("secret"), state={"k": 1})
        before = store.whole_thread("a thread")
        for name in HOSTILE:
            for nothing, use in _uses(store, name):
                try:
                    found = use()
                except (ValidationError, LookupError):
                    continue
                assert found == nothing, f"{found!r} was found under the id {name[:50]!r}"
        assert store.whole_thread("a thread") == before
        assert store.list_ids() == ["a thread"]

    def test_law07_hostile_threads_are_deleted_one_at_a_time(self, store: DrivenStorage) -> None:
        accepted = _accepted(store, HOSTILE, lambda name: store.start(name, Message(repr(name), "user")))
        while accepted:
            gone = accepted.pop(len(accepted) // 2)
            assert store.delete_thread(gone) is True
            assert store.list_ids(limit=len(HOSTILE)) == accepted
        assert store.read_head("plain") is None

    def test_law07_hostile_users_are_told_apart(self, store: DrivenStorage) -> None:
        accepted = _accepted(
            store, HOSTILE, lambda user: store.append(f"of {user}", *says("mine"), create={"user_id": user})
        )
        for user in accepted:
            assert store.head(f"of {user}").user_id == user
        for user in accepted:
            with pytest.raises(LookupError):
                store.append("of plain" if user != "plain" else "of ", *says("theirs"), create={"user_id": user})
        assert store.texts("of plain") == ["mine"]

    def test_law07_hostile_words_come_back_as_they_were(self, store: DrivenStorage) -> None:
        words = [word for word in HOSTILE if word != "\ud83d"]
        messages = [Message(word, "user", name=word or None, turn_id=word, metadata={word: word}) for word in words]
        store.append("t", *messages, create={"metadata": dict.fromkeys(_storable(words), 1)}, state={"k": words})
        assert fingerprints(store.read_messages("t")) == fingerprints(messages)
        assert store.head("t").metadata == dict.fromkeys(_storable(words), 1)
        assert store.head("t").state == {"k": words}

    def test_law07_hostile_titles_come_back_or_are_refused(self, store: DrivenStorage) -> None:
        store.start("t")
        for title in _accepted(store, HOSTILE, lambda word: store.call("patch_thread", "t", title=word)):
            store.call("patch_thread", "t", title=title)
            assert store.head("t").title == title

    def test_law07_hostile_message_ids_are_told_apart(self, store: DrivenStorage) -> None:
        names = [name for name in HOSTILE if name not in ("", "\ud83d")]
        store.start("t", *(Message("old", "user", id=name) for name in names))
        for place, name in enumerate(names):
            store.call("replace_message", "t", name, Message("new", "user", id=name))
            assert store.texts("t") == ["new"] * (place + 1) + ["old"] * (len(names) - place - 1)
        assert [message.id for message in store.read_messages("t")] == names

    def test_law07_a_lone_surrogate_is_refused_in_words(self, store: DrivenStorage) -> None:
        store.start("t")
        with pytest.raises(ValidationError):
            store.append("t", Message("\ud83d", "user"))
        with pytest.raises(ValidationError):
            store.append("t", Message("hi", "user", metadata={"\ud83d": 1}))
        with pytest.raises(ValidationError):
            store.append("t", state={"k": "\ud83d"})
        assert store.read_messages("t") == []

    # Law 9: nothing outside is read or touched.

    def test_law09_nothing_outside_is_touched(
        self, store: DrivenStorage, surroundings: Callable[[], Any] | None
    ) -> None:
        if surroundings is None:
            pytest.skip(f"law 9 needs the fixture surroundings; {store.name} is tested without it")
        before = surroundings()
        assert before, "the fixture surroundings must show something that lies beside the storage"
        names = _accepted(store, HOSTILE, lambda name: store.start(name, *says("a", "b")))
        for name in names:
            store.append(name, *says("c"), supersede_from=0, state={"k": 1})
            store.call("patch_thread", name, metadata={"k": 1})
            store.texts(name)
        assert store.list_ids(limit=len(HOSTILE)) == names
        assert surroundings() == before
        for name in names:
            store.delete_thread(name)
        assert store.list_ids() == []
        assert surroundings() == before


def _accepted(store: DrivenStorage, names: Sequence[str], use: Callable[[str], Any]) -> list[str]:
    """The names that `use` accepts; the others it must refuse with `ValidationError`, and only unusual ones."""
    accepted: list[str] = []
    for name in names:
        try:
            use(name)
        except ValidationError:
            assert name != "plain", f"{store.name} refuses an ordinary id"
        else:
            accepted.append(name)
    return accepted


def _storable(words: Sequence[str]) -> list[str]:
    """Keys of a thread's metadata may be refused when they hold NUL, which some databases cannot index."""
    return [word for word in words if "\x00" not in word]


def _uses(store: DrivenStorage, name: str) -> list[tuple[Any, Callable[[], Any]]]:
    """What can be done with a thread, and what comes of it when there is none of this name."""
    (message,) = says("x")
    return [
        (None, lambda: store.call("get_thread", name)),
        (None, lambda: store.read_head(name)),
        ([], lambda: store.read_messages(name, include_superseded=True)),
        ([], lambda: store.read_rows(name, limit=1)),
        (False, lambda: store.delete_thread(name)),
        ("an error", lambda: store.append(name, message)),
        ("an error", lambda: store.call("patch_thread", name, title="x")),
        ("an error", lambda: store.call("replace_message", name, message.id, message)),
    ]
