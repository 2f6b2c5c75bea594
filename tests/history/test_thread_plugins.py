"""Plugins of history managers are told of threads, messages and contexts, and can break nothing."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from memexllm import AsyncHistoryManager, HistoryManager, MemoryManager, MemoryStorage, Message, Plugin, SQLiteStorage
from memexllm.core.errors import ConfigurationError, StorageError, ThreadNotFoundError
from tests.storage.custom import AsyncDictStorage, PlainStorage

STORAGES = pytest.mark.parametrize("storage", [MemoryStorage, PlainStorage], ids=["memory", "whole threads"])


class Told(Plugin):
    """What it was told, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def on_thread_created(self, thread: Any) -> None:
        self.told.append(("thread", thread.id, thread.user_id, len(thread.messages)))

    def on_message_added(self, thread_id: str, message: Any) -> None:
        self.told.append(("message", thread_id, message.content))

    def on_context_built(self, thread_id: str, messages: Any) -> None:
        self.told.append(("context", thread_id, [message["content"] for message in messages]))


class Waiting(Told):
    async def on_message_added(self, thread_id: str, message: Any) -> None:  # type: ignore[override]  # may be
        await asyncio.sleep(0)
        super().on_message_added(thread_id, message)


class Breaking(Plugin):
    def on_thread_created(self, thread: Any) -> None:
        thread.metadata["meddled"] = True
        raise RuntimeError("secret")

    def on_message_added(self, thread_id: str, message: Any) -> None:
        message.wire["content"] = "meddled"
        raise RuntimeError(message.content)

    def on_context_built(self, thread_id: str, messages: Any) -> None:
        messages[0]["content"] = "meddled"
        messages.clear()
        raise RuntimeError("secret")


@STORAGES
def test_threads_messages_and_contexts_are_told_in_order(storage: Any) -> None:
    told = Told()
    manager = HistoryManager(storage(), plugins=[told])
    manager.create_thread(thread_id="a", user_id="ada")
    manager.add_message("a", "one", "user")
    manager.add_messages("a", [Message("two", "assistant"), Message("three", "user")])
    manager.context("a")
    manager.get_messages("a")
    assert told.told == [
        ("thread", "a", "ada", 0),
        ("message", "a", "one"),
        ("message", "a", "two"),
        ("message", "a", "three"),
        ("context", "a", ["one", "two", "three"]),
    ]


def test_asynchronous_hooks_are_awaited() -> None:
    async def main() -> None:
        told = Waiting()
        for storage in (MemoryStorage(), AsyncDictStorage()):
            manager = AsyncHistoryManager(storage, plugins=[told])
            await manager.create_thread(thread_id="a")
            await manager.add_message("a", "one", "user")
            assert told.told == [("thread", "a", None, 0), ("message", "a", "one")]
            told.told.clear()

    asyncio.run(main())
    with pytest.raises(ConfigurationError, match=r"Waiting\.on_message_added is async def"):
        HistoryManager(MemoryStorage(), plugins=[Waiting])


def test_what_was_not_stored_is_not_told() -> None:
    told = Told()
    manager = HistoryManager(MemoryStorage(), plugins=[told])
    with pytest.raises(ThreadNotFoundError):
        manager.add_message("nowhere", "one", "user")
    assert told.told == []


def test_a_fork_and_an_edit_are_told() -> None:
    told = Told()
    manager = HistoryManager(MemoryStorage(), plugins=[told])
    manager.create_thread(thread_id="a")
    message = manager.add_message("a", "one", "user")
    manager.fork("a", new_thread_id="b")
    manager.edit_message("a", message.id, "two")
    assert told.told[2:] == [("thread", "b", None, 0), ("message", "a", "two")]


@STORAGES
def test_a_plugin_breaks_nothing_and_changes_nothing(storage: Any, caplog: pytest.LogCaptureFixture) -> None:
    told = Told()
    manager = HistoryManager(storage(), plugins=[Breaking, told])
    with caplog.at_level(logging.DEBUG, "memexllm.plugins"):
        assert manager.create_thread(thread_id="a").metadata == {}
        assert manager.add_message("a", "secret", "user").content == "secret"
        assert [message.content for message in manager.context("a")] == ["secret"]
    assert manager.get_thread("a").metadata == {}
    assert [each[0] for each in told.told] == ["thread", "message", "context"]
    assert len(caplog.records) == 3
    assert "secret" not in caplog.text


def test_plugins_are_loaded_and_unloaded() -> None:
    told = Told()
    manager = HistoryManager(MemoryStorage())
    assert manager.port.plugins is None  # nothing is looked at where nobody listens
    assert manager.load_plugin(told) is told
    assert manager.plugins == (told,)
    manager.create_thread(thread_id="a")
    manager.unload_plugin(told)
    assert list(manager.plugins) == []
    assert not manager.port.plugins
    manager.add_message("a", "one", "user")
    assert told.told == [("thread", "a", None, 0)]
    with pytest.raises(ConfigurationError, match="on_thread_created"):
        manager.load_plugin(object())


def test_managers_over_one_storage_have_plugins_of_their_own() -> None:
    storage, told = MemoryStorage(), Told()
    HistoryManager(storage, plugins=[told])
    HistoryManager(storage).create_thread()
    assert told.told == []


def test_a_history_store_tells_the_managers_plugins() -> None:
    told = Told()
    memory = MemoryManager("memory:", history=HistoryManager(MemoryStorage(), plugins=[told]))
    for content in ("one", "two"):
        memory.history.add(session_id="a", messages=[Message(content, "user")], user_id="ada")
    assert told.told == [("thread", "a", "ada", 0), ("message", "a", "one"), ("message", "a", "two")]


class UnreadableSoon(MemoryStorage):
    broken = False

    def read_head(self, thread_id: str) -> Any:
        if self.broken:
            raise StorageError("the disk is gone")
        return super().read_head(thread_id)

    def append_messages(self, *args: Any, **changes: Any) -> int:
        version = super().append_messages(*args, **changes)
        self.broken = True
        return version


def test_a_thread_that_cannot_be_shown_is_stored_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    told, storage = Told(), UnreadableSoon()
    memory = MemoryManager("memory:", history=HistoryManager(storage, plugins=[told]))
    memory.history.add(session_id="a", messages=[Message("one", "user")])
    assert told.told == [("message", "a", "one")]
    assert "plugins were not told: StorageError" in caplog.text


def test_a_cancelled_write_that_was_stored_is_told(tmp_path: Any) -> None:
    class Slow(AsyncDictStorage):
        async def append_messages(self, *args: Any, **changes: Any) -> int:
            begun.set()
            await released.wait()
            return await super().append_messages(*args, **changes)

    begun, released = asyncio.Event(), asyncio.Event()

    async def main() -> list[Any]:
        told = Told()
        manager = AsyncHistoryManager(Slow(), plugins=[told])
        released.set()
        await manager.create_thread(thread_id="a")
        released.clear()
        begun.clear()
        adding = asyncio.ensure_future(manager.add_message("a", "one", "user"))
        await begun.wait()
        adding.cancel()
        released.set()
        with pytest.raises(asyncio.CancelledError):
            await adding
        return told.told

    assert asyncio.run(main())[-1] == ("message", "a", "one")


def test_sqlite_threads_are_told_as_well(tmp_path: Any) -> None:
    told = Told()
    with HistoryManager(SQLiteStorage(tmp_path / "chat.db"), plugins=[told]) as manager:
        manager.add_message(manager.create_thread(thread_id="a").id, "one", "user")
    assert told.told == [("thread", "a", None, 0), ("message", "a", "one")]
