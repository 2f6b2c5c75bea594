"""What decides which messages a call sends. Another algorithm of ours is one line in `OURS`.

A policy is a function of a workload and a budget in tokens of history; it gives, call by call, the prompt and what its
summariser was asked meanwhile. Peers, which run in processes of their own, are in `peers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from benchmarks.context.caching import Bill, Sent, Summarised, bill_of
from benchmarks.context.rendering import PRIMING, prompt_of, rendered, text_tokens
from benchmarks.context.texts import text
from benchmarks.context.wired import requests
from benchmarks.context.workloads import Wire, Workload, history
from memexllm import (
    BaseAlgorithm,
    FIFOAlgorithm,
    Message,
    Pipeline,
    SummaryAlgorithm,
    TokenWindowAlgorithm,
    ToolResultTrimming,
)
from memexllm.core.exchanges import exchanges, needs_repair
from memexllm.core.wire import MessageRow

Policy = Callable[[Workload, int], Iterator[Sent]]

SUMMARY_TOKENS = 400
INSTRUCTIONS_TOKENS = 400
"""Of a summariser of ours, besides what it summarises."""


@dataclass
class Summarizer:
    """A summariser that answers at once: so many words, other ones each time."""

    asked: list[Summarised] = field(default_factory=list[Summarised])
    rng: Random = field(default_factory=lambda: Random("summary"))

    def __call__(self, messages: Sequence[Message], previous: str | None = None) -> str:
        read = sum(len(rendered(message.wire)) for message in messages) + len(text_tokens(previous or ""))
        self.asked.append(Summarised(INSTRUCTIONS_TOKENS + read, SUMMARY_TOKENS))
        return text(self.rng, SUMMARY_TOKENS)

    def noted(self) -> list[Summarised]:
        """What it was asked since this was last called."""
        asked, self.asked = self.asked, []
        return asked


@dataclass
class Room:
    """A budget of history as our algorithms take it: in tokens of the whole request, or in messages."""

    workload: Workload
    budget: int
    summarizer: Summarizer = field(default_factory=Summarizer)

    @property
    def max_tokens(self) -> int:
        return self.budget + self.fixed

    @property
    def fixed(self) -> int:
        """Tokens of a request that are no history."""
        return self.workload.block_tokens + PRIMING

    def keep(self, fraction: float) -> float:
        """A low mark of so much of the history, in tokens of the whole request."""
        return self.fixed + round(fraction * self.budget)

    @property
    def max_messages(self) -> int:
        """As many messages of mean size."""
        return max(1, round(self.budget * len(self.workload.messages) / self.workload.tokens))

    @property
    def max_groups(self) -> int:
        """As many exchanges of mean size."""
        return max(1, round(self.budget * len(exchanges(rows_of(self.workload.messages))) / self.workload.tokens))


OURS: dict[str, Callable[[Room], BaseAlgorithm]] = {
    "FIFO": lambda room: FIFOAlgorithm(room.max_messages),
    "FIFO, keep=0.5": lambda room: FIFOAlgorithm(room.max_messages, keep=0.5),
    "TokenWindow, keep=1": lambda room: TokenWindowAlgorithm(room.max_tokens, keep=1),
    "TokenWindow, keep=0.9": lambda room: TokenWindowAlgorithm(room.max_tokens, keep=room.keep(0.9)),
    "TokenWindow, keep=0.75": lambda room: TokenWindowAlgorithm(room.max_tokens, keep=room.keep(0.75)),
    "TokenWindow, keep=0.6": lambda room: TokenWindowAlgorithm(room.max_tokens, keep=room.keep(0.6)),
    "TokenWindow, keep=0.5": lambda room: TokenWindowAlgorithm(room.max_tokens, keep=room.keep(0.5)),
    "TokenWindow, keep=0.25": lambda room: TokenWindowAlgorithm(room.max_tokens, keep=room.keep(0.25)),
    "TokenWindow, keep=auto": lambda room: TokenWindowAlgorithm(room.max_tokens, keep="auto"),
    "Summary, keep=0.6": lambda room: summarising(room),
    "tool results, then TokenWindow": lambda room: Pipeline(
        [ToolResultTrimming(), TokenWindowAlgorithm(room.max_tokens, keep=room.keep(0.6))]
    ),
    "tool results, then Summary": lambda room: Pipeline([ToolResultTrimming(), summarising(room)]),
}


def summarising(room: Room) -> SummaryAlgorithm:
    most = SUMMARY_TOKENS + SUMMARY_TOKENS // 4  # the same words may be counted as a few more tokens in a message
    return SummaryAlgorithm(room.summarizer, room.max_tokens, keep=room.keep(0.6), max_summary_tokens=most)


def ours(make: Callable[[Room], BaseAlgorithm]) -> Policy:
    """What a wrapped client puts on the wire with the algorithm."""

    def play(workload: Workload, budget: int) -> Iterator[Sent]:
        room = Room(workload, budget)
        for body in requests(workload, make(room)):
            yield sent(body["messages"], room.summarizer.noted())

    return play


def sent(messages: Sequence[Wire], summaries: Sequence[Summarised] = ()) -> Sent:
    """A call's prompt, its block included."""
    return Sent(prompt_of(messages), summaries, refused=len(messages) < 2 or needs_repair(rows_of(messages)))


def rows_of(messages: Sequence[Wire]) -> list[MessageRow]:
    return [{"id": str(place), "created_at": 0, "wire": message} for place, message in enumerate(messages)]


def everything(workload: Workload, budget: int) -> Iterator[Sent]:
    """The whole thread, whatever the budget."""
    prompt = list(prompt_of([workload.block]))
    for call in workload.calls:
        prompt.extend(prompt_of(call.said))
        yield Sent(tuple(prompt))
        prompt.append(rendered(call.answer))


def sliding(workload: Workload, budget: int) -> Iterator[Sent]:
    """The newest messages that fit, whole exchanges of tools; what the call brought is sent whatever it counts."""
    block = rendered(workload.block)
    front, kept = 0, 0
    counted = 0
    for call, so_far in history(workload):
        kept += sum(len(rendered(message)) for message in so_far[counted:])
        counted = len(so_far)
        while front < counted - len(call.said) and (kept > budget or so_far[front]["role"] == "tool"):
            kept -= len(rendered(so_far[front]))
            front += 1
        yield Sent((block, *prompt_of(_answered(so_far, front))))


def _answered(so_far: list[Wire], front: int) -> list[Wire]:
    """The window, with the call in front of results that stand first because they must be sent."""
    while so_far[front]["role"] == "tool":
        front -= 1
    return so_far[front:]


PLAIN: dict[str, Policy] = {"everything": everything, "sliding window": sliding}


def policies() -> dict[str, Policy]:
    return {**PLAIN, **{name: ours(make) for name, make in OURS.items()}}


def played(policy: Policy, workload: Workload, budget: int) -> Bill:
    return bill_of(policy(workload, budget), frozenset(map(rendered, workload.messages)))


def two_marks(keep: float) -> Policy:
    """Our token window with a low mark at so much of the budget."""
    return ours(lambda room: TokenWindowAlgorithm(room.max_tokens, keep=room.keep(keep)))
