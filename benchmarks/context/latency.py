"""How long choosing a window takes on a long thread in SQLite, beyond reading what is chosen.

`call` is what a wrapped client does before its request: the rows of the window are read, and what is sent is chosen.
Its floor is reading those rows. `context` is `manager.context()`; its floor is `get_messages()` of as many messages.
The texts that are counted meanwhile are noted: no more than a call brings and the answer before it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from benchmarks._pairs import Batch, difference_us, measured
from benchmarks.context.texts import text
from benchmarks.context.wired import MODEL, answering
from memexllm import HistoryManager, Message, SQLiteStorage, TokenWindowAlgorithm, with_history
from memexllm.algorithms import ContextView
from memexllm.core.flow import Flow, run
from memexllm.core.wire import MessageRow
from memexllm.history.context import choose_of_thread, load

N_MESSAGES = 100_000
TOKENS_A_MESSAGE = 30
MAX_TOKENS = 8_000
THREAD = "long"
QUESTION = "and is it so?"
ANSWER = "it is"


class CountingCounter:
    """Counts words, and keeps the texts it was asked for."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, text: str) -> int:
        self.texts.append(text)
        return text.count(" ") + 1


@dataclass(frozen=True)
class Latency:
    """CPU microseconds, medians; `beyond_us` is the median of pairs. `counted` are the texts one choice counts."""

    what: str
    n_messages: int
    window: int
    read_us: float
    chosen_us: float
    beyond_us: float
    counted: tuple[str, ...]


class LongThread:
    """A thread of so many messages, a call made on it: its cut and its counts are stored."""

    def __init__(self, storage: SQLiteStorage, n_messages: int) -> None:
        self.counter = CountingCounter()
        self.n_messages = n_messages
        self.manager = HistoryManager(storage, TokenWindowAlgorithm(MAX_TOKENS, token_counter=self.counter))
        self.manager.create_thread(thread_id=THREAD)
        self.manager.add_messages(THREAD, _messages(n_messages))
        with answering([{"role": "assistant", "content": ANSWER}], []) as api:
            client = with_history(api, history_manager=self.manager).with_thread(THREAD)
            client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "is it?"}])

    def chosen(self) -> list[MessageRow]:
        """The window of a call that brings a question."""
        return run(self._choose())

    def read(self, after: int) -> list[MessageRow]:
        return run(self._read(after))

    def _choose(self) -> Flow[list[MessageRow]]:
        reader = yield from self.manager.port.read(THREAD)
        loaded = yield from load(reader, self.manager.chooser, 1)
        asked: MessageRow = {"id": "asked", "created_at": 0, "wire": {"role": "user", "content": QUESTION}}
        view = ContextView((), incoming=[asked], block=loaded.block.rows(), state=loaded.state, model=MODEL)
        window = yield from choose_of_thread(self.manager.chooser, view, loaded, loaded.rows)
        return window.rows

    def _read(self, after: int) -> Flow[list[MessageRow]]:
        reader = yield from self.manager.port.read(THREAD)
        assert reader is not None
        rows: list[MessageRow] = yield reader.rows(after=after)
        return rows


def _messages(n_messages: int) -> Iterator[Message]:
    rng = Random("latency")
    for number in range(n_messages):
        yield Message(text(rng, TOKENS_A_MESSAGE), "assistant" if number % 2 else "user")


def latencies(n_messages: int = N_MESSAGES, n_rounds: int = 200) -> list[Latency]:
    with tempfile.TemporaryDirectory() as folder, SQLiteStorage(Path(folder) / "long.db") as storage:
        thread = LongThread(storage, n_messages)
        window = thread.chosen()
        size, before = len(window), window[0].get("seq", 0) - 1
        assert thread.read(before) == window, "the floor reads something else than is chosen"
        manager = thread.manager
        assert [message.id for message in manager.context(THREAD)] == [row["id"] for row in window]
        return [
            _pair(thread, "call", thread.chosen, lambda: thread.read(before), n_rounds),
            _pair(
                thread,
                "context",
                lambda: manager.context(THREAD),
                lambda: manager.get_messages(THREAD, limit=size),
                n_rounds,
            ),
        ]


def _pair(
    thread: LongThread,
    what: str,
    choose: Callable[[], Sequence[object]],
    read: Callable[[], Sequence[object]],
    n_rounds: int,
) -> Latency:
    thread.counter.texts.clear()
    size = len(choose())
    counted = tuple(thread.counter.texts)
    found = measured({"choose": _batch(choose), "read": _batch(read)}, n_rounds=n_rounds, n_operations=1)
    beyond, _ = difference_us(found["choose"], found["read"])
    return Latency(what, thread.n_messages, size, found["read"].median, found["choose"].median, beyond, counted)


def _batch(once: Callable[[], object]) -> Batch:
    def batch(n_operations: int) -> None:
        for _ in range(n_operations):
            once()

    return batch


def shown(found: Latency) -> str:
    return (
        f"{found.what}: choosing {found.window} of {found.n_messages:,} messages "
        f"takes {found.chosen_us / 1000:.2f} ms, "
        f"reading them {found.read_us / 1000:.2f} ms, the pair differs by {found.beyond_us / 1000:.2f} ms; "
        f"{len(found.counted)} texts are counted"
    )
