"""A provider made of any function from text to vector."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from memexllm.core.errors import ConfigurationError
from memexllm.core.refusals import checked_positive
from memexllm.memory.embeddings.base import EmbeddingProvider
from memexllm.memory.embeddings.vectors import checked_vectors, numpy_for

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PROBE = "dimensions"


class CallableEmbeddings(EmbeddingProvider):
    """`function(text)` gives a vector; with `batched`, `function(texts)` gives one row for each text.

    Lists, arrays and tensors are taken, and what is not one finite vector for each text is an `EmbeddingError`. The
    provider is asynchronous when the function is. Without `dimensions` they are those of the first vector; to know them
    before, an ordinary function is called once.
    """

    def __init__(self, function: Callable[[Any], Any], *, dimensions: int | None = None, batched: bool = False) -> None:
        if not callable(function):
            raise ConfigurationError(f"CallableEmbeddings needs a function; got {type(function).__name__}")
        if dimensions is not None:
            checked_positive(dimensions, "dimensions")
        numpy_for("CallableEmbeddings")
        self._function = function
        self._batched = batched
        self._dimensions = dimensions
        self._asynchronous = _looks_asynchronous(function)
        name = getattr(function, "__qualname__", None) or type(function).__name__
        self._name = f"CallableEmbeddings({name})"

    def __repr__(self) -> str:
        return self._name

    @property
    def dimensions(self) -> int:
        """Calls the function once if no text was embedded yet; an asynchronous one is a `ConfigurationError` then."""
        if self._dimensions is None:
            vector = None if self._asynchronous else self.embed(_PROBE)
            if vector is None or isinstance(vector, Awaitable):
                if inspect.iscoroutine(vector):
                    vector.close()
                raise ConfigurationError(
                    f"{self._name} is asynchronous and knows its dimensions after the first text; "
                    "await embed() first, or pass dimensions="
                )
            return len(vector)
        return self._dimensions

    def embed(self, text: str) -> NDArray[np.float32] | Awaitable[NDArray[np.float32]]:
        if self._asynchronous:
            return self._embedded_later(text)
        result = self._asked(text)
        return self._embedded_later(text, result) if isinstance(result, Awaitable) else self._only_row(result)

    def embed_batch(self, texts: Sequence[str]) -> NDArray[np.float32] | Awaitable[NDArray[np.float32]]:
        """Without `batched` the function is called for one text after the other."""
        if self._asynchronous:
            return self._all_embedded_later(list(texts))
        if not self._batched or not texts:
            vectors = [self._function(text) for text in texts[:1]]
            if vectors and isinstance(vectors[0], Awaitable):
                return self._all_embedded_later(list(texts), vectors[0])
            return self._rows([*vectors, *(self._function(text) for text in texts[1:])], len(texts))
        rows = self._function(list(texts))
        return (
            self._all_embedded_later(list(texts), rows) if isinstance(rows, Awaitable) else self._rows(rows, len(texts))
        )

    async def _embedded_later(self, text: str, result: Awaitable[Any] | None = None) -> NDArray[np.float32]:
        """`result` is what the function gave when it was called to find out that it is asynchronous."""
        self._asynchronous = True
        return self._only_row(await (self._asked(text) if result is None else result))

    async def _all_embedded_later(self, texts: list[str], first: Awaitable[Any] | None = None) -> NDArray[np.float32]:
        """`first` as in `_embedded_later`: of all texts where the function is `batched`, else of the first."""
        self._asynchronous = True
        if self._batched and texts:
            return self._rows(await (self._function(texts) if first is None else first), len(texts))
        vectors = [] if first is None else [await first]
        for text in texts[len(vectors) :]:
            vectors.append(await self._function(text))  # noqa: PERF401 - one after the other
        return self._rows(vectors, len(texts))

    def _asked(self, text: str) -> Any:
        """Whatever the function gives for one text; an awaitable of that."""
        return self._function([text] if self._batched else text)

    def _only_row(self, value: Any) -> NDArray[np.float32]:
        vector: NDArray[np.float32] = self._rows(value if self._batched else [value], 1)[0]
        return vector

    def _rows(self, values: Any, n_texts: int) -> NDArray[np.float32]:
        rows = checked_vectors(values, n_texts, self._dimensions, self._name)
        if n_texts and self._dimensions is None:
            self._dimensions = rows.shape[1]
        return rows


def _looks_asynchronous(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
