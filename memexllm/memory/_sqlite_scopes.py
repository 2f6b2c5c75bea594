"""Vectors of one user (or of everyone) as one matrix, read from the file once and brought up to date afterwards.

A search within a scope is then one product of a matrix and a vector, and its filters are decided by columns of what the
records hold (`_sqlite_columns.py`). A scope that is larger than the memory it may take is read through, chunk by chunk,
for each search.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from memexllm.memory._sqlite_columns import Columns, is_column
from memexllm.memory._sqlite_filters import where
from memexllm.memory._sqlite_rows import matching_numbers
from memexllm.memory.embeddings.vectors import numpy_for
from memexllm.memory.filters import Filter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_CHUNK = 4096
_VECTORS = "SELECT r.n, v.vector FROM memory_records AS r JOIN memory_vectors AS v ON v.n = r.n"


@dataclass(frozen=True)
class Moment:
    """How far a scope had been written at one moment, as the file tells it."""

    owner: int | None
    """None for everyone."""
    version: int
    removed_at: int
    dimensions: int


@dataclass(frozen=True)
class _Scope:
    """The first `size` rows of two arrays that may have room for more."""

    version: int
    size: int
    ns: NDArray[np.int64]
    vectors: NDArray[np.float32]
    columns: Columns = field(default_factory=Columns)

    @property
    def matrix_bytes(self) -> int:
        return int(self.ns.nbytes + self.vectors.nbytes)

    @property
    def n_bytes(self) -> int:
        return self.matrix_bytes + self.columns.n_bytes


class Scopes:
    """Those used last, within `max_bytes`. Safe from any thread; each gives its own connection."""

    def __init__(self, max_bytes: int) -> None:
        self._numpy = numpy_for("SQLiteVectorDatabase")
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._scopes: OrderedDict[int | None, _Scope] = OrderedDict()

    def clear(self) -> None:
        with self._lock:
            self._scopes.clear()

    def scores(
        self, db: Any, moment: Moment, vector: Any, wanted: Filter
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The numbers of the scope's records that match, in order, and the similarity of each with the vector."""
        scope = self._known(db, moment) or self._loaded(db, moment)
        if scope is None:
            return self._read_through(db, moment, vector, wanted)
        ns, vectors = scope.ns[: scope.size], scope.vectors[: scope.size]
        if not wanted.conditions:
            return ns, vectors @ vector
        places = self._numpy.flatnonzero(self._matching(db, moment, scope, wanted))
        # Rows are gathered at the price of a few products.
        few = len(places) * 4 < len(ns)
        return ns[places], vectors[places] @ vector if few else (vectors @ vector)[places]

    def _matching(self, db: Any, moment: Moment, scope: _Scope, wanted: Filter) -> NDArray[np.bool_]:
        ns = scope.ns[: scope.size]
        in_columns = [each for each in wanted.conditions if is_column(each)]
        room = self._max_bytes - scope.matrix_bytes
        mask = scope.columns.matching(db, moment.owner, moment.version, ns, in_columns, room)
        with self._lock:
            self._make_room()
        rest = tuple(each for each in wanted.conditions if not is_column(each))
        if rest:
            mask &= self._numpy.isin(ns, matching_numbers(db, where(Filter(rest), moment.owner)))
        return mask

    def _read_through(
        self, db: Any, moment: Moment, vector: Any, wanted: Filter
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        chunks = [(ns, vectors @ vector) for ns, vectors in self._chunks(_rows(db, moment), moment.dimensions)]
        ns = self._numpy.concatenate([ns for ns, _ in chunks])
        scores = self._numpy.concatenate([scores for _, scores in chunks])
        if wanted.conditions:
            kept = self._numpy.searchsorted(ns, matching_numbers(db, where(wanted, moment.owner)))
            ns, scores = ns[kept], scores[kept]
        return ns, scores

    def _known(self, db: Any, moment: Moment) -> _Scope | None:
        with self._lock:
            scope = self._scopes.get(moment.owner)
            if scope is None or not moment.removed_at <= scope.version <= moment.version:
                return None
            self._scopes.move_to_end(moment.owner)
        if scope.version == moment.version:
            return scope
        written = list(self._chunks(_rows(db, moment, scope.version), moment.dimensions))
        last = scope.ns[scope.size - 1]
        with self._lock:
            # Somebody else may have brought the same arrays up to another moment meanwhile.
            brought = scope if self._scopes.get(moment.owner) is scope else _apart(scope)
            for ns, vectors in written:
                is_new = ns > last
                brought = self._changed(brought, scope, ns[~is_new], vectors[~is_new])
                brought = self._extended(brought, ns[is_new], vectors[is_new])
            brought = replace(brought, version=moment.version)
            self._keep(moment.owner, brought)
        return brought

    def _loaded(self, db: Any, moment: Moment) -> _Scope | None:
        size = _size(db, moment.owner)
        if size == 0 or size * (moment.dimensions * 4 + 8) > self._max_bytes:
            return None if size else self._with_room(moment, 1)
        scope = self._with_room(moment, size)
        for ns, vectors in self._chunks(_rows(db, moment), moment.dimensions):
            scope = self._extended(scope, ns, vectors)
        with self._lock:
            self._keep(moment.owner, scope)
        return scope

    def _with_room(self, moment: Moment, size: int) -> _Scope:
        empty = self._numpy.empty
        ns, vectors = empty(size, "int64"), empty((size, moment.dimensions), "float32")
        return _Scope(moment.version, 0, ns, vectors)

    def _changed(self, scope: _Scope, before: _Scope, ns: Any, vectors: Any) -> _Scope:
        """With these vectors in the place of those they had; whoever reads the scope of `before` goes on with them."""
        places = self._numpy.searchsorted(scope.ns[: before.size], ns)
        if self._numpy.array_equal(scope.vectors[places], vectors):
            return scope
        if scope.vectors is before.vectors:
            scope = _apart(scope)
        scope.vectors[places] = vectors
        return scope

    def _extended(self, scope: _Scope, ns: Any, vectors: Any) -> _Scope:
        """Rows behind a scope's last are nobody's yet: who reads an older scope of the same arrays never sees them."""
        end = scope.size + len(ns)
        if end > len(scope.ns):
            room = max(end, scope.size + scope.size // 4 + 64)
            larger = (self._numpy.empty(room, "int64"), self._numpy.empty((room, vectors.shape[1]), "float32"))
            larger[0][: scope.size] = scope.ns[: scope.size]
            larger[1][: scope.size] = scope.vectors[: scope.size]
            scope = replace(scope, ns=larger[0], vectors=larger[1])
        scope.ns[scope.size : end] = ns
        scope.vectors[scope.size : end] = vectors
        return replace(scope, size=end)

    def _keep(self, owner: int | None, scope: _Scope) -> None:
        known = self._scopes.get(owner)
        if known is not None and known.version > scope.version:
            return
        self._scopes[owner] = scope
        self._scopes.move_to_end(owner)
        self._make_room()

    def _make_room(self) -> None:
        total = sum(each.n_bytes for each in self._scopes.values())
        while total > self._max_bytes:
            total -= self._scopes.popitem(last=False)[1].n_bytes

    def _chunks(self, rows: Iterable[tuple[int, bytes]], dimensions: int) -> Iterator[tuple[Any, Any]]:
        ns: list[int] = []
        blobs: list[bytes] = []
        for n, blob in rows:
            ns.append(n)
            blobs.append(blob)
            if len(ns) == _CHUNK:
                yield self._arrays(ns, blobs, dimensions)
                ns, blobs = [], []
        if ns:
            yield self._arrays(ns, blobs, dimensions)

    def _arrays(self, ns: list[int], blobs: list[bytes], dimensions: int) -> tuple[Any, Any]:
        rows = self._numpy.frombuffer(b"".join(blobs), dtype="<f4")
        return self._numpy.array(ns, "int64"), rows.reshape(len(ns), dimensions)


def _apart(scope: _Scope) -> _Scope:
    """With arrays of its own."""
    return replace(scope, ns=scope.ns.copy(), vectors=scope.vectors.copy())


def _rows(db: Any, moment: Moment, since: int | None = None) -> sqlite3.Cursor:
    """The scope's vectors in order; those that a version after `since` wrote."""
    # The plus keeps SQLite from reading everything in its order to find the few that changed.
    plus = "" if since is None else "+"
    conditions = [] if since is None else ["r.changed > :since"]
    conditions += [] if moment.owner is None else [f"{plus}r.owner = :owner"]
    chosen = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    found: sqlite3.Cursor = db.execute(
        f"{_VECTORS}{chosen} ORDER BY {plus}r.n", {"owner": moment.owner, "since": since}
    )
    return found


def _size(db: Any, owner: int | None) -> int:
    chosen = "" if owner is None else " WHERE owner = ?"
    (size,) = db.execute(f"SELECT count(*) FROM memory_records{chosen}", () if owner is None else (owner,)).fetchone()
    return int(size)
