"""The full-text index of a SQLite file: it follows what is stored, keeps nothing deleted, and can be mended."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from memexllm import AsyncHistoryManager, HistoryManager, MemoryStorage, Message, MessageHit, SQLiteStorage, Thread
from memexllm.core.errors import OperationError, ValidationError
from memexllm.storage import _sqlite_search as index

FILLER = "Nobody said anything about it for a while, and the talk went on to other things."


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chat.db"


@pytest.fixture
def storage(path: Path) -> Iterator[SQLiteStorage]:
    with SQLiteStorage(path) as storage:
        yield storage


def start(storage: SQLiteStorage, thread_id: str, *texts: str, **create: Any) -> list[Message]:
    storage.append_messages(thread_id, [Message(text, "user") for text in texts], create=create)
    messages: list[Message] = storage.read_messages(thread_id)
    return messages


def texts(hits: list[MessageHit]) -> list[str]:
    return [hit.message.text for hit in hits]


def execute(path: Path, *statements: str) -> list[Any]:
    """Run statements on the file as another program would; the rows of the last one."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            rows = connection.execute(statement).fetchall()
        return rows


def rows_of(path: Path) -> list[Any]:
    return execute(path, "SELECT rowid, turn, neighbours, owner FROM search_1_index ORDER BY rowid")


