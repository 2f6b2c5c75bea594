"""Files of older formats are brought to today's in place: nothing lost, and whole or not at all.

`tests/golden` has two files for each format: its tables, and the rows that `fill` left in it.
"""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from memexllm.core.errors import StorageError
from memexllm.core.models import Message, Thread
from memexllm.storage import SQLiteStorage
from memexllm.storage._sqlite_migrations import MIGRATIONS
from memexllm.storage._sqlite_schema import FORMAT
from memexllm.testing._corpus import METADATA, OUR_FIELDS, WIRES, fingerprints

GOLDEN = Path(__file__).parent.parent / "golden"
START = datetime(2025, 6, 1, 12, 0, tzinfo=UTC)
OLDER = range(1, FORMAT)

# What the golden files hold; the corpus grew since.
GOLDEN_METADATA = {key: value for key, value in METADATA.items() if key != "memexllm"}
GOLDEN_FIELDS = {name: fields for name, fields in OUR_FIELDS.items() if name != "items"}


def fill(storage: SQLiteStorage) -> None:
    """Threads of one minute, with everything a thread can hold; the same at every run."""
    for number, user_id in enumerate((None, "ann", "bob", "ann")):
        messages = [
            Message(wire=wire, id=f"{number}-{name}", created_at=START, seq=3 * seq)
            for seq, (name, wire) in enumerate(WIRES.items())
        ]
        messages += [
            Message(name, "user", **{"id": f"{number}-{name}", "created_at": START, **fields})
            for name, fields in GOLDEN_FIELDS.items()
        ]
        thread = Thread(
            f"t{number} 'ü%",
            messages=messages[: 1 + 12 * number],
            metadata=GOLDEN_METADATA if number else {},
            user_id=user_id,
            title="a 'title'" if number else None,
            created_at=START,
            # The one made last but one was written to last.
            updated_at=START + timedelta(microseconds=(1, 2, 9, 5)[number]),
            state={"cut": {"seq": number}, "block": ["{}"]},
            version=7 + number,
        )
        storage.save_thread(thread)


def seen(storage: SQLiteStorage) -> list[Any]:
    """Everything the storage shows of its threads."""
    shown: list[Any] = []
    for head in storage.list_threads():
        messages = storage.read_messages(head.id, include_superseded=True)
        seqs = [message.seq for message in messages]
        shown.append((head, head.state, head.message_count, head.updated_at, seqs, fingerprints(messages)))
    return shown


def old_file(path: Path, number: int) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        for kind in ("", "_rows"):
            connection.executescript(tables_and_rows(number, kind))
        connection.execute(f"PRAGMA user_version = {number}")
    return path


def tables_and_rows(number: int, kind: str) -> str:
    text = (GOLDEN / f"sqlite_format_{number}{kind}.sql").read_text("utf-8")
    # SQLite makes this table itself and lets nobody else do it.
    return text.replace("CREATE TABLE sqlite_sequence(name,seq);\n", "")


def dumped(path: Path) -> tuple[str, str]:
    """The tables and the rows of a file as the golden files have them (SQLite's own counters follow from them)."""
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type DESC, name")
        schema = ";\n".join(sql for (sql,) in tables) + ";\n"
        rows = [line for line in connection.iterdump() if line.startswith("INSERT INTO") and "sqlite_" not in line[:25]]
        return schema, "\n".join(rows) + "\n"


def golden(number: int) -> tuple[str, str]:
    schema, rows = ((GOLDEN / f"sqlite_format_{number}{kind}.sql").read_text("utf-8") for kind in ("", "_rows"))
    return schema, rows


def format_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def test_the_golden_files_of_today_are_what_is_written_today(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    with SQLiteStorage(path) as storage:
        fill(storage)
    assert dumped(path) == golden(FORMAT)


@pytest.mark.parametrize("number", OLDER)
def test_an_older_file_is_upgraded_without_loss(tmp_path: Path, number: int) -> None:
    with SQLiteStorage(tmp_path / "fresh.db") as storage:
        fill(storage)
        expected = seen(storage)
    with SQLiteStorage(old_file(tmp_path / "old.db", number)) as upgraded:
        assert seen(upgraded) == expected
    with SQLiteStorage(tmp_path / "old.db") as again:
        assert seen(again) == expected
    assert dumped(tmp_path / "old.db") == golden(FORMAT)
    assert format_of(tmp_path / "old.db") == FORMAT


@pytest.mark.parametrize("number", OLDER)
def test_an_upgraded_file_goes_on_like_a_new_one(tmp_path: Path, number: int) -> None:
    with SQLiteStorage(tmp_path / "fresh.db") as fresh, SQLiteStorage(old_file(tmp_path / "old.db", number)) as old:
        fill(fresh)
        for storage in (fresh, old):
            storage.append_messages("t2 'ü%", [Message("more", "user", id="m")], supersede=[0], state={"cut": 1})
            storage.append_messages("new", [Message("hello", "user", id="n")], create={"user_id": "ann"})
            storage.delete_thread("t3 'ü%")
        found, expected = (
            [(head.id, head.message_count, head.version) for head in each.list_threads()] for each in (old, fresh)
        )
        assert found == expected


@pytest.mark.parametrize("number", OLDER)
def test_a_migration_that_fails_midway_leaves_the_file_as_it_was(tmp_path: Path, number: int) -> None:
    path = old_file(tmp_path / "old.db", number)
    stopping = "CREATE TRIGGER stop BEFORE UPDATE ON threads WHEN NEW.n = 3 BEGIN SELECT RAISE(ABORT, 'no room'); END"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(stopping)
    before = dumped(path)
    with SQLiteStorage(path) as storage:
        for _ in range(2):
            with pytest.raises(StorageError, match="no room"):
                storage.list_threads()
            assert (dumped(path), format_of(path)) == (before, number)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("DROP TRIGGER stop")
        assert len(storage.list_threads()) == 4


@pytest.mark.parametrize("number", [0, *OLDER])
def test_many_that_open_a_file_at_once_upgrade_it_once(tmp_path: Path, number: int) -> None:
    path = tmp_path / "old.db"
    if number:
        old_file(path, number)

    def use(writer: int) -> int:
        with SQLiteStorage(path) as storage:
            return storage.append_messages(f"of {writer}", [Message("hello", "user")], create={})

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(use, range(8))) == [1] * 8
    with SQLiteStorage(path) as storage:
        assert len(storage.list_threads()) == (4 if number else 0) + 8
    assert format_of(path) == FORMAT


def test_every_format_has_a_way_to_todays() -> None:
    for number in range(FORMAT):
        steps = 0
        while number != FORMAT:
            assert MIGRATIONS[number].to > number
            number = MIGRATIONS[number].to
            steps += 1
        assert steps
