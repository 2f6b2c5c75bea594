"""The replay law under a window: valid at any size, with all that the call is about, and nothing lost in the thread."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from openai import OpenAI

from memexllm import HistoryManager, Message
from memexllm.algorithms import FIFOAlgorithm
from memexllm.integrations.openai import history_of, with_history
from memexllm.storage import BaseStorage, MemoryStorage
from memexllm.testing import OpenAIServer
from memexllm.testing._conversations import ScriptedCall, Writer
from tests.notes_in_state import without_notes
from tests.replay.replay_law import (
    BLOCK_ROLES,
    SEEDS,
    THREAD_ID,
    WrappedCaller,
    accumulated,
    as_kept,
    as_sent_again,
    text,
)

Wire = dict[str, Any]


@pytest.fixture(scope="module")
def strict() -> Iterator[OpenAIServer]:
    # To this server no spoken answer has expired: the callers repeat old ones by their id alone.
    with OpenAIServer(strict_fields=True, clock=lambda: 0) as server:
        yield server


class Told:
    """What was said on a thread so far, block apart, in the order it was said; `new` is what the call brings."""

    def __init__(self) -> None:
        self.block: list[Wire] = []
        self.history: list[Wire] = []
        self.new: list[Wire] = []

    def say(self, scripted: ScriptedCall) -> None:
        self.new = list(scripted.said)
        if not self.block and not self.history:
            while self.new and self.new[0]["role"] in BLOCK_ROLES:
                self.block.append(self.new.pop(0))

    def hear(self, answer: Wire) -> None:
        self.history += [*self.new, answer]

    @property
    def required(self) -> list[Wire]:
        """Of the history: the user message that opened the turn and the calls that `new` answers."""
        found: list[Wire] = []
        if all(message["role"] != "user" for message in self.new):
            found += [message for message in self.history if message["role"] == "user"][-1:]
        if self.new and self.new[0]["role"] in ("tool", "function"):
            found.append(self.history[-1])
        return found


def newest_exchange(messages: Sequence[Wire]) -> int:
    """How many messages the last exchange has."""
    size = 1
    while size < len(messages) and messages[-size]["role"] in ("tool", "function"):
        size += 1
    return size


def check_window(received: list[Wire], told: Told, max_messages: int, *, exact: bool) -> None:
    sent = text(received)
    block, history, new, required = (
        text([as_sent_again(each) for each in part]) for part in (told.block, told.history, told.new, told.required)
    )
    assert sent[: len(block)] == block
    assert sent[len(sent) - len(new) :] == new
    window = sent[len(block) : len(sent) - len(new)]
    apart = 0 if history[len(history) - len(window) :] == window else 1
    if apart and (exact or window[0] not in required):
        # With two marks, the one of an earlier turn in which the window moved stays until it moves again.
        openers = required[:1] if exact else [each for each in history if json.loads(each)["role"] == "user"]
        assert window[0] in openers, "only a turn's user message may stand before the newest ones"
    n_newest = len(window) - apart
    assert window[apart:] == history[len(history) - n_newest :]
    assert [each for each in required if each not in window] == []
    room = max_messages - len(window) - len(new)
    if room < 0:
        assert window == required
    older = told.history[: len(history) - n_newest]
    if exact and older:
        beside = 1 if apart and newest_exchange(older) == 1 and text([older[-1]]) == [window[0]] else 0
        assert room < newest_exchange(older) - beside, "an exchange more would have fitted"


def without_cut(storage: BaseStorage) -> MemoryStorage:
    """A copy of the thread whose state does not say where the window begins."""
    thread = storage.get_thread(THREAD_ID)
    assert thread is not None
    copied = MemoryStorage()
    copied.save_thread(thread.changed(state=without_notes(thread.state)))
    return copied


@pytest.mark.parametrize("keep", [None, 1, 0.6], ids=["exact", "keep-1", "keep-60%"])
@pytest.mark.parametrize("storage", ["memory", "sqlite"])
@pytest.mark.parametrize("seed", SEEDS)
async def test_a_window_of_any_size_is_valid_and_holds_what_the_call_is_about(
    strict: OpenAIServer, tmp_path: Path, seed: int, storage: str, keep: float | None
) -> None:
    random = Random(seed)
    calls = Writer(random).conversation(random.randint(3, 8))
    max_messages = random.randint(2 if keep == 0.6 else 1, 2 * len(calls))
    path = tmp_path / "chat.db" if storage == "sqlite" else None
    wrapped = WrappedCaller(strict, random, path, FIFOAlgorithm(max_messages, keep=keep))
    told = Told()
    try:
        for scripted in calls:
            told.say(scripted)
            given = await wrapped.call(scripted)
            check_window(strict.last_messages, told, max_messages, exact=keep is None)
            told.hear(as_kept(accumulated(scripted.answer) if given.streamed else wrapped.heard))
        found_again = HistoryManager(without_cut(wrapped.storage), wrapped.algorithm)
        assert found_again.context(THREAD_ID) == HistoryManager(wrapped.storage, wrapped.algorithm).context(THREAD_ID)
        with HistoryManager(wrapped.storage) as manager:
            stored = [message.wire for message in manager.get_messages(THREAD_ID)]
        assert text(stored) == text([*told.block, *told.history])
    finally:
        await wrapped.close()


@pytest.mark.parametrize("max_messages", range(1, 10))
def test_a_window_that_begins_inside_an_exchange_is_no_broken_thread(strict: OpenAIServer, max_messages: int) -> None:
    """`orphans="error"` is about what is stored; a window's edge is the library's own doing."""
    calls = [{"id": id_, "type": "function", "function": {"name": "f", "arguments": "{}"}} for id_ in ("a", "b", "c")]
    told: list[Wire] = [
        {"role": "user", "content": "look it up"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        *({"role": "tool", "tool_call_id": call["id"], "content": "42"} for call in calls),
        {"role": "assistant", "content": "it is 42"},
        {"role": "user", "content": "thanks"},
        {"role": "assistant", "content": "you are welcome"},
    ]
    storage = MemoryStorage()
    HistoryManager(storage).create_thread(thread_id=THREAD_ID)
    HistoryManager(storage).add_messages(THREAD_ID, [Message(wire=wire) for wire in told])
    with OpenAI(base_url=strict.base_url, api_key="local", max_retries=0) as original:
        client = with_history(original, storage=storage, algorithm=FIFOAlgorithm(max_messages), orphans="error")
        completion = client.chat.completions.create(
            model="any", messages=[{"role": "user", "content": "bye"}], thread_id=THREAD_ID
        )
    assert history_of(completion).saved
    assert strict.last_messages[-1] == {"role": "user", "content": "bye"}


@pytest.mark.parametrize("n_calls", [2, 3, 40])
@pytest.mark.parametrize("max_messages", [1, 2, 3])
def test_the_open_exchange_is_whole_when_its_results_came_one_by_one(
    strict: OpenAIServer, max_messages: int, n_calls: int
) -> None:
    calls = [{"id": f"c{n}", "type": "function", "function": {"name": "f", "arguments": "{}"}} for n in range(n_calls)]
    results: list[Wire] = [{"role": "tool", "tool_call_id": call["id"], "content": "42"} for call in calls]
    told: list[Wire] = [
        {"role": "user", "content": "look it up"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        *results[:-1],
    ]
    storage = MemoryStorage()
    manager = HistoryManager(storage, FIFOAlgorithm(max_messages))
    manager.create_thread(thread_id=THREAD_ID)
    manager.add_messages(THREAD_ID, [Message(wire=wire) for wire in told])
    with OpenAI(base_url=strict.base_url, api_key="local", max_retries=0) as original:
        client: Any = with_history(original, history_manager=manager)
        client.chat.completions.create(model="any", messages=results[-1:], thread_id=THREAD_ID)
    assert strict.last_messages == [*told, results[-1]]
