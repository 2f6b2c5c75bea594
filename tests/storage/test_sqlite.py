"""What is particular to SQLite: the file, its format, its neighbours, and what is left of what was deleted."""

from __future__ import annotations

import gc
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from memexllm.core.errors import (
    ConfigurationError,
    ConnectionError,
    CorruptThreadError,
    IntegrityError,
    OperationError,
    StorageError,
    ValidationError,
)
from memexllm.core.models import Message, Thread
from memexllm.storage import SQLiteStorage

GOLDEN = Path(__file__).parent.parent / "golden"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chat.db"


@pytest.fixture
def storage(path: Path) -> Iterator[SQLiteStorage]:
    with SQLiteStorage(path) as storage:
        yield storage


def execute(path: Path, sql: str, *values: Any) -> list[Any]:
    """Run one statement on the file, as another program would."""
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(sql, values).fetchall()


def schema_of(path: Path) -> str:
    statements = execute(path, "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type DESC, name")
    return ";\n".join(sql for (sql,) in statements) + ";\n"


def start(storage: SQLiteStorage, thread_id: str = "t", *texts: str) -> None:
    storage.append_messages(thread_id, [Message(text, "user") for text in texts or ("hello",)], create={})


def texts_of(storage: SQLiteStorage, thread_id: str = "t") -> list[str]:
    return [message.text for message in storage.read_messages(thread_id)]


class TestTheFile:
    def test_it_is_readable_for_its_owner_only(self, storage: SQLiteStorage, path: Path) -> None:
        old = os.umask(0)
        try:
            start(storage)
        finally:
            os.umask(old)
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        assert modes == dict.fromkeys(["chat.db", "chat.db-wal", "chat.db-shm"], 0o600)

    def test_it_is_made_when_it_is_first_used(self, storage: SQLiteStorage, path: Path) -> None:
        assert not path.exists()
        assert storage.list_threads() == []
        assert path.exists()

    def test_it_is_in_wal_mode_and_names_its_format(self, storage: SQLiteStorage, path: Path) -> None:
        start(storage)
        assert execute(path, "PRAGMA journal_mode") == [("wal",)]
        assert execute(path, "PRAGMA user_version") == [(2,)]
        assert execute(path, "PRAGMA integrity_check") == [("ok",)]

    def test_the_format_is_what_the_golden_file_says(self, storage: SQLiteStorage, path: Path) -> None:
        start(storage)
        assert schema_of(path) == (GOLDEN / "sqlite_format_2.sql").read_text()

    def test_a_path_is_a_path_or_a_string(self, path: Path) -> None:
        with SQLiteStorage(str(path)) as storage:
            start(storage)
        with SQLiteStorage(path) as storage:
            assert texts_of(storage) == ["hello"]

    def test_repr_names_the_file(self, storage: SQLiteStorage, path: Path) -> None:
        assert repr(storage) == f"SQLiteStorage({str(path)!r})"

    def test_an_empty_file_is_taken_over(self, storage: SQLiteStorage, path: Path) -> None:
        path.touch()
        start(storage)
        assert texts_of(storage) == ["hello"]

    @pytest.mark.parametrize("level", ["NORMAL", "FULL"])
    def test_synchronous_is_a_choice(self, path: Path, level: Any) -> None:
        with SQLiteStorage(path, synchronous=level) as storage:
            start(storage)
            assert texts_of(storage) == ["hello"]
            (found,) = storage._connections.read("look", lambda c: c.execute("PRAGMA synchronous").fetchone())
        assert found == {"NORMAL": 1, "FULL": 2}[level]

    def test_another_synchronous_is_refused(self, path: Path) -> None:
        with pytest.raises(ConfigurationError, match="NORMAL"):
            SQLiteStorage(path, synchronous="OFF")  # type: ignore[arg-type]  # the point of the test

    def test_an_empty_path_is_refused(self) -> None:
        with pytest.raises(ValidationError, match="Database path cannot be empty"):
            SQLiteStorage("")

    @pytest.mark.parametrize("limit", [0, -1])
    def test_a_limit_below_one_is_refused(self, path: Path, limit: int) -> None:
        with pytest.raises(ValidationError, match="max_messages"):
            SQLiteStorage(path, max_messages=limit)


