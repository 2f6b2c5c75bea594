"""What the records of one scope hold in a field, or at a key of their metadata: each different value once.

A filter is decided for the different values, in Python and so exactly; which records hold them is then one look into an
array. A column is read when a search first filters by it, and brought up to date with the rows that were written since.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from memexllm.core import jsontext
from memexllm.core.errors import IntegrityError
from memexllm.memory._sqlite_rows import FROM
from memexllm.memory.embeddings.vectors import numpy_for
from memexllm.memory.filters import MISSING, Condition, value_below

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

Path = tuple[str, ...]
_READ_FROM = {
    "user_id": "o.user_id",
    "agent_id": "r.agent_id",
    "thread_id": "r.thread_id",
    "kind": "r.kind",
    "metadata": "r.metadata",
}
_BYTES_OF_A_VALUE = 200
"""What a value takes in a list, a dict and as an object, besides its text."""


@dataclass(frozen=True)
class _Column:
    """`codes` has the number of its value for each record of the scope; `values` and `numbers` are only added to."""

    version: int
    codes: NDArray[np.int32]
    values: list[Any]
    numbers: dict[str, int]
    n_bytes: int


class Columns:
    """Of one scope. Safe from any thread; each gives its own connection."""

    def __init__(self) -> None:
        self._numpy = numpy_for("SQLiteVectorDatabase")
        self._lock = threading.Lock()
        self._known: dict[Path, _Column] = {}

    @property
    def n_bytes(self) -> int:
        return sum(column.n_bytes for column in list(self._known.values()))

    def matching(
        self, db: Any, owner: int | None, version: int, ns: Any, conditions: Sequence[Condition], room: int
    ) -> Mask:
        """For each record of the scope (`ns`, as it was at that version) whether all conditions hold.

        What takes more than `room` bytes is not kept.
        """
        mask = self._numpy.ones(len(ns), "bool")
        for condition in conditions:
            column = self._column(db, owner, version, ns, condition.path, room)
            accepted = [condition.accepts(value) for value in list(column.values)]
            mask &= self._numpy.array(accepted, "bool")[column.codes]
        return mask  # type: ignore[no-any-return]  # NumPy comes as a module

    def _column(self, db: Any, owner: int | None, version: int, ns: Any, path: Path, room: int) -> _Column:
        known = self._known.get(path)
        if known is not None and known.version == version:
            return known
        if known is not None and known.version > version:
            known = None  # whoever asks sees the file as it was before
        rows = _rows(db, owner, path, None if known is None else known.version)
        with self._lock:
            column = self._extended(known, version, ns, rows)
            latest = self._known.get(path)
            others = sum(each.n_bytes for each in self._known.values() if each is not latest)
            if (latest is None or latest.version < version) and others + column.n_bytes <= room:
                self._known[path] = column
        return column

    def _extended(self, known: _Column | None, version: int, ns: Any, rows: Iterable[tuple[int, Any]]) -> _Column:
        values: list[Any] = [] if known is None else known.values
        numbers: dict[str, int] = {} if known is None else known.numbers
        n_bytes = 0 if known is None else known.n_bytes - int(known.codes.nbytes)
        written: list[int] = []
        found: list[int] = []
        for n, value in rows:
            text = "" if value is MISSING else jsontext.dumps(value)
            number = numbers.get(text)
            if number is None:
                number = numbers[text] = len(values)
                values.append(value)
                n_bytes += 2 * len(text) + _BYTES_OF_A_VALUE
            written.append(n)
            found.append(number)
        codes = self._numpy.zeros(len(ns), "int32")
        if known is not None:
            codes[: len(known.codes)] = known.codes
        codes[self._numpy.searchsorted(ns, written)] = found
        return _Column(version, codes, values, numbers, n_bytes + int(codes.nbytes))


def _rows(db: Any, owner: int | None, path: Path, since: int | None) -> list[tuple[int, Any]]:
    """`n` and value of the scope's records; of those that a version after `since` wrote."""
    # The plus keeps SQLite from reading everything of the owner to find the few that changed.
    plus = "" if since is None else "+"
    conditions = [] if since is None else ["r.changed > :since"]
    conditions += [] if owner is None else [f"{plus}r.owner = :owner"]
    chosen = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    sql = f"SELECT r.n, {_READ_FROM[path[0]]} {FROM}{chosen}"
    rows: list[tuple[int, Any]] = db.execute(sql, {"owner": owner, "since": since}).fetchall()
    if path[0] != "metadata":
        return rows
    try:
        return [(n, value_below(jsontext.loads(text), path[1:])) for n, text in rows]
    except ValueError:
        raise IntegrityError("a memory is damaged: its metadata is no JSON; list() tells which") from None


def is_column(condition: Condition) -> bool:
    """Whether what it asks for is kept in a column; ids and times differ with every record."""
    return condition.path[0] in _READ_FROM
