"""What a built-in store works with: a manager's database and what goes with it, or a database of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from memexllm.core.errors import ConfigurationError, ValidationError
from memexllm.core.moments import Clock, IdSource, new_id, utc_now
from memexllm.core.plugins import Plugins
from memexllm.memory import flows
from memexllm.memory.ingesting import Chunkers, Ingesting
from memexllm.memory.opening import Opening, database_for
from memexllm.memory.records import MemoryRecord


@dataclass(frozen=True)
class Place:
    """`chunk_strategy` is how documents are cut."""

    opening: Opening
    plugins: Plugins = field(default_factory=lambda: Plugins(asynchronous=True))
    chunkers: Chunkers = field(default_factory=Chunkers)
    clock: Clock = utc_now
    id_source: IdSource = new_id
    allow_delete_all: bool = False
    chunk_strategy: Any = None

    def ingesting(self) -> Ingesting:
        return Ingesting(self.opening, self.plugins, self.chunkers, self.clock, self.chunk_strategy, None)

    def record(self, text: str, **fields: Any) -> MemoryRecord:
        return MemoryRecord(text, id=self.id_source(), created_at=self.clock(), **fields)


class VectorStore:
    """Base of the built-in stores over a vector database; `vector_database` is one, a path or a URL."""

    _asynchronous = True
    _place: Place

    def __init__(self, vector_database: Any, *, embeddings: Any = None, allow_delete_all: bool = False) -> None:
        if vector_database is None:
            raise ConfigurationError(f"{type(self).__name__} needs a vector database, or the path of one")
        database = database_for(vector_database, None, embeddings, otherwise_embedded=False)
        opening = Opening(database, asynchronous=self._asynchronous)
        plugins = Plugins(asynchronous=self._asynchronous)
        self._place = Place(opening, plugins, allow_delete_all=allow_delete_all)

    @classmethod
    def at(cls, place: Place) -> Self:
        """The store over a manager's database."""
        store = cls.__new__(cls)
        store._place = place
        return store

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._place.opening.database!r})"

    def _place_without_waiting(self) -> Place:
        """For callers who cannot await; an asynchronous database is refused."""
        return replace(self._place, opening=Opening(self._place.opening.database, asynchronous=False))


def scoped(own: Mapping[str, Any], filters: Any) -> dict[str, Any]:
    """A store's own conditions and those of its caller, who cannot take the former away."""
    if filters is None:
        return dict(own)
    if not isinstance(filters, Mapping):
        raise ValidationError(
            f"filters are a dict such as {{'metadata': {{'lang': 'en'}}}}, not {type(filters).__name__}"
        )
    clash = sorted(own.keys() & filters.keys())
    if clash:
        raise ValidationError(f"filters= holds {', '.join(clash)}, which the store sets; leave it out")
    return {**own, **filters}


def refuse_unscoped(place: Place, *scopes: Any) -> None:
    flows.refuse_unscoped(scopes, unscoped=place.allow_delete_all)
