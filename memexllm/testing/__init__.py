"""For people who write storages, algorithms and bots: conformance kits, fakes, and a local OpenAI-compatible server."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from memexllm._lazy import lazy_exports

if TYPE_CHECKING:
    from memexllm.testing.algorithm import AlgorithmConformance
    from memexllm.testing.chunking import ChunkingConformance
    from memexllm.testing.embeddings import EmbeddingProviderConformance
    from memexllm.testing.fakes import FakeClock, FakeIds
    from memexllm.testing.server import OpenAIServer
    from memexllm.testing.storage import StorageConformance
    from memexllm.testing.stores import (
        DocumentStoreConformance,
        FactStoreConformance,
        GraphStoreConformance,
        HistoryStoreConformance,
    )
    from memexllm.testing.vector_database import VectorDatabaseConformance

__all__ = [
    "StorageConformance",
    "AlgorithmConformance",
    "VectorDatabaseConformance",
    "FactStoreConformance",
    "HistoryStoreConformance",
    "DocumentStoreConformance",
    "GraphStoreConformance",
    "EmbeddingProviderConformance",
    "ChunkingConformance",
    "OpenAIServer",
    "FakeClock",
    "FakeIds",
]

if "pytest" in sys.modules:
    # The kits' asserts then show what they compared, as those of a user's own tests do.
    sys.modules["pytest"].register_assert_rewrite(
        *(f"{__name__}.{name}" for name in ("algorithm", "storage", "_driven", "_laws_apart", "_laws_appending")),
        *(f"{__name__}.{name}" for name in ("_laws_keeping", "_laws_listing", "_laws_reading")),
        *(f"{__name__}.{name}" for name in ("vector_database", "_memory_laws", "_memory_laws_apart")),
        *(f"{__name__}.{name}" for name in ("stores", "_store_laws_facts", "_store_laws_history")),
        *(f"{__name__}.{name}" for name in ("_store_laws_documents", "_store_laws_graph")),
        *(f"{__name__}.{name}" for name in ("_laws_searching", "_laws_together", "_kit", "chunking", "embeddings")),
    )

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "AlgorithmConformance": "memexllm.testing.algorithm",
        "ChunkingConformance": "memexllm.testing.chunking",
        "DocumentStoreConformance": "memexllm.testing.stores",
        "EmbeddingProviderConformance": "memexllm.testing.embeddings",
        "FactStoreConformance": "memexllm.testing.stores",
        "FakeClock": "memexllm.testing.fakes",
        "FakeIds": "memexllm.testing.fakes",
        "GraphStoreConformance": "memexllm.testing.stores",
        "HistoryStoreConformance": "memexllm.testing.stores",
        "OpenAIServer": "memexllm.testing.server",
        "StorageConformance": "memexllm.testing.storage",
        "VectorDatabaseConformance": "memexllm.testing.vector_database",
    },
)
