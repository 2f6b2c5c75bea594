"""Every window on the wire: nothing is refused, and between two moves each request begins with the one before."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from memexllm import MemoryStorage, SQLiteStorage, TokenWindowAlgorithm
from memexllm.algorithms import SummaryAlgorithm
from memexllm.algorithms.notes import WINDOWS
from memexllm.core.tokens import TokenCounter
from tests.openai.talking import assistant, sdk_client, user
from tests.openai.windows_played import ALL, BUDGET, WINDOWED, Asked, Player, agent, chat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from openai import OpenAI

    from memexllm.testing.server import OpenAIServer

SCALE = float(os.environ.get("MEMEXLLM_TEST_SCALE", "1"))
CONVERSATIONS: dict[str, Callable[[], Iterator[Asked]]] = {
    "chat": lambda: chat(1, round(18 * SCALE)),
    "agent": lambda: agent(round(30 * SCALE)),
}
NOT_FOUND_AGAIN = ("summary", "trim, summary")
"""A summary that is lost is made again, and the window moves otherwise while there is none."""


@pytest.fixture
def original(server: OpenAIServer) -> Iterator[OpenAI]:
    with sdk_client(server) as original:
        yield original


def check_prefixes(player: Player) -> int:
    """How many times the window moved."""
    for (before, after), (note, next_note) in zip(pairwise(player.requests), pairwise(player.notes), strict=True):
        if note == next_note:
            assert after[: len(before)] == before
    return len(set(player.notes))


@pytest.mark.parametrize("name", ALL)
def test_no_request_is_refused(server: OpenAIServer, original: OpenAI, name: str) -> None:
    player = Player(server, original, ALL[name](), usage=None)
    for number, asked in enumerate(chat(2, 20)):
        player.ask(asked)
        if number % 9 == 4:
            player.manager.pin("t", player.manager.get_messages("t", limit=1)[0].id)
    assert {request.status for request in server.requests} == {200}


@pytest.mark.parametrize("told", CONVERSATIONS)
@pytest.mark.parametrize("name", WINDOWED)
def test_between_two_moves_a_request_begins_with_the_whole_one_before(
    server: OpenAIServer, original: OpenAI, name: str, told: str
) -> None:
    player = Player(server, original, WINDOWED[name]())
    for asked in CONVERSATIONS[told]():
        player.ask(asked)
    n_moves = check_prefixes(player)
    assert 1 < n_moves < len(player.requests) / 2


@pytest.mark.parametrize("name", WINDOWED)
def test_so_it_is_when_the_server_counts_otherwise_and_the_answers_are_streams(
    server: OpenAIServer, original: OpenAI, name: str
) -> None:
    player = Player(
        server, original, WINDOWED[name](), usage={"prompt_tokens": 1500, "completion_tokens": 1}, streamed=True
    )
    for asked in chat(3, 18):
        player.ask(asked, stream_options={"include_usage": True})
    check_prefixes(player)


@pytest.mark.parametrize("name", ["tokens", "summary", "trim, window", "fifo with two marks"])
def test_so_it_is_for_responses(server: OpenAIServer, original: OpenAI, name: str) -> None:
    player = Player(server, original, WINDOWED[name]())
    before: tuple[list[str], Any] = ([], None)
    n_rests = 0
    for number in range(40):
        player.clock.advance(5)
        player.client.responses.create(
            model="gpt-4o", input=f"question {number} " + "well " * 25, instructions="Be kind.", thread_id="t"
        )
        items = [json.dumps(item) for item in server.last_items]
        note = player.state.get(WINDOWS)
        if note == before[1]:
            assert items[: len(before[0])] == before[0]
            n_rests += 1
        before = (items, note)
    assert 25 < n_rests < 39 or name == "trim, window"
    assert {request.status for request in server.requests} == {200}


@pytest.mark.parametrize("told", CONVERSATIONS)
@pytest.mark.parametrize("name", sorted({*WINDOWED} - {*NOT_FOUND_AGAIN}))
def test_a_lost_note_is_found_where_it_was(server: OpenAIServer, original: OpenAI, name: str, told: str) -> None:
    player = Player(server, original, WINDOWED[name]())
    next_one = Asked([user("and now?")], assistant("well"))
    for number, asked in enumerate(CONVERSATIONS[told]()):
        player.ask(asked)
        if number % 6 == 5 and "tool_calls" not in asked.answer:
            kept, lost = player.copy(), player.copy(**{WINDOWS: None})
            kept.ask(next_one)
            lost.ask(next_one)
            assert lost.requests == kept.requests
            assert json.loads(lost.notes[0]) == json.loads(kept.notes[0])


@pytest.mark.parametrize(
    ("name", "n_calls"),
    [("tokens", 200), ("trim, summary", 200), ("summary", 50), ("trim, window", 50), ("a user's, window", 50)],
)
def test_a_task_is_sent_however_many_calls_it_takes(
    server: OpenAIServer, original: OpenAI, name: str, n_calls: int
) -> None:
    player = Player(server, original, WINDOWED[name]())
    for asked in agent(n_calls, result_words=20):
        player.ask(asked)
        sent = server.last_messages
        if asked.messages[0]["role"] == "tool":
            opener = "The task" if asked.messages[0]["tool_call_id"].startswith("c.agent") else "And the next city"
            assert any(opener in str(message["content"]) for message in sent if message["role"] == "user")
        assert TokenCounter("gpt-4o").count_messages(sent) <= BUDGET
    assert check_prefixes(player) > n_calls // 40


def test_two_windows_of_different_size_do_not_disturb_each_other(server: OpenAIServer, original: OpenAI) -> None:
    windows = (TokenWindowAlgorithm(600), TokenWindowAlgorithm(2000))
    storage = MemoryStorage()
    small, large = (Player(server, original, window, storage=storage) for window in windows)
    for number, asked in enumerate(chat(4, 40)):
        player = (small, large)[number % 2]
        player.ask(asked)
        player.notes[-1] = json.dumps(player.state.get(WINDOWS, {}).get(windows[number % 2].key("gpt-4o")))
    for player in (small, large):
        n_begins = sum(after[: len(before)] == before for before, after in pairwise(player.requests))
        assert n_begins >= len(player.requests) - len(set(player.notes))
        assert len(set(player.notes)) > 2
        check_prefixes(player)


@pytest.mark.parametrize("name", WINDOWED)
def test_another_process_goes_on_in_the_same_window(
    server: OpenAIServer, original: OpenAI, tmp_path: Path, name: str
) -> None:
    one = Player(server, original, WINDOWED[name]())
    for asked in chat(5, 10):
        one.ask(asked)
        with SQLiteStorage(tmp_path / "chat.db") as storage:
            again = Player(server, original, WINDOWED[name](), storage=storage)
            again.clock.now = one.clock.now - timedelta(seconds=asked.after_s)
            again.ask(asked)
        assert again.requests[-1] == one.requests[-1]
        assert without_ids(again.notes[-1]) == without_ids(one.notes[-1])


def without_ids(note: str) -> Any:
    """A note without what a summary took of time."""
    return json.loads(note, object_hook=lambda each: {key: value for key, value in each.items() if key != "seconds"})


def test_a_summary_comes_right_after_the_instructions(server: OpenAIServer, original: OpenAI) -> None:
    player = Player(server, original, SummaryAlgorithm(lambda messages, previous: "the gist", BUDGET))
    for asked in chat(6, 20):
        player.ask(asked)
    sent = server.last_messages
    assert sent[0]["role"] == "system"
    assert "the gist" in sent[1]["content"]
