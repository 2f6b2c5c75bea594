"""Files that memexllm 0.1.0 wrote are opened, upgraded whole or not at all, and nothing in them is lost.

`golden/sqlite_0_1_0.sql` is what the released 0.1.0 made of its public API's values.
"""

from __future__ import annotations

import json
import math
import os
import random
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from memexllm.core.errors import CorruptThreadError, IntegrityError, StorageError
from memexllm.core.models import Message, Thread
from memexllm.history import HistoryManager
from memexllm.storage import SQLiteStorage

GOLDEN = Path(__file__).parent.parent / "golden" / "sqlite_0_1_0.sql"
KEY = "memexllm_0_1"
N_KILLS = int(20 * float(os.environ.get("MEMEXLLM_TEST_SCALE", "1")))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A copy of the file that 0.1.0 wrote."""
    path = tmp_path / "chat.db"
    write(path)
    return path


@pytest.fixture
def storage(path: Path) -> Iterator[SQLiteStorage]:
    with SQLiteStorage(path) as storage:
        yield storage


def write(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(GOLDEN.read_text(encoding="utf-8"))


def execute(path: Path, sql: str, *values: Any) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(sql, values).fetchall()


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def moment(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def old_threads(path: Path) -> list[dict[str, Any]]:
    """What the file says, read without the library: threads in creation order with their messages."""
    threads = [
        {
            "id": thread_id,
            "created_at": moment(created_at),
            "updated_at": moment(updated_at),
            "metadata": json.loads(metadata),
            "messages": [
                (message_id, role, content, moment(created), json.loads(meta), count)
                for message_id, role, content, created, meta, count in execute(
                    path,
                    "SELECT id, role, content, created_at, metadata, token_count FROM messages"
                    " WHERE thread_id = ? ORDER BY message_index",
                    thread_id,
                )
            ],
        }
        for thread_id, created_at, updated_at, metadata in execute(path, "SELECT * FROM threads ORDER BY rowid")
    ]
    return sorted(threads, key=lambda thread: thread["created_at"])


def storable(metadata: Any) -> Any:
    """Metadata as it is found after the upgrade: what is no dict of JSON lies word for word under one key."""
    if metadata is None:
        return {}
    if isinstance(metadata, dict) and not any(isinstance(v, float) and not math.isfinite(v) for v in metadata.values()):
        return metadata
    return {KEY: {"metadata": json.dumps(metadata)}}


def copies(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir() if ".bak" in file.name)


def texts_of(storage: SQLiteStorage, thread_id: str) -> list[str]:
    return [message.text for message in storage.read_messages(thread_id)]


class TestNothingIsLost:
    def test_every_thread_comes_back_in_the_order_of_creation(self, storage: SQLiteStorage, path: Path) -> None:
        old = old_threads(path)
        assert len(old) == 13
        found = storage.list_threads()
        assert [thread.id for thread in found] == [thread["id"] for thread in old]
        for thread, before in zip(found, old, strict=True):
            assert (thread.created_at, thread.updated_at) == (before["created_at"], before["updated_at"])
            assert thread.metadata == storable(before["metadata"])
            assert thread.message_count == len(before["messages"])
            assert (thread.user_id, thread.title, thread.state, thread.version) == (None, None, {}, 0)

    def test_every_message_comes_back_in_its_place(self, storage: SQLiteStorage, path: Path) -> None:
        old = old_threads(path)
        assert sum(len(thread["messages"]) for thread in old) == 71
        for before in old:
            thread = storage.get_thread(before["id"])
            assert thread is not None
            for message, (message_id, role, content, created_at, metadata, count) in zip(
                thread.messages, before["messages"], strict=True
            ):
                assert (message.id, message.wire) == (message_id, {"role": role, "content": content})
                assert message.created_at == created_at
                assert message.metadata == storable(metadata)
                assert (message.tokens and message.tokens.count) == count
                assert (message.status, message.superseded, message.pinned) == ("complete", False, False)
            assert [message.seq for message in thread.messages] == list(range(len(thread.messages)))

    def test_times_without_an_offset_are_utc(self, storage: SQLiteStorage) -> None:
        thread = storage.get_thread("naive")
        assert thread is not None
        assert thread.created_at == datetime(2025, 1, 1, 9, tzinfo=UTC)
        assert thread.updated_at == datetime(2025, 1, 1, 11, 0, 0, 5, tzinfo=UTC)
        assert thread.messages[0].created_at == datetime(2025, 1, 1, 10, tzinfo=UTC)

    def test_text_that_looks_like_json_stays_what_was_said(self, storage: SQLiteStorage) -> None:
        contents = [message.content for message in storage.read_messages("looks like JSON")]
        assert contents[0] == "[1,2]"
        assert contents[-1] == '[{"type": "text", "text": "typed by hand"}]'

    def test_nul_in_a_text_comes_back(self, path: Path) -> None:
        execute(path, "UPDATE messages SET content = ? WHERE thread_id = 'later'", "a\x00b")
        with SQLiteStorage(path) as storage:
            assert texts_of(storage, "later") == ["a\x00b"]

    def test_messages_whose_thread_row_is_gone_get_a_thread_that_says_so(self, path: Path) -> None:
        execute(path, "DELETE FROM threads WHERE id = 'wrapped'")
        with SQLiteStorage(path) as storage:
            thread = storage.get_thread("wrapped")
            assert thread is not None
            assert [message.role for message in thread.messages] == ["system", *["user", "assistant"] * 2]
            assert thread.metadata == {KEY: {"thread": "its row was missing"}}
            assert thread.created_at == thread.messages[0].created_at

    def test_an_empty_file_of_0_1_is_upgraded(self, path: Path) -> None:
        execute(path, "DELETE FROM messages")
        execute(path, "DELETE FROM threads")
        with SQLiteStorage(path) as storage:
            assert storage.list_threads() == []
            storage.save_thread(Thread("t"))
        with SQLiteStorage(path) as storage:
            assert [thread.id for thread in storage.list_threads()] == ["t"]


class TestWhatItBecomes:
    def test_it_is_a_file_like_any_other(self, storage: SQLiteStorage, path: Path, tmp_path: Path) -> None:
        storage.list_threads()
        with SQLiteStorage(tmp_path / "new.db") as new:
            new.list_threads()
        schema = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
        assert execute(path, schema) == execute(tmp_path / "new.db", schema)
        for pragma in ("user_version", "journal_mode"):
            assert execute(path, f"PRAGMA {pragma}") == execute(tmp_path / "new.db", f"PRAGMA {pragma}")
        assert execute(path, "PRAGMA integrity_check") == [("ok",)]
        assert execute(path, "PRAGMA foreign_key_check") == []

    def test_conversations_go_on(self, path: Path) -> None:
        with SQLiteStorage(path) as storage:
            manager = HistoryManager(storage)
            manager.add_message("wrapped", "and now?", "user")
            manager.create_thread(thread_id="new")
            manager.add_message("new", "hello", "user")
            assert manager.delete_thread("many") is True
        with SQLiteStorage(path) as storage:
            assert texts_of(storage, "wrapped")[-2:] == ["A picture.", "and now?"]
            assert [thread.id for thread in storage.list_threads()][-2:] == ["later", "new"]
            assert storage.read_head("many") is None
            head = storage.read_head("wrapped")
            assert head is not None
            assert (head.message_count, head.version) == (6, 1)

    def test_a_saved_thread_comes_back_equal(self, storage: SQLiteStorage, path: Path) -> None:
        for before in old_threads(path):
            thread = storage.get_thread(before["id"])
            assert thread is not None
            storage.save_thread(thread)
            again = storage.get_thread(before["id"])
            assert again is not None
            assert again.messages == thread.messages
            assert again.metadata == thread.metadata

    def test_what_no_model_takes_is_not_sent(self, storage: SQLiteStorage) -> None:
        """0.1.0 kept neither tool calls nor the ids of what answers them."""
        sent = [(message.role, message.text) for message in HistoryManager(storage).context("tools")]
        assert ("user", "weather?") in sent
        assert ("assistant", "It is sunny.") in sent
        assert "tool" not in [role for role, _ in sent]

    def test_a_limit_holds_from_the_first_write_on(self, path: Path) -> None:
        with SQLiteStorage(path, max_messages=3) as storage:
            assert len(storage.read_messages("many")) == 40
            storage.append_messages("many", [Message("more", "user")])
            assert texts_of(storage, "many") == ["message 38", "message 39", "more"]

    def test_what_is_deleted_later_is_gone_from_the_file(self, storage: SQLiteStorage, path: Path) -> None:
        storage.delete_thread("later")
        storage.close()
        assert b"I came second" not in path.read_bytes()


class TestTheCopy:
    def test_the_file_as_it_was_lies_beside_it(self, storage: SQLiteStorage, path: Path) -> None:
        before = dump(path)
        storage.list_threads()
        assert copies(path) == ["chat.db.0_1.bak"]
        assert dump(path.with_name("chat.db.0_1.bak")) == before

    def test_it_is_readable_for_its_owner_only(self, storage: SQLiteStorage, path: Path) -> None:
        storage.list_threads()
        assert stat.S_IMODE(path.with_name("chat.db.0_1.bak").stat().st_mode) == 0o600

    def test_an_earlier_copy_is_not_overwritten(self, path: Path) -> None:
        earlier = path.with_name("chat.db.0_1.bak")
        earlier.write_text("of another day")
        with SQLiteStorage(path) as storage:
            storage.list_threads()
        assert earlier.read_text() == "of another day"
        assert copies(path) == ["chat.db.0_1.bak", "chat.db.0_1.bak.2"]
        assert len(old_threads(path.with_name("chat.db.0_1.bak.2"))) == 13

    def test_a_copy_that_says_the_same_is_enough(self, path: Path) -> None:
        before = path.read_bytes()
        for _ in range(2):
            path.write_bytes(before)
            with SQLiteStorage(path) as storage:
                storage.list_threads()
        assert copies(path) == ["chat.db.0_1.bak"]

    def test_without_room_for_it_the_file_is_not_touched(self, storage: SQLiteStorage, path: Path) -> None:
        before = path.read_bytes()
        path.with_name("chat.db.0_1.bak.part").mkdir()
        for _ in range(2):
            with pytest.raises(StorageError, match=r"copy of it .* nothing was changed"):
                storage.list_threads()
        assert path.read_bytes() == before
        path.with_name("chat.db.0_1.bak.part").rmdir()
        assert len(storage.list_threads()) == 13


DAMAGE = {
    "a role of nobody": "UPDATE messages SET role = 'wizard' WHERE {which}",
    "metadata that is no JSON": "UPDATE messages SET metadata = '{{\"a\": ' WHERE {which}",
    "metadata that is empty": "UPDATE messages SET metadata = '' WHERE {which}",
    "a time that is none": "UPDATE messages SET created_at = 'yesterday' WHERE {which}",
    "content in bytes": "UPDATE messages SET content = x'00ff' WHERE {which}",
    "text that is no UTF-8": "UPDATE messages SET content = CAST(x'ff' AS TEXT) WHERE {which}",
    "no id": "UPDATE messages SET id = NULL WHERE {which}",
    "a count that is none": "UPDATE messages SET token_count = 'many' WHERE {which}",
    "a thread's metadata that is no JSON": "UPDATE threads SET metadata = 'words' WHERE id = 'wrapped'",
    "a thread's time that is none": "UPDATE threads SET updated_at = 'yesterday' WHERE id = 'wrapped'",
}


class TestWhatCannotBeRead:
    @pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
    def test_its_thread_is_a_clear_error_and_the_others_are_there(self, path: Path, damage: str) -> None:
        execute(path, damage.format(which="content = 'hello'"))
        with SQLiteStorage(path) as storage:
            for _ in range(2):
                with pytest.raises(CorruptThreadError, match="'wrapped'") as refusal:
                    storage.get_thread("wrapped")
                assert "hello" not in str(refusal.value)
                assert texts_of(storage, "later") == ["I came second"]
                assert len(storage.read_messages("many", wire=True)) == 40

    def test_the_error_says_what_is_wrong(self, path: Path) -> None:
        execute(path, "UPDATE messages SET role = 'wizard' WHERE content = 'hello'")
        with SQLiteStorage(path) as storage:
            for wire in (False, True):
                read: Any = storage.read_messages
                with pytest.raises(CorruptThreadError, match=r"message of memexllm 0\.1 .*Invalid role: 'wizard'"):
                    read("wrapped", wire=wire)

    def test_the_row_is_kept_as_it_was(self, path: Path) -> None:
        execute(path, "UPDATE messages SET role = 'wizard', metadata = '{' WHERE content = 'hello'")
        with SQLiteStorage(path) as storage:
            storage.list_threads()
        ((text,),) = execute(path, "SELECT wire_text FROM messages WHERE wire_text LIKE '%wizard%'")
        row = json.loads(text)["row"]
        assert (row["content"], row["role"], row["metadata"], row["message_index"]) == ("hello", "wizard", "{", "1")

    def test_a_thread_without_a_name_is_refused_and_nothing_changes(self, path: Path) -> None:
        execute(path, "UPDATE threads SET id = CAST(x'ff' AS TEXT) WHERE id = 'later'")
        before = path.read_bytes()
        with SQLiteStorage(path) as storage:
            for _ in range(2):
                with pytest.raises(IntegrityError, match="nothing was changed"):
                    storage.list_threads()
        assert path.read_bytes() == before

    @pytest.mark.parametrize(
        "change",
        [
            "CREATE TABLE bread (loaf TEXT)",
            "CREATE VIEW bread AS SELECT * FROM threads",
            "CREATE TRIGGER bread AFTER DELETE ON threads BEGIN SELECT 1; END",
            "ALTER TABLE threads ADD COLUMN loaf TEXT",
            "ALTER TABLE messages RENAME COLUMN token_count TO loaf",
            "DROP TABLE messages",
        ],
    )
    def test_tables_that_are_not_quite_those_of_0_1_are_refused_unchanged(self, path: Path, change: str) -> None:
        execute(path, change)
        before = path.read_bytes()
        with SQLiteStorage(path) as storage, pytest.raises(StorageError, match="another program"):
            storage.list_threads()
        assert path.read_bytes() == before
        assert copies(path) == []

    def test_an_index_of_somebody_is_no_hindrance(self, path: Path) -> None:
        execute(path, "CREATE INDEX by_time ON messages (created_at)")
        execute(path, "ANALYZE")
        with SQLiteStorage(path) as storage:
            assert len(storage.list_threads()) == 13


CHILD = """
import sys, threading
from memexllm.storage import SQLiteStorage
for line in sys.stdin:
    with SQLiteStorage(line.rstrip("\\n")) as storage:
        print(len(storage.list_threads()), flush=True)
