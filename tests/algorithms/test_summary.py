"""SummaryAlgorithm: every message is summarised once, whatever the summariser does, and the budget holds."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from memexllm import AsyncHistoryManager, HistoryManager, MemoryStorage, Message, with_history
from memexllm.algorithms import ContextView, SummaryAlgorithm
from memexllm.algorithms.notes import WINDOWS
from memexllm.algorithms.summary import HEADING, SUMMARY
from memexllm.core.errors import ConfigurationError, ValidationError, WindowError
from memexllm.core.exchanges import exchanges
from memexllm.core.flow import arun, run
from memexllm.core.tokens import TokenCounter
from memexllm.testing.server import OpenAIServer
from tests.openai.talking import sdk_client

if TYPE_CHECKING:
    from collections.abc import Callable

    from memexllm.core.wire import MessageRow

BUDGET = 1000
COUNTER = TokenCounter("gpt-4o")


class Summarizer:
    """Remembers what it was given; what it says is `answer`, by default the numbers of all messages so far."""

    def __init__(self, answer: Callable[[], Any] | None = None) -> None:
        self.given: list[list[str]] = []
        self.previous: list[str | None] = []
        self.answer = answer

    def __call__(self, messages: list[Message], previous: str | None) -> Any:
        self.given.append([message.text.split()[0] for message in messages])
        self.previous.append(previous)
        if self.answer is not None:
            return self.answer()
        return " ".join([*(previous or "").split(), *self.given[-1]])

    @property
    def all_given(self) -> list[str]:
        return [each for chunk in self.given for each in chunk]


class Thread:
    """A thread that grows by a question and an answer a call; `state` is kept from call to call."""

    def __init__(self, algorithm: SummaryAlgorithm, words: int = 40) -> None:
        self.algorithm = algorithm
        self.rows: list[MessageRow] = []
        self.state: dict[str, Any] = {}
        self.words = words
        self.pinned: set[int] = set()

    def call(self, text: str = "", *, run_flow: Callable[[Any], Any] = run, answer_calls: bool = False) -> Any:
        seq = len(self.rows)
        asked = self._row(seq, {"role": "user", "content": f"{seq} {text or 'word ' * self.words}"})
        incoming = [{key: value for key, value in asked.items() if key != "seq"}]
        plan = run_flow(self.algorithm.plan(self.view(incoming)))
        self.rows += [asked, self._row(seq + 1, {"role": "assistant", "content": f"{seq + 1} " + "word " * self.words})]
        self.state |= plan.state
        return plan

    def view(self, incoming: list[Any], **fields: Any) -> ContextView:
        return ContextView(exchanges(self.rows), incoming=incoming, state=self.state, model="gpt-4o", **fields)

    def _row(self, seq: int, wire: dict[str, Any]) -> MessageRow:
        row: MessageRow = {"id": str(seq), "created_at": seq, "wire": wire, "seq": seq}
        if wire["role"] == "assistant":
            row["origin"] = ["s", "gpt-4o"]
        return row

    @property
    def summary(self) -> dict[str, Any]:
        notes = list((self.state.get(WINDOWS) or {"": {}}).values())
        return dict(notes[0].get(SUMMARY) or {})


def seqs(plan: Any) -> list[str]:
    return [row["id"] for exchange in plan.exchanges for row in exchange.rows]


def test_each_message_is_summarised_once_and_the_summary_so_far_is_handed_over() -> None:
    summarizer = Summarizer()
    thread = Thread(SummaryAlgorithm(summarizer, BUDGET, max_summary_tokens=300))
    for _ in range(60):
        before = len(summarizer.given)
        plan = thread.call()
        assert len(summarizer.given) - before <= 1
        assert [*summarizer.all_given, *seqs(plan)] == [row["id"] for row in thread.rows[:-2]]
        assert plan.tokens <= BUDGET
    assert 3 < len(summarizer.given) < 15
    assert summarizer.previous[0] is None
    assert summarizer.previous[1] == " ".join(summarizer.given[0])
    assert plan.head[0]["wire"]["content"] == HEADING + " ".join(summarizer.all_given)
    assert (thread.summary["first"], thread.summary["until"]) == (0, len(summarizer.all_given))
    assert thread.summary["cost"]["calls"] == len(summarizer.given)


@pytest.mark.parametrize("keep", [0.3, 0.5, 0.95, 1.0, "auto"])
def test_one_call_of_the_summariser_for_each_move_and_the_budget_holds_at_any_low_mark(keep: Any) -> None:
    summarizer = Summarizer(lambda: "fact " * (20 + 20 * len(summarizer.given)))
    thread = Thread(SummaryAlgorithm(summarizer, BUDGET, keep=keep, max_summary_tokens=150))
    for _ in range(40):
        before = len(summarizer.given)
        assert thread.call().tokens <= BUDGET
        assert len(summarizer.given) - before <= 1
    assert sorted(summarizer.all_given, key=int) == summarizer.all_given


def hangs() -> str:
    threading.Event().wait(20)
    return "too late"


def raises() -> str:
    raise RuntimeError("the secret of message 0")


FAILURES: dict[str, Callable[[], Any]] = {
    "raises": raises,
    "hangs": hangs,
    "empty": lambda: "",
    "blank": lambda: " \n",
    "none": lambda: None,
    "wrong type": lambda: ["a", "list"],
    "wrong object": object,
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_loses_nothing_and_is_said_without_what_was_said(name: str, caplog: pytest.LogCaptureFixture) -> None:
    summarizer = Summarizer(FAILURES[name])
    thread = Thread(SummaryAlgorithm(summarizer, BUDGET, timeout_s=0.5 if name == "hangs" else 30))
    with caplog.at_level(logging.WARNING):
        while not summarizer.given:
            started = time.perf_counter()
            plan = thread.call()
    assert time.perf_counter() - started < 10
    assert plan.head == []
    assert "could not be made" in caplog.text
    assert "secret" not in caplog.text
    assert "word" not in caplog.text
    assert thread.summary["error"]
    assert "text" not in thread.summary
    missed = summarizer.all_given
    summarizer.answer = None
    summarizer.given.clear()
    while not summarizer.given:
        plan = thread.call()
    assert summarizer.all_given[: len(missed)] == missed
    assert [*summarizer.all_given, *seqs(plan)] == [row["id"] for row in thread.rows[:-2]]
    assert "error" not in thread.summary


def test_what_a_failing_summariser_missed_is_read_again_when_it_was_not_loaded(tmp_path: Any) -> None:
    summarizer = Summarizer(raises)
    manager = HistoryManager(MemoryStorage(), SummaryAlgorithm(summarizer, BUDGET))
    manager.create_thread(thread_id="t")
    number = 0
    while len(summarizer.given) < 3:
        manager.add_messages("t", [Message(f"{number + n} " + "word " * 40, "user") for n in range(2)])
        number += 2
        manager.context("t")
    summarizer.answer = None
    summarizer.given.clear()
    while not summarizer.given:
        manager.add_messages("t", [Message(f"{number + n} " + "word " * 40, "user") for n in range(2)])
        number += 2
        window = manager.context("t")
    assert [*summarizer.all_given, *(message.text.split()[0] for message in window[1:])] == [
        str(each) for each in range(number)
    ]


async def test_an_async_summariser_is_awaited() -> None:
    async def summarize(messages: list[Message], previous: str | None) -> str:
        return f"{len(messages)} of them"

    thread = Thread(SummaryAlgorithm(summarize, BUDGET))
    while not thread.summary:
        plan = [await arun(thread.algorithm.plan(thread.view([])))]
        thread.state |= plan[0].state
        thread.rows += [
            thread._row(len(thread.rows) + n, {"role": ("user", "assistant")[n], "content": "word " * 60})
            for n in range(2)
        ]
    assert thread.summary["text"].endswith("of them")


async def test_an_async_summariser_that_will_not_be_cancelled_does_not_block_a_call() -> None:
    import asyncio

    released = asyncio.Event()

    async def summarize(messages: list[Message], previous: str | None) -> str:
        while not released.is_set():
            try:
                await asyncio.wait_for(released.wait(), 5)
            except asyncio.CancelledError:
                continue
        return "late"

    manager = AsyncHistoryManager(MemoryStorage(), SummaryAlgorithm(summarize, BUDGET, timeout_s=0.05))
    await manager.create_thread(thread_id="t")
    await manager.add_messages("t", [Message("word " * 40, "user") for _ in range(40)])
    started = time.perf_counter()
    window = await manager.context("t")
    assert time.perf_counter() - started < 4
    assert window
    released.set()
    await asyncio.sleep(0)


def test_an_async_summariser_of_a_synchronous_caller_fails_and_the_call_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def summarize(messages: list[Message], previous: str | None) -> str:
        return "never"

    thread = Thread(SummaryAlgorithm(summarize, BUDGET))
    while not thread.summary:
        thread.call()
    assert thread.summary["error"]
    assert "asynchronous" in caplog.text


def test_too_long_a_summary_is_cut_off_and_said(caplog: pytest.LogCaptureFixture) -> None:
    thread = Thread(SummaryAlgorithm(lambda messages, previous: "fact " * 5000, BUDGET, max_summary_tokens=50))
    while not thread.summary:
        plan = thread.call()
    assert COUNTER.count_text(thread.summary["text"]) <= 50
    assert plan.tokens <= BUDGET
    assert "cut off after 50" in caplog.text


def test_a_summary_of_megabytes_is_cut_off_at_once() -> None:
    thread = Thread(SummaryAlgorithm(lambda messages, previous: "fact " * 4_000_000, BUDGET, max_summary_tokens=50))
    while len(thread.rows) < 100 and not thread.summary:
        started = time.perf_counter()
        thread.call()
    assert thread.summary
    assert time.perf_counter() - started < 1


def test_a_summary_that_no_database_stores_is_made_storable() -> None:
    thread = Thread(SummaryAlgorithm(lambda messages, previous: "a \ud83d b", BUDGET))
    while not thread.summary:
        thread.call()
    assert thread.summary["text"].encode()


def test_a_summary_larger_than_the_budget_is_refused_when_it_is_made() -> None:
    with pytest.raises(ValidationError, match="max_summary_tokens"):
        SummaryAlgorithm(Summarizer(), 500, max_summary_tokens=600)


def test_what_must_be_sent_goes_before_the_summary() -> None:
    summarizer = Summarizer(lambda: "fact " * 150)
    thread = Thread(SummaryAlgorithm(summarizer, BUDGET, max_summary_tokens=200))
    while not thread.summary:
        thread.call()
    plan = thread.call("large " * 900)
    assert plan.tokens <= BUDGET
    assert plan.head == []
    with pytest.raises(WindowError):
        thread.call("large " * 1100)
    assert thread.summary["text"]


def test_a_message_that_was_held_is_summarised_when_it_is_let_go_also_after_a_failure() -> None:
    """An agent's task is sent while it works on it; then the summary takes it in."""
    summarizer = Summarizer()
    thread = Thread(SummaryAlgorithm(summarizer, BUDGET, max_summary_tokens=300))

    def result() -> Any:
        seq = len(thread.rows)
        calling = {
            "role": "assistant",
            "content": f"{seq} look",
            "tool_calls": [{"id": f"c{seq}", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        }
        row = thread._row(seq, calling)
        answer = thread._row(
            seq + 1, {"role": "tool", "tool_call_id": f"c{seq}", "content": f"{seq + 1} " + "word " * 40}
        )
        thread.rows.append(row)
        incoming = [{key: value for key, value in answer.items() if key != "seq"}]
        plan = run(thread.algorithm.plan(thread.view(incoming)))
        thread.rows.append(answer)
        thread.state |= plan.state
        return plan

    thread.rows.append(thread._row(0, {"role": "user", "content": "0 the task"}))
    while not thread.summary:
        plan = result()
    assert "0" in seqs(plan)
    assert "0" not in summarizer.all_given
    summarizer.answer = raises
    n_before = len(summarizer.given)
    while len(summarizer.given) == n_before:
        plan = thread.call()
    assert "0" not in seqs(plan)
    summarizer.answer = None
    summarizer.given.clear()
    while not summarizer.given:
        plan = thread.call()
    assert summarizer.all_given[0] == "0"


def test_a_pinned_message_is_summarised_once_it_is_no_longer_pinned() -> None:
    summarizer = Summarizer()
    manager = HistoryManager(MemoryStorage(), SummaryAlgorithm(summarizer, BUDGET, max_summary_tokens=300))
    manager.create_thread(thread_id="t")

    def grow() -> list[str]:
        manager.add_messages("t", [Message(f"{len(stored()) + n} " + "word " * 40, "user") for n in range(2)])
        return [message.text.split()[0] for message in manager.context("t")]

    def stored() -> list[Message]:
        return manager.get_messages("t")

    pinned = manager.add_message("t", "0 word", "user")
    manager.pin("t", pinned.id)
    while not summarizer.given:
        grow()
    assert "0" not in summarizer.all_given
    manager.unpin("t", pinned.id)
    n_before = len(summarizer.given)
    while len(summarizer.given) == n_before:
        window = grow()
    assert "0" not in window
    assert summarizer.all_given.count("0") == 1


def test_a_request_that_failed_after_its_summary_was_made_does_not_pay_for_it_again() -> None:
    summarizer = Summarizer()
    thread = Thread(SummaryAlgorithm(summarizer, BUDGET))
    while not thread.summary:
        state = dict(thread.state)
        thread.call()
    del thread.rows[-2:]
    made = thread.state
    thread.state = state
    thread.call()
    assert thread.state == made
    assert len(summarizer.given) == 1


def test_looking_costs_nothing() -> None:
    summarizer = Summarizer()
    manager = HistoryManager(MemoryStorage(), SummaryAlgorithm(summarizer, BUDGET))
    manager.create_thread(thread_id="t")
    manager.add_messages("t", [Message("word " * 40, "user") for _ in range(60)])
    before = manager.storage.get_thread("t")
    assert manager.explain("t").excluded
    assert summarizer.given == []
    assert manager.storage.get_thread("t") == before
    manager.context("t")
    n_calls = len(summarizer.given)
    manager.context("t")
    assert len(summarizer.given) == n_calls > 0


def test_what_was_counted_for_a_move_is_not_counted_again() -> None:
    counted: list[str] = []

    def count(text: str) -> int:
        counted.append(text)
        return len(text.split())

    manager = HistoryManager(MemoryStorage(), SummaryAlgorithm(Summarizer(), 500, token_counter=count))
    manager.create_thread(thread_id="t")
    manager.add_messages("t", [Message(f"{number} " + "word " * 40, "user") for number in range(60)])
    manager.context("t")
    counted.clear()
    manager.context("t")
    assert [text for text in counted if text.endswith("word ")] == []


def test_a_wrapped_client_and_what_is_no_summariser_are_refused() -> None:
    with OpenAIServer() as server, sdk_client(server) as api:
        wrapped = with_history(api, storage=MemoryStorage())
        with pytest.raises(ConfigurationError, match="before"):
            SummaryAlgorithm(wrapped, BUDGET, model="gpt-4o-mini")
        with pytest.raises(ConfigurationError, match="model"):
            SummaryAlgorithm(api, BUDGET)
    with pytest.raises(ConfigurationError, match="callable"):
        SummaryAlgorithm("gpt-4o", BUDGET)
