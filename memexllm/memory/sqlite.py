"""`SQLiteVectorDatabase`: the embedded default, on the standard library's `sqlite3` and numpy.

What is on disk is described in `_sqlite_tables.py`. Search is exact: all vectors of the user are compared.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from memexllm.core.errors import ConfigurationError, MemexLLMError
from memexllm.memory import _sqlite_words as words
from memexllm.memory import _sqlite_writing as writing
from memexllm.memory._fusing import fused
from memexllm.memory._nearest import best_places
from memexllm.memory._sqlite_rows import (
    COLUMNS,
    FROM,
    count,
    of_numbers,
    owner_of,
    page,
    record_of,
    state,
    where_in,
)
from memexllm.memory._sqlite_scopes import Moment, Scopes
from memexllm.memory._sqlite_tables import MEMORIES
from memexllm.memory.base_database import EmbeddingVectorDatabase, Found, Written
from memexllm.memory.embeddings.vectors import numpy_for
from memexllm.memory.filters import Filter
from memexllm.memory.records import MemoryRecord
from memexllm.memory.refusals import check_dimensions
from memexllm.storage._sqlite_connections import Connections, checked_path
from memexllm.storage._sqlite_search_tables import index_failed

_log = logging.getLogger("memexllm.memory.sqlite")

Db = sqlite3.Connection | sqlite3.Cursor


class SQLiteVectorDatabase(EmbeddingVectorDatabase):
    """Records in one SQLite file, made readable for its owner only; `":memory:"` keeps them in this object.

    Safe from any thread, from several processes at once and across `os.fork()`; both managers take it. Vectors of the
    users searched last are kept at hand, in at most `cache_bytes`. The other options are those of `SQLiteStorage`.
    """

    provider_name = "sqlite"

    def __init__(
        self,
        path: str | os.PathLike[str] = "memory.db",
        embeddings: Any = None,
        *,
        synchronous: Literal["NORMAL", "FULL"] = "NORMAL",
        busy_timeout_s: float = 30.0,
        cache_bytes: int = 256 << 20,
    ) -> None:
        if embeddings is None:
            raise ConfigurationError("SQLiteVectorDatabase needs embeddings=, such as HashingEmbeddings()")
        super().__init__(embeddings)
        if synchronous not in ("NORMAL", "FULL"):
            raise ConfigurationError(f'synchronous is "NORMAL" or "FULL", not {synchronous!r}')
        self._numpy = numpy_for("SQLiteVectorDatabase")
        self.path = checked_path(path)
        self._connections = Connections(self.path, synchronous, busy_timeout_s, MEMORIES)
        self._scopes = Scopes(cache_bytes)

    def __repr__(self) -> str:
        return f"SQLiteVectorDatabase({self.path!r}, {self.embeddings!r})"

    def insert_rows(self, records: Sequence[MemoryRecord], vectors: Mapping[int, Any]) -> Written:
        return self._connections.write("add memories", lambda db: writing.insert(db, records, vectors, self.path))

    def replace_rows(self, records: Sequence[MemoryRecord], vectors: Mapping[int, Any]) -> Written:
        return self._connections.write("update memories", lambda db: writing.replace(db, records, vectors, self.path))

    def remove_rows(self, ids: Sequence[str] | None, wanted: Filter) -> int:
        return self._connections.write("delete memories", lambda db: writing.remove(db, ids, wanted))

    def fetch_rows(self, ids: Sequence[str]) -> list[MemoryRecord]:
        def fetch(db: Db) -> list[MemoryRecord]:
            sql = f"SELECT {COLUMNS} {FROM} WHERE r.id = ?"
            found = (db.execute(sql, (each,)).fetchone() for each in ids)
            return [record_of(row) for row in found if row is not None]

        return self._connections.snapshot("get memories", fetch)

    def page_of_rows(self, wanted: Filter, limit: int, offset: int) -> Found:
        return self._connections.snapshot("list memories", lambda db: page(db, where_in(db, wanted), limit, offset))

    def count_rows(self, wanted: Filter) -> int:
        return self._connections.snapshot("count memories", lambda db: count(db, where_in(db, wanted)))

    def nearest_rows(self, vector: Any, wanted: Filter, limit: int, offset: int, min_score: float | None) -> Found:
        def nearest(db: Db) -> Found:
            _, ns, scores = self._scored(db, vector, wanted)
            best, total = best_places(scores, limit, offset, min_score)
            return Found(of_numbers(db, [(int(ns[place]), float(scores[place])) for place in best]), total)

        return self._connections.snapshot("search memories", nearest)

    def fused_rows(
        self, vector: Any, query: str, wanted: Filter, limit: int, offset: int, min_score: float | None
    ) -> Found:
        """By the full-text index of the file, which is brought up to date first."""

        def best(db: Db, by_words: Callable[..., Any] = words.found) -> Found:
            owner, ns, scores = self._scored(db, vector, wanted)
            best, total = fused(scores, by_words(db, owner, query, ns), limit, offset, min_score)
            return Found(of_numbers(db, [(int(ns[place]), score) for place, score in best]), total)

        def look(db: Db) -> Found | None:
            return None if words.is_behind(db) else best(db)

        def catch_up(db: Db) -> Found | None:
            return best(db) if words.catch_up(db) else None

        try:
            found = self._connections.snapshot("search memories", look)
            while found is None:
                found = self._connections.write("search memories", catch_up)
        except MemexLLMError as error:
            if not index_failed(error):
                raise
            _log.debug("searching %r without an index: %s", self, error)
            return self._connections.snapshot("search memories", lambda db: best(db, words.found_without_index))
        return found

    def begin_reembedding(self) -> None:
        self._connections.write("embed memories again", writing.forget_new_vectors)

    def texts_to_embed(self, limit: int) -> list[tuple[str, str]]:
        return self._connections.snapshot("embed memories again", lambda db: writing.texts_to_embed(db, limit))

    def keep_new_vectors(self, texts: Mapping[str, str], vectors: Mapping[str, Any]) -> None:
        self._connections.write("embed memories again", lambda db: writing.keep_new_vectors(db, texts, vectors))

    def use_new_vectors(self, dimensions: int | None) -> bool:
        return self._connections.write("embed memories again", lambda db: writing.use_new_vectors(db, dimensions))

    def close_rows(self) -> None:
        self._connections.close()
        self._scopes.clear()

    def _scored(self, db: Db, vector: Any, wanted: Filter) -> tuple[int | None, Any, Any]:
        """Whose scope it is, the numbers of its records that match, and the similarity of each."""
        moment, rest = self._scope(db, wanted)
        if moment is None:
            return None, self._numpy.empty(0, "int64"), self._numpy.empty(0, "float32")
        check_dimensions(moment.dimensions, len(vector), repr(self.path))
        return moment.owner, *self._scopes.scores(db, moment, vector, rest)

    def _scope(self, db: Db, wanted: Filter) -> tuple[Moment | None, Filter]:
        """The moment of the one user the filter asks for, of nobody's records, or of everyone's, and what else it asks.

        None when there is nothing in it.
        """
        version, removed_at, dimensions = state(db)
        of_one, user_id, rest = wanted.scope()
        if dimensions is None:
            return None, wanted
        if not of_one:
            return Moment(None, version, removed_at, dimensions), wanted
        owner = owner_of(db, user_id)
        return (None if owner is None else Moment(*owner, dimensions)), rest
