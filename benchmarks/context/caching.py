"""The prefix cache of a provider, and what calls cost under it.

A prompt's longest beginning that an earlier prompt of the thread had too is cached if it has 1,024 tokens, in steps of
128 (https://platform.openai.com/docs/guides/prompt-caching). No entry expires and writing one costs nothing; answers
are not counted. A price is in tokens at full price, of a mean call.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import NamedTuple

from benchmarks.context.rendering import PRIMING, Prompt, Tokens

SMALLEST = 1024
STEP = 128
DISCOUNTS = (0.5, 0.75, 0.9)
OUTPUT_PRICE = {0.5: 4, 0.75: 4, 0.9: 8}
"""Of a summariser's token, by the discount its provider gives: input tokens at full price."""


class PromptCache:
    """Remembers the prompts of one thread."""

    def __init__(self) -> None:
        # Sorted, so that of all earlier prompts one of the two neighbours shares the longest beginning.
        self._seen: list[Prompt] = []

    def add(self, prompt: Prompt) -> int:
        """How many of its tokens are cached; from now on it is."""
        place = bisect_left(self._seen, prompt)
        shared = 0
        for neighbour in self._seen[max(place - 1, 0) : place + 1]:
            shared = max(shared, shared_tokens(prompt, neighbour))
        if place and self._seen[place - 1] == prompt[: len(self._seen[place - 1])]:
            self._seen[place - 1] = prompt  # it begins with all that prompt had
        else:
            self._seen.insert(place, prompt)
        return cacheable(shared)


def cacheable(n_tokens: int) -> int:
    """Of a repeated beginning so long."""
    return 0 if n_tokens < SMALLEST else n_tokens - n_tokens % STEP


def shared_tokens(one: Prompt, other: Prompt) -> int:
    """The length of their common beginning, to the token."""
    shared = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine is not theirs and mine != theirs:
            return shared + _common(mine, theirs)
        shared += len(mine)
    return shared


def _common(one: Tokens, other: Tokens) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


@dataclass(frozen=True, slots=True)
class Summarised:
    """A call of the summariser: it reads nothing from the cache."""

    prompt_tokens: int
    answer_tokens: int


class Sent(NamedTuple):
    """A call's prompt, its block first, and what its summariser was asked meanwhile."""

    prompt: Prompt
    summaries: Sequence[Summarised] = ()
    refused: bool = False
    """Whether the API refuses it: nothing but the block, results without their call, or calls without results."""


@dataclass
class Bill:
    """Of each call: prompt tokens, how many were cached, and how many are messages of the thread as they were said."""

    sent: list[int] = field(default_factory=list[int])
    cached: list[int] = field(default_factory=list[int])
    kept: list[int] = field(default_factory=list[int])
    fronts: list[Tokens] = field(default_factory=list[Tokens])
    """The first message after the block."""
    summaries: list[Summarised] = field(default_factory=list[Summarised])
    n_refused: int = 0

    def price(self, discount: float) -> float:
        """The mean call's, the summariser's share included."""
        prompts = sum(self.sent) - discount * sum(self.cached)
        summaries = sum(each.prompt_tokens + OUTPUT_PRICE[discount] * each.answer_tokens for each in self.summaries)
        return (prompts + summaries) / len(self.sent)

    def worth(self, discount: float, budget: int) -> float:
        """The price, and twice the cached price of every token of the budget that is not kept: less is better."""
        return self.price(discount) + 2 * (1 - discount) * (budget - self.mean_kept)

    @property
    def mean_kept(self) -> float:
        return mean(self.kept)

    @property
    def cached_share(self) -> float:
        return sum(self.cached) / sum(self.sent)

    @property
    def moves(self) -> int:
        """Calls that began with another message than the call before."""
        return sum(now != before for before, now in zip(self.fronts, self.fronts[1:], strict=False))


def bill_of(calls: Iterable[Sent], said: frozenset[Tokens]) -> Bill:
    """`said` are the messages of the thread, which count as kept."""
    bill, cache = Bill(), PromptCache()
    for prompt, summaries, refused in calls:
        bill.sent.append(PRIMING + sum(map(len, prompt)))
        bill.cached.append(cache.add(prompt))
        bill.kept.append(sum(len(message) for message in prompt[1:] if message in said))
        bill.fronts.append(prompt[1] if len(prompt) > 1 else ())
        bill.summaries.extend(summaries)
        bill.n_refused += refused
    return bill
