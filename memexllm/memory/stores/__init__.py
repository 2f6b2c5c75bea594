"""Stores of facts, conversations, documents and triples: four contracts, and one of ours for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memexllm._lazy import lazy_exports

if TYPE_CHECKING:
    from memexllm.memory.stores.checking import check_store
    from memexllm.memory.stores.documents import SyncVectorDocumentStore, VectorDocumentStore
    from memexllm.memory.stores.facts import SyncVectorFactStore, VectorFactStore
    from memexllm.memory.stores.graph import SyncVectorGraphStore, VectorGraphStore
    from memexllm.memory.stores.history import MessagePage, SyncThreadHistoryStore, ThreadHistoryStore
    from memexllm.memory.stores.protocols import DocumentStore, FactStore, GraphStore, HistoryStore
    from memexllm.memory.stores.triples import GraphResult, Triple

__all__ = [
    "FactStore",
    "HistoryStore",
    "DocumentStore",
    "GraphStore",
    "Triple",
    "GraphResult",
    "MessagePage",
    "VectorFactStore",
    "SyncVectorFactStore",
    "ThreadHistoryStore",
    "SyncThreadHistoryStore",
    "VectorDocumentStore",
    "SyncVectorDocumentStore",
    "VectorGraphStore",
    "SyncVectorGraphStore",
    "check_store",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "DocumentStore": "memexllm.memory.stores.protocols",
        "FactStore": "memexllm.memory.stores.protocols",
        "GraphResult": "memexllm.memory.stores.triples",
        "GraphStore": "memexllm.memory.stores.protocols",
        "HistoryStore": "memexllm.memory.stores.protocols",
        "MessagePage": "memexllm.memory.stores.history",
        "SyncThreadHistoryStore": "memexllm.memory.stores.history",
        "SyncVectorDocumentStore": "memexllm.memory.stores.documents",
        "SyncVectorFactStore": "memexllm.memory.stores.facts",
        "SyncVectorGraphStore": "memexllm.memory.stores.graph",
        "ThreadHistoryStore": "memexllm.memory.stores.history",
        "Triple": "memexllm.memory.stores.triples",
        "VectorDocumentStore": "memexllm.memory.stores.documents",
        "VectorFactStore": "memexllm.memory.stores.facts",
        "VectorGraphStore": "memexllm.memory.stores.graph",
        "check_store": "memexllm.memory.stores.checking",
    },
)
