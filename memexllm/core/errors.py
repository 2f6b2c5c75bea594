"""Every exception of the library.

    MemexLLMError
    ├── ConfigurationError              also ValueError
    │   ├── MissingDependencyError      also ImportError
    │   ├── StoreProtocolError          also TypeError: a store lacks methods or parameters of its protocol
    │   ├── DimensionMismatchError      an embedding provider gives vectors of another size than those stored
    │   └── FactoryError                an object named in a setting could not be made
    │       ├── FactoryImportError      also ImportError: the module cannot be imported
    │       ├── FactoryNotFoundError    also AttributeError: it has no such name
    │       ├── FactoryReturnTypeError  also TypeError: what is named cannot make one, or makes another thing
    │       └── FactoryRuntimeError     also RuntimeError: it raised; its own error is the cause
    ├── ValidationError                 also ValueError
    │   ├── NoStorageError              also ConfigurationError
    │   ├── TextTooLongError            longer than an embedding model takes; never cut
    │   └── UnreadableFileError         a file whose text cannot be had: broken, encrypted, binary, too large
    ├── ResourceNotFoundError           also LookupError
    │   ├── ThreadNotFoundError
    │   ├── MessageNotFoundError
    │   └── MemoryNotFoundError
    ├── StorageError                    a backend failed or its bytes cannot be read
    │   ├── ConnectionError             the backend cannot be reached or opened
    │   ├── OperationError              the backend refused or broke off an operation
    │   ├── IntegrityError              the backend found its own data inconsistent
    │   ├── CorruptThreadError          the bytes are there and cannot be read: never "not found"
    │   └── ConcurrencyError            `expected_version` did not match
    ├── EmbeddingError                  a model answered with something other than one vector for each text
    ├── WindowError                     nothing valid fits what may be sent
    ├── HistoryReadError, HistoryWriteError   from `with_history`
    ├── ProviderError                   a database, store or embedding provider of long-term memory failed
    │   └── NotSupportedError           it cannot do this at all
    └── APIError                        never raised: 0.1 had it, and what the SDK raises passes through unchanged
        └── OpenAIAPIError, RateLimitError, AuthenticationError

Foreign code is let in by one door per kind, the only places that catch `Exception`:

- a user's storage: `StoragePort` in `memexllm/storage/port.py`;
- a user's algorithm: `algorithm_call` and `observe` in `memexllm/algorithms/base.py`;
- a summariser: `ask` in `memexllm/algorithms/_summarizing.py`;
- an extractor of facts: `asked` in `memexllm/memory/_extracting.py`, whose failure is counted and logged;
- a search for what is recalled: `Recalling._searched` in `memexllm/integrations/openai/recalling.py`, which logs and
  goes on;
- a user's plugin: `Plugins.tell` in `memexllm/core/plugins.py`, which logs and goes on;
- a module or factory named in a setting: `memexllm/core/factories.py`;
- a database, store, embedding provider, reader or chunker of memory: `told_as_provider_error` in
  `memexllm/memory/doors.py`;
- somebody's PDF file, in the hands of pypdf: `memexllm/memory/ingest/pdf.py`.

Beside them the drivers of flows, in `memexllm/core/flow.py`, hand what a step raised to the flow that waits for it, and
a thread that asks under a time limit, in `memexllm/core/asking.py`, to whoever waits for its answer.

No message shows the text of a conversation or the password of a URL.
"""

from __future__ import annotations

import pickle
from typing import Any


class MemexLLMError(Exception):
    """Base of every error this library raises on purpose."""


class ConfigurationError(MemexLLMError, ValueError):
    """The library was put together in a way that cannot work; raised before any request."""


class MissingDependencyError(ConfigurationError, ImportError):
    """An optional package is needed; the message names the extra that brings it."""


class StoreProtocolError(ConfigurationError, TypeError):
    """What was given as a store is none. The message lists all that it lacks."""


class DimensionMismatchError(ConfigurationError):
    """Vectors of two sizes cannot be compared. The message says how to embed the stored records again."""


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


class TextTooLongError(ValidationError):
    """A text is longer than the embedding model takes; no text of its batch was embedded after it was found.

    `position` is its place in the batch, `tokens` its length and `limit` the model's; None where only the server knows.
    """

    def __init__(
        self, message: str, position: int | None = None, tokens: int | None = None, limit: int | None = None
    ) -> None:
        super().__init__(message)
        self.position = position
        self.tokens = tokens
        self.limit = limit


class UnreadableFileError(ValidationError):
    """A file holds no text that can be read: it is broken, encrypted, binary, or larger than allowed."""


class ResourceNotFoundError(MemexLLMError, LookupError):
    """What was asked for does not exist."""


class ThreadNotFoundError(ResourceNotFoundError):
    """No thread of this id is visible to the caller (another user's thread counts as unknown)."""


class MessageNotFoundError(ResourceNotFoundError):
    """The thread holds no such message."""


class MemoryNotFoundError(ResourceNotFoundError):
    """No record of this id is visible to the caller (another user's record counts as unknown)."""


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


class EmbeddingError(MemexLLMError):
    """An embedding model answered with something other than one finite vector of the right length for each text."""


class WindowError(MemexLLMError):
    """Nothing valid is left to send, or what must be sent exceeds the budget; raised before the request."""


class HistoryReadError(MemexLLMError):
    """The thread could not be read, so no request was made."""


class HistoryWriteError(MemexLLMError):
    """The answer arrived and could not be stored; `response` holds it."""

    def __init__(self, message: str, response: Any = None) -> None:
        super().__init__(message)
        self.response = response


class ProviderError(MemexLLMError):
    """A database, store or embedding provider of long-term memory failed.

    `provider` is its short name, `operation` the method that failed, `cause` the original exception.
    """

    def __init__(self, provider: str, operation: str, cause: BaseException | str) -> None:
        super().__init__(f"[{provider}] {operation} failed: {cause}")
        self.provider = provider
        self.operation = operation
        self.cause = cause

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions are copied by their message alone, which is not what this one is made from.
        added = {name: value for name, value in self.__dict__.items() if name != "cause"}
        return ProviderError._again, (type(self), self.provider, self.operation, self._portable(self.cause), added)

    @staticmethod
    def _again(kind: type[ProviderError], provider: str, operation: str, cause: Any, added: dict[str, Any]) -> Any:
        error = kind(provider, operation, cause)
        error.__dict__.update(added)
        return error

    @staticmethod
    def _portable(cause: BaseException | str) -> BaseException | str:
        """The cause, or its text when it cannot be copied: many an SDK's errors are made from a live response."""
        try:
            pickle.loads(pickle.dumps(cause))  # noqa: S301 - what was written one call before
        except (pickle.PickleError, TypeError, AttributeError, ImportError, LookupError, ValueError):
            return str(cause)
        return cause


class NotSupportedError(ProviderError):
    """The provider cannot do this; `hint` says what can be done instead."""

    def __init__(self, provider: str, operation: str, hint: str = "it is not supported") -> None:
        super().__init__(provider, operation, hint)
        self.hint = hint


class APIError(MemexLLMError):
    """A name of 0.1. A failed request raises the SDK's own error, `openai.APIError` and its kinds."""


class OpenAIAPIError(APIError):
    """A name of 0.1; `openai.APIError` is what is raised."""


class RateLimitError(APIError):
    """A name of 0.1; `openai.RateLimitError` is what is raised."""


class AuthenticationError(APIError):
    """A name of 0.1; `openai.AuthenticationError` is what is raised."""
