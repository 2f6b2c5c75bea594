"""The ground: nouns, failures, the flow driver, and pure functions over messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memexllm._lazy import lazy_exports

if TYPE_CHECKING:
    from memexllm.core.hits import MessageHit
    from memexllm.core.models import Message, MessageRole, Thread
    from memexllm.history.async_manager import AsyncHistoryManager
    from memexllm.history.manager import HistoryManager

__all__ = ["Thread", "Message", "MessageRole", "MessageHit", "HistoryManager", "AsyncHistoryManager"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Message": "memexllm.core.models",
        "MessageHit": "memexllm.core.hits",
        "MessageRole": "memexllm.core.models",
        "Thread": "memexllm.core.models",
        # The 0.1 path; the managers live above this floor.
        "HistoryManager": "memexllm.history.manager",
        "AsyncHistoryManager": "memexllm.history.async_manager",
    },
)
