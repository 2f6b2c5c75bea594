"""Another path to the factories of vector databases; they live in `memexllm.memory`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memexllm._lazy import lazy_exports

if TYPE_CHECKING:
    from memexllm.memory.factory import create_memory_vector_db
    from memexllm.memory.redis_settings import create_redis_memory_vector_db

__all__ = ["create_memory_vector_db", "create_redis_memory_vector_db"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "create_memory_vector_db": "memexllm.memory.factory",
        "create_redis_memory_vector_db": "memexllm.memory.redis_settings",
    },
)
