"""An algorithm of a user's sees whole messages, and whole messages are what the managers return."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from openai import OpenAI

from memexllm import BaseAlgorithm, FIFOAlgorithm, HistoryManager, MemoryStorage, Message, SQLiteStorage, with_history
from memexllm.testing import OpenAIServer
from tests.history.test_managers import FourMethods

if TYPE_CHECKING:
    from collections.abc import Callable

    from memexllm import BaseStorage

STORAGES: dict[str, Callable[[], BaseStorage]] = {
    "memory": MemoryStorage,
    "sqlite": lambda: SQLiteStorage(":memory:"),
    "four methods": FourMethods,
}


class ByImportance(BaseAlgorithm):
    """What is important, and what the call itself brings."""

    def get_message_window(self, messages: list[Message]) -> list[Message]:
        return [message for message in messages if message.metadata.get("importance", 0) > 5]


def important(storage: BaseStorage, algorithm: BaseAlgorithm) -> HistoryManager:
    manager = HistoryManager(storage, algorithm)
    manager.create_thread(thread_id="t")
    manager.add_message("t", "I am allergic to nuts.", "user", {"importance": 9})
    manager.add_message("t", "Noted.", "assistant", {"importance": 8})
    manager.add_message("t", "Nice weather.", "user", {"importance": 1})
    manager.add_message("t", "Indeed.", "assistant")
    return manager


@pytest.mark.parametrize("storage", STORAGES)
def test_it_chooses_by_metadata(storage: str) -> None:
    manager = important(STORAGES[storage](), ByImportance())
    assert [message.content for message in manager.context("t")] == ["I am allergic to nuts.", "Noted."]


@pytest.mark.parametrize("storage", STORAGES)
def test_it_chooses_by_metadata_in_calls_as_well(storage: str) -> None:
    with OpenAIServer() as server, OpenAI(base_url=server.base_url, api_key="local") as original:
        client: Any = with_history(original, history_manager=important(STORAGES[storage](), ByImportance()))
        question = {"role": "user", "content": "What may I eat?"}
        client.chat.completions.create(model="gpt-4o", messages=[question], thread_id="t")
        sent = [message["content"] for message in server.chat_requests[-1].messages]
    assert sent == ["I am allergic to nuts.", "Noted.", "What may I eat?"]


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("algorithm", [ByImportance(), FIFOAlgorithm(max_messages=10)], ids=repr)
def test_a_window_holds_whole_messages(storage: str, algorithm: BaseAlgorithm) -> None:
    manager = important(STORAGES[storage](), algorithm)
    stored = manager.get_messages("t")
    for window in (manager.get_thread("t").messages, manager.context("t")):
        assert window == stored[: len(window)]


@pytest.mark.parametrize("storage", STORAGES)
def test_answers_in_a_window_carry_their_call(storage: str) -> None:
    with OpenAIServer() as server, OpenAI(base_url=server.base_url, api_key="local") as original:
        manager = HistoryManager(STORAGES[storage](), FIFOAlgorithm(max_messages=10))
        client: Any = with_history(original, history_manager=manager)
        question = {"role": "user", "content": "Hello"}
        client.chat.completions.create(model="gpt-4o", messages=[question], thread_id="t")
        call = manager.get_thread("t").messages[-1].call
    assert call is not None
    assert call.finish_reason == "stop"
