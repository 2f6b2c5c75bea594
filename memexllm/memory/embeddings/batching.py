"""How texts are divided among requests: none too long, no request too large."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from memexllm.core.errors import TextTooLongError, ValidationError
from memexllm.core.tokens import TextCounter, TokenCounter

MAX_TEXTS = 2048
MAX_TOKENS = 300_000
"""Both of one request. https://platform.openai.com/docs/api-reference/embeddings/create#embeddings-create-input"""

# https://platform.openai.com/docs/guides/embeddings: 8,192 tokens each, in the vocabulary cl100k_base.
_OPENAI_MODEL = re.compile(r"text-embedding-(3-small|3-large|ada-002)")
_OPENAI_TEXT_TOKENS = 8192
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may hold. Without `count` a token is taken for a byte.

    `byte_level`: no text has more tokens than bytes, so that short texts need no counting.
    """

    texts: int = MAX_TEXTS
    tokens: int = MAX_TOKENS
    tokens_of_a_text: int | None = None
    count: TextCounter | None = None
    byte_level: bool = True


def known_limits(model: str) -> Limits:
    """Those of OpenAI's models; of another model only the size of a request is known."""
    if not _OPENAI_MODEL.fullmatch(model):
        return Limits()
    return Limits(tokens_of_a_text=_OPENAI_TEXT_TOKENS, count=TokenCounter(model).count_text)


def batches(texts: Sequence[str], limits: Limits) -> list[range]:
    """The positions of each request's texts, in order.

    All texts are judged before the first request: one that no model embeds is a `ValidationError`, one that is too long
    a `TextTooLongError`.
    """
    sizes = [_n_bytes(text, position) for position, text in enumerate(texts)]
    if limits.count is not None and not (limits.byte_level and _fit_by_bytes(sizes, limits)):
        sizes = [limits.count(text) for text in texts]
        _refuse_too_long(sizes, limits.tokens_of_a_text)
    return list(_packed(sizes, limits))


def _fit_by_bytes(sizes: Sequence[int], limits: Limits) -> bool:
    return sum(sizes) <= limits.tokens and max(sizes, default=0) <= (limits.tokens_of_a_text or limits.tokens)


def _refuse_too_long(sizes: Sequence[int], limit: int | None) -> None:
    for position, n_tokens in enumerate(sizes):
        if limit is not None and n_tokens > limit:
            raise TextTooLongError(
                f"text {position} has {n_tokens} tokens; the model takes {limit}: chunk it first",
                position=position,
                tokens=n_tokens,
                limit=limit,
            )


def _packed(sizes: Sequence[int], limits: Limits) -> Iterator[range]:
    start = filled = 0
    for position, size in enumerate(sizes):
        if position > start and (position - start == limits.texts or filled + size > limits.tokens):
            yield range(start, position)
            start, filled = position, 0
        filled += size
    if sizes:
        yield range(start, len(sizes))


def checked_list(texts: Any) -> list[str]:
    """A text in place of a list would be embedded letter by letter."""
    if isinstance(texts, str):
        raise ValidationError("embed_batch takes a list of texts; for one text call embed()")
    return list(texts)


def _n_bytes(text: Any, position: int) -> int:
    if not isinstance(text, str):
        raise ValidationError(f"text {position} is no text: {type(text).__name__}")
    if not text:
        raise ValidationError(f"text {position} is empty; an embedding model refuses it: leave it out")
    if text.isascii():
        return len(text)
    if _LONE_SURROGATE.search(text):
        raise ValidationError(f"text {position} holds a lone surrogate, which cannot be sent; replace it")
    return len(text.encode())
