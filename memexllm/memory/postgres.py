"""`PostgresVectorDatabase`: long-term memory in PostgreSQL, with the vectors of the extension pgvector.

What is in the database is described in `_postgres_tables.py`; how a search chooses its way, in
`_postgres_searching.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from memexllm._extras import required
from memexllm.core.errors import ConfigurationError
from memexllm.core.refusals import checked_not_negative, checked_positive
from memexllm.memory import _postgres_reembedding as reembedding
from memexllm.memory import _postgres_rows as rows
from memexllm.memory import _postgres_writing as writing
from memexllm.memory._postgres_filters import where
from memexllm.memory._postgres_searching import Search, nearest
from memexllm.memory.base_database import EmbeddingVectorDatabase, Found, Written
from memexllm.memory.filters import Filter
from memexllm.memory.records import MemoryRecord

if TYPE_CHECKING:
    from sqlalchemy import URL, Engine

    from memexllm.memory._postgres_server import Db

_WIDEST = 1000
_AGAIN = "embed memories again"


class PostgresVectorDatabase(EmbeddingVectorDatabase):
    """Records in a PostgreSQL database that has pgvector 0.8 or later; both managers take it.

    `url`, `engine`, `schema`, `table_prefix`, `pool_size`, `wait_s` and `retry_s` are those of `SQLStorage`; threads
    and memory may share a schema and prefix. Where the extension `vector` is missing it is made, if the user may; else
    an error says what to do.

    A search compares the vectors of all records that match, where they are few (thousands) or a `min_score` is given.
    Otherwise it goes along an HNSW index, which may miss one of the nearest; the wider it looks (`ef_search`, up to
    1000), the fewer. Filters, totals and the length of pages are exact in any case. The index is made when there are
    `index_from` records and another is added, while writers wait; then each record takes milliseconds more to add. To
    load many, have it made afterwards. Vectors of more than 4,000 dimensions have none.

    Safe from any thread, from many processes and machines, and across `os.fork()`.
    """

    provider_name = "postgres"

    def __init__(
        self,
        url: str | URL | None = None,
        embeddings: Any = None,
        *,
        schema: str | None = None,
        table_prefix: str = "memexllm_",
        pool_size: int = 10,
        wait_s: float = 30.0,
        retry_s: float = 10.0,
        engine: Engine | None = None,
        index_from: int = 20_000,
        ef_search: int = 100,
    ) -> None:
        if embeddings is None:
            raise ConfigurationError("PostgresVectorDatabase needs embeddings=, such as HashingEmbeddings()")
        super().__init__(embeddings)
        checked_not_negative(index_from, "index_from")
        checked_positive(ef_search, "ef_search")
        if ef_search > _WIDEST:
            raise ConfigurationError(f"ef_search is at most {_WIDEST}, not {ef_search}")
        required("sqlalchemy", extra="postgres", by="PostgresVectorDatabase")
        from memexllm.memory._postgres_server import Server

        options = {"schema": schema, "table_prefix": table_prefix, "pool_size": pool_size, "wait_s": wait_s}
        self._server = Server("PostgresVectorDatabase", url, engine, options, retry_s)
        self._index_from = index_from
        self._ef_search = ef_search

    def __repr__(self) -> str:
        return f"PostgresVectorDatabase({self._server.shown!r}, {self.embeddings!r})"

    def insert_rows(self, records: Sequence[MemoryRecord], vectors: Mapping[int, Any]) -> Written:
        def insert(db: Db) -> Written | None:
            return writing.insert(db, records, vectors, self._server.shown, self._index_from)

        while (written := self._server.write("add memories", insert)) is None:
            self._server.write("index memories", lambda db: writing.make_index(db, self._index_from))
        return written

    def replace_rows(self, records: Sequence[MemoryRecord], vectors: Mapping[int, Any]) -> Written:
        return self._server.write(
            "update memories", lambda db: writing.replace(db, records, vectors, self._server.shown)
        )

    def remove_rows(self, ids: Sequence[str] | None, wanted: Filter) -> int:
        return self._server.write("delete memories", lambda db: writing.remove(db, ids, wanted))

    def fetch_rows(self, ids: Sequence[str]) -> list[MemoryRecord]:
        return self._server.read("get memories", lambda db: rows.fetch(db, ids))

    def page_of_rows(self, wanted: Filter, limit: int, offset: int) -> Found:
        chosen = where(wanted)
        return self._server.snapshot("list memories", lambda db: rows.page(db, chosen, limit, offset))

    def count_rows(self, wanted: Filter) -> int:
        chosen = where(wanted)
        return self._server.read("count memories", lambda db: rows.count(db, chosen))

    def nearest_rows(self, vector: Any, wanted: Filter, limit: int, offset: int, min_score: float | None) -> Found:
        search = Search(
            writing.vector_text(vector),
            len(vector),
            where(wanted),
            limit,
            offset,
            min_score,
            self._ef_search,
        )
        return self._server.snapshot("search memories", lambda db: nearest(db, search, self._server.shown))

    def begin_reembedding(self) -> None:
        self._server.write(_AGAIN, reembedding.begin)

    def texts_to_embed(self, limit: int) -> list[tuple[str, str]]:
        return self._server.snapshot(_AGAIN, lambda db: reembedding.texts_to_embed(db, limit))

    def keep_new_vectors(self, texts: Mapping[str, str], vectors: Mapping[str, Any]) -> None:
        self._server.write(_AGAIN, lambda db: reembedding.keep(db, texts, vectors))

    def use_new_vectors(self, dimensions: int | None) -> bool:
        if not self._server.read(_AGAIN, reembedding.is_whole):
            return False
        if dimensions is not None:
            self._server.write(_AGAIN, lambda db: reembedding.make_ready(db, dimensions, self._index_from))
        return self._server.write(_AGAIN, lambda db: reembedding.use(db, dimensions))

    def close_rows(self) -> None:
        self._server.close()
