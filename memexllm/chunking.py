"""Another path to chunking strategies; they live in `memexllm.memory.chunking`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memexllm._lazy import lazy_exports

if TYPE_CHECKING:
    from memexllm.memory.chunking.base import ChunkingStrategy
    from memexllm.memory.chunking.code import CodeChunker
    from memexllm.memory.chunking.fixed import FixedSizeChunker
    from memexllm.memory.chunking.markdown import MarkdownChunker
    from memexllm.memory.chunking.semantic import SemanticChunker
    from memexllm.memory.chunking.sentence import SentenceChunker
    from memexllm.memory.chunking.token import TokenChunker

__all__ = [
    "ChunkingStrategy",
    "FixedSizeChunker",
    "SentenceChunker",
    "MarkdownChunker",
    "CodeChunker",
    "TokenChunker",
    "SemanticChunker",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "ChunkingStrategy": "memexllm.memory.chunking.base",
        "CodeChunker": "memexllm.memory.chunking.code",
        "FixedSizeChunker": "memexllm.memory.chunking.fixed",
        "MarkdownChunker": "memexllm.memory.chunking.markdown",
        "SemanticChunker": "memexllm.memory.chunking.semantic",
        "SentenceChunker": "memexllm.memory.chunking.sentence",
        "TokenChunker": "memexllm.memory.chunking.token",
    },
)
