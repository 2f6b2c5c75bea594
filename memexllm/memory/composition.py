"""The stores a manager is composed of: `facts`, `history`, `documents` and `graph`.

What is given is looked at here, once, when the manager is made. Where no store is given and the manager has a database,
facts, documents and triples are kept in that.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from memexllm.core.flow import Flow
from memexllm.memory.stores.checking import check_store
from memexllm.memory.stores.documents import SyncVectorDocumentStore, VectorDocumentStore
from memexllm.memory.stores.facts import SyncVectorFactStore, VectorFactStore
from memexllm.memory.stores.graph import SyncVectorGraphStore, VectorGraphStore
from memexllm.memory.stores.guarding import guarded
from memexllm.memory.stores.history import SyncThreadHistoryStore, ThreadHistoryStore
from memexllm.memory.stores.place import Place, VectorStore
from memexllm.memory.stores.protocols import PROTOCOLS
from memexllm.storage.base import AsyncBaseStorage, BaseStorage
from memexllm.storage.port import StoragePort

_OURS = (VectorFactStore, VectorDocumentStore, VectorGraphStore, ThreadHistoryStore)
_OURS_SYNC = (SyncVectorFactStore, SyncVectorDocumentStore, SyncVectorGraphStore, SyncThreadHistoryStore)
_PLACES: Any = (str, os.PathLike, BaseStorage, AsyncBaseStorage)
_OF_THE_DATABASE: Mapping[str, tuple[type[VectorStore], type[VectorStore]]] = {
    "facts": (VectorFactStore, SyncVectorFactStore),
    "documents": (VectorDocumentStore, SyncVectorDocumentStore),
    "graph": (VectorGraphStore, SyncVectorGraphStore),
}


@dataclass
class Stores:
    """By slot; `closing` are flows that close what was opened here."""

    by_slot: dict[str, Any]
    closing: list[Callable[[], Flow[None]]] = field(default_factory=list[Callable[[], Flow[None]]])


def composed(given: Mapping[str, Any], place: Place | None, *, asynchronous: bool) -> Stores:
    """The store of each slot, or None. One that is given is there also when it is empty and `len()` of it is 0."""
    stores = Stores({})
    for slot in PROTOCOLS:
        store = given.get(slot)
        if store is not None:
            stores.by_slot[slot] = _given(stores, slot, store, place, asynchronous=asynchronous)
        elif place is not None and slot in _OF_THE_DATABASE:
            stores.by_slot[slot] = _OF_THE_DATABASE[slot][0 if asynchronous else 1].at(place)
        else:
            stores.by_slot[slot] = None
    return stores


def _given(stores: Stores, slot: str, store: Any, place: Place | None, *, asynchronous: bool) -> Any:
    if slot == "history" and _is_threads(store):
        kind = ThreadHistoryStore if asynchronous else SyncThreadHistoryStore
        store = kind(store, allow_delete_all=place is not None and place.allow_delete_all)
        stores.closing.append(store.closing)
        return store
    if isinstance(store, _OURS) and not asynchronous:
        store = store.sync()
    check_store(store, PROTOCOLS[slot], slot, asynchronous=asynchronous)
    if isinstance(store, _OURS if asynchronous else _OURS_SYNC):
        return store
    return guarded(store, PROTOCOLS[slot], asynchronous=asynchronous)


def _is_threads(store: Any) -> bool:
    """A path, a URL, a storage, or a manager of threads."""
    return isinstance(store, _PLACES) or isinstance(getattr(store, "port", None), StoragePort)
