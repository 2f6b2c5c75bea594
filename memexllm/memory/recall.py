"""`MessageRecall`: hybrid search over past turns, by their words and, with an embedder, by their meaning."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from memexllm.core.errors import ConfigurationError, ValidationError
from memexllm.core.flow import Flow, arun, run
from memexllm.core.hits import MessageHit
from memexllm.core.moments import to_micros
from memexllm.core.refusals import checked_positive
from memexllm.memory._recall_index import TurnIndex, embedded_text, seq_of, speaker_of
from memexllm.memory._recall_ranking import SPEAKER_WEIGHT, Candidate, Place, ranked
from memexllm.memory.opening import opened, port_of
from memexllm.memory.ports import asynchronous_part
from memexllm.memory.records import MemoryRecord
from memexllm.storage._searching import checked_query, hit
from memexllm.storage.opening import storage_from_url
from memexllm.storage.port import Reader, StoragePort

FOUND_BY_WORDS, FOUND_BY_MEANING = 50, 100
"""How many turns each of the two searches gives to choose from, or as many as are wanted."""
EMBEDDED_BY_A_SEARCH = 5_000


class _Recall:
    """What both classes are made of. `searching` is the search as a flow, for those who drive flows themselves."""

    _asynchronous = False

    def __init__(
        self,
        storage: Any,
        *,
        embeddings: Any = None,
        index: Any = None,
        speaker_weight: float = SPEAKER_WEIGHT,
        embedded_by_a_search: int = EMBEDDED_BY_A_SEARCH,
    ) -> None:
        checked_positive(embedded_by_a_search, "embedded_by_a_search")
        if not speaker_weight >= 0:
            raise ValidationError(f"speaker_weight is a number, at least 0; got {speaker_weight!r:.20}")
        place = isinstance(storage, str | os.PathLike) and not hasattr(storage, "save_thread")
        self.storage: Any = storage_from_url(storage, asynchronous=self._asynchronous) if place else storage
        self._port = StoragePort(self.storage)
        self._speaker_weight = speaker_weight
        self._index: TurnIndex | None = None
        self._owned = index is None or isinstance(index, str | os.PathLike)
        database = self._database(embeddings, index)
        if database is not None:
            self._index = TurnIndex(self._port, port_of(database), index is None, embedded_by_a_search)
        if not self._asynchronous and (part := self.asynchronous_part()) is not None:
            raise ConfigurationError(f"{part} is async def, which MessageRecall cannot call; use AsyncMessageRecall")

    def __repr__(self) -> str:
        by = "" if self._index is None else f", index={self._index.database!r}"
        return f"{type(self).__name__}({self.storage!r}{by})"

    def asynchronous_part(self) -> str | None:
        """What of it only asynchronous callers can use, by name."""
        if self._port.asynchronous:
            return type(self.storage).__name__
        return None if self._index is None else asynchronous_part(self._index.database)

    def searching(self, text: str, thread_id: str | None, user_id: str | None, limit: int) -> Flow[list[MessageHit]]:
        query = checked_query(text, thread_id, user_id, limit)
        hits: dict[Place, MessageHit] = {}
        found: list[MessageHit] = yield self._port.search_messages(text, thread_id, user_id, max(limit, FOUND_BY_WORDS))
        for each in found:
            hits[each.thread_id, each.message.seq or 0] = each
        records = yield from self._nearest(text, thread_id, user_id, max(limit, FOUND_BY_MEANING))
        candidates = _candidates(hits, records)
        order = ranked(text, candidates, fused=self._index is not None, speaker_weight=self._speaker_weight)
        best: list[MessageHit] = []
        readers: dict[str, Reader | None] = {}
        for score, place in order:
            if len(best) == limit:
                break
            if place in hits:
                best.append(replace(hits[place], score=score))
            elif self._index is not None:
                message = yield from self._index.live(records[place], readers)
                if message is not None:
                    best.append(hit(place[0], message, score, query))
        return best

    def _catching_up(self, thread_id: str | None, user_id: str | None) -> Flow[int]:
        if self._index is None:
            return 0
        return (yield from self._index.catch_up(thread_id, user_id, all_of_it=True))

    def _closing(self) -> Flow[None]:
        if self._index is not None and self._owned:
            yield from self._index.database.closing()

    def _nearest(
        self, text: str, thread_id: str | None, user_id: str | None, limit: int
    ) -> Flow[dict[Place, MemoryRecord]]:
        if self._index is None:
            return {}
        yield from self._index.catch_up(thread_id, user_id)
        records = yield from self._index.nearest(text, thread_id, user_id, limit)
        return {(record.thread_id or "", seq_of(record) or 0): record for record in records}

    def _database(self, embeddings: Any, index: Any) -> Any:
        if index is None and embeddings is None:
            return None
        if index is not None and not isinstance(index, str | os.PathLike):
            if embeddings is not None:
                raise ConfigurationError(
                    "an index that is given as an object has its embeddings; embeddings= is too much"
                )
            return index
        if embeddings is None:
            raise ConfigurationError("index= names where vectors are kept; embeddings= is needed to make them")
        return opened(os.fspath(index) if index is not None else _beside(self.storage), embeddings)


class MessageRecall(_Recall):
    """Finds what was said, in one thread, in a user's, or in all: words by the storage's full text, meaning by vectors.

    `storage` is the threads' storage, a path or a URL. With `embeddings`, the vectors of the turns are kept in `index`:
    a `MemoryVectorDatabase`, or a path or URL of one; by default in a file beside a SQLite storage's own
    (`chat.db.recall`), else in memory. They can be made again at any time and are brought up to date by searching: at
    most `embedded_by_a_search` new turns by one search, all of them by `catch_up()`. Without `embeddings` nothing is
    kept and nothing is needed.

    A speaker (a message's `name`, or `speaker` in its metadata) whom the query names gains `speaker_weight`, on a scale
    where the best turn has 1.
    """

    def search(
        self, text: str, *, thread_id: str | None = None, user_id: str | None = None, limit: int = 10
    ) -> list[MessageHit]:
        """The turns that answer `text` best, of one thread, one user, or all; the best first.

        An unknown thread, or one of another user, has none.
        """
        return run(self.searching(text, thread_id, user_id, limit))

    def catch_up(self, *, thread_id: str | None = None, user_id: str | None = None) -> int:
        """Embed every turn that is not indexed yet, however many there are; how many there were."""
        return run(self._catching_up(thread_id, user_id))

    def close(self) -> None:
        """Close an index that this object opened."""
        run(self._closing())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncMessageRecall(_Recall):
    """Async `MessageRecall`; takes storages, indexes and embeddings of either kind."""

    _asynchronous = True

    async def search(
        self, text: str, *, thread_id: str | None = None, user_id: str | None = None, limit: int = 10
    ) -> list[MessageHit]:
        """Async `MessageRecall.search`."""
        return await arun(self.searching(text, thread_id, user_id, limit))

    async def catch_up(self, *, thread_id: str | None = None, user_id: str | None = None) -> int:
        """Async `MessageRecall.catch_up`."""
        return await arun(self._catching_up(thread_id, user_id))

    async def close(self) -> None:
        """Async `MessageRecall.close`."""
        await arun(self._closing())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def _candidates(hits: Mapping[Place, MessageHit], records: Mapping[Place, MemoryRecord]) -> list[Candidate]:
    found = {
        place: Candidate(place, to_micros(each.message.created_at), speaker_of(each.message), lexical=each.score)
        for place, each in hits.items()
    }
    for place, record in records.items():
        if place in found:
            # A text that was changed meanwhile has the former one's vector.
            same = record.text == embedded_text(hits[place].message)
            found[place].dense = record.score if same else None
        else:
            speaker = record.metadata.get("speaker")
            found[place] = Candidate(place, to_micros(record.created_at), speaker, dense=record.score)
    return list(found.values())


def _beside(storage: Any) -> str:
    """Where the index of a storage is kept that nobody named: a file next to its file, or memory."""
    path = getattr(storage, "path", None)
    return f"{path}.recall" if isinstance(path, str) and path != ":memory:" else "memory:"
