"""How what a manager is given becomes the database it uses."""

from __future__ import annotations

import os
from typing import Any

from memexllm.core.errors import ConfigurationError, NotSupportedError
from memexllm.core.flow import Flow, Step
from memexllm.memory.backends import StorageBackendDatabase
from memexllm.memory.base_database import EmbeddingVectorDatabase
from memexllm.memory.doors import provider_name
from memexllm.memory.factory import PendingDatabase, default_embeddings, made_by_factory, named_factory
from memexllm.memory.ports import ForeignDatabase, Port, asynchronous_part
from memexllm.memory.vector_database import REQUIRED
from memexllm.storage._redis_urls import SCHEMES


class Opening:
    """The port of one manager; one that an asynchronous factory makes is there once it was first asked for."""

    def __init__(self, database: Any, *, asynchronous: bool) -> None:
        self._asynchronous = asynchronous
        self._pending: PendingDatabase | None = None
        self._port: Port | None = None
        if isinstance(database, PendingDatabase):
            if not asynchronous:
                raise database.refuse()
            self._pending = database
        elif database is not None:
            self._port = self._checked(port_of(database))

    @property
    def database(self) -> Any:
        """The database itself; None as long as there is none."""
        return self._port.database if isinstance(self._port, ForeignDatabase) else self._port

    def port(self) -> Flow[Port]:
        if self._port is None and self._pending is not None:
            self._port = port_of((yield Step(self._pending.database, (), blocking=False)))
        if self._port is None:
            raise ConfigurationError(
                "this manager has stores and no database of its own; give it vector_database= or storage_backend="
            )
        return self._port

    def use_embeddings(self, provider: Any) -> None:
        if isinstance(self._port, EmbeddingVectorDatabase):
            self._port.embeddings = provider
            return
        name = "MemoryManager" if self._port is None else provider_name(self._port.database)
        hint = "its database embeds by itself; give that the provider when it is made"
        raise NotSupportedError(name, "set_embedding_provider", hint)

    def _checked(self, port: Port) -> Port:
        part = None if self._asynchronous else asynchronous_part(port)
        if part is not None:
            raise ConfigurationError(f"{part} is async def, which MemoryManager cannot call; use AsyncMemoryManager")
        return port


def port_of(database: Any) -> Port:
    if isinstance(database, EmbeddingVectorDatabase):
        return database
    missing = [name for name in REQUIRED if not callable(getattr(database, name, None))]
    if isinstance(database, type):
        raise ConfigurationError(f"vector_database: {database.__name__} is a class; give an object of it")
    if missing:
        raise ConfigurationError(
            f"vector_database: {type(database).__name__} is no MemoryVectorDatabase, it lacks {', '.join(missing)}"
        )
    return ForeignDatabase(database)


def database_for(vector_database: Any, storage_backend: Any, embeddings: Any, *, otherwise_embedded: bool) -> Any:
    """What was given, else what the environment names, else the embedded default or None."""
    if vector_database is not None and storage_backend is not None:
        raise ConfigurationError("give vector_database= or storage_backend=, not both")
    if storage_backend is not None:
        return StorageBackendDatabase(storage_backend, _or_default(embeddings))
    if isinstance(vector_database, str | os.PathLike):
        return opened(os.fspath(vector_database), embeddings)
    if vector_database is not None:
        if embeddings is not None:
            raise ConfigurationError(
                "a database that is given as an object has its embeddings; embeddings= is too much"
            )
        return vector_database
    dotted = named_factory()
    if dotted is not None:
        return made_by_factory(_or_default(embeddings), dotted)
    return opened("memory.db", embeddings) if otherwise_embedded or embeddings is not None else None


def opened(place: str, embeddings: Any) -> EmbeddingVectorDatabase:
    """The database at a path, `:memory:`, or a `sqlite:///`, `postgresql://`, `redis://` or `memory:` URL."""
    embeddings = _or_default(embeddings)
    scheme, is_url, rest = place.partition("://")
    if place.startswith("memory:"):
        from memexllm.memory.in_memory import InMemoryVectorDatabase

        return InMemoryVectorDatabase(embeddings)
    if not is_url or scheme == "sqlite":
        from memexllm.memory.sqlite import SQLiteVectorDatabase

        # As for threads: sqlite:///relative, sqlite:////absolute, and sqlite:// alone in memory.
        return SQLiteVectorDatabase((rest.removeprefix("/") or ":memory:") if is_url else place, embeddings)
    if scheme in SCHEMES:
        from memexllm.memory.redis import RedisVectorDatabase

        return RedisVectorDatabase(place, embeddings)
    if scheme.partition("+")[0] in ("postgresql", "postgres"):
        from memexllm.memory.postgres import PostgresVectorDatabase

        return PostgresVectorDatabase(place, embeddings)
    raise ConfigurationError(
        f"no vector database is known for {scheme!r} URLs; use sqlite:///memory.db, postgresql://, "
        "redis://localhost:6379, memory: or an object"
    )


def _or_default(embeddings: Any) -> Any:
    return default_embeddings() if embeddings is None else embeddings
