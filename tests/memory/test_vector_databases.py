"""Our own vector databases keep the laws of the kit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from memexllm.memory import (
    AsyncRedisVectorDatabase,
    InMemoryVectorDatabase,
    RedisVectorDatabase,
    SQLiteVectorDatabase,
)
from memexllm.testing import VectorDatabaseConformance

if TYPE_CHECKING:
    from pathlib import Path

    from tests.memory.redis8 import Redis8


class TestInMemory(VectorDatabaseConformance):
    @pytest.fixture
    def database(self, embeddings: Any) -> InMemoryVectorDatabase:
        return InMemoryVectorDatabase(embeddings)


class TestSQLite(VectorDatabaseConformance):
    @pytest.fixture
    def database(self, embeddings: Any, tmp_path: Path) -> SQLiteVectorDatabase:
        return SQLiteVectorDatabase(tmp_path / "memory.db", embeddings)


class TestSQLiteInMemory(VectorDatabaseConformance):
    @pytest.fixture
    def database(self, embeddings: Any) -> SQLiteVectorDatabase:
        return SQLiteVectorDatabase(":memory:", embeddings)


class TestSQLiteWithoutRoomForVectors(VectorDatabaseConformance):
    """Vectors are read through for each search."""

    @pytest.fixture
    def database(self, embeddings: Any, tmp_path: Path) -> SQLiteVectorDatabase:
        return SQLiteVectorDatabase(tmp_path / "memory.db", embeddings, cache_bytes=0)


class TestRedis(VectorDatabaseConformance):
    @pytest.fixture
    def database(self, embeddings: Any, redis8: Redis8, prefix: str) -> RedisVectorDatabase:
        return RedisVectorDatabase(embeddings=embeddings, prefix=prefix, **redis8.place())


class TestAsyncRedis(VectorDatabaseConformance):
    @pytest.fixture
    def database(self, embeddings: Any, redis8: Redis8, prefix: str) -> AsyncRedisVectorDatabase:
        return AsyncRedisVectorDatabase(embeddings=embeddings, prefix=prefix, **redis8.place(asynchronous=True))