class TestWhatIsNoDatabaseOfOurs:
    def test_a_directory_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConnectionError, match="is a directory"):
            SQLiteStorage(tmp_path).list_threads()

    def test_a_missing_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConnectionError, match="folder must exist"):
            SQLiteStorage(tmp_path / "missing" / "chat.db").list_threads()
        assert list(tmp_path.iterdir()) == []

    def test_a_newer_format_is_refused_unchanged(self, storage: SQLiteStorage, path: Path) -> None:
        start(storage)
        storage.close()
        execute(path, "PRAGMA user_version = 99")
        before = path.read_bytes()
        for _ in range(2):
            with pytest.raises(StorageError, match=r"has format 99; .* upgrade memexllm"):
                storage.list_threads()
            with pytest.raises(StorageError, match="format 99"):
                start(storage)
        assert path.read_bytes() == before

    @pytest.mark.parametrize("journal", ["DELETE", "WAL"])
    def test_the_database_of_another_program_is_refused_unchanged(
        self, storage: SQLiteStorage, path: Path, journal: str
    ) -> None:
        execute(path, f"PRAGMA journal_mode = {journal}")
        execute(path, "CREATE TABLE bread (loaf TEXT)")
        before = path.read_bytes()
        for use in (storage.list_threads, lambda: start(storage), lambda: storage.read_head("t")):
            with pytest.raises(StorageError, match=r"another program .*bread"):
                use()
        assert path.read_bytes() == before
        assert [file.name for file in path.parent.iterdir()] == ["chat.db"]

    @pytest.mark.parametrize("version", [-1, 1, 2, 99])
    def test_a_database_with_a_format_number_of_its_own_is_refused_unchanged(
        self, storage: SQLiteStorage, path: Path, version: int
    ) -> None:
        execute(path, "CREATE TABLE bread (loaf TEXT)")
        execute(path, f"PRAGMA user_version = {version}")
        before = path.read_bytes()
        with pytest.raises(StorageError, match="Nothing was changed"):
            start(storage)
        assert path.read_bytes() == before

    def test_bytes_that_are_no_database_are_refused_unchanged(self, storage: SQLiteStorage, path: Path) -> None:
        garbage = b"This is a letter, not a database. " * 100
        path.write_bytes(garbage)
        for use in (storage.list_threads, lambda: start(storage), lambda: storage.read_head("t")):
            with pytest.raises(IntegrityError, match=r"damaged or no SQLite database"):
                use()
        assert path.read_bytes() == garbage


