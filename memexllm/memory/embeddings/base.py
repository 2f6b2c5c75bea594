"""The contract of an embedding provider: three members, sync or async."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, TypeAlias

from memexllm.core.errors import ConfigurationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vectors: TypeAlias = NDArray[Any]

MEMBERS = ("embed", "embed_batch", "dimensions")


class EmbeddingProvider(ABC):
    """Subclass it, or have its three members: `isinstance` says yes to any class that defines them.

    Vectors are finite and all of one length. The same text gives the same vector. What cannot be embedded raises, and
    is never left out of a batch; a text too long for the model is a `TextTooLongError`, never cut. `embed` and
    `embed_batch` may be `async def`, both or neither.
    """

    @abstractmethod
    def embed(self, text: str) -> Vectors | Awaitable[Vectors]:
        """The text's vector, of shape `(dimensions,)`."""

    @abstractmethod
    def embed_batch(self, texts: list[str]) -> Vectors | Awaitable[Vectors]:
        """One row for each text, in their order: shape `(len(texts), dimensions)`; no texts give no rows."""

    @property
    @abstractmethod
    def dimensions(self) -> int:
        """The length of a vector. A provider that learns it from its first answer may raise `ConfigurationError`."""

    @classmethod
    def __subclasshook__(cls, other: type) -> bool:
        structural = cls is EmbeddingProvider
        found = structural and all(any(name in vars(base) for base in other.__mro__) for name in MEMBERS)
        return True if found else NotImplemented


def checked_provider(provider: Any) -> Any:
    """`provider` itself, once it is seen to have the three members; none of them is called.

    `ConfigurationError` names what is missing, and a class given in place of an object.
    """
    name = getattr(provider, "__name__", type(provider).__name__)
    if isinstance(provider, type):
        raise ConfigurationError(f"embeddings: {name} is a class; pass an object of it, {name}(...)")
    missing = [member for member in MEMBERS if inspect.getattr_static(provider, member, None) is None]
    if not missing:
        return provider
    hint = "wrap it: CallableEmbeddings(...)" if callable(provider) else "see EmbeddingProvider"
    raise ConfigurationError(f"embeddings: {name} is no embedding provider, it lacks {', '.join(missing)}; {hint}")
