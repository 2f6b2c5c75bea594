"""A pinned message is sent however far back it lies."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from openai import OpenAI

from memexllm import FIFOAlgorithm, HistoryManager, MemoryStorage, Message, TokenWindowAlgorithm, with_history
from memexllm.testing import OpenAIServer
from tests.history.test_managers import FourMethods

if TYPE_CHECKING:
    from collections.abc import Callable

    from memexllm import BaseAlgorithm, BaseStorage

NUTS = "I am allergic to nuts."
ALGORITHMS: dict[str, Callable[[], BaseAlgorithm]] = {
    "fifo": lambda: FIFOAlgorithm(max_messages=4),
    "fifo with two marks": lambda: FIFOAlgorithm(max_messages=5, keep=2),
    "tokens": lambda: TokenWindowAlgorithm(max_tokens=90, keep=0.5),
}
STORAGES: dict[str, Callable[[], BaseStorage]] = {"memory": MemoryStorage, "four methods": FourMethods}


def pinned_first(storage: BaseStorage, algorithm: BaseAlgorithm) -> HistoryManager:
    manager = HistoryManager(storage, algorithm)
    manager.create_thread(thread_id="t")
    manager.add_messages("t", [Message(NUTS, "user", pinned=True), Message("Noted.", "assistant")])
    return manager


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_call_sends_it(storage: str, algorithm: str) -> None:
    with OpenAIServer() as server, OpenAI(base_url=server.base_url, api_key="local") as original:
        manager = pinned_first(STORAGES[storage](), ALGORITHMS[algorithm]())
        client: Any = with_history(original, history_manager=manager)
        for number in range(12):
            message = {"role": "user", "content": f"Number {number}."}
            client.chat.completions.create(model="gpt-4o", messages=[message], thread_id="t")
            assert server.chat_requests[-1].messages[0]["content"] == NUTS


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_it_is_found_when_it_was_pinned_after_the_pins_were_noted(algorithm: str) -> None:
    manager = HistoryManager(MemoryStorage(), ALGORITHMS[algorithm]())
    manager.create_thread(thread_id="t")
    for number in range(6):
        manager.add_messages("t", [Message(f"{number}", "user"), Message(f"{number}!", "assistant")])
        manager.context("t")
    manager.add_messages("t", [Message(NUTS, "user", pinned=True), Message("Noted.", "assistant")])
    for number in range(12):
        manager.add_messages("t", [Message(f"{number}", "user"), Message(f"{number}!", "assistant")])
        assert NUTS in [message.content for message in manager.context("t")]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_pinned_result_brings_its_call_and_the_other_results(algorithm: str) -> None:
    calls = [{"id": f"c{i}", "type": "function", "function": {"name": "f", "arguments": "{}"}} for i in range(3)]
    manager = HistoryManager(MemoryStorage(), ALGORITHMS[algorithm]())
    manager.create_thread(thread_id="t")
    manager.add_messages(
        "t",
        [
            Message("Look.", "user"),
            Message(None, "assistant", tool_calls=calls),
            *(Message("42", "tool", tool_call_id=f"c{i}", pinned=i == 1) for i in range(3)),
            Message("Done.", "assistant"),
        ],
    )
    for number in range(12):
        manager.add_messages("t", [Message(f"{number}", "user"), Message(f"{number}!", "assistant")])
    roles = [message.role for message in manager.context("t")]
    assert roles[:4] == ["assistant", "tool", "tool", "tool"]


def test_a_superseded_pin_is_not_sent() -> None:
    storage = MemoryStorage()
    manager = pinned_first(storage, FIFOAlgorithm(max_messages=4))
    manager.context("t")
    storage.append_messages("t", [Message(f"{n}", "user") for n in range(8)], supersede_from=0)
    assert NUTS not in [message.content for message in manager.context("t")]


def test_pins_that_are_added_at_once_are_all_sent() -> None:
    manager = HistoryManager(MemoryStorage(), FIFOAlgorithm(max_messages=2))
    manager.create_thread(thread_id="t")
    manager.add_messages("t", [Message(f"{n}", "user") for n in range(4)])
    manager.context("t")

    def pin(name: int) -> None:
        manager.add_messages("t", [Message(f"pin {name}", "user", pinned=True)])

    threads = [threading.Thread(target=pin, args=(name,)) for name in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    manager.add_messages("t", [Message(f"{n}", "user") for n in range(6)])
    sent = [message.content for message in manager.context("t")]
    assert {f"pin {name}" for name in range(6)} <= set(sent)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_it_does_not_stand_in_for_the_task_of_the_current_turn(storage: str, algorithm: str) -> None:
    manager = pinned_first(STORAGES[storage](), ALGORITHMS[algorithm]())
    manager.add_message("t", "The task.", "user")
    for number in range(12):
        call: dict[str, Any] = {"id": f"c{number}", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        manager.add_message("t", None, "assistant", tool_calls=[call])
        manager.add_message("t", "42", "tool", tool_call_id=call["id"])
        sent = [message.content for message in manager.context("t")]
        assert sent[:2] == [NUTS, "The task."] or sent[:3] == [NUTS, "Noted.", "The task."]
