"""`VectorDocumentStore`: whole documents, of which a vector database keeps the chunks.

What `ingest_text` and `ingest_file` of a manager have stored are documents as well, under their `document_id`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from memexllm.core.errors import MemoryNotFoundError, ValidationError
from memexllm.core.flow import Flow, arun, run
from memexllm.core.refusals import checked_positive
from memexllm.memory import flows
from memexllm.memory.documents import (
    DOCUMENT,
    RESERVED,
    Ingested,
    chunks_of_document,
    whole_document,
)
from memexllm.memory.ingesting import cut_up, put
from memexllm.memory.records import Document, MemoryRecord
from memexllm.memory.stores.place import Place, VectorStore, refuse_unscoped, scoped

Metadata = Mapping[str, Any]


class VectorDocumentStore(VectorStore):
    """`DocumentStore` over a vector database; `chunk_strategy` is a chunker or its name, by default "sentence".

    A document is found by any of its chunks and returned whole. `delete_all` without a user is refused unless
    `allow_delete_all`.
    """

    def __init__(
        self,
        vector_database: Any,
        *,
        embeddings: Any = None,
        chunk_strategy: Any = None,
        allow_delete_all: bool = False,
    ) -> None:
        super().__init__(vector_database, embeddings=embeddings, allow_delete_all=allow_delete_all)
        self._place = replace(self._place, chunk_strategy=chunk_strategy)

    def sync(self) -> SyncVectorDocumentStore:
        """The same documents for callers who cannot await."""
        return SyncVectorDocumentStore.at(self._place_without_waiting())

    async def add(
        self,
        *,
        content: str,
        doc_id: str | None = None,
        user_id: str | None = None,
        metadata: Metadata | None = None,
    ) -> Document:
        """Keep a text. One that is there already stays as it is; of another text, its id is a `ValidationError`."""
        return await arun(_add(self._place, content, doc_id, user_id, metadata))

    async def get(self, *, doc_id: str, user_id: str | None = None) -> Document:
        """The whole text, character by character; `MemoryNotFoundError` when there is none."""
        return await arun(_get(self._place, doc_id, user_id))

    async def get_all(
        self, *, user_id: str | None = None, limit: int = 100, filters: Metadata | None = None
    ) -> list[Document]:
        """At most `limit` documents, whole, in the order in which they were added."""
        return await arun(_get_all(self._place, user_id, limit, filters))

    async def search(
        self, *, query: str, user_id: str | None = None, limit: int = 10, filters: Metadata | None = None
    ) -> list[Document]:
        """At most `limit` documents, each once, with the `score` of its best chunk."""
        return await arun(_search(self._place, query, user_id, limit, filters))

    async def update(
        self, *, doc_id: str, content: str, user_id: str | None = None, metadata: Metadata | None = None
    ) -> Document:
        """Give a document another text. Broken off on the way, it has the new text, and the next change clears up."""
        return await arun(_update(self._place, doc_id, content, user_id, metadata))

    async def delete(self, *, doc_id: str, user_id: str | None = None) -> None:
        """Delete a document for good; one that is not there is none too many."""
        await arun(_delete(self._place, doc_id, user_id))

    async def delete_all(self, *, user_id: str | None = None) -> None:
        await arun(_delete_all(self._place, user_id))


class SyncVectorDocumentStore(VectorStore):
    """`VectorDocumentStore` without waiting."""

    _asynchronous = False

    def __init__(
        self,
        vector_database: Any,
        *,
        embeddings: Any = None,
        chunk_strategy: Any = None,
        allow_delete_all: bool = False,
    ) -> None:
        super().__init__(vector_database, embeddings=embeddings, allow_delete_all=allow_delete_all)
        self._place = replace(self._place, chunk_strategy=chunk_strategy)

    def add(
        self,
        *,
        content: str,
        doc_id: str | None = None,
        user_id: str | None = None,
        metadata: Metadata | None = None,
    ) -> Document:
        return run(_add(self._place, content, doc_id, user_id, metadata))

    def get(self, *, doc_id: str, user_id: str | None = None) -> Document:
        return run(_get(self._place, doc_id, user_id))

    def get_all(
        self, *, user_id: str | None = None, limit: int = 100, filters: Metadata | None = None
    ) -> list[Document]:
        return run(_get_all(self._place, user_id, limit, filters))

    def search(
        self, *, query: str, user_id: str | None = None, limit: int = 10, filters: Metadata | None = None
    ) -> list[Document]:
        return run(_search(self._place, query, user_id, limit, filters))

    def update(
        self, *, doc_id: str, content: str, user_id: str | None = None, metadata: Metadata | None = None
    ) -> Document:
        return run(_update(self._place, doc_id, content, user_id, metadata))

    def delete(self, *, doc_id: str, user_id: str | None = None) -> None:
        run(_delete(self._place, doc_id, user_id))

    def delete_all(self, *, user_id: str | None = None) -> None:
        run(_delete_all(self._place, user_id))


def _add(place: Place, content: Any, doc_id: str | None, user_id: str | None, metadata: Any) -> Flow[Document]:
    now = place.clock()
    _check(content, metadata)
    document = Ingested(content, user_id=user_id, metadata=metadata, chosen_id=doc_id, created_at=now, updated_at=now)
    stored = yield from chunks_of_document(place.opening, _checked_id(document.document_id), user_id)
    if stored:
        there = whole_document(stored)
        if there.text != content:
            raise ValidationError(f"document {doc_id!r} exists already and says something else; update() changes it")
        return there
    return (yield from _stored(place, document, stored))


def _get(place: Place, doc_id: str, user_id: str | None) -> Flow[Document]:
    return whole_document((yield from _chunks(place, doc_id, user_id)))


def _get_all(place: Place, user_id: str | None, limit: int, filters: Any) -> Flow[list[Document]]:
    checked_positive(limit, "limit")
    wanted = scoped({"user_id": user_id, "kind": DOCUMENT}, filters)
    wanted["metadata"] = {**(wanted.get("metadata") or {}), "chunk": 0}
    found: dict[tuple[str | None, str], Document] = {}
    offset: int | None = 0
    while offset is not None and len(found) < limit:
        page = yield from flows.list_memories(place.opening, limit, offset, wanted)
        yield from _collect(place, page.memories, found, limit, scored=False)
        offset = page.next_offset
    return list(found.values())


def _search(place: Place, query: str, user_id: str | None, limit: int, filters: Any) -> Flow[list[Document]]:
    checked_positive(limit, "limit")
    wanted = scoped({"user_id": user_id, "kind": DOCUMENT}, filters)
    found: dict[tuple[str | None, str], Document] = {}
    offset: int | None = 0
    while offset is not None and len(found) < limit:
        page = yield from flows.search(place.opening, place.plugins, query, limit, offset, None, wanted)
        yield from _collect(place, page.memories, found, limit, scored=True)
        offset = page.next_offset
    return list(found.values())


def _update(place: Place, doc_id: str, content: Any, user_id: str | None, metadata: Any) -> Flow[Document]:
    _check(content, metadata)
    stored = yield from _chunks(place, doc_id, user_id)
    there = whole_document(stored)
    document = Ingested(
        content,
        user_id=user_id,
        agent_id=there.agent_id,
        metadata=there.metadata if metadata is None else metadata,
        chosen_id=doc_id,
        created_at=there.created_at,
        updated_at=place.clock(),
    )
    return (yield from _stored(place, document, stored))


def _delete(place: Place, doc_id: str, user_id: str | None) -> Flow[None]:
    stored = yield from chunks_of_document(place.opening, _checked_id(doc_id), user_id)
    if stored:
        ids = [chunk.id for chunk in stored]
        yield from flows.delete_matching(place.opening, ids, {"user_id": user_id, "kind": DOCUMENT})


def _delete_all(place: Place, user_id: str | None) -> Flow[None]:
    refuse_unscoped(place, user_id)
    filters = {"user_id": user_id, "kind": DOCUMENT}
    yield from flows.delete_matching(place.opening, None, filters, operation="delete_all")


def _stored(place: Place, document: Ingested, former: list[MemoryRecord]) -> Flow[Document]:
    asked = place.ingesting()
    records = yield from cut_up(asked, document)
    if not records:
        raise ValidationError("the chunker makes no chunk of this document, so it could neither be kept nor found")
    yield from put(asked, records, former)
    return whole_document(records)


def _chunks(place: Place, doc_id: str, user_id: str | None) -> Flow[list[MemoryRecord]]:
    stored = yield from chunks_of_document(place.opening, _checked_id(doc_id), user_id)
    if not stored:
        raise MemoryNotFoundError(f"Document not found: {doc_id}; add() makes one")
    return stored


def _collect(
    place: Place,
    chunks: list[MemoryRecord],
    found: dict[tuple[str | None, str], Document],
    limit: int,
    *,
    scored: bool,
) -> Flow[None]:
    """The documents of these chunks, those not found yet, up to `limit` in all."""
    for chunk in chunks:
        key = (chunk.user_id, str(chunk.metadata.get("document_id", "")))
        if key in found or len(found) >= limit or not key[1]:
            continue
        stored = yield from chunks_of_document(place.opening, key[1], chunk.user_id)
        if stored:  # else it was deleted meanwhile
            found[key] = whole_document(stored, chunk.score if scored else None)


def _check(content: Any, metadata: Any) -> None:
    if not isinstance(content, str) or not content.strip():
        raise ValidationError("a document is a text that is not blank")
    taken = sorted(set(RESERVED) & set(metadata or ()))
    if taken:
        raise ValidationError(f"metadata of a document may not have {', '.join(taken)}: these say what a chunk is")


def _checked_id(doc_id: Any) -> str:
    if not isinstance(doc_id, str) or not doc_id:
        raise ValidationError(f"a document's id is a text that is not empty, not a {type(doc_id).__name__}")
    return doc_id
