"""`with_history` for OpenAI clients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memexllm._lazy import lazy_exports

if TYPE_CHECKING:
    from memexllm.integrations.openai.info import HistoryInfo, PatchedClientWarning, ThreadNotGivenWarning, history_of
    from memexllm.integrations.openai.merge import RepeatedDivergenceWarning
    from memexllm.integrations.openai.typed import AsyncHistoryOpenAI, HistoryOpenAI
    from memexllm.integrations.openai.wrap import with_history

__all__ = [
    "with_history",
    "history_of",
    "HistoryInfo",
    "HistoryOpenAI",
    "AsyncHistoryOpenAI",
    "ThreadNotGivenWarning",
    "RepeatedDivergenceWarning",
    "PatchedClientWarning",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "AsyncHistoryOpenAI": "memexllm.integrations.openai.clients",
        "HistoryInfo": "memexllm.integrations.openai.info",
        "HistoryOpenAI": "memexllm.integrations.openai.clients",
        "PatchedClientWarning": "memexllm.integrations.openai.info",
        "RepeatedDivergenceWarning": "memexllm.integrations.openai.merge",
        "ThreadNotGivenWarning": "memexllm.integrations.openai.info",
        "history_of": "memexllm.integrations.openai.info",
        "with_history": "memexllm.integrations.openai.wrap",
    },
)
