"""Every law of storage on the storages of this package."""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from memexllm.storage import MemoryStorage, SQLiteStorage
from memexllm.testing.storage import StorageConformance


class TestMemoryStorage(StorageConformance):
    @pytest.fixture
    def storage(self) -> MemoryStorage:
        return MemoryStorage()


class TestSQLiteStorage(StorageConformance):
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "chat.db"

    @pytest.fixture
    def storage(self, open_storage: Callable[[], SQLiteStorage]) -> SQLiteStorage:
        return open_storage()

    @pytest.fixture
    def open_storage(self, path: Path) -> Callable[[], SQLiteStorage]:
        return functools.partial(SQLiteStorage, path)

    @pytest.fixture
    def damage(self, path: Path) -> Callable[[str], None]:
        def cut_texts_in_half(thread_id: str) -> None:
            with sqlite3.connect(path) as connection:
                connection.execute(
                    "UPDATE messages SET wire_text = substr(wire_text, 1, length(wire_text) / 2)"
                    " WHERE position >> 32 = (SELECT log_id FROM threads WHERE id = ?)",
                    (thread_id,),
                )
            connection.close()

        return cut_texts_in_half

    @pytest.fixture
    def surroundings(self, path: Path) -> Callable[[], dict[str, bytes]]:
        (path.parent / "neighbour.db").write_bytes(b"not ours")

        def neighbours() -> dict[str, bytes]:
            return {file.name: file.read_bytes() for file in path.parent.iterdir() if path.name not in file.name}

        return neighbours


class TestSQLiteStorageInMemory(StorageConformance):
    @pytest.fixture
    def storage(self) -> SQLiteStorage:
        return SQLiteStorage(":memory:")
