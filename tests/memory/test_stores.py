"""Our own stores keep the laws of the kits, over each kind of database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from memexllm import AsyncHistoryManager, AsyncMemoryManager, MemoryManager, MemoryStorage, SQLiteStorage
from memexllm.memory import InMemoryVectorDatabase, SQLiteVectorDatabase
from memexllm.memory.stores import (
    ThreadHistoryStore,
    VectorDocumentStore,
    VectorFactStore,
    VectorGraphStore,
)
from memexllm.testing import (
    DocumentStoreConformance,
    FactStoreConformance,
    GraphStoreConformance,
    HistoryStoreConformance,
)
from memexllm.testing._memory_driven import KitEmbeddings
from tests.memory.speaking import ListDatabase

if TYPE_CHECKING:
    from pathlib import Path


class TestFacts(FactStoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> VectorFactStore:
        return VectorFactStore(SQLiteVectorDatabase(tmp_path / "memory.db", KitEmbeddings()))


class TestFactsOfAManager(FactStoreConformance):
    @pytest.fixture
    def store(self) -> Any:
        return AsyncMemoryManager("memory:", embeddings=KitEmbeddings()).facts


class TestDocuments(DocumentStoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> VectorDocumentStore:
        return VectorDocumentStore(tmp_path / "memory.db", embeddings=KitEmbeddings())


class TestDocumentsInWords(DocumentStoreConformance):
    @pytest.fixture
    def store(self) -> VectorDocumentStore:
        return VectorDocumentStore(InMemoryVectorDatabase(KitEmbeddings()), chunk_strategy="token")


class TestDocumentsOverTheDatabaseOfSomebodyElse(DocumentStoreConformance):
    @pytest.fixture
    def store(self) -> VectorDocumentStore:
        return VectorDocumentStore(ListDatabase())


class TestGraph(GraphStoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> VectorGraphStore:
        return VectorGraphStore(tmp_path / "memory.db", embeddings=KitEmbeddings())


class TestGraphOfAManager(GraphStoreConformance):
    @pytest.fixture
    def store(self) -> Any:
        return AsyncMemoryManager("memory:", embeddings=KitEmbeddings()).graph


class TestHistory(HistoryStoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> ThreadHistoryStore:
        return ThreadHistoryStore(SQLiteStorage(tmp_path / "chat.db"))


class TestHistoryOfAPath(HistoryStoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> ThreadHistoryStore:
        return ThreadHistoryStore(tmp_path / "chat.db")


class TestHistoryOfAManager(HistoryStoreConformance):
    @pytest.fixture
    def store(self) -> Any:
        return AsyncMemoryManager(history=AsyncHistoryManager(MemoryStorage())).history


WITHOUT_WAITING = {"test_law01_it_has_the_methods_of_the_protocol": "its methods are called by a synchronous manager"}


class TestFactsWithoutWaiting(FactStoreConformance):
    deviations: ClassVar = {**WITHOUT_WAITING, "test_law08_facts_added_at_once_are_all_there": "one after the other"}

    @pytest.fixture
    def store(self) -> Any:
        return MemoryManager("memory:", embeddings=KitEmbeddings()).facts


class TestDocumentsWithoutWaiting(DocumentStoreConformance):
    deviations = WITHOUT_WAITING

    @pytest.fixture
    def store(self) -> Any:
        return MemoryManager("memory:", embeddings=KitEmbeddings()).documents


class TestGraphWithoutWaiting(GraphStoreConformance):
    deviations = WITHOUT_WAITING

    @pytest.fixture
    def store(self) -> Any:
        return MemoryManager("memory:", embeddings=KitEmbeddings()).graph


class TestHistoryWithoutWaiting(HistoryStoreConformance):
    deviations = WITHOUT_WAITING

    @pytest.fixture
    def store(self, tmp_path: Path) -> Any:
        return MemoryManager("memory:", history=tmp_path / "chat.db").history
