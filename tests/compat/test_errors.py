"""How the messages of errors begin, which 0.1 programs and their tests compare."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memexllm import FIFOAlgorithm, HistoryManager, MemoryStorage, Message, SQLiteStorage, Thread
from memexllm.integrations.openai import with_history
from memexllm.storage.sqlite import (
    DatabaseConnectionError,
    DatabaseIntegrityError,
    DatabaseOperationError,
    SQLiteStorageError,
)
from memexllm.utils import exceptions
from memexllm.utils.exceptions import (
    ConfigurationError,
    MemexLLMError,
    StorageError,
    ThreadNotFoundError,
    ValidationError,
)
from tests.compat.storages import DictStorage


class Broken(DictStorage):
    """Every method fails, as with a disk that is gone."""

    def save_thread(self, thread: Thread) -> None:
        raise OSError("disk gone")

    def get_thread(self, thread_id: str, message_limit: int | None = None) -> Thread | None:
        raise OSError("disk gone")

    def list_threads(self, limit: int = 100, offset: int = 0) -> list[Thread]:
        raise OSError("disk gone")

    def delete_thread(self, thread_id: str) -> bool:
        raise OSError("disk gone")


def manager() -> Any:
    manager = HistoryManager(MemoryStorage())
    manager.create_thread(thread_id="t")
    return manager


def broken() -> HistoryManager:
    return HistoryManager(Broken())


ANY: Any = None
EMPTY_QUERIES: tuple[Any, ...] = ({}, None, {"metadata": {}})
REFUSALS: list[tuple[type[MemexLLMError], str, Callable[[], object]]] = [
    (ValidationError, "Storage can not be None", lambda: HistoryManager(ANY)),
    (ConfigurationError, "Storage can not be None", lambda: HistoryManager(ANY)),
    (ValidationError, "Either storage or history_manager must be provided", lambda: with_history()),
    (ConfigurationError, "Either storage or history_manager must be provided", lambda: with_history()(ANY)),
    *(
        (ValidationError, "Thread ID cannot be empty", call)
        for thread_id in ("", ANY)
        for call in (
            lambda thread_id=thread_id: manager().get_thread(thread_id),
            lambda thread_id=thread_id: manager().get_messages(thread_id),
            lambda thread_id=thread_id: manager().add_message(thread_id, "hi", "user"),
            lambda thread_id=thread_id: manager().delete_thread(thread_id),
        )
    ),
    (ValidationError, "Content must be a string or None", lambda: manager().add_message("t", 5, "user")),
    (ValidationError, "Content must be a string or None", lambda: manager().add_message("t", b"hi", "user")),
    (ValidationError, "Content must be a string or None", lambda: manager().add_message("t", {"text": "hi"}, "user")),
    (ValidationError, "Invalid role", lambda: manager().add_message("t", "hi", "robot")),
    (ValidationError, "Invalid role", lambda: manager().add_message("t", "hi", "")),
    (ValidationError, "Invalid role", lambda: manager().add_message("t", "hi", None)),
    (ValidationError, "Invalid role", lambda: Message("hi", "robot")),
    (ValidationError, "Limit must be a positive integer", lambda: manager().list_threads(0)),
    (ValidationError, "Limit must be a positive integer", lambda: manager().list_threads(limit=-1)),
    (ValidationError, "Limit must be a positive integer", lambda: manager().list_threads(limit="5")),
    (ValidationError, "Limit must be a positive integer", lambda: manager().list_threads(limit=1.5)),
    (ValidationError, "Offset must be a non-negative integer", lambda: manager().list_threads(10, -1)),
    (ValidationError, "Offset must be a non-negative integer", lambda: manager().list_threads(offset=None)),
    (ThreadNotFoundError, "Thread not found: nobody", lambda: manager().get_thread("nobody")),
    (ThreadNotFoundError, "Thread not found: nobody", lambda: manager().get_messages("nobody")),
    (ThreadNotFoundError, "Thread not found: nobody", lambda: manager().add_message("nobody", "hi", "user")),
    (StorageError, "Failed to create thread", lambda: broken().create_thread()),
    (StorageError, "Failed to create thread", lambda: broken().create_thread(thread_id="t")),
    (StorageError, "Failed to get thread", lambda: broken().get_thread("t")),
    (StorageError, "Failed to add message to thread", lambda: broken().add_message("t", "hi", "user")),
    (StorageError, "Failed to get messages", lambda: broken().get_messages("t")),
    (StorageError, "Failed to list threads", lambda: broken().list_threads()),
    (StorageError, "Failed to delete thread", lambda: broken().delete_thread("t")),
    (ValidationError, "Database path cannot be empty", lambda: SQLiteStorage("")),
    (ValidationError, "Database path cannot be empty", lambda: SQLiteStorage(ANY)),
    (ValidationError, "Database path cannot be empty", lambda: SQLiteStorage(db_path="")),
    (ValidationError, "max_messages must be a positive integer", lambda: FIFOAlgorithm(max_messages=0)),
    (ValidationError, "max_messages must be a positive integer", lambda: FIFOAlgorithm(-1)),
    (ValidationError, "max_messages must be a positive integer", lambda: FIFOAlgorithm(ANY)),
    (ValidationError, "max_messages must be a positive integer", lambda: MemoryStorage(max_messages=0)),
    (ValidationError, "max_messages must be a positive integer", lambda: SQLiteStorage(":memory:", 0)),
    (ValidationError, "max_messages must be a positive integer", lambda: DictStorage(max_messages=-5)),
    (ValidationError, "message_limit must be a positive integer", lambda: MemoryStorage().get_thread("t", 0)),
    (
        ValidationError,
        "message_limit must be a positive integer",
        lambda: SQLiteStorage(":memory:").get_thread("t", message_limit=-1),
    ),
    *(
        (ValidationError, "Search query cannot be empty", lambda query=query, made=made: made().search_threads(query))
        for query in EMPTY_QUERIES
        for made in (manager, MemoryStorage, lambda: SQLiteStorage(":memory:"))
    ),
    (ValidationError, "Thread cannot be None", lambda: MemoryStorage().save_thread(ANY)),
    (ValidationError, "Thread cannot be None", lambda: SQLiteStorage(":memory:").save_thread(ANY)),
]


@pytest.mark.parametrize(
    ("kind", "beginning", "call"), REFUSALS, ids=[f"{number}: {row[1]}" for number, row in enumerate(REFUSALS)]
)
def test_a_message_begins_as_in_0_1(kind: type[MemexLLMError], beginning: str, call: Callable[[], object]) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value).startswith(beginning)


@pytest.mark.parametrize(
    ("operation", "call"),
    [
        ("create thread", lambda manager: manager.create_thread()),
        ("get thread", lambda manager: manager.get_thread("t")),
        ("get messages", lambda manager: manager.get_messages("t")),
    ],
)
def test_what_a_storage_raised_is_the_cause(operation: str, call: Callable[[HistoryManager], object]) -> None:
    with pytest.raises(StorageError, match=f"Failed to {operation}: disk gone") as caught:
        call(broken())
    assert isinstance(caught.value.__cause__, OSError)


def test_a_refused_message_leaves_nothing_behind() -> None:
    history = manager()
    for content, role in ((5, "user"), ("hi", "robot")):
        with pytest.raises(ValidationError):
            history.add_message("t", content, role)
    assert history.get_messages("t") == []


def test_the_errors_of_0_1_are_one_tree() -> None:
    for name in exceptions.__all__:
        assert issubclass(getattr(exceptions, name), MemexLLMError), name
    kinds = (DatabaseConnectionError, DatabaseOperationError, DatabaseIntegrityError)
    assert kinds == (exceptions.ConnectionError, exceptions.OperationError, exceptions.IntegrityError)
    assert all(issubclass(kind, SQLiteStorageError) for kind in kinds)


def test_a_database_that_cannot_be_opened_is_the_error_0_1_named(tmp_path: Path) -> None:
    with pytest.raises(DatabaseConnectionError):
        HistoryManager(SQLiteStorage(str(tmp_path / "no" / "such" / "folder" / "chat.db"))).list_threads()
