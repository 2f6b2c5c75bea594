"""Our own vector databases keep the laws of the kit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from memexllm.memory import InMemoryVectorDatabase, SQLiteVectorDatabase
from memexllm.testing import VectorDatabaseConformance

if TYPE_CHECKING:
    from pathlib import Path


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
