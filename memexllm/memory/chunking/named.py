"""Chunkers by name, for configurations and for files of a kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from memexllm.core.errors import ConfigurationError
from memexllm.memory.chunking.base import ChunkingStrategy
from memexllm.memory.chunking.code import CodeChunker
from memexllm.memory.chunking.fixed import FixedSizeChunker
from memexllm.memory.chunking.markdown import MarkdownChunker
from memexllm.memory.chunking.semantic import SemanticChunker
from memexllm.memory.chunking.sentence import SentenceChunker
from memexllm.memory.chunking.token import TokenChunker

CHUNKERS: dict[str, Callable[..., ChunkingStrategy]] = {
    "fixed": FixedSizeChunker,
    "sentence": SentenceChunker,
    "markdown": MarkdownChunker,
    "code": CodeChunker,
    "token": TokenChunker,
    "semantic": SemanticChunker,
}


def chunker_for(kind: str, language: str | None = None) -> ChunkingStrategy:
    """What suits a kind of file (`SourceDocument.kind`): its headings, its functions, or its sentences."""
    if kind in ("markdown", "html"):
        return MarkdownChunker()
    return CodeChunker(language=language) if kind == "code" else SentenceChunker()


def named_chunker(name: str, **options: Any) -> ChunkingStrategy:
    """`"fixed"`, `"sentence"`, `"markdown"`, `"code"`, `"token"`, or `"semantic"`, which needs a `provider=`.

    An unknown name is a `ConfigurationError` that lists these.
    """
    made = CHUNKERS.get(name)
    if made is None:
        raise ConfigurationError(f"no chunker is named {name!r:.40}; there are {', '.join(CHUNKERS)}")
    try:
        return made(**options)
    except TypeError as error:
        raise ConfigurationError(f"chunker {name!r}: {error}") from None
