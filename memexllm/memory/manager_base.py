"""What both memory managers are made of."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from memexllm.core.errors import ConfigurationError
from memexllm.core.flow import Flow
from memexllm.core.moments import Clock, IdSource, new_id, utc_now
from memexllm.core.plugins import Plugins
from memexllm.memory import flows
from memexllm.memory.composition import composed
from memexllm.memory.embeddings.base import checked_provider
from memexllm.memory.ingest.document import Progress
from memexllm.memory.ingesting import Chunkers, Ingesting
from memexllm.memory.opening import Opening, database_for
from memexllm.memory.ports import asynchronous_method
from memexllm.memory.records import MemoryRecord
from memexllm.memory.stores.place import Place
from memexllm.memory.vector_database import MemoryVectorDatabase, StorageBackend

DatabaseLike = MemoryVectorDatabase | str | os.PathLike[str]


class MemoryManagerBase:
    """`clock` and `id_source` give times and ids; tests hand in their own.

    `facts`, `history`, `documents` and `graph` are stores by the protocols of the same names; what lacks a part of its
    protocol is a `StoreProtocolError`, which is a `TypeError`. Those not given are kept in the database, but for
    `history`, which is None then; `history` may also be a storage of threads, its path or URL, or a history manager.
    """

    _asynchronous = False

    def __init__(
        self,
        vector_database: DatabaseLike | None = None,
        *,
        storage_backend: StorageBackend | None = None,
        embeddings: Any = None,
        facts: Any = None,
        history: Any = None,
        documents: Any = None,
        graph: Any = None,
        plugins: Iterable[Any] = (),
        allow_delete_all: bool = False,
        clock: Clock = utc_now,
        id_source: IdSource = new_id,
    ) -> None:
        self._named: dict[str, Any] = {}
        self._chunkers = Chunkers()
        self._plugins = Plugins(plugins, asynchronous=self._asynchronous, owner=self)
        database = database_for(vector_database, storage_backend, embeddings, otherwise_embedded=not self._asynchronous)
        given = {"facts": facts, "history": history, "documents": documents, "graph": graph}
        if database is None and all(store is None for store in given.values()):
            raise ConfigurationError(
                f"{type(self).__name__} needs something to remember with: a database (such as 'memory.db'), or one of "
                "facts=, history=, documents=, graph="
            )
        self._opening = Opening(database, asynchronous=self._asynchronous)
        self.allow_delete_all = allow_delete_all
        self.clock = clock
        self.id_source = id_source
        place = Place(self._opening, self._plugins, self._chunkers, clock, id_source, allow_delete_all)
        stores = composed(given, None if database is None else place, asynchronous=self._asynchronous)
        self._made_here = stores.closing
        self.facts: Any = stores.by_slot["facts"]
        self.history: Any = stores.by_slot["history"]
        self.documents: Any = stores.by_slot["documents"]
        self.graph: Any = stores.by_slot["graph"]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.vector_database!r})"

    @property
    def vector_database(self) -> Any:
        """The database in use; None when there is none, or when an asynchronous factory was not awaited yet."""
        return self._opening.database

    @property
    def plugins(self) -> tuple[Any, ...]:
        return tuple(self._plugins)

    def load_plugin(self, plugin: Any) -> Any:
        """Tell a plugin what happens from now on: an object, a class, or the name of an installed one. Returns it."""
        return self._plugins.load(plugin)

    def unload_plugin(self, plugin: Any) -> None:
        """Tell it nothing more."""
        self._plugins.unload(plugin)

    def register_embedding_provider(self, name: str, provider: Any) -> None:
        """Make a provider known by a name; `set_embedding_provider` takes it into use."""
        part = None if self._asynchronous else asynchronous_method(provider, ("embed_batch", "embed"))
        if part is not None:
            raise ConfigurationError(f"{part} is async def, which MemoryManager cannot call; use AsyncMemoryManager")
        self._named[name] = checked_provider(provider)

    def set_embedding_provider(self, name: str) -> None:
        """Embed with the provider of this name from now on.

        Where records are stored already, with vectors of other dimensions, the next call is a `DimensionMismatchError`;
        `reembed(embeddings=name)` changes both at once.
        """
        self._opening.use_embeddings(self._provider(name))

    def register_chunking_strategy(self, name: str, strategy: Any) -> None:
        """Make a chunker known by a name, for `ingest_text(chunk_strategy=name)`."""
        self._chunkers.register(name, strategy)

    def _ingesting(self, chunk_strategy: Any, progress: Progress | None) -> Ingesting:
        return Ingesting(self._opening, self._plugins, self._chunkers, self.clock, chunk_strategy, progress)

    def _closing(self) -> Flow[None]:
        for closing in self._made_here:
            yield from closing()
        yield from flows.close(self._opening)

    def _provider(self, embeddings: Any) -> Any:
        if not isinstance(embeddings, str):
            return embeddings
        if embeddings not in self._named:
            known = ", ".join(sorted(self._named)) or "none yet"
            raise ConfigurationError(
                f"no embedding provider is registered as {embeddings!r}; known: {known}. "
                "register_embedding_provider() makes one known"
            )
        return self._named[embeddings]

    def _record(
        self,
        text: str,
        user_id: str | None,
        agent_id: str | None,
        thread_id: str | None,
        kind: str,
        metadata: Mapping[str, Any] | None,
        memory_id: str | None,
    ) -> MemoryRecord:
        now: datetime = self.clock()
        return MemoryRecord(
            text,
            id=self.id_source() if memory_id is None else memory_id,
            kind=kind,
            user_id=user_id,
            agent_id=agent_id,
            thread_id=thread_id,
            metadata=metadata,
            created_at=now,
        )
