"""`HistoryManager` as 0.1 documented it: windows, algorithms, storages, mocks."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from openai import OpenAI

from memexllm import AsyncHistoryManager, with_history
from memexllm.algorithms import BaseAlgorithm, FIFOAlgorithm
from memexllm.core import HistoryManager, Message, Thread
from memexllm.core.models import ImageContent, TextContent, ToolCallContent
from memexllm.storage import BaseStorage, MemoryStorage, SQLiteStorage
from memexllm.utils.exceptions import ConfigurationError
from tests.compat.algorithms import Duck, DuckHookAlone, Failing, HookAlone, Newest, NoBaseInit
from tests.compat.storages import DictStorage, ShorthandStorage

SIX = [str(number) for number in range(6)]


@pytest.fixture(params=["memory", "sqlite", "dict", "shorthand"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    match request.param:
        case "memory":
            return MemoryStorage()
        case "sqlite":
            return SQLiteStorage(db_path=str(tmp_path / "chat.db"))
        case "dict":
            return DictStorage()
    return ShorthandStorage()


def filled(storage: Any, algorithm: Any, texts: list[str] = SIX) -> tuple[HistoryManager, str]:
    manager = HistoryManager(storage, algorithm)
    thread = manager.create_thread(metadata={"user": "ann"})
    for number, text in enumerate(texts):
        manager.add_message(thread.id, text, "assistant" if number % 2 else "user")
    return manager, thread.id


def texts(messages: list[Message]) -> list[str]:
    return [message.content for message in messages]


hook_alone: Any = HookAlone


class TestWindows:
    @pytest.mark.parametrize(
        "algorithm",
        [FIFOAlgorithm(2), Newest(), hook_alone(), Duck(), DuckHookAlone(), NoBaseInit(2)],
        ids=lambda each: type(each).__name__,
    )
    def test_get_thread_has_the_window_and_get_messages_everything(self, storage: Any, algorithm: Any) -> None:
        manager, thread_id = filled(storage, algorithm)
        thread = manager.get_thread(thread_id)
        assert texts(thread.messages) == SIX[-2:]
        assert texts(manager.get_messages(thread_id)) == SIX
        assert manager.algorithm is algorithm

    def test_without_an_algorithm_get_thread_has_everything(self, storage: Any) -> None:
        manager, thread_id = filled(storage, None)
        assert texts(manager.get_thread(thread_id).messages) == SIX

    @pytest.mark.parametrize("algorithm", [None, FIFOAlgorithm(2), Newest()], ids=lambda each: type(each).__name__)
    def test_what_get_thread_returns_is_a_copy(self, storage: Any, algorithm: Any) -> None:
        manager, thread_id = filled(storage, algorithm)
        thread = manager.get_thread(thread_id)
        thread.messages[0].content = "changed"
        thread.metadata["user"] = "eve"
        thread.messages.clear()
        again = manager.get_thread(thread_id)
        assert texts(manager.get_messages(thread_id)) == SIX
        assert again.metadata["user"] == "ann"

    def test_an_object_that_is_no_algorithm_is_refused_when_it_is_given(self) -> None:
        def wrapper(storage: Any, algorithm: Any) -> Any:
            return with_history(storage=storage, algorithm=algorithm)

        makers: tuple[Any, ...] = (HistoryManager, AsyncHistoryManager, wrapper)
        for make in makers:
            with pytest.raises(ConfigurationError, match="object is no algorithm: it lacks get_message_window"):
                make(MemoryStorage(), object())
            with pytest.raises(ConfigurationError, match=r"FIFOAlgorithm is a class.*FIFOAlgorithm\(\.\.\.\)"):
                make(MemoryStorage(), FIFOAlgorithm)

    def test_a_class_is_no_storage(self) -> None:
        def wrapper(storage: Any) -> Any:
            with OpenAI(api_key="key") as client:
                return with_history(client, storage=storage)

        makers: tuple[Any, ...] = (HistoryManager, AsyncHistoryManager, wrapper)
        for make in makers:
            with pytest.raises(ConfigurationError, match=r"SQLiteStorage is a class.*SQLiteStorage\(\.\.\.\)"):
                make(SQLiteStorage)

    @pytest.mark.parametrize("algorithm", [Duck(), Newest()], ids=["Duck", "Newest"])
    def test_explain_names_the_algorithm_that_left_a_message_out(self, algorithm: Any) -> None:
        manager, thread_id = filled(MemoryStorage(), algorithm)
        reasons = {entry.reason for entry in manager.explain(thread_id).excluded}
        assert any(type(algorithm).__name__ in reason for reason in reasons)

    def test_a_mock_can_be_the_algorithm(self) -> None:
        algorithm = MagicMock(spec=BaseAlgorithm)
        algorithm.get_message_window.side_effect = lambda messages: messages[-1:]
        manager, thread_id = filled(MemoryStorage(), algorithm)
        assert texts(manager.get_thread(thread_id).messages)[-1:] == SIX[-1:]
        (shown,) = algorithm.get_message_window.call_args.args
        assert texts(shown) == SIX
        assert [texts([call.args[1]]) for call in algorithm.process_thread.call_args_list] == [[text] for text in SIX]


class TestProcessThread:
    def test_it_sees_each_message_and_the_thread_before_it(self, storage: Any) -> None:
        manager, thread_id = filled(storage, Newest(), SIX[:3])
        metadata = manager.get_thread(thread_id).metadata
        assert metadata == {"user": "ann", "count": 3, "roles": ["user", "assistant", "user"]}

    def test_it_never_changes_or_deletes_a_message(self, storage: Any) -> None:
        manager, thread_id = filled(storage, Newest())
        assert texts(manager.get_messages(thread_id)) == SIX

    def test_messages_added_at_once_are_shown_one_by_one(self, storage: Any) -> None:
        manager, thread_id = filled(storage, Newest(), [])
        manager.add_messages(thread_id, [Message("a", "user"), Message("b", "assistant")])
        assert manager.get_thread(thread_id).metadata["roles"] == ["user", "assistant"]

    def test_its_failure_is_logged_and_the_message_stored(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.ERROR, "memexllm"):
            manager, thread_id = filled(MemoryStorage(), Failing(), ["a secret"])
        assert texts(manager.get_messages(thread_id)) == ["a secret"]
        (record,) = caplog.records
        assert "process_thread failed" in record.getMessage()
        assert "RuntimeError" in record.getMessage()
        assert "a secret" not in caplog.text

    def test_fifo_trims_the_thread_it_is_given(self) -> None:
        thread = Thread(messages=[Message(text, "user") for text in "ab"])
        FIFOAlgorithm(max_messages=2).process_thread(thread, Message("c", "user"))
        assert texts(thread.messages) == ["b", "c"]


class TestStorages:
    def test_every_argument_of_add_message_is_kept(self, storage: Any) -> None:
        manager = HistoryManager(storage)
        thread_id = manager.create_thread().id
        call = ToolCallContent("call_1", "function", {"name": "add", "arguments": "{}"})
        asked = manager.add_message(thread_id, None, "assistant", {"k": 1}, [call])
        told = manager.add_message(thread_id, "2", "tool", None, None, "call_1", None, "add")
        legacy = manager.add_message(thread_id, None, "assistant", function_call={"name": "f", "arguments": "{}"})
        seen = manager.add_message(thread_id, [TextContent("look"), ImageContent("u", "low")], "user")
        stored = manager.get_messages(thread_id)
        assert stored == [asked, told, legacy, seen]
        assert stored[0].tool_calls == [call] == [dict(call)]
        assert (stored[0].tool_calls[0].function.name, stored[0].metadata) == ("add", {"k": 1})
        assert (stored[1].tool_call_id, stored[1].name) == ("call_1", "add")
        assert stored[2].function_call == {"name": "f", "arguments": "{}"}
        assert (stored[3].content[0].text, stored[3].content[1].url) == ("look", "u")

    def test_a_thread_can_be_read_extended_and_saved(self, storage: Any) -> None:
        manager, thread_id = filled(storage, None)
        thread = storage.get_thread(thread_id)
        thread.add_message(Message("more", "user"))
        storage.save_thread(thread)
        assert texts(manager.get_messages(thread_id)) == [*SIX, "more"]
        assert storage.get_thread(thread_id).message_count == 7

    def test_threads_are_listed_and_deleted(self, storage: Any) -> None:
        manager = HistoryManager(storage=storage, algorithm=FIFOAlgorithm(max_messages=5))
        ids = [manager.create_thread(metadata={"n": number}).id for number in range(3)]
        assert [thread.metadata for thread in manager.list_threads(limit=2, offset=1)] == [{"n": 1}, {"n": 2}]
        assert (manager.delete_thread(ids[0]), manager.delete_thread(ids[0])) == (True, False)
        assert [thread.id for thread in manager.list_threads()] == ids[1:]

    @pytest.mark.parametrize("query", [{"user": "ann"}, {"metadata": {"user": "ann"}}])
    def test_threads_are_found_by_metadata_however_it_is_spelled(self, query: dict[str, Any]) -> None:
        for storage in (MemoryStorage(), SQLiteStorage(":memory:"), DictStorage()):
            _, thread_id = filled(storage, None)
            HistoryManager(storage).create_thread(metadata={"user": "bob"})
            assert [thread.id for thread in storage.search_threads(query)] == [thread_id]

    def test_a_helper_of_the_storages_own_is_never_called_by_the_library(self) -> None:
        storage = ShorthandStorage()
        storage.add_message("ann", "hi")
        manager = HistoryManager(storage)
        manager.add_message("thread-of-ann", "hello", "assistant")
        assert storage.get_messages("ann") == ["hi", "hello"]

    def test_the_attributes_of_0_1_are_there(self, tmp_path: Path) -> None:
        path = str(tmp_path / "chat.db")
        sqlite = SQLiteStorage(path, 100)
        assert (sqlite.db_path, sqlite.max_messages) == (path, 100)
        memory = MemoryStorage(max_messages=3)
        manager, thread_id = filled(memory, None)
        assert manager.storage is memory
        assert texts(memory.threads[thread_id].messages) == SIX[-3:]

    def test_a_database_without_a_path_is_in_the_current_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        storage = SQLiteStorage()
        HistoryManager(storage).create_thread()
        storage.close()
        assert (tmp_path / "memexllm.db").exists()


class TestMocks:
    @pytest.mark.parametrize("storage", [MagicMock(spec=BaseStorage), MagicMock()], ids=["spec", "plain"])
    def test_a_mock_is_asked_by_the_four_methods(self, storage: MagicMock) -> None:
        manager = HistoryManager(storage)
        thread = manager.create_thread(metadata={"user": "ann"})
        (saved,) = storage.save_thread.call_args.args
        assert (saved.id, saved.metadata["user"]) == (thread.id, "ann")
        storage.get_thread.return_value = Thread("t", [Message("hi", "user")])
        assert texts(manager.get_messages("t")) == ["hi"]
        assert manager.add_message("t", "hello", "assistant").content == "hello"
        (saved,) = storage.save_thread.call_args.args
        assert texts(saved.messages) == ["hi", "hello"]
        storage.list_threads.return_value = [Thread("t")]
        assert [each.id for each in manager.list_threads()] == ["t"]
        storage.delete_thread.return_value = True
        assert manager.delete_thread("t") is True
        storage.delete_thread.assert_called_once_with("t")
        assert storage.append_messages.call_count == 0
