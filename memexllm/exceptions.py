"""Another path to the errors; they live in `memexllm.core.errors`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memexllm._lazy import lazy_exports

if TYPE_CHECKING:
    from memexllm.core.errors import (
        ConfigurationError,
        MemexLLMError,
        MemoryNotFoundError,
        NotSupportedError,
        ProviderError,
        ResourceNotFoundError,
        StorageError,
        StoreProtocolError,
        ValidationError,
    )

__all__ = [
    "MemexLLMError",
    "ConfigurationError",
    "ValidationError",
    "ResourceNotFoundError",
    "MemoryNotFoundError",
    "StorageError",
    "ProviderError",
    "NotSupportedError",
    "StoreProtocolError",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "ConfigurationError": "memexllm.core.errors",
        "MemexLLMError": "memexllm.core.errors",
        "MemoryNotFoundError": "memexllm.core.errors",
        "NotSupportedError": "memexllm.core.errors",
        "ProviderError": "memexllm.core.errors",
        "ResourceNotFoundError": "memexllm.core.errors",
        "StorageError": "memexllm.core.errors",
        "StoreProtocolError": "memexllm.core.errors",
        "ValidationError": "memexllm.core.errors",
    },
)
