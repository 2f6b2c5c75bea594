"""Conversations played through a wrapped client under every window, and what of them was on the wire."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from memexllm import FIFOAlgorithm, HistoryManager, MemoryStorage, TokenWindowAlgorithm, with_history
from memexllm.algorithms import BaseAlgorithm, Pipeline, SummaryAlgorithm, TimeWindowAlgorithm, ToolResultTrimming
from memexllm.algorithms.notes import WINDOWS
from memexllm.testing.fakes import FakeClock
from memexllm.testing.server.outcomes import Answer
from tests.openai.talking import assistant, call, raw_messages, system, tool, user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from openai import OpenAI

    from memexllm.core.models import Message
    from memexllm.testing.server import OpenAIServer

Wire = dict[str, Any]

BUDGET = 1200
PNG = "data:image/png;base64,iVBORw0KGgo="
SILENT = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
"""A usage that says nothing, so that nothing is learned from it."""


class WithoutSmallTalk(BaseAlgorithm):
    """A user's algorithm: everything but what says that it does not matter."""

    def get_message_window(self, messages: list[Message]) -> list[Message]:
        return [message for message in messages if not (message.role == "assistant" and "never mind" in message.text)]


def noted_down(messages: list[Message], previous: str | None) -> str:
    """A summariser that keeps a word of every message."""
    words = [message.text.split()[0] if message.text.split() else message.role for message in messages]
    return f"{previous or ''} {' '.join(words)}"[-400:]


WINDOWED: dict[str, Callable[[], BaseAlgorithm]] = {
    "fifo with two marks": lambda: FIFOAlgorithm(12, keep=0.5),
    "tokens": lambda: TokenWindowAlgorithm(BUDGET),
    "tokens by fractions": lambda: TokenWindowAlgorithm(0.01, keep=0.5),
    "tokens auto": lambda: TokenWindowAlgorithm(BUDGET, keep="auto"),
    "tokens to a number": lambda: TokenWindowAlgorithm(BUDGET, keep=500, reserve_tokens=100),
    "summary": lambda: SummaryAlgorithm(noted_down, BUDGET),
    "trim": lambda: ToolResultTrimming(keep_last=2, keep_images=1, longer_than=80),
    "age": lambda: TimeWindowAlgorithm(250, keep=0.5),
    "trim, window": lambda: Pipeline([ToolResultTrimming(2, 1, 80), TokenWindowAlgorithm(BUDGET)]),
    "trim, summary": lambda: Pipeline([ToolResultTrimming(2, 1, 80), SummaryAlgorithm(noted_down, BUDGET)]),
    "age, trim, window": lambda: Pipeline(
        [TimeWindowAlgorithm(900, keep=0.5), ToolResultTrimming(2, 1, 80), TokenWindowAlgorithm(BUDGET)]
    ),
    "a user's, window": lambda: Pipeline([WithoutSmallTalk(), TokenWindowAlgorithm(BUDGET)]),
    "fifo, age": lambda: Pipeline([FIFOAlgorithm(20, keep=0.5), TimeWindowAlgorithm(900, keep=0.5)]),
}
SLIDING: dict[str, Callable[[], BaseAlgorithm]] = {
    "fifo": lambda: FIFOAlgorithm(9),
    "fifo, sliding age": lambda: Pipeline([FIFOAlgorithm(9), TimeWindowAlgorithm(600, keep=1)]),
}
ALL = {**WINDOWED, **SLIDING}


@dataclass(frozen=True)
class Asked:
    """One call: what the caller passes, what the model answers, and how many seconds after the call before."""

    messages: list[Wire]
    answer: Wire
    after_s: float = 5


def chat(seed: int, n_turns: int) -> Iterator[Asked]:
    """Turns of a person with an assistant that looks things up, at times in parallel and with large results."""
    random = Random(seed)
    for turn in range(n_turns):
        said = _question(random, turn)
        yield from _turn(random, f"{seed}.{turn}", said, random.choice((0, 0, 0, 1, 2, 6)), random.choice((5, 60, 400)))


def agent(n_calls: int, result_words: int = 60) -> Iterator[Asked]:
    """One question that takes so many calls, and two after it."""
    random = Random(7)
    task = [system("You are thorough. " * 5), user("The task: count all birds of the city, street by street.")]
    yield from _turn(random, "agent", task, n_calls, 5, result_words)
    for turn in range(2):
        yield from _turn(random, f"after.{turn}", [user(f"And the next city, number {turn}?")], 3, 30)


def _turn(
    random: Random, name: str, said: list[Wire], n_calls: int, after_s: float, result_words: int = 60
) -> Iterator[Asked]:
    for step in range(n_calls):
        ids = [f"c.{name}.{step}.{number}" for number in range(random.choice((1, 1, 1, 3)))]
        calling = assistant(None, tool_calls=[call(each) for each in ids])
        yield Asked(said, calling, after_s)
        words = random.choice((1, 5, result_words))
        said = [tool(each, f"found {each} " + "street " * words) for each in ids]
        random.shuffle(said)
        after_s = random.choice((1, 3, 20))
    ending = random.choice(("", "", "", "never mind"))
    yield Asked(said, assistant(f"answer {name} " + "word " * random.randint(1, 60) + ending), after_s)


def _question(random: Random, turn: int) -> list[Wire]:
    text = f"question {turn} " + "well " * random.randint(1, 40)
    content: Any = text
    if random.random() < 0.2:
        content = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}]
    return [*([system("Be brief and kind. " * 4)] if turn == 0 else []), user(content)]


@dataclass
class Player:
    """A client under a window on one thread, and what of each call was on the wire and in the state."""

    server: OpenAIServer
    original: OpenAI
    algorithm: BaseAlgorithm
    storage: Any = field(default_factory=MemoryStorage)
    usage: Wire | None = field(default_factory=lambda: dict(SILENT))
    streamed: bool = False
    requests: list[list[str]] = field(default_factory=list[list[str]])
    notes: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self.clock = FakeClock()
        self.manager = HistoryManager(self.storage, self.algorithm, clock=self.clock)
        self.client: Any = with_history(self.original, history_manager=self.manager)

    def ask(self, asked: Asked, **params: Any) -> Any:
        self.clock.advance(asked.after_s)
        self.server.plan(Answer(asked.answer, usage=self.usage))
        response = self.client.chat.completions.create(
            **{"model": "gpt-4o", "messages": asked.messages, "thread_id": "t", "stream": self.streamed, **params}
        )
        if self.streamed:
            for _ in response:
                pass
        self.requests.append(raw_messages(self.server))
        self.notes.append(json.dumps(self.state.get(WINDOWS)))
        return response

    @property
    def state(self) -> Wire:
        thread = self.storage.get_thread("t")
        return dict(thread.state) if thread else {}

    def copy(self, **state: Any) -> Player:
        """The same thread in a storage of its own, with `state` changed."""
        thread = self.storage.get_thread("t")
        copied = MemoryStorage()
        kept = {key: value for key, value in {**thread.state, **state}.items() if value is not None}
        copied.save_thread(thread.changed(state=kept))
        other = Player(self.server, self.original, self.algorithm, copied, self.usage)
        other.clock.now = self.clock.now
        return other
