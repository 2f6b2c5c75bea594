"""The one door through which databases, stores, embedding providers and chunkers of others are called.

What they raise becomes a `ProviderError` that names them; errors of the caller's own making pass as they are.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any

from memexllm.core.errors import MemexLLMError, ProviderError, StorageError
from memexllm.core.flow import Flow, Step
from memexllm.memory.embeddings.vectors import checked_vectors, numpy_for

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]


def provider_name(provider: Any) -> str:
    """What an error calls it: its `provider_name`, or its class."""
    name = getattr(provider, "provider_name", None)
    return name if isinstance(name, str) else type(provider).__name__


@contextlib.contextmanager
def told_as_provider_error(provider: Any, operation: str) -> Generator[None]:
    """What is raised within becomes a `ProviderError`, unless it is of the caller's making or one already."""
    try:
        yield
    except Exception as error:
        if isinstance(error, MemexLLMError) and not isinstance(error, StorageError):
            raise
        raise ProviderError(provider_name(provider), operation, error) from error


def provider_call(
    provider: Any,
    operation: str,
    fn: Callable[..., Any],
    *args: Any,
    blocking: bool | None = None,
    write: bool = False,
    **kwargs: Any,
) -> Flow[Any]:
    """The flow of one call. Without `blocking`, an `async def` is called in place and anything else in a thread."""
    if blocking is None:
        blocking = not inspect.iscoroutinefunction(fn)
    with told_as_provider_error(provider, operation):
        return (yield Step(partial(fn, **kwargs) if kwargs else fn, args, blocking, write))


def embedded(provider: Any, texts: list[str]) -> Flow[Vectors]:
    """One unit vector for each text, shape (len(texts), dimensions); an `EmbeddingError` when there are fewer or more.

    A vector of zeros stays one, and is as near to everything as to nothing.
    """
    values = yield from provider_call(provider, "embed_batch", provider.embed_batch, texts)
    return unit(checked_vectors(values, len(texts), None, provider_name(provider)))


def embedded_query(provider: Any, query: str) -> Flow[Vectors]:
    """The unit vector of what is searched for, shape (dimensions,)."""
    value = yield from provider_call(provider, "embed", provider.embed, query)
    return unit(checked_vectors([value], 1, None, provider_name(provider)))[0]  # type: ignore[no-any-return]  # a row


def unit(rows: Vectors) -> Vectors:
    numpy = numpy_for("memory")
    # In 64 bits: the square of a large float32 is none.
    norms = numpy.linalg.norm(rows.astype(numpy.float64), axis=1, keepdims=True)
    norms[norms == 0] = 1.0
    return (rows / norms).astype(numpy.float32)  # type: ignore[no-any-return]  # NumPy comes as a module
