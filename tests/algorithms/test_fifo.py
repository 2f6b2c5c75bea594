"""What FIFO promises beyond the conformance laws: exact counts, and with `keep` a front that rests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from memexllm import HistoryManager, MemoryStorage
from memexllm.algorithms import ContextView, FIFOAlgorithm
from memexllm.core.exchanges import exchanges
from memexllm.core.flow import run
from memexllm.core.models import Message
from memexllm.core.wire import MessageRow
from memexllm.history.context import choose
from memexllm.testing._conversations import Writer, messages_of
from tests.notes_in_state import cut_in

SEEDS = range(10)
MARKS = [(8, 1), (20, 0.6), (30, 20), (12, 12)]


def thread(seed: int, n_turns: int = 12) -> list[Message]:
    random = Random(seed)
    return messages_of(Writer(random).conversation(n_turns), random)


def exchange_starts(messages: list[Message]) -> set[str]:
    return {exchange.rows[0]["id"] for exchange in exchanges([message.row() for message in messages])}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_window_is_exactly_the_newest_messages_when_no_exchange_straddles_its_edge(seed: int) -> None:
    messages = thread(seed)
    starts = exchange_starts(messages)
    for n in range(1, len(messages) + 2):
        newest = messages[-n:]
        if newest[0].id in starts:
            assert FIFOAlgorithm(max_messages=n).get_message_window(messages) == newest


@pytest.mark.parametrize("seed", SEEDS)
def test_an_exchange_that_straddles_the_edge_is_left_out_whole(seed: int) -> None:
    messages = thread(seed)
    starts = exchange_starts(messages)
    newest = messages[max(index for index, message in enumerate(messages) if message.id in starts) :]
    for n in range(len(newest), len(messages)):
        place = len(messages) - n
        while messages[place].id not in starts:
            place += 1
        assert FIFOAlgorithm(max_messages=n).get_message_window(messages) == messages[place:]


def test_the_newest_answer_is_in_a_window_of_one_message() -> None:
    messages = [Message("hi", "user"), Message("hello", "assistant"), Message("still there?", "assistant")]
    assert FIFOAlgorithm(max_messages=1).get_message_window(messages) == messages[-1:]


def test_keep_also_bounds_messages_that_were_never_stored() -> None:
    messages = [Message(str(n), "user") for n in range(100)]
    assert FIFOAlgorithm(max_messages=10, keep=5).get_message_window(messages) == messages[-5:]


@dataclass(frozen=True)
class Sent:
    """One call of a thread: the history it sent, as text; where the cut was; what it stood on."""

    front: list[str]
    """What lies at or after the cut."""
    cut: int
    stored: list[MessageRow]
    incoming: list[MessageRow]


def played(messages: list[Message], algorithm: FIFOAlgorithm) -> Iterator[Sent]:
    """The calls of a thread one after another, the state kept between them."""
    rows = [message.row() for message in messages]
    state: dict[str, Any] = {}
    start = 0
    for index, row in enumerate(rows):
        if "origin" not in row:
            continue
        stored, incoming = rows[:start], rows[start:index]
        window = run(choose(algorithm, ContextView((), incoming=incoming, state=state), stored))
        state.update(window.state)
        cut = cut_in(state)
        front = [json.dumps(each["wire"]) for each in window.rows if each["seq"] >= cut]
        yield Sent(front, cut, stored, incoming)
        start = index + 1


@pytest.mark.parametrize("marks", MARKS, ids=str)
@pytest.mark.parametrize("seed", SEEDS)
def test_between_two_cuts_what_was_sent_is_sent_again_byte_for_byte(seed: int, marks: tuple[int, float]) -> None:
    calls = list(played(thread(seed, n_turns=30), FIFOAlgorithm(*marks)))
    for before, after in pairwise(calls):
        if after.cut == before.cut:
            assert after.front[: len(before.front)] == before.front


@pytest.mark.parametrize("marks", MARKS, ids=str)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_lost_cut_is_found_again_where_it_was(seed: int, marks: tuple[int, float]) -> None:
    algorithm = FIFOAlgorithm(*marks)
    for call in played(thread(seed, n_turns=30), algorithm):
        view = ContextView((), incoming=call.incoming)
        found = cut_in(run(choose(algorithm, view, call.stored)).state)
        assert found == call.cut


@pytest.mark.parametrize(("max_messages", "keep"), [(20, 10), (20, 0.6), (100, 60), (40, 1)])
def test_a_cut_makes_room_for_many_calls(max_messages: int, keep: float) -> None:
    messages = [message.model_copy(update={"pinned": False}) for message in thread(3, n_turns=200)]
    low = keep * max_messages if keep < 1 else keep
    biggest = 5  # three calls with their results, and what was said beside them
    cuts = {call.cut for call in played(messages, FIFOAlgorithm(max_messages, keep=keep))}
    assert 1 < len(cuts) <= 1 + len(messages) / (max_messages - low - biggest)


def test_an_old_function_call_goes_with_its_result() -> None:
    rows = [
        Message("look it up", "user", id="u").row(),
        Message(None, "assistant", function_call={"name": "f", "arguments": "{}"}, id="call").row(),
    ]
    result = Message("42", "function", name="f").row()
    window = run(choose(FIFOAlgorithm(max_messages=1), ContextView((), incoming=[result]), rows))
    assert [row["id"] for row in window.rows] == ["u", "call"]


def test_a_thread_looked_at_after_its_answer_shows_the_newest() -> None:
    manager = HistoryManager(MemoryStorage(), FIFOAlgorithm(max_messages=1))
    manager.create_thread(thread_id="t")
    manager.add_message("t", "hi", "user")
    manager.add_message("t", "hello", "assistant")
    assert [message.text for message in manager.get_thread("t").messages] == ["hello"]
