"""Another path to the vector database's contract; it lives in `memexllm.memory`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memexllm._lazy import lazy_exports

if TYPE_CHECKING:
    from memexllm.memory.vector_database import MemoryVectorDatabase

__all__ = ["MemoryVectorDatabase"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "MemoryVectorDatabase": "memexllm.memory.vector_database",
    },
)
