"""FIFO with two marks: the cut is kept with the thread, and found again where it was when it is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from memexllm import FIFOAlgorithm, HistoryManager, MemoryStorage, SQLiteStorage, with_history
from tests.notes_in_state import without_notes
from tests.openai.talking import call, raw_messages, sdk_client, system, tool, user

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from openai import OpenAI

    from memexllm.testing.server import OpenAIServer


@pytest.fixture
def original(server: OpenAIServer) -> Iterator[OpenAI]:
    with sdk_client(server) as original:
        yield original


def copy_without_cut(storage: MemoryStorage) -> MemoryStorage:
    thread = storage.get_thread("t")
    assert thread
    copied = MemoryStorage()
    copied.save_thread(thread.changed(state=without_notes(thread.state)))
    return copied


def said_next(server: OpenAIServer, original: OpenAI, storage: MemoryStorage, marks: tuple[int, float]) -> list[str]:
    """What a call on a copy of the thread would send; the thread itself stays as it is."""
    thread = storage.get_thread("t")
    assert thread
    copied = MemoryStorage()
    copied.save_thread(thread)
    client: Any = with_history(original, storage=copied, algorithm=FIFOAlgorithm(*marks))
    client.chat.completions.create(model="m", messages=[user("next")], thread_id="t")
    return raw_messages(server)


@pytest.mark.parametrize("marks", [(6, 2), (10, 5), (7, 0.5), (20, 20), (3, 1)])
@pytest.mark.parametrize("talk", ["chat", "tools", "system", "bursts"])
def test_a_missing_cut_is_found_where_it_was(
    server: OpenAIServer, original: OpenAI, marks: tuple[int, float], talk: str
) -> None:
    storage = MemoryStorage()
    client: Any = with_history(original, storage=storage, algorithm=FIFOAlgorithm(*marks))
    for index in range(25):
        messages: list[Any] = [user(f"q{index}")]
        if talk == "system" and index % 7 == 0:
            messages.insert(0, system(f"style {index}"))
        if talk == "bursts":
            messages += [user(f"more {number}") for number in range(index % 4)]
        if talk == "tools" and index % 3:
            server.answer({"content": None, "tool_calls": [call(f"c{index}"), call(f"d{index}")]})
            client.chat.completions.create(model="m", messages=messages, thread_id="t")
            messages = [tool(f"d{index}"), tool(f"c{index}")]
        client.chat.completions.create(model="m", messages=messages, thread_id="t")
        if index % 4 == 3:
            kept = said_next(server, original, storage, marks)
            assert said_next(server, original, copy_without_cut(storage), marks) == kept


def test_another_process_goes_on_at_the_same_cut(server: OpenAIServer, original: OpenAI, tmp_path: Path) -> None:
    firsts = []
    for index in range(30):
        with HistoryManager(SQLiteStorage(tmp_path / "chat.db"), FIFOAlgorithm(8, keep=3)) as manager:
            client: Any = with_history(original, history_manager=manager)
            client.chat.completions.create(model="m", messages=[user(f"q{index}")], thread_id="t")
        assert len(raw_messages(server)) <= 8
        firsts.append(raw_messages(server)[0])
    assert len(set(firsts)) <= 12


def test_a_regenerate_before_the_cut_takes_it_back(server: OpenAIServer, original: OpenAI) -> None:
    client: Any = with_history(original, storage=MemoryStorage(), algorithm=FIFOAlgorithm(8, keep=2))
    whole: list[Any] = []
    for index in range(10):
        answer = client.chat.completions.create(model="m", messages=[user(f"q{index}")], thread_id="t")
        whole += [user(f"q{index}"), answer.choices[0].message]
    client.chat.completions.create(model="m", messages=[*whole[:4], user("edited")], thread_id="t")
    assert [message["content"] for message in server.last_messages] == [
        "q0",
        "You said: q0",
        "q1",
        "You said: q1",
        "edited",
    ]
