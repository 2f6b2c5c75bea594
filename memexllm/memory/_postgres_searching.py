"""The nearest vectors in PostgreSQL: all of a small scope compared, or a large one searched along its HNSW index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from memexllm.memory._postgres_filters import Where
from memexllm.memory._postgres_rows import COLUMNS, counted, result_of
from memexllm.memory._postgres_tables import INDEXED, State, as_value, checked, has_records, indexed_as, lock_vectors
from memexllm.memory.base_database import Found
from memexllm.memory.refusals import check_dimensions

if TYPE_CHECKING:
    from memexllm.memory._postgres_server import Db

_PRICE_OF_A_STEP, _PRICE_OF_A_RECORD = 25, 4
"""To go on by one vector along the index, and to look a record up, as against comparing one of many vectors (measured:
25, 4 and 1 us)."""
_SCORE = "-(v.vector <#> CAST(:vector AS vector))"
_NOTHING = Found([], 0)


@dataclass(frozen=True)
class Search:
    """One page of the nearest to `vector`, which is a text as `vector_text` writes it."""

    vector: str
    dimensions: int
    wanted: Where
    limit: int
    offset: int
    min_score: float | None
    ef_search: int


def nearest(db: Db, search: Search, where: str) -> Found:
    # Before the state is looked at: see _postgres_tables.
    lock_vectors(db, "ACCESS SHARE")
    found, total, n_vectors, indexed = _before(db, search)
    if found.dimensions != search.dimensions:
        if found.dimensions is not None and has_records(db):
            check_dimensions(found.dimensions, search.dimensions, where)
        return _NOTHING
    n_wanted = min(search.limit, total - search.offset)
    if indexed and n_wanted > 0 and _is_better_along_the_index(search, total, n_vectors):
        rows = _along_the_index(db, search)
        # The index gives up in the end; the page is whole nevertheless.
        if len(rows) >= n_wanted:
            return Found([result_of(row, score) for score, *row in rows], total)
    return _of_all(db, search, total) if total else _NOTHING


def _before(db: Db, search: Search) -> tuple[State, int, int, bool]:
    """The state, how many records match, how many vectors there are at most, and whether they have an index.

    Sets what this transaction is to go by.
    """
    settings = {
        "hnsw.ef_search": str(search.ef_search),
        "hnsw.iterative_scan": "relaxed_order",
        # A plan for values that are not known yet would not be for these.
        "plan_cache_mode": "force_custom_plan",
        "enable_sort": "off",
        "jit": "off",
    }
    set_here = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in settings.items())
    sql = (
        f"SELECT s.format, s.dimensions, {counted(db, search.wanted)}, "
        f"(SELECT coalesce(max(n), 0) FROM {db.tables.vectors}), {INDEXED}, {set_here} FROM {db.tables.state} AS s"
    )
    found_format, dimensions, total, n_vectors, indexed, *_ = db.one(
        sql, table=as_value(db.tables.vectors), **search.wanted.values
    )
    return checked(State(found_format, dimensions)), total, n_vectors, indexed


def _is_better_along_the_index(search: Search, total: int, n_vectors: int) -> bool:
    # How many are alike enough is known only when all were compared.
    if search.min_score is not None:
        return False
    n_steps = max(search.ef_search, (search.limit + search.offset) * n_vectors / total)
    return n_steps * _PRICE_OF_A_STEP < total * (_PRICE_OF_A_RECORD if search.wanted.rest else 1)


def _along_the_index(db: Db, search: Search) -> Any:
    """Rows of score and record, the best first."""
    kind, wanted = indexed_as(search.dimensions), search.wanted
    indexed = "v.vector" if kind == "vector" else f"(v.vector::{kind})"
    # Looked up one by one (OFFSET keeps it so), as the index brings up one after the other.
    matching = (
        f"CROSS JOIN LATERAL (SELECT 1 FROM {db.tables.records} AS r WHERE r.n = v.n AND "
        f"{' AND '.join(wanted.rest)} OFFSET 0) AS matching"
    )
    near = (
        f"SELECT v.n, {_SCORE} AS score FROM {db.tables.vectors} AS v {matching if wanted.rest else ''} "
        f"WHERE {wanted.vectors} ORDER BY {indexed} <#> CAST(:vector AS {kind}) LIMIT :limit OFFSET :offset"
    )
    return _records_of(db, search, near)


def _of_all(db: Db, search: Search, total: int) -> Found:
    wanted = search.wanted
    records = f"JOIN {db.tables.records} AS r ON r.n = v.n" if wanted.rest else ""
    chosen = f"{wanted.vectors} AND {wanted.records}" if wanted.rest else wanted.vectors
    if search.min_score is not None:
        chosen += f" AND {_SCORE} >= :min_score"
    compared = f"FROM {db.tables.vectors} AS v {records} WHERE {chosen}"
    if search.min_score is not None:
        (total,) = db.one(f"SELECT count(*) {compared}", **_values(search))
    # By the score, for which there is no index: the one on the vectors does not find all.
    near = f"SELECT v.n, {_SCORE} AS score {compared} ORDER BY score DESC, v.n LIMIT :limit OFFSET :offset"
    return Found([result_of(row, score) for score, *row in _records_of(db, search, near)], total)


def _records_of(db: Db, search: Search, near: str) -> Any:
    sql = (
        f"WITH near AS MATERIALIZED ({near}) SELECT near.score, {COLUMNS} FROM near "
        f"JOIN {db.tables.records} AS r ON r.n = near.n ORDER BY near.score DESC, near.n"
    )
    return db.all(sql, limit=search.limit, offset=search.offset, **_values(search))


def _values(search: Search) -> dict[str, Any]:
    least = {} if search.min_score is None else {"min_score": search.min_score}
    return {"vector": search.vector, **least, **search.wanted.values}
