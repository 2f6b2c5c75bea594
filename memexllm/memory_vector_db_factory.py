"""Another path to the factory of vector databases; it lives in `memexllm.memory`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memexllm._lazy import lazy_exports

if TYPE_CHECKING:
    from memexllm.memory.factory import create_memory_vector_db

__all__ = ["create_memory_vector_db"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "create_memory_vector_db": "memexllm.memory.factory",
    },
)
