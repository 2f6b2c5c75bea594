"""Another path to embedding providers; they live in `memexllm.memory.embeddings`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memexllm._lazy import lazy_exports

if TYPE_CHECKING:
    from memexllm.memory.embeddings.base import EmbeddingProvider
    from memexllm.memory.embeddings.callables import CallableEmbeddings
    from memexllm.memory.embeddings.hashing import HashingEmbeddings
    from memexllm.memory.embeddings.openai import AsyncOpenAIEmbeddings, OpenAIEmbeddings

__all__ = ["EmbeddingProvider", "OpenAIEmbeddings", "AsyncOpenAIEmbeddings", "CallableEmbeddings", "HashingEmbeddings"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "AsyncOpenAIEmbeddings": "memexllm.memory.embeddings.openai",
        "CallableEmbeddings": "memexllm.memory.embeddings.callables",
        "EmbeddingProvider": "memexllm.memory.embeddings.base",
        "HashingEmbeddings": "memexllm.memory.embeddings.hashing",
        "OpenAIEmbeddings": "memexllm.memory.embeddings.openai",
    },
)
