"""The reference's table of what storages do, against the storages; and reports of the kit, of which it is made."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from memexllm import BaseStorage, MemoryStorage, SQLiteStorage, Thread
from memexllm.core.errors import ConfigurationError, FactoryImportError
from memexllm.testing._batches import scale
from memexllm.testing.report import abilities, examine
from tests.storage.broken import SortsKeys
from tests.storage.capabilities import COLUMNS, PAGE, Column, cells, columns_of, with_table

TABLE = columns_of(PAGE.read_text("utf-8"))
WRITTEN_BY = "python -m tests.storage.capabilities writes the table"


def test_the_table_is_as_it_was_written() -> None:
    page = PAGE.read_text("utf-8")
    assert list(TABLE) == [column.title for column in COLUMNS], WRITTEN_BY
    assert page == with_table(page, TABLE)


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.title)
def test_the_table_says_what_a_class_brings(column: Column) -> None:
    found = abilities(pkgutil.resolve_name(column.kind))
    assert {title: TABLE[column.title].get(title) for title in found} == found, WRITTEN_BY


@pytest.mark.timeout(600)
@pytest.mark.parametrize("column", COLUMNS if scale() > 1 else COLUMNS[:1], ids=lambda column: column.title)
def test_the_table_says_which_laws_are_kept(column: Column, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMEXLLM_TEST_SCALE", "1")
    report = column.report()
    assert report.broken == []
    assert cells(report) == TABLE[column.title], WRITTEN_BY


def test_a_report_tells_a_broken_law_in_words() -> None:
    report = examine(SortsKeys, "-k", "law01_keys")
    assert report.broken == ["test_law01_keys_keep_their_order"]
    assert "**1 broken**" in str(report)
    assert "- `test_law01_keys_keep_their_order`: " in str(report)


def test_a_report_counts_what_does_not_bind_with_its_reason() -> None:
    report = examine(MemoryStorage, "-k", "law05 or law03_seqs")
    assert (report.laws["law03"].passed, report.laws["law05"].skipped.total()) == (1, 1)
    assert "without the fixture open_storage" in str(report)


def open_in(folder: Path) -> SQLiteStorage:
    return SQLiteStorage(folder / "chat.db")


def test_a_factory_that_takes_a_folder_is_tried_by_several_processes() -> None:
    report = examine(open_in, "-k", "law10_forked_children")
    assert (report.name, report.laws["law10"].passed) == ("SQLiteStorage", 1)


class Unfinished(BaseStorage):
    def save_thread(self, thread: Thread) -> None:
        raise NotImplementedError

    def get_thread(self, thread_id: str) -> Thread | None:
        return None

    def list_threads(self, limit: int = 100, offset: int = 0) -> list[Thread]:
        return []

    def delete_thread(self, thread_id: str) -> bool:
        return False


def test_a_report_of_four_methods_names_what_is_left_to_the_defaults() -> None:
    found = abilities(Unfinished)
    assert {found["`append_messages`"], found["`fork_thread`"]} == {"default"}
    assert found["keywords of `list_threads`"] == "none"


@pytest.mark.parametrize("named", ["nowhere_at_all:Storage", "NoDots"])
def test_a_target_that_is_none_is_refused_in_words(named: str) -> None:
    with pytest.raises(FactoryImportError, match="the storage to report on"):
        examine(named)


def test_options_that_choose_no_test_are_refused_in_words() -> None:
    with pytest.raises(ConfigurationError, match="the kit could not be run"):
        examine(MemoryStorage, "-k", "no_such_law")


def test_the_command_prints_the_report_and_fails_with_the_storage(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from tests.storage.broken import SortsKeys\n")
    command = [sys.executable, "-m", "memexllm.testing.report", "mine:SortsKeys", "-k", "law01_keys or law01_times"]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "| 1: what is saved comes back equal | 1 kept, **1 broken** |" in done.stdout
