"""The command as such: its storage, its exit codes, its errors, and what it is without its packages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from memexllm import HistoryManager
from tests.cli.conftest import ROOT, Command

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = ["threads", "show", "search", "explain", "chat", "export", "import", "delete"]
READING = [["threads"], ["show", "t"], ["search", "x"], ["explain", "t"], ["export"], ["delete", "-y", "t"]]


def test_help_names_every_command(memexllm: Command) -> None:
    helped = memexllm.printed("--help")
    assert [name for name in COMMANDS if f"  {name} " not in helped] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_answers_in_json_and_takes_a_storage(memexllm: Command, name: str) -> None:
    helped = memexllm.printed(name, "--help")
    assert "--json" in helped
    assert "--storage" in helped


def test_without_a_storage_both_ways_to_name_one_are_told(memexllm: Command) -> None:
    del memexllm.variables["MEMEXLLM_STORAGE"]
    told = memexllm.refused("threads")
    assert "--storage" in told
    assert "MEMEXLLM_STORAGE" in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("arguments", READING, ids=lambda each: each[0])
def test_a_missing_database_is_an_error_and_is_not_made(memexllm: Command, arguments: list[str]) -> None:
    assert "there is no database 'chat.db'" in memexllm.refused(*arguments)
    assert os.listdir(memexllm.folder) == []


@pytest.mark.parametrize("place", ["chat.db", "sqlite:///chat.db"])
def test_the_storage_is_named_before_or_after_the_command_or_by_the_environment(memexllm: Command, place: str) -> None:
    with HistoryManager(memexllm.folder / "chat.db") as manager:
        manager.create_thread(thread_id="t1")
    del memexllm.variables["MEMEXLLM_STORAGE"]
    expected = memexllm.printed("--storage", place, "threads")
    assert expected.startswith("t1\t")
    assert memexllm.printed("threads", "--storage", place) == expected
    memexllm.variables["MEMEXLLM_STORAGE"] = place
    assert memexllm.printed("threads") == expected
    assert memexllm.printed("threads", "--storage", "memory:") == ""


def test_an_error_is_one_line_or_json(memexllm: Command) -> None:
    HistoryManager(memexllm.folder / "chat.db").create_thread(thread_id="t1")
    assert memexllm.refused("show", "t2") == "memexllm: Thread not found: t2; create_thread() makes one\n"
    error = json.loads(memexllm.refused("show", "t2", "--json"))["error"]
    assert error["type"] == "ThreadNotFoundError"
    assert "t2" in error["message"]


def test_a_file_that_is_no_database_is_told_and_left_as_it_is(memexllm: Command) -> None:
    (memexllm.folder / "chat.db").write_text("This is a diary, and no database.\n" * 50)
    assert "no SQLite database" in memexllm.refused("threads")
    assert (memexllm.folder / "chat.db").read_text() == "This is a diary, and no database.\n" * 50


@pytest.mark.parametrize("arguments", [["nonsense"], ["show"], ["threads", "--limit", "0"], ["threads", "--nope"]])
def test_wrong_usage_is_exit_code_2(memexllm: Command, arguments: list[str]) -> None:
    memexllm.refused(*arguments, code=2)


def test_the_version_is_told(memexllm: Command) -> None:
    assert memexllm.printed("--version").startswith("memexllm")


def test_the_reader_of_a_pipe_may_go_away(memexllm: Command) -> None:
    with HistoryManager(memexllm.folder / "chat.db") as manager:
        manager.create_thread(thread_id="t1")
        for _ in range(30):
            manager.add_message("t1", "x\n" * 5000, "user")
    with subprocess.Popen(
        memexllm.line("show", "t1"),
        cwd=memexllm.folder,
        env=memexllm.variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline().startswith(b"thread t1")
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_without_its_packages_it_names_the_extra(package: str, tmp_path: Path) -> None:
    block = f"import sys; sys.modules[{package!r}] = None; sys.path.insert(0, {str(ROOT)!r})"
    code = f"{block}; from memexllm.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f'memexllm: the memexllm command needs the {package} package: pip install "memexllm[cli]"\n'


def test_help_imports_no_package_but_typer() -> None:
    code = (
        "import sys; before = set(sys.modules); sys.argv = ['memexllm', '--help']\n"
        "from memexllm.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print(*(set(sys.modules) - before), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert "typer" in loaded
    assert {name.partition(".")[0] for name in loaded} & {"pydantic", "pydantic_core", "openai", "tiktoken"} == set()
    assert not {"rich.console", "sqlite3"} & loaded
