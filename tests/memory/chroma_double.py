"""A client of Chroma as far as the adapter uses one, in memory; texts are near that share words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from memexllm.testing._memory_driven import KitEmbeddings


class ChromaDouble:
    def __init__(self) -> None:
        self._collections: dict[str, CollectionDouble] = {}

    def get_or_create_collection(self, name: str, metadata: Mapping[str, Any] | None = None) -> CollectionDouble:
        return self._collections.setdefault(name, CollectionDouble(metadata))


class CollectionDouble:
    def __init__(self, metadata: Mapping[str, Any] | None) -> None:
        self.metadata = metadata
        self._rows: dict[str, tuple[str, dict[str, Any], Any]] = {}

    def count(self) -> int:
        return len(self._rows)

    def add(
        self, ids: Sequence[str], documents: Sequence[str], metadatas: Sequence[Any], embeddings: Any = None
    ) -> None:
        for place, key in enumerate(ids):
            vector = KitEmbeddings().embed(documents[place]) if embeddings is None else embeddings[place]
            self._rows.setdefault(key, (documents[place], _flat(metadatas[place]), np.asarray(vector)))

    def update(
        self, ids: Sequence[str], documents: Sequence[str], metadatas: Sequence[Any], embeddings: Any = None
    ) -> None:
        for place, key in enumerate(ids):
            if key in self._rows:
                kept = self._rows.pop(key)[1]
                self.add([key], [documents[place]], [{**kept, **metadatas[place]}], embeddings and [embeddings[place]])

    def get(self, ids: Any = None, where: Any = None, include: Any = ()) -> dict[str, Any]:
        found = [key for key in self._matching(where) if ids is None or key in ids]
        return {"ids": found, **self._included(found, include)}

    def query(
        self, n_results: int, include: Any, query_texts: Any = None, query_embeddings: Any = None, where: Any = None
    ) -> dict[str, Any]:
        vector = KitEmbeddings().embed(query_texts[0]) if query_embeddings is None else np.asarray(query_embeddings[0])
        distances = {key: float(_distance(vector, self._rows[key][2])) for key in self._matching(where)}
        found = sorted(distances, key=distances.__getitem__)[:n_results]
        nearest = {name: [values] for name, values in self._included(found, include).items()}
        return {"ids": [found], **nearest, "distances": [[distances[key] for key in found]]}

    def delete(self, ids: Sequence[str]) -> None:
        for key in ids:
            self._rows.pop(key, None)

    def _matching(self, where: Any) -> list[str]:
        wanted = (where or {}).items()
        return [key for key, row in self._rows.items() if all(row[1].get(name) == value for name, value in wanted)]

    def _included(self, keys: Sequence[str], include: Any) -> dict[str, Any]:
        places = {"documents": 0, "metadatas": 1}
        return {name: [self._rows[key][place] for key in keys] for name, place in places.items() if name in include}


def _flat(metadata: Mapping[str, Any]) -> dict[str, Any]:
    assert all(isinstance(value, str | int | float | bool) for value in metadata.values())
    return dict(metadata)


def _distance(a: Any, b: Any) -> Any:
    return 1 - np.dot(a, b) / ((np.linalg.norm(a) * np.linalg.norm(b)) or 1)
