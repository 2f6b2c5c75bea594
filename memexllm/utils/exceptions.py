"""The 0.1 path of the errors; they live in `memexllm.core.errors`."""

from memexllm.core.errors import (
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
    OperationError,
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
]
