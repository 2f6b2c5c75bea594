"""An answer of the embeddings API, put in the order of its texts, and its refusals."""

from __future__ import annotations

import re
from typing import Any

from memexllm.core.errors import EmbeddingError, TextTooLongError
from memexllm.memory.embeddings.vectors import decoded

# "This model's maximum context length is 8192 tokens, however you requested 51435 tokens"; other servers say "input is
# too long", "exceeds the context length", "must have less than 512 tokens".
_TOO_LONG = re.compile(
    r"maximum (?:context|sequence|input) length|(?:input|prompt|text)\b.{0,30}\btoo (?:long|large)"
    r"|exceeds?.{0,30}\b(?:context|length|tokens)|must have less than \d+ tokens",
    re.IGNORECASE,
)
_REQUEST_TOO_LARGE = "max_tokens_per_request"
_REFUSALS = (400, 413, 422)


def in_order(response: Any, n_texts: int, by: str) -> list[Any]:
    """The embeddings, placed by their `index`. One that is missing, twice there or of no text is `EmbeddingError`.

    Where no embedding has an index they stand in the order given.
    """
    embeddings = list(getattr(response, "data", None) or ())
    if len(embeddings) != n_texts:
        raise EmbeddingError(f"{by} gave {len(embeddings)} embeddings for {n_texts} texts; none is used")
    indexes = [getattr(embedding, "index", None) for embedding in embeddings]
    values = [decoded(getattr(embedding, "embedding", None), by) for embedding in embeddings]
    if all(index is None for index in indexes):
        return values
    if sorted(index for index in indexes if isinstance(index, int)) != list(range(n_texts)):
        raise EmbeddingError(f"{by} gave embeddings with the indexes {_shown(indexes)} for {n_texts} texts")
    placed = dict(zip(indexes, values, strict=True))
    return [placed[position] for position in range(n_texts)]


def tokens_of(response: Any) -> int:
    """The prompt's tokens in the answer's `usage`; 0 where the server says nothing."""
    n_tokens = getattr(getattr(response, "usage", None), "prompt_tokens", None)
    return n_tokens if isinstance(n_tokens, int) else 0


def refused_for_length(error: Any, by: str) -> TextTooLongError | None:
    """The refusal of a text that is too long, as ours; None when it was refused for something else."""
    if getattr(error, "status_code", None) not in _REFUSALS or getattr(error, "code", None) == _REQUEST_TOO_LARGE:
        return None
    if not _TOO_LONG.search(str(getattr(error, "message", ""))):
        return None
    return TextTooLongError(f"{by} refused a text as too long for the model: chunk it first, or take smaller chunks")


def _shown(indexes: list[Any]) -> str:
    few = ", ".join(repr(index)[:20] for index in indexes[:8])
    return f"[{few}{', …' if len(indexes) > 8 else ''}]"
