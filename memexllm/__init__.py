"""memexllm gives any OpenAI client a memory that survives.

    client = with_history(storage=SQLiteStorage("chat.db"))(OpenAI())

Every call with a `thread_id` continues its conversation. Importing this package loads no third-party module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from memexllm._lazy import lazy_exports

if TYPE_CHECKING:
    # Names of 0.1; those of errors are not in `__all__`, where one would hide a builtin.
    from memexllm import algorithms as algorithms
    from memexllm import core as core
    from memexllm import integrations as integrations
    from memexllm import storage as storage
    from memexllm import utils as utils
    from memexllm.algorithms.base import BaseAlgorithm
    from memexllm.algorithms.fifo import FIFOAlgorithm
    from memexllm.algorithms.pipeline import Pipeline
    from memexllm.algorithms.summary import SummaryAlgorithm
    from memexllm.algorithms.time_window import TimeWindowAlgorithm
    from memexllm.algorithms.token_window import TokenWindowAlgorithm
    from memexllm.algorithms.tool_results import ToolResultTrimming
    from memexllm.core.errors import APIError as APIError
    from memexllm.core.errors import AuthenticationError as AuthenticationError
    from memexllm.core.errors import (
        ConcurrencyError,
        ConfigurationError,
        HistoryReadError,
        HistoryWriteError,
        MemexLLMError,
        ResourceNotFoundError,
        StorageError,
        ThreadNotFoundError,
        ValidationError,
        WindowError,
    )
    from memexllm.core.errors import ConnectionError as ConnectionError
    from memexllm.core.errors import IntegrityError as IntegrityError
    from memexllm.core.errors import MessageNotFoundError as MessageNotFoundError
    from memexllm.core.errors import NotSupportedError as NotSupportedError
    from memexllm.core.errors import OpenAIAPIError as OpenAIAPIError
    from memexllm.core.errors import OperationError as OperationError
    from memexllm.core.errors import ProviderError as ProviderError
    from memexllm.core.errors import RateLimitError as RateLimitError
    from memexllm.core.hits import MessageHit
    from memexllm.core.models import CallInfo, Message, Thread
    from memexllm.core.moments import new_id as generate_id
    from memexllm.core.plugins import Plugin
    from memexllm.history.async_manager import AsyncHistoryManager
    from memexllm.history.copying import copy_threads
    from memexllm.history.explain import ContextEntry, Explanation
    from memexllm.history.manager import HistoryManager
    from memexllm.history.prices import Prices
    from memexllm.integrations.openai.info import HistoryInfo, history_of
    from memexllm.integrations.openai.recalling import Recall
    from memexllm.integrations.openai.wrap import with_history
    from memexllm.memory.manager import AsyncMemoryManager, Memio, MemoryManager, OpenMemory
    from memexllm.memory.recall import AsyncMessageRecall, MessageRecall
    from memexllm.memory.records import Memory, MemoryRecord
    from memexllm.storage.base import AsyncBaseStorage, BaseStorage
    from memexllm.storage.memory import MemoryStorage
    from memexllm.storage.sqlite import SQLiteStorage

__all__ = [
    "with_history",
    "history_of",
    "HistoryInfo",
    "Recall",
    "HistoryManager",
    "AsyncHistoryManager",
    "Explanation",
    "ContextEntry",
    "Prices",
    "copy_threads",
    "Thread",
    "Message",
    "MessageHit",
    "CallInfo",
    "MemoryManager",
    "AsyncMemoryManager",
    "MemoryRecord",
    "Memory",
    "OpenMemory",
    "Memio",
    "MessageRecall",
    "AsyncMessageRecall",
    "Plugin",
    "generate_id",
    "BaseStorage",
    "AsyncBaseStorage",
    "MemoryStorage",
    "SQLiteStorage",
    "BaseAlgorithm",
    "FIFOAlgorithm",
    "TokenWindowAlgorithm",
    "SummaryAlgorithm",
    "ToolResultTrimming",
    "TimeWindowAlgorithm",
    "Pipeline",
    "MemexLLMError",
    "ConfigurationError",
    "ValidationError",
    "ResourceNotFoundError",
    "ThreadNotFoundError",
    "StorageError",
    "ConcurrencyError",
    "WindowError",
    "HistoryReadError",
    "HistoryWriteError",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "AsyncBaseStorage": "memexllm.storage.base",
        "AsyncHistoryManager": "memexllm.history.async_manager",
        "AsyncMemoryManager": "memexllm.memory.manager",
        "AsyncMessageRecall": "memexllm.memory.recall",
        "BaseAlgorithm": "memexllm.algorithms.base",
        "BaseStorage": "memexllm.storage.base",
        "CallInfo": "memexllm.core.models",
        "ContextEntry": "memexllm.history.explain",
        "Explanation": "memexllm.history.explain",
        "FIFOAlgorithm": "memexllm.algorithms.fifo",
        "HistoryInfo": "memexllm.integrations.openai.info",
        "HistoryManager": "memexllm.history.manager",
        "Memio": "memexllm.memory.manager",
        "Memory": "memexllm.memory.records",
        "MemoryManager": "memexllm.memory.manager",
        "MemoryRecord": "memexllm.memory.records",
        "MemoryStorage": "memexllm.storage.memory",
        "Message": "memexllm.core.models",
        "MessageHit": "memexllm.core.hits",
        "MessageRecall": "memexllm.memory.recall",
        "Recall": "memexllm.integrations.openai.recalling",
        "Pipeline": "memexllm.algorithms.pipeline",
        "Prices": "memexllm.history.prices",
        "SummaryAlgorithm": "memexllm.algorithms.summary",
        "TimeWindowAlgorithm": "memexllm.algorithms.time_window",
        "ToolResultTrimming": "memexllm.algorithms.tool_results",
        "OpenMemory": "memexllm.memory.manager",
        "Plugin": "memexllm.core.plugins",
        "SQLiteStorage": "memexllm.storage.sqlite",
        "Thread": "memexllm.core.models",
        "TokenWindowAlgorithm": "memexllm.algorithms.token_window",
        "copy_threads": "memexllm.history.copying",
        "generate_id": "memexllm.core.moments:new_id",
        "history_of": "memexllm.integrations.openai.info",
        "MemexLLMError": "memexllm.core.errors",
        "ConfigurationError": "memexllm.core.errors",
        "ValidationError": "memexllm.core.errors",
        "ResourceNotFoundError": "memexllm.core.errors",
        "ThreadNotFoundError": "memexllm.core.errors",
        "ConcurrencyError": "memexllm.core.errors",
        "StorageError": "memexllm.core.errors",
        "WindowError": "memexllm.core.errors",
        "HistoryReadError": "memexllm.core.errors",
        "HistoryWriteError": "memexllm.core.errors",
        "with_history": "memexllm.integrations.openai.wrap",
        "APIError": "memexllm.core.errors",
        "AuthenticationError": "memexllm.core.errors",
        "ConnectionError": "memexllm.core.errors",
        "IntegrityError": "memexllm.core.errors",
        "MessageNotFoundError": "memexllm.core.errors",
        "NotSupportedError": "memexllm.core.errors",
        "OpenAIAPIError": "memexllm.core.errors",
        "ProviderError": "memexllm.core.errors",
        "OperationError": "memexllm.core.errors",
        "RateLimitError": "memexllm.core.errors",
        "algorithms": "memexllm.algorithms:",
        "core": "memexllm.core:",
        "integrations": "memexllm.integrations:",
        "storage": "memexllm.storage:",
        "utils": "memexllm.utils:",
    },
)
