"""Where threads live: the contract and the backends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memexllm._lazy import lazy_exports

if TYPE_CHECKING:
    from memexllm.memory.vector_database import StorageBackend
    from memexllm.storage.base import AsyncBaseStorage, BaseStorage
    from memexllm.storage.memory import MemoryStorage
    from memexllm.storage.opening import storage_from_url
    from memexllm.storage.redis import AsyncRedisStorage, RedisStorage
    from memexllm.storage.sql import AsyncSQLStorage, SQLStorage
    from memexllm.storage.sqlite import (
        DatabaseConnectionError,
        DatabaseIntegrityError,
        DatabaseOperationError,
        SQLiteStorage,
        SQLiteStorageError,
    )

__all__ = [
    "BaseStorage",
    "AsyncBaseStorage",
    "MemoryStorage",
    "SQLiteStorage",
    "SQLStorage",
    "AsyncSQLStorage",
    "RedisStorage",
    "AsyncRedisStorage",
    "storage_from_url",
    "SQLiteStorageError",
    "DatabaseConnectionError",
    "DatabaseOperationError",
    "DatabaseIntegrityError",
    "StorageBackend",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "AsyncBaseStorage": "memexllm.storage.base",
        "BaseStorage": "memexllm.storage.base",
        "MemoryStorage": "memexllm.storage.memory",
        "SQLiteStorage": "memexllm.storage.sqlite",
        # Of long-term memory, one floor up: three methods make a memory, as four make a storage.
        "StorageBackend": "memexllm.memory.vector_database",
        "AsyncSQLStorage": "memexllm.storage.sql",
        "SQLStorage": "memexllm.storage.sql",
        "RedisStorage": "memexllm.storage.redis",
        "AsyncRedisStorage": "memexllm.storage.redis",
        "storage_from_url": "memexllm.storage.opening",
        # 0.1 names of errors.
        "SQLiteStorageError": "memexllm.storage.sqlite",
        "DatabaseConnectionError": "memexllm.storage.sqlite",
        "DatabaseOperationError": "memexllm.storage.sqlite",
        "DatabaseIntegrityError": "memexllm.storage.sqlite",
    },
)
