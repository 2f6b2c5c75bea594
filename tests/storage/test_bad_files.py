"""A path that is no database, a file that is damaged or may not be touched, a disk without room: a clear error of ours
each time, nothing overwritten, nothing lost."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from memexllm.core.errors import ConnectionError, IntegrityError, OperationError, StorageError, ValidationError
from memexllm.core.models import Message, Thread
from memexllm.storage import SQLiteStorage
from memexllm.storage._sqlite_readonly import connect, undisturbed

NOBODY = 65534
posix = pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")


def execute(path: Path, sql: str, *values: Any) -> list[Any]:
    """Run one statement on the file, as another program would."""
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(sql, values).fetchall()


def start(storage: SQLiteStorage, thread_id: str = "t", *texts: str) -> None:
    storage.append_messages(thread_id, [Message(text, "user") for text in texts or ("hello",)], create={})


def texts_of(storage: SQLiteStorage, thread_id: str = "t") -> list[str]:
    return [message.text for message in storage.read_messages(thread_id)]


def contents(folder: Path) -> dict[str, str]:
    """The files of a folder and what is in them."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


def uses(storage: SQLiteStorage) -> list[Callable[[], Any]]:
    """Every kind of operation."""
    return [
        storage.list_threads,
        lambda: storage.get_thread("t"),
        lambda: storage.read_head("t"),
        lambda: storage.read_messages("t"),
        lambda: storage.read_messages("t", limit=1, wire=True),
        lambda: start(storage),
        lambda: storage.save_thread(Thread("t")),
        lambda: storage.replace_message("t", "m", Message("x", "user")),
        lambda: storage.patch_thread("t", title="x"),
        lambda: storage.delete_thread("t"),
    ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chat.db"


@pytest.fixture
def kept(path: Path) -> bytes:
    """The bytes of a closed database with 20 threads; it lies at `path`."""
    with SQLiteStorage(path) as storage:
        for number in range(20):
            start(storage, f"t{number}", f"text {number} " * 200)
        start(storage)
    return path.read_bytes()


class TestPaths:
    @pytest.mark.parametrize("path", [None, 5, object(), b"chat.db", ["chat.db"], "a\x00b", "\ud83d.db", ""])
    def test_what_can_name_no_file_is_refused_at_once(self, path: Any) -> None:
        with pytest.raises(ValidationError, match="Database path"):
            SQLiteStorage(path)

    @pytest.mark.parametrize("name", ["a b", "100%", "?mode=ro", "#1", "größe 🙂", "file:chat.db", "line\nbreak", "'"])
    def test_any_other_name_is_the_name_of_a_file(self, tmp_path: Path, name: str) -> None:
        with SQLiteStorage(tmp_path / name) as storage:
            start(storage)
        assert [file.name for file in tmp_path.iterdir()] == [name]
        with SQLiteStorage(tmp_path / name) as storage:
            assert texts_of(storage) == ["hello"]

    def test_a_name_that_is_too_long_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConnectionError, match="cannot be made"):
            SQLiteStorage(tmp_path / ("x" * 10_000)).list_threads()

    def test_a_directory_is_refused_by_every_operation(self, tmp_path: Path) -> None:
        for use in uses(SQLiteStorage(tmp_path)):
            with pytest.raises(ConnectionError, match="is a directory"):
                use()
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_is_not_there_is_not_made(self, tmp_path: Path) -> None:
        for use in uses(SQLiteStorage(tmp_path / "missing" / "chat.db")):
            with pytest.raises(ConnectionError, match="folder must exist"):
                use()
        assert list(tmp_path.iterdir()) == []

    def test_a_file_in_the_place_of_a_folder_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "letter").write_text("dear")
        with pytest.raises(ConnectionError, match="cannot be made"):
            SQLiteStorage(tmp_path / "letter" / "chat.db").list_threads()
        assert (tmp_path / "letter").read_text() == "dear"

    @posix
    def test_what_is_no_file_is_refused_without_waiting_for_it(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        for name in (tmp_path / "pipe", Path(os.devnull)):
            for use in uses(SQLiteStorage(name)):
                with pytest.raises(ConnectionError, match="is no file"):
                    use()

    @posix
    def test_a_link_to_nothing_yet_leads_to_a_private_file(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(tmp_path / "chat.db")
        with SQLiteStorage(tmp_path / "link") as storage:
            start(storage)
        assert (tmp_path / "chat.db").stat().st_mode & 0o777 == 0o600
        with SQLiteStorage(tmp_path / "chat.db") as storage:
            assert texts_of(storage) == ["hello"]

    @posix
    def test_a_link_in_a_circle_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(tmp_path / "link")
        with pytest.raises(ConnectionError):
            SQLiteStorage(tmp_path / "link").list_threads()

    def test_when_the_folder_is_there_at_last_it_goes_on(self, tmp_path: Path) -> None:
        storage = SQLiteStorage(tmp_path / "later" / "chat.db")
        with pytest.raises(ConnectionError):
            start(storage)
        (tmp_path / "later").mkdir()
        start(storage)
        assert texts_of(storage) == ["hello"]
        storage.close()


class TestFilesThatAreNotWhole:
    @pytest.mark.parametrize("text", [b"Dear friend,\n" * 500, b"x", b"SQLite format 3", b"\x00" * 5000])
    def test_bytes_that_are_no_database_are_refused_unchanged(self, path: Path, text: bytes) -> None:
        path.write_bytes(text)
        for use in uses(SQLiteStorage(path)):
            with pytest.raises(StorageError, match="damaged or no SQLite database"):
                use()
        assert path.read_bytes() == text
        assert [file.name for file in path.parent.iterdir()] == ["chat.db"]

    @pytest.mark.parametrize("left", [0.02, 0.3, 0.5, 0.9])
    def test_a_truncated_file_is_a_clear_error_and_is_not_written_to(
        self, path: Path, kept: bytes, left: float
    ) -> None:
        truncated = kept[: int(len(kept) * left)]
        path.write_bytes(truncated)
        with SQLiteStorage(path) as storage:
            for use in uses(storage)[:5]:
                with contextlib.suppress(IntegrityError):
                    use()
            with pytest.raises(IntegrityError, match="damaged"):
                start(storage, "new", "x" * 5000)
        assert path.read_bytes() == truncated

    @pytest.mark.parametrize("missing", [1, 100, 2000, 4095])
    def test_a_file_that_lacks_its_last_bytes_is_refused_unchanged(self, path: Path, kept: bytes, missing: int) -> None:
        path.write_bytes(kept[:-missing])
        for use in uses(SQLiteStorage(path)):
            with pytest.raises(IntegrityError, match="no whole pages"):
                use()
        assert path.read_bytes() == kept[:-missing]
        assert [file.name for file in path.parent.iterdir()] == ["chat.db"]

    def test_a_file_cut_to_nothing_is_a_new_one(self, path: Path, kept: bytes) -> None:
        assert kept
        path.write_bytes(b"")
        with SQLiteStorage(path) as storage:
            assert storage.list_threads() == []

    @pytest.mark.parametrize("seed", range(20))
    def test_damage_anywhere_is_read_past_or_a_clear_error(self, path: Path, kept: bytes, seed: int) -> None:
        chance = random.Random(seed)
        damaged = bytearray(kept)
        for _ in range(40):
            place = chance.randrange(len(damaged) - 16)
            damaged[place : place + 16] = chance.randbytes(16)
        path.write_bytes(damaged)
        with SQLiteStorage(path) as storage:
            for number in range(20):
                try:
                    found = storage.get_thread(f"t{number}")
                except StorageError:
                    continue
                assert found is None or found.id == f"t{number}"

    @pytest.mark.parametrize("journal", ["DELETE", "WAL"])
    def test_a_database_of_another_program_is_refused_by_every_operation(self, path: Path, journal: str) -> None:
        execute(path, f"PRAGMA journal_mode = {journal}")
        execute(path, "CREATE TABLE threads (loaf TEXT)")
        execute(path, "CREATE TABLE messages (loaf TEXT)")
        before = contents(path.parent)
        for use in uses(SQLiteStorage(path)):
            with pytest.raises(StorageError, match="another program"):
                use()
        assert contents(path.parent) == before


class TestAnotherVersion:
    def test_a_newer_format_is_refused_by_every_operation(self, path: Path, kept: bytes) -> None:
        assert kept
        execute(path, "PRAGMA user_version = 99")
        before = contents(path.parent)
        for use in uses(SQLiteStorage(path)):
            with pytest.raises(StorageError, match=r"format 99; .*upgrade memexllm"):
                use()
        assert contents(path.parent) == before

    def test_once_a_newer_one_upgraded_the_file_no_older_one_writes(self, path: Path) -> None:
        with SQLiteStorage(path) as older:
            start(older)
            execute(path, "PRAGMA user_version = 99")
            before = execute(path, "SELECT * FROM messages")
            for use in (use for use in uses(older)[5:]):
                with pytest.raises(StorageError, match=r"format 99; .*upgrade memexllm"):
                    use()
            assert execute(path, "SELECT * FROM messages") == before

    def test_a_table_that_changed_under_an_older_one_is_named_as_such(self, path: Path) -> None:
        with SQLiteStorage(path) as older:
            start(older)
            execute(path, "PRAGMA user_version = 99")
            execute(path, "ALTER TABLE messages RENAME COLUMN wire_text TO wire_json")
            with pytest.raises(StorageError, match=r"format 99; .*upgrade memexllm"):
                texts_of(older)

    def test_a_process_that_had_it_open_does_not_write_either(self, path: Path) -> None:
        script = (
            "import sys\nfrom memexllm import Message, SQLiteStorage\nfrom memexllm.core.errors import StorageError\n"
            "storage = SQLiteStorage(sys.argv[1])\nadd = lambda: storage.append_messages('t', [Message('a', 'user')], "
            "create={})\nadd()\nprint('open', flush=True)\nsys.stdin.readline()\n"
            "try:\n    add()\nexcept StorageError as error:\n    print(error, flush=True)\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", script, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        ) as older:
            assert older.stdout is not None
            assert older.stdout.readline() == "open\n"
            execute(path, "PRAGMA user_version = 99")
            said, _ = older.communicate("\n")
        assert "upgrade memexllm" in said
        assert execute(path, "SELECT count(*) FROM messages") == [(1,)]


class TestValues:
    @pytest.fixture
    def storage(self, path: Path) -> Iterator[SQLiteStorage]:
        with SQLiteStorage(path) as storage:
            start(storage)
            yield storage

    @pytest.mark.parametrize("thread_id", [["t"], {"t": 1}, object(), 1 << 70, "\ud83d"])
    def test_what_is_no_id_is_refused(self, storage: SQLiteStorage, thread_id: Any) -> None:
        for use in (
            storage.get_thread,
            storage.read_head,
            storage.read_messages,
            storage.delete_thread,
            lambda name: start(storage, name),
            lambda name: storage.patch_thread(name, title="x"),
            lambda name: storage.replace_message(name, "m", Message("x", "user")),
        ):
            with pytest.raises(ValidationError):
                use(thread_id)
        assert [thread.id for thread in storage.list_threads()] == ["t"]

    @pytest.mark.parametrize("metadata", [{"k": object()}, {"k": float("nan")}, {"k": "\ud83d"}])
    def test_metadata_that_is_no_json_is_refused_and_nothing_is_stored(
        self, storage: SQLiteStorage, metadata: Any
    ) -> None:
        with pytest.raises(ValidationError):
            storage.append_messages("new", [], create={"metadata": metadata})
        with pytest.raises(ValidationError):
            storage.patch_thread("t", metadata=metadata)
        with pytest.raises(ValidationError):
            storage.append_messages("t", [Message("x", "user")], state=metadata)
        assert [(thread.id, thread.metadata, thread.version) for thread in storage.list_threads()] == [("t", {}, 1)]

    def test_numbers_beyond_64_bits_are_refused(self, storage: SQLiteStorage) -> None:
        with pytest.raises(ValidationError, match="64 bits"):
            storage.read_messages("t", limit=1 << 70)
        with pytest.raises(ValidationError, match="64 bits"):
            storage.get_thread("t", message_limit=1 << 70)
        assert texts_of(storage) == ["hello"]


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Root may write anywhere; what is asked here is asked as a user who may not."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that nobody may enter; pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        for each in [folder, *folder.rglob("*")]:
            each.chmod(0o700)
        shutil.rmtree(folder)


def given_away(folder: Path, folder_mode: int, file_mode: int) -> None:
    """The folder and its files belong to the user who asks, with these permissions."""
    for file in folder.iterdir():
        if os.geteuid() == 0:
            os.chown(file, NOBODY, NOBODY)
        file.chmod(file_mode)
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    folder.chmod(folder_mode)


@posix
class TestPermissions:
    @pytest.fixture
    def path(self, place: Path) -> Path:
        path = place / "chat.db"
        with SQLiteStorage(path) as storage:
            storage.append_messages("t", [Message("a", "user", id="m"), Message("b", "user")], create={})
            start(storage, "u", "other")
        return path

    @pytest.mark.parametrize("journal", ["WAL", "DELETE"])
    @pytest.mark.parametrize(
        ("folder_mode", "file_mode"),
        [(0o500, 0o400), (0o500, 0o600), (0o700, 0o400)],
        ids=["both", "the folder", "the file"],
    )
    def test_what_may_only_be_read_is_read_and_writes_are_refused(
        self, path: Path, folder_mode: int, file_mode: int, journal: str
    ) -> None:
        execute(path, f"PRAGMA journal_mode = {journal}")
        given_away(path.parent, folder_mode, file_mode)
        before = path.read_bytes()
        with as_nobody(), SQLiteStorage(path) as storage:
            for _ in range(2):
                assert texts_of(storage) == ["a", "b"]
                assert [thread.id for thread in storage.list_threads()] == ["t", "u"]
                thread = storage.get_thread("t")
                assert thread is not None
                assert thread.message_count == 2
                assert storage.read_head("nobody") is None
                for use in uses(storage)[5:]:
                    with pytest.raises(OperationError, match=r"can only be read .*Nothing was written"):
                        use()
        assert path.read_bytes() == before

    def test_a_reader_sees_what_others_write_meanwhile(self, path: Path) -> None:
        given_away(path.parent, 0o500, 0o400)
        with as_nobody():
            reader = SQLiteStorage(path)
            assert texts_of(reader) == ["a", "b"]
        path.parent.chmod(0o700)
        path.chmod(0o600)
        with SQLiteStorage(path) as writer:
            writer.append_messages("t", [Message("c", "user")])
        given_away(path.parent, 0o500, 0o400)
        with as_nobody(), reader:
            assert texts_of(reader) == ["a", "b", "c"]

    def test_when_writing_is_allowed_again_it_goes_on(self, path: Path) -> None:
        given_away(path.parent, 0o500, 0o400)
        with as_nobody():
            storage = SQLiteStorage(path)
            assert texts_of(storage) == ["a", "b"]
            with pytest.raises(OperationError):
                start(storage, "t", "c")
        given_away(path.parent, 0o700, 0o600)
        with as_nobody(), storage:
            start(storage, "t", "c")
            assert texts_of(storage) == ["a", "b", "c"]

    def test_newest_writes_that_cannot_be_read_are_not_left_out(self, path: Path, place: Path) -> None:
        """A copy of an open database: its newest writes lie in the log beside it."""
        (place / "copy").mkdir()
        with SQLiteStorage(path) as storage:
            storage.append_messages("t", [Message("c", "user")])
            for name in ("chat.db", "chat.db-wal"):
                shutil.copy(place / name, place / "copy" / name)
        given_away(place / "copy", 0o500, 0o400)
        with as_nobody(), pytest.raises(ConnectionError, match=r"newest writes lie in .*chat\.db-wal"):
            SQLiteStorage(place / "copy" / "chat.db").list_threads()

    def test_a_file_that_must_be_upgraded_first_says_so(self, place: Path) -> None:
        path = place / "old.db"
        golden = Path(__file__).parent.parent / "golden" / "sqlite_0_1_0.sql"
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(golden.read_text(encoding="utf-8"))
        given_away(place, 0o500, 0o400)
        before = contents(place)
        with as_nobody(), pytest.raises(StorageError, match=r"(?i)nothing was changed"):
            SQLiteStorage(path).list_threads()
        assert contents(place) == before

    def test_a_file_that_may_not_be_read_is_refused(self, path: Path) -> None:
        given_away(path.parent, 0o700, 0o000)
        with as_nobody():
            for use in uses(SQLiteStorage(path)):
                with pytest.raises(ConnectionError, match="cannot be opened"):
                    use()

    @pytest.mark.parametrize("mode", [0o500, 0o000])
    def test_a_new_file_where_none_may_be_made_is_refused(self, place: Path, mode: int) -> None:
        given_away(place, mode, 0o600)
        with as_nobody(), pytest.raises(ConnectionError, match="Permission denied; its folder must exist"):
            SQLiteStorage(place / "chat.db").list_threads()

    def test_an_empty_file_that_may_not_be_written_is_refused(self, place: Path) -> None:
        (place / "chat.db").touch()
        given_away(place, 0o500, 0o400)
        with as_nobody(), pytest.raises(StorageError, match="is empty and cannot be written"):
            SQLiteStorage(place / "chat.db").list_threads()


class TestReadingWhatOthersWrite:
    """Without the files that keep readers and writers apart, a reader notices that the file changed meanwhile."""

    @pytest.mark.parametrize(("n_disturbed", "n_tries"), [(0, 1), (1, 2), (9, 10)])
    def test_a_read_that_was_disturbed_is_done_again(
        self, path: Path, kept: bytes, n_disturbed: int, n_tries: int
    ) -> None:
        assert kept
        tries: list[int] = []

        def work(connection: sqlite3.Connection) -> Any:
            found = connection.execute("SELECT count(*) FROM messages").fetchone()
            tries.append(1)
            if len(tries) <= n_disturbed:
                execute(path, "DELETE FROM messages WHERE position IN (SELECT max(position) FROM messages)")
                os.utime(path, ns=(len(tries), len(tries)))
            return found

        found = undisturbed(lambda: connect(str(path), "here", 1.0), str(path), "here", work)
        assert (found, len(tries)) == ((21 - n_disturbed,), n_tries)

    def test_one_that_is_disturbed_all_the_time_says_so(self, path: Path, kept: bytes) -> None:
        assert kept
        tries: list[int] = []

        def work(_: sqlite3.Connection) -> None:
            tries.append(1)
            os.utime(path, ns=(len(tries), len(tries)))

        with pytest.raises(OperationError, match="being written by another"):
            undisturbed(lambda: connect(str(path), "here", 1.0), str(path), "here", work)


def filled(storage: SQLiteStorage) -> list[str]:
    """Write until there is no room; what was acknowledged."""
    acknowledged: list[str] = []

    def write_on() -> None:
        for number in range(10_000):
            text = f"{number} " * 4000
            storage.append_messages("t", [Message(text, "user"), Message(text, "assistant")], create={})
            acknowledged.extend([text, text])

    with pytest.raises(OperationError):
        write_on()
    return acknowledged


class TestNoRoom:
    def check(self, path: Path, make_room: Callable[[], Any]) -> None:
        with SQLiteStorage(path) as storage:
            acknowledged = filled(storage)
            assert acknowledged
            for _ in range(3):
                with pytest.raises(OperationError, match="add message to thread"):
                    storage.append_messages("t", [Message("x" * 50_000, "user")])
            assert texts_of(storage) == acknowledged
            head = storage.read_head("t")
            assert head is not None
            assert head.message_count == len(acknowledged)
            make_room()
            storage.append_messages("t", [Message("x" * 50_000, "user")])
        with SQLiteStorage(path) as storage:
            assert texts_of(storage) == [*acknowledged, "x" * 50_000]
        assert execute(path, "PRAGMA integrity_check") == [("ok",)]

    @posix
    def test_a_file_that_may_not_grow_loses_nothing_and_goes_on_when_it_may(self, path: Path) -> None:
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        with SQLiteStorage(path) as storage:
            storage.list_threads()
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, hard))
            self.check(path, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard)))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    @pytest.fixture
    def small_disk(self, tmp_path: Path) -> Iterator[Path]:
        disk = tmp_path / "disk"
        disk.mkdir()
        mounted = shutil.which("mount") and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False
        )
        if not mounted or mounted.returncode:
            pytest.skip("this process may not mount a small disk; a file that may not grow is tested instead")
        try:
            yield disk
        finally:
            subprocess.run(["umount", disk], check=True)

    def test_a_full_disk_loses_nothing_and_goes_on_when_there_is_room(self, small_disk: Path) -> None:
        def make_room() -> None:
            subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)

        self.check(small_disk / "chat.db", make_room)

    def test_a_new_file_on_a_full_disk_is_a_clear_error(self, small_disk: Path) -> None:
        (small_disk / "filler").write_bytes(b"x" * (1 << 20))
        storage = SQLiteStorage(small_disk / "chat.db")
        with pytest.raises(StorageError, match="is full"):
            start(storage)
        (small_disk / "filler").unlink()
        start(storage)
        assert texts_of(storage) == ["hello"]
        storage.close()

    def test_a_file_of_0_1_without_room_for_its_copy_stays_as_it_is(self, small_disk: Path) -> None:
        golden = Path(__file__).parent.parent / "golden" / "sqlite_0_1_0.sql"
        path = small_disk / "chat.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(golden.read_text(encoding="utf-8"))
        filler = small_disk / "filler"
        with contextlib.suppress(OSError):
            filler.write_bytes(b"x" * (1 << 20))
        before = path.read_bytes()
        storage = SQLiteStorage(path)
        for _ in range(2):
            with pytest.raises(StorageError, match=r"could not be made .*; nothing was changed"):
                storage.list_threads()
        assert sorted(file.name for file in small_disk.iterdir()) == ["chat.db", "filler"]
        assert path.read_bytes() == before
        filler.unlink()
        assert len(storage.list_threads()) == 13
        storage.close()
