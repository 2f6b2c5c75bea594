"""What our own databases share: texts are embedded, checked and told apart here; a subclass only stores rows.

Each operation is written once, as a flow, so that both managers drive it, and the methods of `MemoryVectorDatabase`
await it. The primitives a subclass gives may be `def` or `async def`.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from memexllm.core import jsontext
from memexllm.core.errors import DimensionMismatchError, NotSupportedError, ValidationError
from memexllm.core.flow import Flow, Step, arun
from memexllm.core.refusals import checked_not_negative, checked_positive
from memexllm.core.trusted import trusted
from memexllm.core.wire import plain
from memexllm.memory.doors import embedded, embedded_query, provider_name, unit
from memexllm.memory.embeddings.base import checked_provider
from memexllm.memory.embeddings.vectors import checked_vectors
from memexllm.memory.filters import Filter, parsed_filters
from memexllm.memory.records import MemoryRecord, MemoryRecordResult, MemoryRecordResults
from memexllm.memory.vector_database import MemoryVectorDatabase

_MOST = 1 << 61
_EMBEDDED_AT_ONCE = 1000


@dataclass(frozen=True)
class Written:
    """What a write did: the ids in order, and the places of the records that were not there before.

    Or nothing, because the records at the `wanting` places need a vector.
    """

    ids: list[str]
    wanting: Sequence[int] = ()
    new: Sequence[int] = ()


@dataclass(frozen=True)
class Found:
    """A page of rows, and how many match on all pages."""

    records: list[MemoryRecord]
    total: int


class EmbeddingVectorDatabase(MemoryVectorDatabase):
    """Base of the built-in databases; `embeddings` is an `EmbeddingProvider`.

    `blocking = False` tells that the primitives return at once and need no worker thread, `awaitable` that all of them
    return awaitables, as `async def` ones do.
    """

    blocking: bool = True
    awaitable: bool = False

    def __init__(self, embeddings: Any) -> None:
        self.embeddings = checked_provider(embeddings)

    # What a subclass gives. Vectors are unit vectors of float32.

    @abstractmethod
    def insert_rows(self, records: Sequence[MemoryRecord], vectors: Mapping[int, Any]) -> Written:
        """Store the records, all or none; `vectors` by place. Of two that say the same, the first stays."""

    @abstractmethod
    def replace_rows(self, records: Sequence[MemoryRecord], vectors: Mapping[int, Any]) -> Written:
        """Replace the records of the same ids, all or none; `wanting` are those whose text is another."""

    @abstractmethod
    def fetch_rows(self, ids: Sequence[str]) -> list[MemoryRecord]:
        """The records of these ids, in order, without those that are not there."""

    @abstractmethod
    def nearest_rows(self, vector: Any, wanted: Filter, limit: int, offset: int, min_score: float | None) -> Found:
        """`MemoryRecordResult`s by falling score; equal ones in the order in which they were added."""

    def fused_rows(
        self, vector: Any, query: str, wanted: Filter, limit: int, offset: int, min_score: float | None
    ) -> Any:
        """`nearest_rows` by the words of the query as well as by its vector; scores, from 0 to 1, are of both."""
        hint = "it has no full text; search without hybrid="
        raise NotSupportedError(provider_name(self), "search with hybrid=True", hint)

    @abstractmethod
    def page_of_rows(self, wanted: Filter, limit: int, offset: int) -> Found:
        """Records in the order in which they were added."""

    @abstractmethod
    def count_rows(self, wanted: Filter) -> int: ...

    @abstractmethod
    def remove_rows(self, ids: Sequence[str] | None, wanted: Filter) -> int:
        """Delete the records of these ids (None: of any id) that match; how many there were."""

    @abstractmethod
    def begin_reembedding(self) -> None:
        """Forget the new vectors of an attempt that was broken off."""

    @abstractmethod
    def texts_to_embed(self, limit: int) -> list[tuple[str, str]]:
        """(id, text) of records that have no new vector, at most `limit`."""

    @abstractmethod
    def keep_new_vectors(self, texts: Mapping[str, str], vectors: Mapping[str, Any]) -> None:
        """Lay new vectors, by record id, beside those in use; those of records whose text is another are left out."""

    @abstractmethod
    def use_new_vectors(self, dimensions: int | None) -> bool:
        """Put the new vectors in the place of the old; False, and nothing done, when a record has none."""

    # The operations.

    def adding(self, memories: Sequence[MemoryRecord]) -> Flow[Written]:
        records = checked_records(memories)
        vectors = _given_vectors(records)
        return (yield from self._writing(self.insert_rows, records, vectors))

    def updating(self, memories: Sequence[MemoryRecord]) -> Flow[Written]:
        records = checked_records(memories)
        if len({record.id for record in records}) < len(records):
            raise ValidationError("update_memories() was given two records of one id")
        return (yield from self._writing(self.replace_rows, records, {}))

    def searching(
        self,
        query: str,
        limit: int = 10,
        offset: int = 0,
        min_score: float | None = None,
        hybrid: bool = False,
        **filters: Any,
    ) -> Flow[MemoryRecordResults]:
        wanted = parsed_filters(filters)
        limit, offset = checked_page(limit, offset)
        check_least(min_score)
        vector = yield from embedded_query(self.embeddings, checked_query(query))
        asked = (wanted, limit, offset, min_score)
        found: Found = yield (
            self._step(self.fused_rows, vector, query, *asked)
            if hybrid
            else self._step(self.nearest_rows, vector, *asked)
        )
        return results(found, limit, offset)

    def listing(self, offset: int = 0, limit: int = 100, **filters: Any) -> Flow[MemoryRecordResults]:
        wanted = parsed_filters(filters)
        limit, offset = checked_page(limit, offset)
        found: Found = yield self._step(self.page_of_rows, wanted, limit, offset)
        return results(found, limit, offset)

    def counting(self, **filters: Any) -> Flow[int]:
        return (yield self._step(self.count_rows, parsed_filters(filters)))  # type: ignore[no-any-return]  # a step's

    def getting(self, memory_ids: Sequence[str]) -> Flow[list[MemoryRecord]]:
        found: list[MemoryRecord] = yield self._step(self.fetch_rows, checked_ids(memory_ids))
        return found

    def deleting(self, memory_ids: Sequence[str] | None, **filters: Any) -> Flow[int]:
        """Delete the records of these ids that match, or with None all that match; how many there were."""
        ids = None if memory_ids is None else checked_ids(memory_ids)
        wanted = parsed_filters(filters)
        return (yield self._step(self.remove_rows, ids, wanted, write=True))  # type: ignore[no-any-return]  # a step's

    def reembedding(self, embeddings: Any, batch_size: int = 256) -> Flow[int]:
        """Embed every record again with this provider, which is the database's from then on; how many there were.

        What is stored stays in use until the last one is embedded.
        """
        provider = checked_provider(embeddings)
        checked_positive(batch_size, "batch_size")
        dimensions: int | None = None
        n_embedded = 0
        yield self._step(self.begin_reembedding, write=True)
        while not (yield self._step(self.use_new_vectors, dimensions, write=True)):
            while batch := dict((yield self._step(self.texts_to_embed, batch_size))):
                rows = yield from embedded(provider, list(batch.values()))
                dimensions = int(rows.shape[1]) if dimensions is None else dimensions
                _refuse_mixed(provider, rows, dimensions)
                yield self._step(self.keep_new_vectors, batch, dict(zip(batch, rows, strict=True)), write=True)
                n_embedded += len(batch)
        self.embeddings = provider
        return n_embedded

    def closing(self) -> Flow[None]:
        yield self._step(self.close_rows)

    def close_rows(self) -> Any:
        """Close what the primitives opened."""

    def _writing(
        self, write: Callable[..., Written], records: list[MemoryRecord], vectors: dict[int, Any]
    ) -> Flow[Written]:
        while True:
            written: Written = yield self._step(write, records, vectors, write=True)
            if not written.wanting:
                return written
            for start in range(0, len(written.wanting), _EMBEDDED_AT_ONCE):
                places = written.wanting[start : start + _EMBEDDED_AT_ONCE]
                rows = yield from embedded(self.embeddings, [records[place].text for place in places])
                vectors.update(zip(places, rows, strict=True))
            _refuse_mixed(self.embeddings, list(vectors.values()), len(next(iter(vectors.values()))))

    def _step(self, primitive: Callable[..., Any], *args: Any, write: bool = False) -> Step:
        return Step(primitive, args, self.blocking and not inspect.iscoroutinefunction(primitive), write)

    # The contract.

    async def add_memories(self, memories: Sequence[MemoryRecord]) -> list[str]:
        return (await arun(self.adding(memories))).ids

    async def search_memories(self, query: str, limit: int = 10, **kwargs: Any) -> MemoryRecordResults:
        """The records nearest to `query`, the best first. Besides filters: `offset`, `min_score` and `hybrid`."""
        return await arun(self.searching(query, limit, **kwargs))

    async def delete_memories(self, memory_ids: Sequence[str]) -> int:
        """Delete the records; how many there were."""
        return await arun(self.deleting(memory_ids))

    async def update_memories(self, memories: Sequence[MemoryRecord]) -> list[str]:
        return (await arun(self.updating(memories))).ids

    async def count_memories(self, **filters: Any) -> int:
        return await arun(self.counting(**filters))

    async def list_memories(self, offset: int = 0, limit: int = 100, **filters: Any) -> MemoryRecordResults:
        return await arun(self.listing(offset, limit, **filters))

    async def get_memories(self, memory_ids: Sequence[str]) -> list[MemoryRecord]:
        return await arun(self.getting(memory_ids))

    async def close(self) -> None:
        await arun(self.closing())


def checked_records(memories: Any) -> list[MemoryRecord]:
    """Copies that can be stored; a `ValidationError` names the first that is none, by its place."""
    if isinstance(memories, MemoryRecord | str) or not isinstance(memories, Sequence):
        raise ValidationError(f"memories are given as a list of MemoryRecord, not as a {type(memories).__name__}")
    for place, memory in enumerate(memories):
        if not isinstance(memory, MemoryRecord):
            raise ValidationError(f"memory {place} is a {type(memory).__name__}; a MemoryRecord is needed")
        jsontext.dumps([memory.id, memory.thread_id, memory.metadata], f"memory {place}")
        memory.identity()
    return [memory.changed() for memory in memories]


def checked_ids(memory_ids: Any) -> list[str]:
    if isinstance(memory_ids, str) or not all(isinstance(each, str) for each in memory_ids):
        raise ValidationError("memories are named by a list of ids, which are texts")
    return list(memory_ids)


def checked_query(query: Any) -> str:
    if not isinstance(query, str) or not query.strip():
        raise ValidationError("memory is searched for a text; this query is blank or none")
    return query


def checked_page(limit: Any, offset: Any) -> tuple[int, int]:
    checked_positive(limit, "limit")
    checked_not_negative(offset, "offset")
    return min(limit, _MOST), min(offset, _MOST)


def check_least(min_score: Any) -> None:
    if min_score is None:
        return
    if isinstance(min_score, bool) or not isinstance(min_score, Real) or min_score != min_score:
        raise ValidationError(f"min_score is the least score, a number; got {min_score!r:.20}")


def results(found: Found, limit: int, offset: int) -> MemoryRecordResults:
    end = offset + len(found.records)
    return MemoryRecordResults(found.records, found.total, end if found.records and end < found.total else None)


def result_of(record: MemoryRecord, score: float | None) -> MemoryRecordResult:
    """Of a record that was checked when it came in."""
    fields: dict[str, Any] = {**record.__dict__, "score": score, "metadata": plain(record.metadata)}
    return trusted(MemoryRecordResult, fields)


def _given_vectors(records: list[MemoryRecord]) -> dict[int, Any]:
    """The vectors that records bring along, by place."""
    given = {place: record.embedding for place, record in enumerate(records) if record.embedding is not None}
    if not given:
        return {}
    rows = unit(checked_vectors(list(given.values()), len(given), None, "MemoryRecord.embedding"))
    return dict(zip(given, rows, strict=True))


def _refuse_mixed(provider: Any, rows: Any, dimensions: int) -> None:
    found = {len(row) for row in rows} - {dimensions}
    if found:
        raise DimensionMismatchError(
            f"vectors of one batch have {dimensions} and {found.pop()} dimensions; {provider_name(provider)} and the "
            "embeddings given with the records must be of one model. Nothing was stored"
        )
