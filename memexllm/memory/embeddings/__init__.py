"""Texts become vectors: the contract and one provider a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memexllm._lazy import lazy_exports

if TYPE_CHECKING:
    from memexllm.memory.embeddings.base import EmbeddingProvider
    from memexllm.memory.embeddings.callables import CallableEmbeddings
    from memexllm.memory.embeddings.hashing import HashingEmbeddings
    from memexllm.memory.embeddings.openai import AsyncOpenAIEmbeddings, OpenAIEmbeddings
    from memexllm.memory.embeddings.usage import EmbeddingUsage

__all__ = [
    "EmbeddingProvider",
    "OpenAIEmbeddings",
    "AsyncOpenAIEmbeddings",
    "CallableEmbeddings",
    "HashingEmbeddings",
    "EmbeddingUsage",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "AsyncOpenAIEmbeddings": "memexllm.memory.embeddings.openai",
        "CallableEmbeddings": "memexllm.memory.embeddings.callables",
        "EmbeddingProvider": "memexllm.memory.embeddings.base",
        "EmbeddingUsage": "memexllm.memory.embeddings.usage",
        "HashingEmbeddings": "memexllm.memory.embeddings.hashing",
        "OpenAIEmbeddings": "memexllm.memory.embeddings.openai",
    },
)
