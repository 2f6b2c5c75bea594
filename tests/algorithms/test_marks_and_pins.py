"""Pins that fill the low mark leave the newest exchange where it is, as long as the high mark allows."""

from __future__ import annotations

from memexllm import FIFOAlgorithm, HistoryManager, MemoryStorage, Message


def test_the_newest_answer_is_kept_beside_pins_that_fill_the_low_mark() -> None:
    manager = HistoryManager(MemoryStorage(), FIFOAlgorithm(max_messages=5, keep=2))
    manager.create_thread(thread_id="t")
    said = [Message(f"w{number}", "user", pinned=number in (4, 5)) for number in range(1, 6)]
    manager.add_messages("t", [*said, Message("w6", "assistant")])
    assert [message.content for message in manager.context("t")] == ["w4", "w5", "w6"]


def test_pins_that_fill_the_high_mark_are_sent_all_the_same() -> None:
    manager = HistoryManager(MemoryStorage(), FIFOAlgorithm(max_messages=3, keep=2))
    manager.create_thread(thread_id="t")
    said = [Message(f"w{number}", "user", pinned=number < 4) for number in range(1, 6)]
    manager.add_messages("t", [*said, Message("w6", "assistant")])
    assert [message.content for message in manager.context("t")] == ["w1", "w2", "w3"]
