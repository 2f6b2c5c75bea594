"""The 0.1 path of the errors; they live in `memexllm.core.errors`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memexllm._lazy import lazy_exports

if TYPE_CHECKING:
    from memexllm.core.errors import (
        APIError,
        AuthenticationError,
        ConcurrencyError,
        ConfigurationError,
        ConnectionError,
        CorruptThreadError,
        HistoryReadError,
        HistoryWriteError,
        IntegrityError,
        MemexLLMError,
        MessageNotFoundError,
        MissingDependencyError,
        OpenAIAPIError,
        OperationError,
        RateLimitError,
        ResourceNotFoundError,
        StorageError,
        ThreadNotFoundError,
        ValidationError,
        WindowError,
    )

__all__ = [
    "MemexLLMError",
    "ConfigurationError",
    "MissingDependencyError",
    "ValidationError",
    "ResourceNotFoundError",
    "ThreadNotFoundError",
    "MessageNotFoundError",
    "StorageError",
    "ConnectionError",
    "OperationError",
    "IntegrityError",
    "CorruptThreadError",
    "ConcurrencyError",
    "WindowError",
    "HistoryReadError",
    "HistoryWriteError",
    "APIError",
    "OpenAIAPIError",
    "RateLimitError",
    "AuthenticationError",
]

__getattr__, __dir__ = lazy_exports(__name__, dict.fromkeys(__all__, "memexllm.core.errors"))
