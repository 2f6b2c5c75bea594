"""The 0.1 path of the managers; they live in `memexllm.history`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memexllm._lazy import lazy_exports

if TYPE_CHECKING:
    from memexllm.history.async_manager import AsyncHistoryManager
    from memexllm.history.manager import HistoryManager

__all__ = ["HistoryManager", "AsyncHistoryManager"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "AsyncHistoryManager": "memexllm.history.async_manager",
        "HistoryManager": "memexllm.history.manager",
    },
)
