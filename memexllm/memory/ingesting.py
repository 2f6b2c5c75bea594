"""A text becomes records: one for each chunk, all or none, and none twice.

The document's id is a hash of its text and its owner, a chunk's id of the document and the chunk's place. So ingesting
again what is there adds nothing and embeds nothing; cut in another way, the former chunks are replaced; and one that
was broken off between the two is completed by the next.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from memexllm.core.errors import ConfigurationError, ValidationError
from memexllm.core.flow import Flow, Step
from memexllm.core.moments import Clock
from memexllm.core.plugins import Plugins
from memexllm.memory import flows
from memexllm.memory.base_database import EmbeddingVectorDatabase
from memexllm.memory.chunking.base import chunks_of
from memexllm.memory.chunking.named import chunker_for, named_chunker
from memexllm.memory.documents import DOCUMENT, Ingested, chunk_records, chunks_of_document
from memexllm.memory.doors import embedded, provider_call
from memexllm.memory.ingest.document import Progress, SourceDocument
from memexllm.memory.ingest.reading import read_file
from memexllm.memory.opening import Opening
from memexllm.memory.records import MemoryRecord

_EMBEDDED_AT_ONCE = 128


@dataclass(frozen=True)
class IngestResult:
    """What became of a text: the ids of its chunks in order, and how many of them were not there before.

    `document_id` is in the metadata of each chunk. `n_removed` are chunks of an earlier cut of the same text.
    """

    document_id: str
    memory_ids: list[str]
    n_added: int
    n_removed: int


class Chunkers:
    """Chunking strategies by name: those registered with a manager, then the built-in ones."""

    def __init__(self) -> None:
        self._registered: dict[str, Any] = {}

    def register(self, name: str, strategy: Any) -> None:
        self._registered[name] = _checked(strategy)

    def chunker(self, strategy: Any, kind: str, provider: Any) -> Any:
        """The chunker of this name, or None for the one that suits a document of `kind`; an object is one itself."""
        if strategy is None:
            return chunker_for(kind)
        if not isinstance(strategy, str):
            return _checked(strategy)
        if strategy in self._registered:
            return self._registered[strategy]
        return named_chunker(strategy, provider=provider) if strategy == "semantic" else named_chunker(strategy)


@dataclass(frozen=True)
class Ingesting:
    """What a manager ingests with."""

    opening: Opening
    plugins: Plugins
    chunkers: Chunkers
    clock: Clock
    chunk_strategy: Any
    progress: Progress | None


def ingest_text(asked: Ingesting, document: Ingested) -> Flow[IngestResult]:
    if not isinstance(document.text, str):
        raise ValidationError(f"ingest_text() is given a text, not a {type(document.text).__name__}")
    now = asked.clock()
    records = yield from cut_up(asked, replace(document, created_at=document.created_at or now, updated_at=now))
    stored = yield from chunks_of_document(asked.opening, document.document_id, document.user_id)
    added, removed = yield from put(asked, records, stored)
    return IngestResult(document.document_id, [record.id for record in records], added, removed)


def cut_up(asked: Ingesting, document: Ingested) -> Flow[list[MemoryRecord]]:
    """The records of a document, one for each chunk."""
    port = yield from asked.opening.port()
    provider = port.embeddings if isinstance(port, EmbeddingVectorDatabase) else None
    chunker = asked.chunkers.chunker(asked.chunk_strategy, document.kind, provider)
    chunks = yield from provider_call(chunker, "chunk", chunks_of, chunker, document.text)
    return chunk_records(document, chunks)


def put(asked: Ingesting, records: Sequence[MemoryRecord], stored: Sequence[MemoryRecord]) -> Flow[tuple[int, int]]:
    """Make these the document's records, in place of those stored; how many were added, and how many removed.

    What is new comes first: broken off between two steps, the former records are still there.
    """
    port = yield from asked.opening.port()
    provider = port.embeddings if isinstance(port, EmbeddingVectorDatabase) else None
    former = {record.id: record for record in stored}
    missing = [record for record in records if record.id not in former]
    if provider is not None:
        missing = yield from _embedded(provider, missing, asked.progress)
    added = yield from flows.add(asked.opening, asked.plugins, missing)
    if provider is None and missing and asked.progress is not None:
        asked.progress(len(missing), len(missing))
    changed = [
        former[record.id].changed(metadata=record.metadata, updated_at=record.updated_at)
        for record in records
        if record.id in former and record.metadata != former[record.id].metadata
    ]
    if changed:
        yield from flows.replace_records(asked.opening, changed)
    surplus = sorted(former.keys() - {record.id for record in records})
    if surplus:
        yield from flows.delete_matching(asked.opening, surplus, {"kind": DOCUMENT})
    return len(added), len(surplus)


def ingest_file(asked: Ingesting, path: str | os.PathLike[str], document: Ingested) -> Flow[IngestResult]:
    """`document` without its text, which is read from the file."""
    read: SourceDocument = yield Step(partial(read_file, path, progress=asked.progress), ())
    common = {**read.metadata, **(document.metadata or {})}
    page_of = read.page_of if read.page_starts else None
    return (
        yield from ingest_text(
            asked, replace(document, text=read.text, kind=read.kind, metadata=common, page_of=page_of)
        )
    )


def _embedded(provider: Any, records: Sequence[MemoryRecord], progress: Progress | None) -> Flow[list[MemoryRecord]]:
    """The records with their vectors, so that storing them is one step however many they are."""
    done: list[MemoryRecord] = []
    for start in range(0, len(records), _EMBEDDED_AT_ONCE):
        some = records[start : start + _EMBEDDED_AT_ONCE]
        rows = yield from embedded(provider, [record.text for record in some])
        done.extend(record.changed(embedding=row) for record, row in zip(some, rows, strict=True))
        if progress is not None:
            progress(len(done), len(records))
    return done


def _checked(strategy: Any) -> Any:
    if isinstance(strategy, type) or not callable(getattr(strategy, "chunk", None)):
        name = strategy.__name__ if isinstance(strategy, type) else type(strategy).__name__
        raise ConfigurationError(f"{name} is no chunking strategy: an object with a method chunk(text) is needed")
    return strategy
