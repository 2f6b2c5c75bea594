"""Another path to the contracts of stores; they live in `memexllm.memory.stores`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memexllm._lazy import lazy_exports

if TYPE_CHECKING:
    from memexllm.memory.stores.protocols import DocumentStore, FactStore, GraphStore, HistoryStore

__all__ = [
    "FactStore",
    "HistoryStore",
    "DocumentStore",
    "GraphStore",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "DocumentStore": "memexllm.memory.stores.protocols",
        "FactStore": "memexllm.memory.stores.protocols",
        "GraphStore": "memexllm.memory.stores.protocols",
        "HistoryStore": "memexllm.memory.stores.protocols",
    },
)
