"""The managers: what an application asks of its threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memexllm._lazy import lazy_exports

if TYPE_CHECKING:
    from memexllm.history.async_manager import AsyncHistoryManager
    from memexllm.history.copying import copy_threads
    from memexllm.history.explain import ContextEntry, Explanation
    from memexllm.history.manager import HistoryManager

__all__ = ["HistoryManager", "AsyncHistoryManager", "Explanation", "ContextEntry", "copy_threads"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "AsyncHistoryManager": "memexllm.history.async_manager",
        "ContextEntry": "memexllm.history.explain",
        "Explanation": "memexllm.history.explain",
        "HistoryManager": "memexllm.history.manager",
        "copy_threads": "memexllm.history.copying",
    },
)
