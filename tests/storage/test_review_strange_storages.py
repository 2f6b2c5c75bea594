"""Storages that are mocks, or return what is no thread."""

from __future__ import annotations

from typing import Any
from unittest.mock import MagicMock

import pytest

from memexllm import HistoryManager, MemoryStorage
from memexllm.core.errors import StorageError
from memexllm.storage.base import BaseStorage


@pytest.mark.parametrize("spec", [None, BaseStorage])
def test_a_mock_is_a_storage_and_no_path(spec: Any) -> None:
    storage = MagicMock(spec=spec)
    storage.get_thread.return_value = None
    assert HistoryManager(storage).storage is storage


class ReturningStorage(MemoryStorage):
    """Returns `found` for every thread."""

    append_messages = BaseStorage.append_messages
    read_head = BaseStorage.read_head
    found: Any = None

    def get_thread(self, thread_id: str, message_limit: int | None = None) -> Any:
        return self.found


@pytest.mark.parametrize(
    "found", [{"id": "t", "messages": []}, "t", [], MagicMock()], ids=["dict", "str", "list", "mock"]
)
def test_what_is_no_thread_is_named(found: Any) -> None:
    storage = ReturningStorage()
    storage.found = found
    manager = HistoryManager(storage)
    with pytest.raises(StorageError, match=f"returned a {type(found).__name__} in the place of a Thread"):
        manager.get_thread("t")
    with pytest.raises(StorageError, match="in the place of a Thread"):
        manager.add_message("t", "hello", "user")
