"""The managers: what an application asks of its threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memexllm._lazy import lazy_exports

if TYPE_CHECKING:
    from memexllm.history.explain import ContextEntry, Explanation
    from memexllm.history.manager import AsyncHistoryManager, HistoryManager

__all__ = ["HistoryManager", "AsyncHistoryManager", "Explanation", "ContextEntry"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "AsyncHistoryManager": "memexllm.history.manager",
        "ContextEntry": "memexllm.history.explain",
        "Explanation": "memexllm.history.explain",
        "HistoryManager": "memexllm.history.manager",
    },
)