class TestDamage:
    @pytest.mark.parametrize(
        "damaged",
        [
            "",
            "words",
            '{"seq":0,"id":"m"',
            "{}",
            "[]",
            "5",
            "null",
            '"text"',
            "{},{}",
            '{"wire":5}',
            '{"seq":0,"wire":{}}',
        ],
    )
    @pytest.mark.parametrize("wire", [False, True])
    def test_a_message_that_cannot_be_read_is_a_clear_error(
        self, storage: SQLiteStorage, path: Path, damaged: str, wire: bool
    ) -> None:
        start(storage, "t", "one", "two")
        start(storage, "u", "other")
        execute(path, "UPDATE messages SET wire_text = ? WHERE wire_text LIKE '%two%'", damaged)
        read: Any = storage.read_messages
        with pytest.raises(CorruptThreadError, match="'t'"):
            read("t", wire=wire)
        with pytest.raises(CorruptThreadError, match="'t'"):
            storage.get_thread("t")
        assert texts_of(storage, "u") == ["other"]
        assert execute(path, "SELECT count(*) FROM messages WHERE wire_text = ?", damaged) == [(1,)]

    @pytest.mark.parametrize("damaged", ["", "words", "[1]", "5", '"text"', "{},{}", '{"metadata":5}', '{"call":5}'])
    def test_what_only_messages_need_is_checked_too(self, storage: SQLiteStorage, path: Path, damaged: str) -> None:
        start(storage)
        execute(path, "UPDATE messages SET extra_text = ?", damaged)
        with pytest.raises(CorruptThreadError, match="'t'"):
            storage.read_messages("t")

    @pytest.mark.parametrize("column", ["metadata", "state"])
    @pytest.mark.parametrize("damaged", ["", "words", "[1]", "5", "null", '"text"'])
    def test_a_thread_that_cannot_be_read_is_a_clear_error(
        self, storage: SQLiteStorage, path: Path, column: str, damaged: str
    ) -> None:
        start(storage)
        execute(path, f"UPDATE threads SET {column} = ?", damaged)
        for read in (storage.read_head, storage.get_thread):
            with pytest.raises(CorruptThreadError, match="'t'"):
                read("t")
        with pytest.raises(CorruptThreadError, match="'t'"):
            storage.list_threads()

    def test_bytes_that_are_no_text_are_a_clear_error(self, storage: SQLiteStorage, path: Path) -> None:
        start(storage)
        execute(path, "UPDATE messages SET wire_text = CAST(x'7bff7d' AS TEXT)")
        with pytest.raises(IntegrityError, match="damaged"):
            storage.read_messages("t")

    def test_a_damaged_state_is_not_overwritten(self, storage: SQLiteStorage, path: Path) -> None:
        start(storage)
        execute(path, "UPDATE threads SET state = 'words'")
        with pytest.raises(CorruptThreadError):
            storage.append_messages("t", [Message("more", "user")], state={"k": 1})
        assert execute(path, "SELECT state, message_count FROM threads JOIN logs ON logs.id = log_id") == [("words", 1)]

    def test_damaged_pages_are_a_clear_error(self, storage: SQLiteStorage, path: Path) -> None:
        for number in range(50):
            start(storage, f"t{number}", "x" * 3000)
        storage.close()
        with path.open("r+b") as file:
            for page in range(2, path.stat().st_size // 4096):
                file.seek(page * 4096)
                file.write(b"\xff" * 4096)
        with pytest.raises(IntegrityError, match="damaged"):
            list(map(storage.get_thread, [f"t{number}" for number in range(50)]))

    def test_errors_show_nothing_of_what_was_said(self, storage: SQLiteStorage, path: Path) -> None:
        start(storage, "t", "the secret of the bread")
        execute(path, "UPDATE messages SET wire_text = wire_text || '}'")
        with pytest.raises(CorruptThreadError) as refusal:
            storage.read_messages("t")
        assert "secret" not in str(refusal.value)


class TestSharing:
    def test_two_storages_on_one_file_see_each_other(self, path: Path) -> None:
        with SQLiteStorage(path) as one, SQLiteStorage(path) as other:
            start(one, "t", "a")
            other.append_messages("t", [Message("b", "user")])
            assert texts_of(one) == texts_of(other) == ["a", "b"]
            other.delete_thread("t")
            assert one.read_head("t") is None

    def test_storages_in_memory_share_nothing(self) -> None:
        with SQLiteStorage(":memory:") as one, SQLiteStorage(":memory:") as other:
            start(one)
            assert other.list_threads() == []

    def test_a_busy_file_is_a_clear_error(self, path: Path) -> None:
        with SQLiteStorage(path, busy_timeout_s=0.05) as storage:
            start(storage)
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                with pytest.raises(OperationError, match=r"kept busy by another writer for 0\.05 s"):
                    storage.append_messages("t", [Message("b", "user")])
                assert texts_of(storage) == ["hello"]
                other.execute("ROLLBACK")
            storage.append_messages("t", [Message("b", "user")])
            assert texts_of(storage) == ["hello", "b"]

    def test_closing_leaves_no_other_file_and_can_be_taken_back(self, storage: SQLiteStorage, path: Path) -> None:
        start(storage)
        storage.close()
        assert [file.name for file in path.parent.iterdir()] == ["chat.db"]
        assert texts_of(storage) == ["hello"]

    def test_nothing_is_left_open(self, path: Path) -> None:
        def open_files() -> int:
            links = Path("/proc/self/fd").iterdir() if Path("/proc/self/fd").exists() else iter(())
            return sum(str(path) in os.readlink(link) for link in links if link.is_symlink())

        storage = SQLiteStorage(path)
        start(storage)
        storage.close()
        gc.collect()
        assert open_files() == 0


class TestDeletion:
    SECRET = "the secret of the bread"  # noqa: S105 - a text to look for

    def left(self, storage: SQLiteStorage, path: Path) -> bool:
        """Whether the text is anywhere in the file or beside it, once the log was written back."""
        execute(path, "PRAGMA wal_checkpoint(TRUNCATE)")
        return any(self.SECRET.encode() in file.read_bytes() for file in path.parent.iterdir())

    def test_a_deleted_thread_is_gone_from_the_file(self, storage: SQLiteStorage, path: Path) -> None:
        start(storage, "t", *[f"{self.SECRET} {number}" * 50 for number in range(20)])
        start(storage, "u", "other")
        assert self.left(storage, path)
        storage.delete_thread("t")
        assert not self.left(storage, path)
        assert texts_of(storage, "u") == ["other"]

    def test_metadata_and_title_are_gone_with_the_thread(self, storage: SQLiteStorage, path: Path) -> None:
        thread = Thread("t", title=self.SECRET, metadata={"k": self.SECRET}, state={"k": self.SECRET})
        storage.save_thread(thread)
        assert self.left(storage, path)
        storage.delete_thread("t")
        assert not self.left(storage, path)

    def test_a_replaced_message_is_gone_from_the_file(self, storage: SQLiteStorage, path: Path) -> None:
        message = Message(self.SECRET, "user")
        storage.append_messages("t", [message], create={})
        storage.replace_message("t", message.id, Message("x", "user", id=message.id))
        assert not self.left(storage, path)

    def test_a_replaced_thread_is_gone_from_the_file(self, storage: SQLiteStorage, path: Path) -> None:
        start(storage, "t", self.SECRET)
        storage.save_thread(Thread("t", messages=[Message("x", "user")]))
        assert not self.left(storage, path)

    def test_messages_beyond_the_limit_are_gone_from_the_file(self, path: Path) -> None:
        with SQLiteStorage(path, max_messages=1) as storage:
            start(storage, "t", self.SECRET)
            storage.append_messages("t", [Message("x", "user")])
            assert not self.left(storage, path)

    def test_nothing_lies_about_for_a_thread_that_is_gone(self, storage: SQLiteStorage, path: Path) -> None:
        start(storage, "t", "a", "b")
        start(storage, "u", "c")
        storage.save_thread(Thread("u", messages=[Message("d", "user")]))
        storage.delete_thread("t")
        storage.delete_thread("u")
        counts = [execute(path, f"SELECT count(*) FROM {table}") for table in ("threads", "logs", "messages")]
        assert counts == [[(0,)]] * 3


def write_until_refused(storage: SQLiteStorage) -> None:
    """The file is looked at every few writes; a program that goes on writing is told within a moment."""
    with pytest.raises(ConnectionError, match="deleted or replaced"):
        write_for_ten_seconds(storage)


def write_for_ten_seconds(storage: SQLiteStorage) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        start(storage, "u")


class TestAnotherFile:
    def test_a_deleted_file_is_not_written_to(self, storage: SQLiteStorage, path: Path) -> None:
        start(storage)
        path.unlink()
        write_until_refused(storage)
        with pytest.raises(ConnectionError, match="deleted or replaced"):
            start(storage, "u")
        storage.close()
        start(storage, "u")
        assert [thread.id for thread in storage.list_threads()] == ["u"]

    def test_a_file_put_in_its_place_is_not_written_to(self, storage: SQLiteStorage, path: Path) -> None:
        start(storage)
        with SQLiteStorage(path.with_name("other.db")) as other:
            start(other, "other")
        path.with_name("other.db").replace(path)
        write_until_refused(storage)

    def test_a_relative_path_stays_where_it_was(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(path.parent)
        with SQLiteStorage("relative.db") as storage:
            start(storage)
            monkeypatch.chdir("/")
            start(storage, "u")
        assert path.with_name("relative.db").exists()
