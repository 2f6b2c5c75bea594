"""What the Redis databases read, as flows of scripts.

What a filter leaves to Python is read in two steps or three: the candidates, their order, and the records of the page;
when one of those has changed in between, it is all read again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from memexllm.core.flow import Flow
from memexllm.memory import _redis_reads as reads
from memexllm.memory._nearest import best_places
from memexllm.memory._redis_asking import Asking, Row, blob_of
from memexllm.memory._redis_filters import Sieve, decider, fields_of, sieve_of
from memexllm.memory.base_database import Found, result_of
from memexllm.memory.doors import unit
from memexllm.memory.embeddings.vectors import numpy_for
from memexllm.memory.filters import Filter
from memexllm.memory.records import MemoryRecord

_FEW = 1000
"""So many vectors are compared here; of more, the server is asked for the nearest."""
_MOST = 10**15
"""The server's scripts count in doubles, and write longer ones with an exponent."""


@dataclass(frozen=True)
class _Ranked:
    """Rows by falling score, and how many there are at all."""

    rows: list[tuple[Row, float]]
    total: int


class Reading:
    """The flows of reads. Sets of up to `exact_up_to` records are searched exactly."""

    def __init__(self, asking: Asking, exact_up_to: int) -> None:
        self._ask = asking
        self._exact_up_to = exact_up_to

    def fetch(self, ids: Sequence[str]) -> Flow[list[MemoryRecord]]:
        reply = yield from self._ask.asked("get memories", reads.FETCH_BY_ID, [len(ids), *ids])
        return [_record_of(row) for row in reply[1] if row]

    def count(self, wanted: Filter) -> Flow[int]:
        sieve = sieve_of(wanted)
        if sieve.left:
            return len((yield from self.candidates("count memories", sieve)))
        return int((yield from self._ask.asked("count memories", reads.COUNT, sieve.scope_args))[1])

    def page(self, wanted: Filter, limit: int, offset: int) -> Flow[Found]:
        doing = "list memories"
        sieve = sieve_of(wanted)
        if not sieve.left:
            _, rows, total = yield from self._ask.asked(doing, reads.PAGE, [*sieve.scope_args, *_exact(offset, limit)])
            return Found([_record_of(row) for row in rows], int(total))
        while True:
            candidates = yield from self.candidates(doing, sieve)
            records = yield from self._fetched(doing, candidates[offset : offset + limit])
            if records is not None:
                return Found(records, len(candidates))

    def nearest(self, vector: Any, wanted: Filter, limit: int, offset: int, min_score: float | None) -> Flow[Found]:
        doing = "search memories"
        sieve, dimensions = sieve_of(wanted), self._ask.one_length([vector])
        least = "" if min_score is None else repr(float(min_score))
        if not sieve.left:
            args = [*self._asking(sieve, vector), *_exact(offset, limit), least, self._exact_up_to]
            _, total, rows = yield from self._ask.asked(doing, reads.NEAREST, args, dimensions)
            found = zip(rows[::2], rows[1::2], strict=True)
            return Found([result_of(_record_of(row), _score(score)) for score, row in found], int(total))
        while True:
            candidates = yield from self.candidates(doing, sieve)
            if len(candidates) <= _FEW:
                ranked = yield from self._ranked_here(doing, vector, candidates, min_score)
            else:
                ranked = yield from self._ranked_there(doing, vector, sieve, candidates, offset + limit, min_score)
            if ranked is None:
                continue
            chosen = ranked.rows[offset : offset + limit]
            records = yield from self._fetched(doing, [row for row, _ in chosen])
            if records is not None:
                pairs = zip(records, chosen, strict=True)
                return Found([result_of(record, score) for record, (_, score) in pairs], ranked.total)

    def _ranked_here(
        self, doing: str, vector: Any, candidates: list[Row], min_score: float | None
    ) -> Flow[_Ranked | None]:
        """All of the candidates by their vectors; None when one of them has changed since."""
        numpy = numpy_for("RedisVectorDatabase")
        args = [len(vector), len(candidates), *(each for row in candidates for each in row[:2])]
        reply = yield from self._ask.asked(doing, reads.VECTORS, args, len(vector))
        if reply[0] == b"again":
            return None
        if not candidates:
            return _Ranked([], 0)
        rows = numpy.frombuffer(b"".join(reply[1]), dtype="<f4").reshape(len(candidates), len(vector))
        scores = unit(rows) @ vector
        best, total = best_places(scores, len(candidates), 0, min_score)
        return _Ranked([(candidates[place], min(1.0, float(scores[place]))) for place in best], total)

    def _ranked_there(
        self,
        doing: str,
        vector: Any,
        sieve: Sieve,
        candidates: list[Row],
        n_wanted: int,
        min_score: float | None,
    ) -> Flow[_Ranked]:
        """The nearest candidates, at least as many as are wanted, picked from those of the scope."""
        of_number = {row[0]: row for row in candidates}
        n_asked = _FEW
        while True:
            args = [*self._asking(sieve, vector), 0, n_asked, "", _MOST]
            _, total, flat = yield from self._ask.asked(doing, reads.RANK, args, len(vector))
            ranked = [(n, _score(score)) for n, score in zip(flat[::2], flat[1::2], strict=True)]
            found = [(of_number[n], score) for n, score in ranked if n in of_number]
            farthest = ranked[-1][1] if ranked else -1.0
            if len(ranked) < int(total) and (min_score is None or farthest >= min_score):
                # Among the last ones some that are as near may be missing.
                sure = [each for each in found if each[1] > farthest]
                if min_score is not None or len(sure) < n_wanted:
                    n_asked *= 4
                    continue
            if min_score is None:
                return _Ranked(found, len(candidates))
            kept = [each for each in found if each[1] >= min_score]
            return _Ranked(kept, len(kept))

    def _asking(self, sieve: Sieve, vector: Any) -> list[Any]:
        return [*sieve.scope_args, len(vector), blob_of(vector), sieve.expression]

    def candidates(self, doing: str, sieve: Sieve) -> Flow[list[Row]]:
        """The rows that match, in the order of adding."""
        reply = yield from self._ask.asked(doing, reads.SIFT, sieve.args)
        flat, width, accepts = reply[1], 2 + len(fields_of(sieve.left)), decider(sieve.left)
        rows = (flat[start : start + width] for start in range(0, len(flat), width))
        return [row for row in rows if accepts(row[2:])]

    def _fetched(self, doing: str, rows: Sequence[Row]) -> Flow[list[MemoryRecord] | None]:
        """The records of these rows; None when one of them has changed since."""
        args = [len(rows), *(each for row in rows for each in row[:2])]
        reply = yield from self._ask.asked(doing, reads.FETCH, args)
        return None if reply[0] == b"again" else [_record_of(row) for row in reply[1]]


def _exact(offset: int, limit: int) -> tuple[int, int]:
    return min(offset, _MOST), min(limit, _MOST)


def _record_of(flat: Sequence[bytes]) -> MemoryRecord:
    return MemoryRecord.from_dict(dict(zip(flat[::2], flat[1::2], strict=True)))


def _score(text: bytes) -> float:
    """The cosine similarity; the server's score is from 0 to 1."""
    return min(1.0, 2 * float(text) - 1)
