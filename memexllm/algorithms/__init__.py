"""Which exchanges of a thread reach the model: the contract and one algorithm a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memexllm._lazy import lazy_exports

if TYPE_CHECKING:
    from memexllm.algorithms.base import BaseAlgorithm, ContextView, Plan, Reads
    from memexllm.algorithms.fifo import FIFOAlgorithm
    from memexllm.algorithms.pipeline import Pipeline
    from memexllm.algorithms.summary import SummaryAlgorithm
    from memexllm.algorithms.time_window import TimeWindowAlgorithm
    from memexllm.algorithms.token_window import TokenWindowAlgorithm
    from memexllm.algorithms.tool_results import ToolResultTrimming

__all__ = [
    "BaseAlgorithm",
    "FIFOAlgorithm",
    "TokenWindowAlgorithm",
    "SummaryAlgorithm",
    "ToolResultTrimming",
    "TimeWindowAlgorithm",
    "Pipeline",
    "ContextView",
    "Plan",
    "Reads",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "BaseAlgorithm": "memexllm.algorithms.base",
        "ContextView": "memexllm.algorithms.base",
        "FIFOAlgorithm": "memexllm.algorithms.fifo",
        "Pipeline": "memexllm.algorithms.pipeline",
        "Plan": "memexllm.algorithms.base",
        "Reads": "memexllm.algorithms.base",
        "SummaryAlgorithm": "memexllm.algorithms.summary",
        "TimeWindowAlgorithm": "memexllm.algorithms.time_window",
        "TokenWindowAlgorithm": "memexllm.algorithms.token_window",
        "ToolResultTrimming": "memexllm.algorithms.tool_results",
    },
)
