"""Storages that answer some lists themselves are asked for those; the rest is found among all their threads."""

from __future__ import annotations

from typing import Any

import pytest

from memexllm.core.errors import ValidationError
from memexllm.core.models import Thread
from memexllm.history import HistoryManager
from memexllm.storage import MemoryStorage, SQLiteStorage
from tests.storage.custom import LiveDictStorage


class KnowsUsers(LiveDictStorage):
    """Four methods, one of which takes a further keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str | None] = []

    def list_threads(self, limit: int = 100, offset: int = 0, *, user_id: str | None = None) -> list[Thread]:
        self.asked.append(user_id)
        found = [thread for thread in self.threads.values() if user_id in (None, thread.user_id)]
        return found[offset : offset + limit]


class TakesAnything(LiveDictStorage):
    """Promises nothing: what it is given beyond the four methods it does not look at."""

    def list_threads(self, limit: int = 100, offset: int = 0, **_: Any) -> list[Thread]:
        return super().list_threads(limit, offset)


class KnowsNoOffset(LiveDictStorage):
    def list_threads(self, limit: int = 100, offset: int = 0) -> list[Thread]:
        return list(self.threads.values())


class GivesFew(LiveDictStorage):
    """Three at a time, however many are asked for."""

    def list_threads(self, limit: int = 100, offset: int = 0) -> list[Thread]:
        return super().list_threads(min(limit, 3), offset)


def filled(storage: Any) -> HistoryManager:
    manager = HistoryManager(storage)
    for number in range(10):
        manager.create_thread({"n": number}, thread_id=f"t{number}", user_id="ann" if number % 2 else "bob")
    return manager


def ids(threads: list[Thread]) -> list[str]:
    return [thread.id for thread in threads]


@pytest.mark.parametrize("make", [KnowsUsers, TakesAnything, KnowsNoOffset, GivesFew])
def test_every_list_is_right(make: type[LiveDictStorage]) -> None:
    manager = filled(make())
    assert ids(manager.list_threads(user_id="ann")) == ["t1", "t3", "t5", "t7", "t9"]
    assert ids(manager.list_threads(2, order_by="-updated", user_id="ann")) == ["t9", "t7"]
    assert ids(manager.list_threads(metadata={"n": 4})) == ids(manager.storage.search_threads({"n": 4})) == ["t4"]
    assert [thread.metadata for thread in manager.list_threads(1, user_id="ann")] == [{"n": 1}]


def test_a_storage_is_asked_with_the_keywords_it_names() -> None:
    storage = KnowsUsers()
    manager = filled(storage)
    storage.asked.clear()
    manager.list_threads(user_id="ann")
    assert storage.asked == ["ann"]
    storage.asked.clear()
    page = manager.list_threads(1, user_id="ann")
    assert ids(manager.list_threads(1, user_id="ann", after=page[-1].cursor)) == ["t3"]
    assert set(storage.asked) == {"ann", None}


@pytest.mark.parametrize("make", [MemoryStorage, lambda: SQLiteStorage(":memory:")])
def test_a_thread_that_was_made_and_not_read_has_no_place_in_a_list(make: Any) -> None:
    with make() as storage:
        storage.save_thread(Thread("t"))
        with pytest.raises(ValidationError, match="not read from the storage"):
            storage.list_threads(after=Thread("t"))
        assert storage.list_threads(after=storage.read_head("t")) == []
