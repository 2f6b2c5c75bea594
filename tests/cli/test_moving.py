"""`export`, `import` and `delete`: nothing is lost on the way, and nothing goes that was not named."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

from memexllm import HistoryManager, SQLiteStorage, Thread
from memexllm.core.models import Message
from memexllm.history.transfer import export_threads
from memexllm.testing._corpus import random_messages
from tests.cli.conftest import Command


def kept(memexllm: Command, *names: str) -> None:
    with SQLiteStorage(memexllm.folder / "chat.db") as storage:
        for number, name in enumerate(names):
            storage.save_thread(Thread(name, messages=random_messages(number, 5)))


def ids(memexllm: Command, place: str = "chat.db") -> list[str]:
    with HistoryManager(memexllm.folder / place) as manager:
        return [thread.id for thread in manager.list_threads()]


def test_everything_moves_through_a_pipe(memexllm: Command) -> None:
    kept(memexllm, "a", "b", "c")
    exported = memexllm("export").stdout
    moved = memexllm("import", "-", "--storage", "other.db", typed=exported)
    assert moved.returncode == 0
    assert moved.stderr == b"imported 3 threads, 15 messages\n"
    assert memexllm("export", "--storage", "other.db").stdout == exported


def test_a_file_of_the_command_is_that_of_the_library(memexllm: Command) -> None:
    kept(memexllm, "a", "b", "c")
    assert memexllm.printed("export", "c", "a", "--output", "cli.jsonl") == ""
    export_threads(memexllm.folder / "chat.db", memexllm.folder / "code.jsonl", ["c", "a"])
    assert (memexllm.folder / "cli.jsonl").read_bytes() == (memexllm.folder / "code.jsonl").read_bytes()


def test_counts_are_told_in_json(memexllm: Command) -> None:
    kept(memexllm, "a", "b")
    expected = {"threads": 2, "messages": 10, "skipped": 0}
    assert json.loads(memexllm.printed("export", "-o", "x.jsonl", "--json")) == expected
    assert json.loads(memexllm.printed("import", "x.jsonl", "--storage", "other.db", "--json")) == expected


def test_what_exists_is_refused_skipped_or_replaced(memexllm: Command) -> None:
    kept(memexllm, "a", "b")
    memexllm.printed("export", "-o", "x.jsonl")
    assert memexllm.printed("delete", "-y", "b") == ""
    with HistoryManager(memexllm.folder / "chat.db") as manager:
        manager.update_thread("a", title="mine")
        assert "one of its threads exists already ('a')" in memexllm.refused("import", "x.jsonl")
        assert ids(memexllm) == ["a"]
        memexllm.printed("import", "x.jsonl", "--skip-existing")
        assert ids(memexllm) == ["a", "b"]
        assert manager.get_thread("a").title == "mine"
        memexllm.printed("import", "x.jsonl", "--replace")
        assert manager.get_thread("a").title is None
    assert "exclude each other" in memexllm.refused("import", "x.jsonl", "--replace", "--skip-existing", code=2)


def test_a_damaged_file_is_told_by_line_and_changes_nothing(memexllm: Command) -> None:
    kept(memexllm, "a", "b")
    lines = memexllm("export").stdout.splitlines(keepends=True)
    (memexllm.folder / "bad.jsonl").write_bytes(b"".join([*lines[:3], lines[3][:20] + b"\n", *lines[4:]]))
    told = memexllm.refused("import", "bad.jsonl", "--storage", "other.db")
    assert "line 4: it is no JSON" in told
    assert ids(memexllm, "other.db") == []
    error = json.loads(memexllm.refused("import", "bad.jsonl", "--json", "--storage", "other.db"))["error"]
    assert error["type"] == "ValidationError"


def test_a_file_that_is_not_there_is_told(memexllm: Command) -> None:
    told = memexllm.refused("import", "nowhere.jsonl")
    assert told == "memexllm: 'nowhere.jsonl': No such file or directory\n"


def test_a_thread_that_is_not_there_is_not_exported(memexllm: Command) -> None:
    kept(memexllm, "a")
    assert "Thread not found: nobody" in memexllm.refused("export", "a", "nobody", "-o", "x.jsonl")
    assert "x.jsonl" not in os.listdir(memexllm.folder)


def test_a_terminal_sees_that_it_goes_on(memexllm: Command, on_terminal: Callable[..., bytes]) -> None:
    kept(memexllm, "a", "b")
    assert b"exporting" in on_terminal("export", "-o", "x.jsonl")
    assert b"exporting" not in memexllm("export", "-o", "x.jsonl").stderr


def test_threads_are_deleted_when_it_is_confirmed(memexllm: Command) -> None:
    kept(memexllm, "a", "b", "c")
    assert memexllm("delete", "a", typed="n\n").returncode == 1
    assert memexllm("delete", "a").returncode == 1
    assert ids(memexllm) == ["a", "b", "c"]
    asked = memexllm("delete", "a", typed="y\n")
    assert (asked.returncode, asked.stdout) == (0, b"")
    assert b"Delete a for good?" in asked.stderr
    memexllm.printed("delete", "--yes", "b")
    assert ids(memexllm) == ["c"]


def test_a_missing_thread_is_told_and_the_others_are_deleted(memexllm: Command) -> None:
    kept(memexllm, "a", "b")
    assert "there is no thread x" in memexllm.refused("delete", "-y", "a", "x")
    assert ids(memexllm) == ["b"]
    done = memexllm("delete", "-y", "--json", "x", "b")
    assert done.returncode == 1
    assert json.loads(done.stdout) == {"deleted": ["b"], "missing": ["x"]}


def test_an_empty_export_is_imported(memexllm: Command) -> None:
    kept(memexllm)
    with HistoryManager(memexllm.folder / "chat.db") as manager:
        manager.create_thread(thread_id="x")
        manager.delete_thread("x")
    exported = memexllm("export").stdout
    assert exported.count(b"\n") == 2
    assert memexllm("import", "-", "--storage", "other.db", typed=exported).returncode == 0


def test_message_text_is_in_no_error(memexllm: Command) -> None:
    with SQLiteStorage(memexllm.folder / "chat.db") as storage:
        storage.save_thread(Thread("a", messages=[Message("secret words", "user")]))
    lines = memexllm("export").stdout
    damaged = lines.replace(b'"role":"user"', b'"role":"nobody"')
    assert "secret words" not in memexllm.refused("import", "-", "--storage", "other.db", typed=damaged)


def test_a_copy_arrives_whole_and_is_not_made_twice(memexllm: Command) -> None:
    kept(memexllm, "a", "b", "c")
    first = memexllm("copy", "chat.db", "other.db")
    assert (first.returncode, first.stderr) == (0, b"copied 3 threads, 15 messages\n")
    assert memexllm("export", "--storage", "other.db").stdout == memexllm("export").stdout
    again = memexllm("copy", "chat.db", "sqlite:///other.db", "a", "b")
    assert again.stderr == b"copied 0 threads, 0 messages; 2 threads were there\n"


def test_a_copy_tells_what_it_left_alone(memexllm: Command) -> None:
    kept(memexllm, "a", "b")
    memexllm.printed("copy", "chat.db", "other.db")
    with SQLiteStorage(memexllm.folder / "other.db") as storage:
        storage.append_messages("a", [Message("mine", "user")])
    told = memexllm.refused("copy", "chat.db", "other.db", "--update")
    assert "thread a was left alone: the target has another thread of this id" in told
    answer = json.loads(memexllm("copy", "chat.db", "other.db", "--json").stdout)
    assert (answer["skipped"], [each["thread"] for each in answer["conflicts"]]) == (1, ["a"])
    memexllm.printed("copy", "chat.db", "other.db", "--replace")
    assert memexllm("export", "a", "--storage", "other.db").stdout.count(b"mine") == 0
    assert "exclude each other" in memexllm.refused("copy", "x", "y", "--replace", "--update", code=2)


def test_a_copy_of_a_mistyped_path_makes_nothing(memexllm: Command) -> None:
    assert "there is no database 'nowhere.db'" in memexllm.refused("copy", "nowhere.db", "other.db")
    assert not (memexllm.folder / "other.db").exists()