class TestTheIndex:
    def test_there_is_none_until_somebody_searches(self, storage: SQLiteStorage, path: Path) -> None:
        start(storage, "t", "zebra")
        storage.delete_thread("t")
        count = "SELECT count(*) FROM sqlite_master WHERE name LIKE 'search%'"
        assert execute(path, count) == [(0,)]
        storage.search_messages("zebra")
        assert execute(path, count) != [(0,)]

    def test_appends_do_not_touch_it(self, storage: SQLiteStorage, path: Path) -> None:
        start(storage, "t", "zebra")
        storage.search_messages("zebra")
        before = rows_of(path)
        start(storage, "t", "okapi")
        assert rows_of(path) == before
        assert texts(storage.search_messages("okapi"))[0] == "okapi"
        assert len(rows_of(path)) == 2

    def test_a_search_of_one_thread_indexes_that_thread_only(self, storage: SQLiteStorage, path: Path) -> None:
        for thread, user in (("a", "ann"), ("b", "ann"), ("c", "bob")):
            start(storage, thread, f"zebra {thread}", user_id=user)
        assert texts(storage.search_messages("zebra", thread_id="b")) == ["zebra b"]
        assert len(rows_of(path)) == 1
        assert len(storage.search_messages("zebra", user_id="ann")) == 2
        assert len(rows_of(path)) == 2
        assert len(storage.search_messages("zebra")) == 3

    @pytest.mark.parametrize("seed", range(8))
    def test_whatever_happened_it_is_what_reindexing_makes(self, storage: SQLiteStorage, path: Path, seed: int) -> None:
        rng = random.Random(seed)
        for number in range(3):
            start(storage, f"t{number}", *(f"word{rng.randrange(40)}" for _ in range(12)), user_id=f"u{number % 2}")
        for step in range(60):
            happen(rng, storage, f"t{rng.randrange(3)}", step)
            if rng.random() < 0.5:
                thread_id, user_id = rng.choice([(None, None), ("t0", None), ("t1", None), (None, "u0"), (None, "u1")])
                storage.search_messages("word1", thread_id=thread_id, user_id=user_id)
            indexed_live_texts_only(storage, path)
        storage.search_messages("word1")
        found = rows_of(path)
        storage.reindex()
        assert found == rows_of(path)

    def test_a_long_thread_is_indexed_in_several_transactions(
        self, storage: SQLiteStorage, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(index, "MESSAGES_AT_ONCE", 7)
        start(storage, "t", *(f"zebra {number}" for number in range(40)))
        start(storage, "u", *(f"zebra {number}" for number in range(3)))
        assert len(storage.search_messages("zebra", limit=100)) == 43
        pieces = rows_of(path)
        monkeypatch.undo()
        storage.reindex()
        assert rows_of(path) == pieces

    def test_its_ranking_is_that_of_the_scan(self, storage: SQLiteStorage) -> None:
        rng = random.Random(3)
        words = [f"{letter}ing" for letter in "bcdfghklmnprstvw"]
        thread = Thread("t", messages=[Message(" ".join(rng.choices(words, k=9)), "user") for _ in range(60)])
        scanned = MemoryStorage()
        for each in (storage, scanned):
            each.save_thread(thread)
        for _ in range(30):
            query = " ".join(rng.choices(words, k=3))
            ours, theirs = storage.search_messages(query), scanned.search_messages(query)
            assert [hit.message.seq for hit in ours[:3]] == [hit.message.seq for hit in theirs[:3]]


def happen(rng: random.Random, storage: SQLiteStorage, thread_id: str, step: int) -> None:
    """One of the things that can happen to a thread."""
    messages = storage.read_messages(thread_id)
    if not messages:
        start(storage, thread_id, f"word{step}", f"word{step + 1}")
        return
    some = rng.choice(messages)
    seq = some.seq or 0
    what = rng.randrange(9)
    if what < 3:
        storage.append_messages(thread_id, [Message(f"word{step}", "user"), Message(None, "assistant")])
    elif what == 3:
        storage.append_messages(thread_id, [Message(f"again{step}", "user")], supersede_from=max(seq, 2))
    elif what == 4:
        storage.append_messages(thread_id, [], supersede=[seq])
    elif what == 5:
        storage.replace_message(thread_id, some.id, Message(rng.choice([f"new{step}", ""]), "user", id=some.id))
    elif what == 6:
        storage.patch_thread(thread_id, user_id=f"u{rng.randrange(2)}")
    elif what == 7:
        whole = storage.get_thread(thread_id)
        assert whole is not None
        storage.save_thread(whole.changed(messages=whole.messages[1:]))
    else:
        storage.delete_thread(thread_id)


def indexed_live_texts_only(storage: SQLiteStorage, path: Path) -> None:
    """No text lies in the index that was deleted."""
    threads = [storage.get_thread(thread.id) for thread in storage.list_threads()]
    stored = {message.text for thread in threads if thread is not None for message in thread.messages}
    if execute(path, "SELECT 1 FROM sqlite_master WHERE name = 'search_1_due'"):
        for _, turn, neighbours, _ in rows_of(path):
            assert {turn, *filter(None, neighbours.split("\n"))} <= stored


class TestWhatWasDeleted:
    """The file's bytes are looked at after it was closed, when nothing is left in its WAL."""

    @pytest.fixture
    def secret(self, storage: SQLiteStorage) -> Message:
        for number in range(20):
            start(storage, f"other {number}", f"{FILLER} {number}", FILLER)
        secret = start(storage, "t", FILLER, "The password is xylophonequartz", FILLER)[1]
        assert storage.search_messages("password")[0].message == secret
        return secret

    def assert_gone(self, storage: SQLiteStorage, path: Path) -> None:
        storage.close()
        left = b"".join(file.read_bytes() for file in path.parent.iterdir())
        assert b"xylophone" not in left
        assert b"password" not in left

    def test_a_deleted_thread_leaves_nothing(self, storage: SQLiteStorage, path: Path, secret: Message) -> None:
        storage.delete_thread("t")
        self.assert_gone(storage, path)

    def test_a_replaced_message_leaves_nothing(self, storage: SQLiteStorage, path: Path, secret: Message) -> None:
        storage.replace_message("t", secret.id, Message("The secret is kept", "user"))
        self.assert_gone(storage, path)

    def test_a_saved_thread_leaves_nothing_of_what_it_was(
        self, storage: SQLiteStorage, path: Path, secret: Message
    ) -> None:
        storage.save_thread(Thread("t", messages=[Message(FILLER, "user")]))
        self.assert_gone(storage, path)

    def test_what_max_messages_deletes_leaves_nothing(
        self, storage: SQLiteStorage, path: Path, secret: Message
    ) -> None:
        storage.max_messages = 1
        start(storage, "t", FILLER)
        self.assert_gone(storage, path)
        assert storage.search_messages("nobody", thread_id="t")

    def test_a_superseded_message_deleted_later_leaves_nothing(
        self, storage: SQLiteStorage, path: Path, secret: Message
    ) -> None:
        storage.append_messages("t", [], supersede=[secret.seq or 0])
        assert storage.search_messages("password") == []
        storage.delete_thread("t")
        self.assert_gone(storage, path)

    def test_a_program_without_full_text_can_delete(self, storage: SQLiteStorage, path: Path, secret: Message) -> None:
        """The triggers touch plain tables only; the next search takes out what lies in the index."""
        storage.close()
        execute(path, "PRAGMA secure_delete = ON", "DELETE FROM messages WHERE wire_text LIKE '%password%'")
        assert storage.search_messages("password") == []
        self.assert_gone(storage, path)

    def test_it_is_gone_from_a_damaged_index_as_well(self, storage: SQLiteStorage, path: Path, secret: Message) -> None:
        storage.close()
        execute(path, "PRAGMA secure_delete = ON", "UPDATE search_1_index_config SET v = 99 WHERE k = 'version'")
        storage.delete_thread("t")
        assert texts(storage.search_messages("nobody", limit=1))
        self.assert_gone(storage, path)


class TestWithoutAnIndex:
    def test_a_read_only_file_is_scanned(self, storage: SQLiteStorage, path: Path) -> None:
        start(storage, "t", "zebra", "b", "okapi")
        storage._connections.read("set up", lambda db: db.execute("PRAGMA query_only = ON").fetchall())
        assert texts(storage.search_messages("zebra")) == ["zebra", "b"]
        assert execute(path, "SELECT count(*) FROM sqlite_master WHERE name LIKE 'search%'") == [(0,)]

    @pytest.mark.parametrize(
        "damage",
        [
            "DROP TABLE search_1_logs",
            "DROP TABLE search_1_index",
            "DELETE FROM search_1_index_data",
            "DROP TABLE search_1_index_data",
            "DROP TABLE search_1_index_config",
            "UPDATE search_1_index_config SET v = 99 WHERE k = 'version'",
        ],
    )
    def test_a_damaged_index_is_passed_over_until_it_is_made_anew(
        self, storage: SQLiteStorage, path: Path, damage: str
    ) -> None:
        start(storage, "t", "zebra", "b", "okapi")
        storage.search_messages("zebra")
        storage.close()
        execute(path, damage)
        assert texts(storage.search_messages("zebra")) == ["zebra", "b"]
        storage.reindex()
        assert texts(storage.search_messages("zebra")) == ["zebra", "b"]
        assert [turn for _, turn, _, _ in rows_of(path)] == ["zebra", "b", "okapi"]

    def test_damage_that_nobody_notices_is_mended_too(self, storage: SQLiteStorage, path: Path) -> None:
        start(storage, "t", "zebra", "b", "okapi")
        storage.search_messages("zebra")
        storage.close()
        execute(path, "UPDATE search_1_index_data SET block = x'00ff00ff'")
        storage.reindex()
        assert texts(storage.search_messages("zebra")) == ["zebra", "b"]

    def test_a_busy_file_is_waited_for_and_then_named(self, path: Path) -> None:
        with SQLiteStorage(path, busy_timeout_s=0.01) as storage:
            start(storage, "t", "zebra")
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                with pytest.raises(OperationError, match="busy"):
                    storage.search_messages("zebra")
                other.execute("ROLLBACK")
            assert texts(storage.search_messages("zebra")) == ["zebra"]


class TestTogether:
    def test_threads_search_while_others_write(self, storage: SQLiteStorage) -> None:
        def talk(number: int) -> None:
            for place in range(20):
                start(storage, f"t{number}", f"zebra {number} {place}", "striped")
                assert f"zebra {number} {place}" in texts(
                    storage.search_messages("zebra", thread_id=f"t{number}", limit=100)
                )

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(talk, range(4)))
        assert len(storage.search_messages("zebra", limit=1000)) == 160

    def test_processes_make_the_index_at_once(self, storage: SQLiteStorage, path: Path) -> None:
        start(storage, "t", *(f"zebra {number}" for number in range(3000)))
        program = textwrap.dedent(f"""
            from memexllm import SQLiteStorage
            print(len(SQLiteStorage({str(path)!r}).search_messages("zebra", limit=5000)))
        """)
        running = [
            subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(3)
        ]
        assert [process.communicate()[0].strip() for process in running] == ["3000"] * 3
        found = rows_of(path)
        assert len(found) == 3000
        storage.reindex()
        assert rows_of(path) == found


