"""Every exception of the library.

    MemexLLMError
    ├── ConfigurationError              also ValueError
    │   ├── MissingDependencyError      also ImportError
    │   └── FactoryError                an object named in a setting could not be made
    │       ├── FactoryImportError      also ImportError: the module cannot be imported
    │       ├── FactoryNotFoundError    also AttributeError: it has no such name
    │       ├── FactoryReturnTypeError  also TypeError: what is named cannot make one, or makes another thing
    │       └── FactoryRuntimeError     also RuntimeError: it raised; its own error is the cause
    ├── ValidationError                 also ValueError
    │   └── NoStorageError              also ConfigurationError
    ├── ResourceNotFoundError           also LookupError
    │   ├── ThreadNotFoundError
    │   └── MessageNotFoundError
    ├── StorageError                    a backend failed or its bytes cannot be read
    │   ├── ConnectionError             the backend cannot be reached or opened
    │   ├── OperationError              the backend refused or broke off an operation
    │   ├── IntegrityError              the backend found its own data inconsistent
    │   ├── CorruptThreadError          the bytes are there and cannot be read: never "not found"
    │   └── ConcurrencyError            `expected_version` did not match
    ├── WindowError                     nothing valid fits what may be sent
    ├── HistoryReadError, HistoryWriteError   from `with_history`
    └── APIError                        never raised: 0.1 had it, and what the SDK raises passes through unchanged
        └── OpenAIAPIError, RateLimitError, AuthenticationError

Foreign code is let in by one door per kind, the only places that catch `Exception`:

- a user's storage: `StoragePort` in `memexllm/storage/port.py`;
- a user's algorithm: `algorithm_call` and `observe` in `memexllm/algorithms/base.py`;
- a summariser: `ask` in `memexllm/algorithms/_summarizing.py`;
- a module or factory named in a setting: `memexllm/core/factories.py`.

No message shows the text of a conversation or the password of a URL.
"""

from __future__ import annotations

from typing import Any


class MemexLLMError(Exception):
    """Base of every error this library raises on purpose."""


class ConfigurationError(MemexLLMError, ValueError):
    """The library was put together in a way that cannot work; raised before any request."""


class MissingDependencyError(ConfigurationError, ImportError):
    """An optional package is needed; the message names the extra that brings it."""


class FactoryError(ConfigurationError):
    """What a setting names by its dotted path could not be made; nothing was opened in its place."""


class FactoryImportError(FactoryError, ImportError):
    """The module cannot be imported: a wrong path, or an error while it was imported (the cause)."""


class FactoryNotFoundError(FactoryError, AttributeError):
    """The module is there and has no such name."""


class FactoryReturnTypeError(FactoryError, TypeError):
    """What is named cannot be called, or returned something of another type than is needed."""


class FactoryRuntimeError(FactoryError, RuntimeError):
    """The factory raised. Its own error is the `__cause__`, with its traceback."""


class ValidationError(MemexLLMError, ValueError):
    """A value of the caller's cannot be accepted; nothing was stored or sent."""


class NoStorageError(ConfigurationError, ValidationError):
    """Neither a storage nor a manager was given. A `ConfigurationError`; 0.1 documented a `ValidationError`."""


class ResourceNotFoundError(MemexLLMError, LookupError):
    """What was asked for does not exist."""


class ThreadNotFoundError(ResourceNotFoundError):
    """No thread of this id is visible to the caller (another user's thread counts as unknown)."""


class MessageNotFoundError(ResourceNotFoundError):
    """The thread holds no such message."""


class StorageError(MemexLLMError):
    """A storage failed. The driver's own exception is the `__cause__`."""


class ConnectionError(StorageError):  # noqa: A001 - the 0.1 name
    """The storage cannot be reached or opened."""


class OperationError(StorageError):
    """The storage refused an operation or broke it off; nothing of it was stored."""


class IntegrityError(StorageError):
    """The storage found its own data inconsistent."""


class CorruptThreadError(StorageError):
    """A thread is there and its bytes cannot be read. Nothing is overwritten."""


class ConcurrencyError(StorageError):
    """The thread's version was not the expected one; nothing was written."""


class WindowError(MemexLLMError):
    """Nothing valid is left to send, or what must be sent exceeds the budget; raised before the request."""


class HistoryReadError(MemexLLMError):
    """The thread could not be read, so no request was made."""


class HistoryWriteError(MemexLLMError):
    """The answer arrived and could not be stored; `response` holds it."""

    def __init__(self, message: str, response: Any = None) -> None:
        super().__init__(message)
        self.response = response


class APIError(MemexLLMError):
    """A name of 0.1. A failed request raises the SDK's own error, `openai.APIError` and its kinds."""


class OpenAIAPIError(APIError):
    """A name of 0.1; `openai.APIError` is what is raised."""


class RateLimitError(APIError):
    """A name of 0.1; `openai.RateLimitError` is what is raised."""


class AuthenticationError(APIError):
    """A name of 0.1; `openai.AuthenticationError` is what is raised."""