"""

NURSERY = """
import os, signal, sys, threading, time
from memexllm.storage import SQLiteStorage
for line in sys.stdin:
    path, delay_s = line.split("|")
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        SQLiteStorage(path).list_threads()
        os._exit(0)
    if float(delay_s) >= 0:
        threading.Event().wait(float(delay_s))
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    print(int(os.WIFSIGNALED(status)), time.monotonic() - began, flush=True)
"""


def started(script: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


class TestManyAtOnce:
    def test_processes_and_threads_that_open_it_at_once_upgrade_it_once(self, path: Path) -> None:
        with started(CHILD) as one, started(CHILD) as other:
            for number in range(5):
                copy = path.parent / f"{number}" / "chat.db"
                copy.parent.mkdir()
                copy.write_bytes(path.read_bytes())
                counts: list[int] = []

                def look(copy: Path = copy, counts: list[int] = counts) -> None:
                    with SQLiteStorage(copy) as storage:
                        counts.append(len(storage.list_threads()))

                threads = [threading.Thread(target=look) for _ in range(3)]
                for process in (one, other):
                    assert process.stdin is not None
                    process.stdin.write(f"{copy}\n")
                    process.stdin.flush()
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                for process in (one, other):
                    assert process.stdout is not None
                    assert process.stdout.readline() == "13\n"
                assert counts == [13, 13, 13]
                assert copies(copy) == ["chat.db.0_1.bak"]
                assert execute(copy, "SELECT count(*) FROM messages") == [(71,)]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="the children are forked")
    def test_a_process_killed_during_the_upgrade_leaves_the_old_or_the_new(self, path: Path) -> None:
        execute(
            path,
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) INSERT INTO messages"
            " SELECT 'more ' || i, 'many', 'more', 'user', '2025-01-01', '{}', NULL, 100 + i FROM n",
        )
        before = dump(path)
        chance = random.Random(1)
        took_s, n_killed, n_old = 0.0, 0, 0
        with started(NURSERY) as nursery:
            assert nursery.stdin is not None
            assert nursery.stdout is not None
            for number in range(N_KILLS):
                copy = path.parent / f"{number}" / "chat.db"
                copy.parent.mkdir()
                copy.write_bytes(path.read_bytes())
                nursery.stdin.write(f"{copy}|{chance.random() * took_s if number else -1}\n")
                nursery.stdin.flush()
                killed, lasted_s = nursery.stdout.readline().split()
                took_s = took_s or float(lasted_s)
                n_killed += int(killed)
                if execute(copy, "PRAGMA user_version") == [(0,)]:
                    n_old += 1
                    assert dump(copy) == before
                with SQLiteStorage(copy) as storage:
                    assert len(storage.list_threads()) == 13
                    assert len(storage.read_messages("many")) == 2040
                assert dump(copy.with_name("chat.db.0_1.bak")) == before
                assert [name for name in copies(copy) if ".part" in name] == []
        assert n_killed > 0
        assert 0 < n_old < N_KILLS
