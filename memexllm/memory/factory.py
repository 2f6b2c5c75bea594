"""The database that the environment names, and the one that is opened without being named.

`MEMORY_VECTOR_DB_FACTORY="my_backends.create_my_backend"` is a dotted path to a function, class or classmethod, sync
or async, that is given the embedding provider and returns a `MemoryVectorDatabase`.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Awaitable, Callable
from typing import Any

from memexllm.core.errors import ConfigurationError
from memexllm.core.factories import awaited_product, call_factory, checked_product, load_factory
from memexllm.memory.vector_database import MemoryVectorDatabase

SETTING = "MEMORY_VECTOR_DB_FACTORY"


def default_embeddings() -> Any:
    """`HashingEmbeddings()`: words instead of meaning, and nothing to download."""
    from memexllm.memory.embeddings.hashing import HashingEmbeddings

    return HashingEmbeddings()


def named_factory() -> str | None:
    """The dotted path in the environment; a blank one counts as none."""
    return os.environ.get(SETTING, "").strip() or None


def made_by_factory(embeddings: Any, dotted: str) -> MemoryVectorDatabase | PendingDatabase:
    """What the factory at `dotted` returns; of an asynchronous one, the promise of it."""
    factory = load_factory(dotted, SETTING)
    args, kwargs = _arguments(factory, embeddings)
    product = call_factory(factory, dotted, SETTING, *args, **kwargs)
    if inspect.isawaitable(product):
        return PendingDatabase(product, dotted)
    return checked_product(product, MemoryVectorDatabase, dotted, SETTING)  # type: ignore[no-any-return]  # it is one


async def create_memory_vector_db(embeddings: Any = None) -> MemoryVectorDatabase:
    """The database that `MEMORY_VECTOR_DB_FACTORY` names, else `SQLiteVectorDatabase("memory.db")`."""
    dotted = named_factory()
    embeddings = default_embeddings() if embeddings is None else embeddings
    if dotted is None:
        from memexllm.memory.sqlite import SQLiteVectorDatabase

        return SQLiteVectorDatabase(embeddings=embeddings)
    made = made_by_factory(embeddings, dotted)
    return await made.database() if isinstance(made, PendingDatabase) else made


class PendingDatabase:
    """What an asynchronous factory is going to return. Whoever asks first awaits it; the others wait for that."""

    def __init__(self, product: Awaitable[Any], dotted: str) -> None:
        self._product = product
        self._dotted = dotted
        self._task: asyncio.Future[Any] | None = None

    async def database(self) -> MemoryVectorDatabase:
        if self._task is None:
            self._task = asyncio.ensure_future(self._made())
        made: MemoryVectorDatabase = await asyncio.shield(self._task)
        return made

    async def _made(self) -> Any:
        product = await awaited_product(self._product, self._dotted, SETTING)
        return checked_product(product, MemoryVectorDatabase, self._dotted, SETTING)

    def refuse(self) -> ConfigurationError:
        """The error of who cannot await it."""
        if inspect.iscoroutine(self._product):
            self._product.close()
        return ConfigurationError(
            f"{SETTING}={self._dotted!r} is asynchronous, which MemoryManager cannot call; use AsyncMemoryManager"
        )


def _arguments(factory: Callable[..., Any], embeddings: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """By its name where the factory has a parameter `embeddings`, else as the first argument."""
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return (embeddings,), {}
    named = parameters.get("embeddings")
    if named is not None and named.kind is not named.POSITIONAL_ONLY:
        return (), {"embeddings": embeddings}
    return (embeddings,), {}
