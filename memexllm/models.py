"""Another path to what is kept: records of long-term memory, messages and threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memexllm._lazy import lazy_exports

if TYPE_CHECKING:
    from memexllm.core.models import Message, Thread
    from memexllm.memory.records import Document, Fact, Memory, MemoryRecord, MemoryRecordResult, MemoryRecordResults
    from memexllm.memory.stores.triples import GraphResult, Triple

__all__ = [
    "MemoryRecord",
    "MemoryRecordResult",
    "MemoryRecordResults",
    "Memory",
    "Fact",
    "Document",
    "Triple",
    "GraphResult",
    "Message",
    "Thread",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Document": "memexllm.memory.records",
        "Fact": "memexllm.memory.records",
        "GraphResult": "memexllm.memory.stores.triples",
        "Memory": "memexllm.memory.records",
        "MemoryRecord": "memexllm.memory.records",
        "MemoryRecordResult": "memexllm.memory.records",
        "MemoryRecordResults": "memexllm.memory.records",
        "Message": "memexllm.core.models",
        "Thread": "memexllm.core.models",
        "Triple": "memexllm.memory.stores.triples",
    },
)
