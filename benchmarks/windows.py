"""What a window costs when the provider caches prompts: `python -m benchmarks.windows`.

One long chat is played through a wrapped client against the local server, once for each window. The server counts with
the model's own vocabulary and keeps account of a prompt cache as OpenAI describes it: a prefix it has seen before is
cached, from 1,024 tokens on, in steps of 128. All figures are computed from the `usage` of its answers, so they are the
same on every machine; texts are made from a seed. A call's price is its prompt tokens, cached ones at the discount.
"""

from __future__ import annotations

import argparse
import random
import string
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import mean
from typing import Any

from openai import OpenAI

from memexllm import BaseAlgorithm, FIFOAlgorithm, MemoryStorage, TokenWindowAlgorithm, with_history
from memexllm.core.vocabularies import encoding
from memexllm.testing import OpenAIServer
from memexllm.testing.server import ChatRequest

SEED = 20250101
INSTRUCTIONS_WORDS = 150
QUESTION_WORDS = (5, 60)
ANSWER_WORDS = (40, 200)
DISCOUNTS = (0.5, 0.75, 0.9)


@dataclass
class Bill:
    """Prompt tokens of each call, and how many of them were cached."""

    prompt: list[int] = field(default_factory=list[int])
    cached: list[int] = field(default_factory=list[int])
    fronts: list[Any] = field(default_factory=list[Any])
    """The first message after the instructions, of each call."""

    def price(self, discount: float) -> float:
        """A call's, in tokens that were not cached: the mean over the calls."""
        return mean(n - discount * cached for n, cached in zip(self.prompt, self.cached, strict=True))

    @property
    def moves(self) -> int:
        """Calls whose window began with another message than that of the call before."""
        return sum(now != before for before, now in pairwise(self.fronts))


def sentences(rng: random.Random, n_words: int) -> str:
    """Text of invented words, about as many tokens as the same number of real but rare ones."""
    words = ("".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 7))) for _ in range(n_words))
    return " ".join(words)


def chat(n_calls: int) -> Iterator[tuple[str, str]]:
    """Question and answer of each call."""
    rng = random.Random(SEED)
    for _ in range(n_calls):
        yield sentences(rng, rng.randint(*QUESTION_WORDS)), sentences(rng, rng.randint(*ANSWER_WORDS))


def bill_of(algorithm: BaseAlgorithm | None, n_calls: int) -> Bill:
    instructions = sentences(random.Random(SEED + 1), INSTRUCTIONS_WORDS)
    bill = Bill()
    answers = [answer for _, answer in chat(n_calls)]

    def reply(request: ChatRequest) -> str:
        bill.fronts.append(request.messages[1])
        return answers[len(bill.fronts) - 1]

    with (
        OpenAIServer(reply, encode=encoding("o200k_base").encode_ordinary, record=False) as server,
        OpenAI(base_url=server.base_url, api_key="local") as api,
    ):
        client = with_history(api, storage=MemoryStorage(), algorithm=algorithm)
        client.history.create_thread(thread_id="chat")
        client.history.add_message("chat", instructions, "system")
        for question, _ in chat(n_calls):
            response = client.chat.completions.create(
                model="gpt-4o", messages=[{"role": "user", "content": question}], thread_id="chat"
            )
            usage = response.usage
            assert usage is not None
            assert usage.prompt_tokens_details is not None
            bill.prompt.append(usage.prompt_tokens)
            bill.cached.append(usage.prompt_tokens_details.cached_tokens or 0)
    return bill


def contestants(max_tokens: int) -> dict[str, BaseAlgorithm | None]:
    marks = (1.0, 0.9, 0.6, 0.4)
    return {
        "none given: 80 % of 128,000": None,
        **{f"TokenWindow, keep={keep}": TokenWindowAlgorithm(max_tokens, keep=keep) for keep in marks},
        "FIFO, 40 messages": FIFOAlgorithm(max_messages=40),
        "FIFO, 40 messages, keep=0.5": FIFOAlgorithm(max_messages=40, keep=0.5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="What a window costs when the provider caches prompts.")
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--max-tokens", type=int, default=8000)
    options = parser.parse_args()
    heads = ["window", "tokens sent", "cached", "moves", *(f"price at {discount:.0%} off" for discount in DISCOUNTS)]
    print(f"{options.calls} calls, max_tokens={options.max_tokens}; tokens and prices are means over the calls")
    print(f"{heads[0]:<30}" + "".join(f"{head:>18}" for head in heads[1:]))
    for name, algorithm in contestants(options.max_tokens).items():
        bill = bill_of(algorithm, options.calls)
        share = sum(bill.cached) / sum(bill.prompt)
        cells = [f"{mean(bill.prompt):.0f}", f"{share:.0%}", str(bill.moves)]
        cells += [f"{bill.price(discount):.0f}" for discount in DISCOUNTS]
        print(f"{name:<30}" + "".join(f"{cell:>18}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