class TestTheManagers:
    async def test_both_search(self, path: Path) -> None:
        with HistoryManager(path) as manager:
            manager.create_thread(thread_id="t", user_id="ann")
            manager.add_message("t", "zebra", "user")
            ours = manager.search_messages("zebra", user_id="ann", limit=3)
        async with AsyncHistoryManager(str(path)) as manager_too:
            assert await manager_too.search_messages("zebra", user_id="ann", limit=3) == ours
        assert [(hit.thread_id, hit.snippet, hit.highlights) for hit in ours] == [("t", "zebra", ((0, 5),))]

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ({"text": " "}, "^Search query cannot be empty"),
            ({"text": 5}, "^Search query must be a string, got int"),
            ({"text": "x", "thread_id": ""}, "^Thread ID cannot be empty"),
            ({"text": "x", "limit": 0}, "^Limit must be a positive integer, got 0"),
            ({"text": "\ud83d"}, "lone surrogate"),
        ],
    )
    def test_a_refusal_says_what_is_wrong(self, arguments: dict[str, Any], said: str) -> None:
        with pytest.raises(ValidationError, match=said):
            HistoryManager(MemoryStorage()).search_messages(**arguments)


def test_a_user_of_one_thread_finds_it_alone_whatever_kind_it_is(storage: SQLiteStorage) -> None:
    """A fork, and a thread that came from somebody else; what others said holds the same words."""
    start(storage, "bobs", "zebra one", "zebra two", user_id="bob")
    start(storage, "adas", "zebra three", user_id="ada")
    storage.fork_thread("bobs", "fork", create={"user_id": "eve"})
    assert sorted(texts(storage.search_messages("zebra", user_id="eve"))) == ["zebra one", "zebra two"]
    assert texts(storage.search_messages("zebra", user_id="ada")) == ["zebra three"]
    storage.patch_thread("adas", user_id="eve")
    assert storage.search_messages("zebra", user_id="ada") == []
    assert len(storage.search_messages("zebra", user_id="eve")) == 3
    storage.delete_thread("fork")
    assert texts(storage.search_messages("zebra", user_id="eve")) == ["zebra three"]
