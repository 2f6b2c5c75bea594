"""Long-term memory: what is worth keeping beyond one thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memexllm._lazy import lazy_exports

if TYPE_CHECKING:
    from memexllm.core.plugins import Plugin
    from memexllm.memory.backends import StorageBackendDatabase
    from memexllm.memory.base_database import EmbeddingVectorDatabase
    from memexllm.memory.chunking.base import ChunkingStrategy
    from memexllm.memory.embeddings.base import EmbeddingProvider
    from memexllm.memory.extraction import AsyncFactExtraction, ExtractionCounts, FactExtraction
    from memexllm.memory.factory import create_memory_vector_db
    from memexllm.memory.in_memory import InMemoryVectorDatabase
    from memexllm.memory.ingesting import IngestResult
    from memexllm.memory.manager import AsyncMemoryManager, Memio, MemoryManager, OpenMemory
    from memexllm.memory.postgres import PostgresVectorDatabase
    from memexllm.memory.recall import AsyncMessageRecall, MessageRecall
    from memexllm.memory.records import Document, Fact, Memory, MemoryRecord, MemoryRecordResult, MemoryRecordResults
    from memexllm.memory.redis import AsyncRedisVectorDatabase, RedisVectorDatabase
    from memexllm.memory.redis_settings import create_redis_memory_vector_db
    from memexllm.memory.sqlite import SQLiteVectorDatabase
    from memexllm.memory.stores.protocols import DocumentStore, FactStore, GraphStore, HistoryStore
    from memexllm.memory.stores.triples import GraphResult, Triple
    from memexllm.memory.vector_database import MemoryVectorDatabase, StorageBackend

__all__ = [
    "MemoryManager",
    "AsyncMemoryManager",
    "MemoryRecord",
    "MemoryRecordResult",
    "MemoryRecordResults",
    "IngestResult",
    "MemoryVectorDatabase",
    "EmbeddingVectorDatabase",
    "SQLiteVectorDatabase",
    "PostgresVectorDatabase",
    "InMemoryVectorDatabase",
    "RedisVectorDatabase",
    "AsyncRedisVectorDatabase",
    "StorageBackend",
    "StorageBackendDatabase",
    "EmbeddingProvider",
    "ChunkingStrategy",
    "FactStore",
    "HistoryStore",
    "DocumentStore",
    "GraphStore",
    "Triple",
    "GraphResult",
    "Plugin",
    "create_memory_vector_db",
    "create_redis_memory_vector_db",
    "MessageRecall",
    "AsyncMessageRecall",
    "FactExtraction",
    "AsyncFactExtraction",
    "ExtractionCounts",
    "Memory",
    "Fact",
    "Document",
    "OpenMemory",
    "Memio",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "AsyncFactExtraction": "memexllm.memory.extraction",
        "AsyncMemoryManager": "memexllm.memory.manager",
        "AsyncMessageRecall": "memexllm.memory.recall",
        "AsyncRedisVectorDatabase": "memexllm.memory.redis",
        "ChunkingStrategy": "memexllm.memory.chunking.base",
        "Document": "memexllm.memory.records",
        "DocumentStore": "memexllm.memory.stores.protocols",
        "EmbeddingProvider": "memexllm.memory.embeddings.base",
        "EmbeddingVectorDatabase": "memexllm.memory.base_database",
        "ExtractionCounts": "memexllm.memory.extraction",
        "Fact": "memexllm.memory.records",
        "FactExtraction": "memexllm.memory.extraction",
        "FactStore": "memexllm.memory.stores.protocols",
        "GraphResult": "memexllm.memory.stores.triples",
        "GraphStore": "memexllm.memory.stores.protocols",
        "HistoryStore": "memexllm.memory.stores.protocols",
        "InMemoryVectorDatabase": "memexllm.memory.in_memory",
        "IngestResult": "memexllm.memory.ingesting",
        "Memio": "memexllm.memory.manager",
        "Memory": "memexllm.memory.records",
        "MemoryManager": "memexllm.memory.manager",
        "MemoryRecord": "memexllm.memory.records",
        "MemoryRecordResult": "memexllm.memory.records",
        "MemoryRecordResults": "memexllm.memory.records",
        "MemoryVectorDatabase": "memexllm.memory.vector_database",
        "MessageRecall": "memexllm.memory.recall",
        "OpenMemory": "memexllm.memory.manager",
        "Plugin": "memexllm.core.plugins",
        "PostgresVectorDatabase": "memexllm.memory.postgres",
        "RedisVectorDatabase": "memexllm.memory.redis",
        "SQLiteVectorDatabase": "memexllm.memory.sqlite",
        "StorageBackend": "memexllm.memory.vector_database",
        "StorageBackendDatabase": "memexllm.memory.backends",
        "Triple": "memexllm.memory.stores.triples",
        "create_memory_vector_db": "memexllm.memory.factory",
        "create_redis_memory_vector_db": "memexllm.memory.redis_settings",
    },
)
