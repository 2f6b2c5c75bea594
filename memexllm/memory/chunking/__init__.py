"""Long texts become pieces to remember: the contract and one chunker a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memexllm._lazy import lazy_exports

if TYPE_CHECKING:
    from memexllm.memory.chunking.base import Chunk, ChunkingStrategy, Span, SpanChunker, chunks_of
    from memexllm.memory.chunking.code import CodeChunker
    from memexllm.memory.chunking.fixed import FixedSizeChunker
    from memexllm.memory.chunking.markdown import MarkdownChunker
    from memexllm.memory.chunking.named import chunker_for, named_chunker
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
    "named_chunker",
    "chunker_for",
    "SpanChunker",
    "Span",
    "Chunk",
    "chunks_of",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Chunk": "memexllm.memory.chunking.base",
        "ChunkingStrategy": "memexllm.memory.chunking.base",
        "CodeChunker": "memexllm.memory.chunking.code",
        "FixedSizeChunker": "memexllm.memory.chunking.fixed",
        "MarkdownChunker": "memexllm.memory.chunking.markdown",
        "SemanticChunker": "memexllm.memory.chunking.semantic",
        "SentenceChunker": "memexllm.memory.chunking.sentence",
        "Span": "memexllm.memory.chunking.base",
        "SpanChunker": "memexllm.memory.chunking.base",
        "TokenChunker": "memexllm.memory.chunking.token",
        "chunker_for": "memexllm.memory.chunking.named",
        "chunks_of": "memexllm.memory.chunking.base",
        "named_chunker": "memexllm.memory.chunking.named",
    },
)
