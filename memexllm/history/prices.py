"""What a request costs: the prices are the user's, the rule of what a provider caches is OpenAI's.

A prompt's beginning is cached from 1,024 tokens on, in steps of 128
(https://platform.openai.com/docs/guides/prompt-caching).
"""

from __future__ import annotations

from dataclasses import dataclass

CACHED_FROM = 1024
CACHED_IN_STEPS_OF = 128
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Prices:
    """Of a million tokens each, in whatever currency they are given; `cached_input` is the discounted one."""

    input: float
    cached_input: float
    output: float = 0.0

    def of(self, input_tokens: int, cached: int, output_tokens: int = 0) -> float:
        """The price of a request of `input_tokens`, `cached` of them at the beginning read from the cache."""
        full = (input_tokens - cached) * self.input
        return (full + cached * self.cached_input + output_tokens * self.output) / _MILLION


def cached_tokens(same_beginning: int) -> int:
    """How many tokens of a prompt are read from the cache when so many at its beginning were sent before."""
    if same_beginning < CACHED_FROM:
        return 0
    return same_beginning - same_beginning % CACHED_IN_STEPS_OF
