"""`ChromaDocumentAdapter`: documents in a collection of Chroma, each whole and with one vector.

Chroma's metadata are flat, so a document's own are kept as JSON text under one key beside ours. A document of a user
lies under a hash of user and id, nobody's under its id, as those that others have put into the collection.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from memexllm.core import jsontext
from memexllm.core.errors import MemoryNotFoundError, ValidationError
from memexllm.core.flow import Flow, arun
from memexllm.core.moments import utc_now
from memexllm.core.refusals import checked_positive
from memexllm.memory.base_database import checked_query
from memexllm.memory.documents import DOCUMENT, hashed
from memexllm.memory.doors import embedded, embedded_query, provider_call
from memexllm.memory.embeddings.base import checked_provider
from memexllm.memory.filters import Filter, parsed_filters
from memexllm.memory.flows import refuse_unscoped
from memexllm.memory.records import Document
from memexllm.memory.stores.place import scoped

_ID, _USER, _OWN, _MADE, _CHANGED, _ORDER = (
    f"memexllm_{name}" for name in ("id", "user", "metadata", "created", "updated", "order")
)
_NOBODY = ""
_INCLUDED = ["documents", "metadatas"]


class ChromaDocumentAdapter:
    """`DocumentStore` over a client of the package `chromadb`, such as `chromadb.PersistentClient("folder")`.

    Without `embeddings` the collection embeds as Chroma does it; with a provider, texts and queries come embedded. The
    calls run in worker threads. `score` is the cosine similarity in a collection made here, and 1 / (1 + distance) in
    one of another measure. `delete_all` without a user is refused unless `allow_delete_all`.
    """

    provider_name = "chroma"

    def __init__(
        self, *, client: Any, collection_name: str, embeddings: Any = None, allow_delete_all: bool = False
    ) -> None:
        self._client = client
        self._name = collection_name
        self._embeddings = None if embeddings is None else checked_provider(embeddings)
        self._allow_delete_all = allow_delete_all
        self._collection: Any = None

    def __repr__(self) -> str:
        return f"ChromaDocumentAdapter({self._name!r})"

    async def add(
        self,
        *,
        content: str,
        doc_id: str | None = None,
        user_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Document:
        """Keep a text. One that is there already stays as it is; of another text, its id is a `ValidationError`."""
        return await arun(self._adding(content, doc_id, user_id, metadata))

    async def get(self, *, doc_id: str, user_id: str | None = None) -> Document:
        """The document; `MemoryNotFoundError` when there is none."""
        return await arun(self._getting(doc_id, user_id))

    async def get_all(
        self, *, user_id: str | None = None, limit: int = 100, filters: Mapping[str, Any] | None = None
    ) -> list[Document]:
        """At most `limit` documents, in the order in which they were added. Reads all there are."""
        return await arun(self._listing(user_id, limit, filters))

    async def search(
        self, *, query: str, user_id: str | None = None, limit: int = 10, filters: Mapping[str, Any] | None = None
    ) -> list[Document]:
        """At most `limit` documents, the best first, each with its `score`."""
        return await arun(self._searching(query, user_id, limit, filters))

    async def update(
        self, *, doc_id: str, content: str, user_id: str | None = None, metadata: Mapping[str, Any] | None = None
    ) -> Document:
        return await arun(self._updating(doc_id, content, user_id, metadata))

    async def delete(self, *, doc_id: str, user_id: str | None = None) -> None:
        """Delete a document for good; one that is not there is none too many."""
        await arun(self._deleting(doc_id, user_id))

    async def delete_all(self, *, user_id: str | None = None) -> None:
        await arun(self._deleting_all(user_id))

    def _adding(self, content: Any, doc_id: str | None, user_id: str | None, metadata: Any) -> Flow[Document]:
        if doc_id is None:
            doc_id = hashed([user_id, None, content])
        there = yield from self._found(doc_id, user_id)
        if there is not None:
            if there.content != content:
                raise ValidationError(
                    f"document {doc_id!r} exists already and says something else; update() changes it"
                )
            return there
        now = utc_now()
        document = Document(content, id=doc_id, user_id=user_id, metadata=metadata, created_at=now)
        yield from self._store("add", document, time.time_ns())
        return document

    def _getting(self, doc_id: str, user_id: str | None) -> Flow[Document]:
        found = yield from self._found(doc_id, user_id)
        if found is None:
            raise MemoryNotFoundError(f"Document not found: {doc_id}; add() makes one")
        return found

    def _listing(self, user_id: str | None, limit: int, filters: Any) -> Flow[list[Document]]:
        checked_positive(limit, "limit")
        wanted = parsed_filters(scoped({"user_id": user_id, "kind": DOCUMENT}, filters))
        answer = yield from self._call("get", where=_of(user_id), include=_INCLUDED)
        rows = sorted(_rows(answer), key=lambda row: row[1].get(_ORDER, 0))
        found = [_document(*row) for row in rows]
        return [document for document in found if wanted.matches(document)][:limit]

    def _searching(self, query: Any, user_id: str | None, limit: int, filters: Any) -> Flow[list[Document]]:
        checked_positive(limit, "limit")
        wanted = parsed_filters(scoped({"user_id": user_id, "kind": DOCUMENT}, filters))
        asked: dict[str, Any] = {"query_texts": [checked_query(query)]}
        if self._embeddings is not None:
            row = yield from embedded_query(self._embeddings, query)
            asked = {"query_embeddings": [row.tolist()]}
        n_stored: int = yield from self._call("count")
        n_wanted, found = limit, list[Document]()
        while n_stored:
            n_asked = min(n_wanted, n_stored)
            answer = yield from self._call(
                "query", **asked, n_results=n_asked, where=_of(user_id), include=[*_INCLUDED, "distances"]
            )
            found, n_found = self._kept(answer, wanted)
            if len(found) >= limit or n_found < n_asked or n_asked == n_stored:
                break
            n_wanted *= 4
        return found[:limit]

    def _updating(self, doc_id: str, content: Any, user_id: str | None, metadata: Any) -> Flow[Document]:
        there = yield from self._getting(doc_id, user_id)
        changes = {} if metadata is None else {"metadata": metadata}
        document = there.changed(text=content, updated_at=utc_now(), **changes)
        yield from self._store("update", document, None)
        return document

    def _deleting(self, doc_id: str, user_id: str | None) -> Flow[None]:
        if (yield from self._found(doc_id, user_id)) is not None:
            yield from self._call("delete", ids=[_key(doc_id, user_id)], write=True)

    def _deleting_all(self, user_id: str | None) -> Flow[None]:
        refuse_unscoped([user_id], unscoped=self._allow_delete_all)
        answer = yield from self._call("get", where=_of(user_id), include=[])
        if answer["ids"]:
            yield from self._call("delete", ids=list(answer["ids"]), write=True)

    def _found(self, doc_id: Any, user_id: str | None) -> Flow[Document | None]:
        if not isinstance(doc_id, str) or not doc_id:
            raise ValidationError(f"a document's id is a text that is not empty, not a {type(doc_id).__name__}")
        answer = yield from self._call("get", ids=[_key(doc_id, user_id)], include=_INCLUDED)
        found = [_document(*row) for row in _rows(answer)]
        return next((each for each in found if (each.id, each.user_id) == (doc_id, user_id)), None)

    def _store(self, operation: str, document: Document, order: int | None) -> Flow[None]:
        metadata: dict[str, Any] = {
            _ID: document.id,
            _USER: _NOBODY if document.user_id is None else f"={document.user_id}",
            _OWN: jsontext.dumps(document.metadata, "metadata"),
            _MADE: document.created_at.isoformat(),
            _CHANGED: document.updated_at.isoformat(),
        }
        if order is not None:
            metadata[_ORDER] = order
        vectors: dict[str, Any] = {}
        if self._embeddings is not None:
            rows = yield from embedded(self._embeddings, [document.text])
            vectors = {"embeddings": rows.tolist()}
        key = _key(document.id, document.user_id)
        yield from self._call(
            operation, ids=[key], documents=[document.text], metadatas=[metadata], **vectors, write=True
        )

    def _call(self, operation: str, *, write: bool = False, **arguments: Any) -> Flow[Any]:
        if self._collection is None:
            make = self._client.get_or_create_collection
            # Only a collection that is made now takes the measure; one that is there keeps its own.
            self._collection = yield from provider_call(
                self, "get_or_create_collection", make, self._name, metadata={"hnsw:space": "cosine"}, blocking=True
            )
        method = getattr(self._collection, operation)
        given = {name: value for name, value in arguments.items() if value is not None}
        return (yield from provider_call(self, operation, method, write=write, blocking=True, **given))

    def _kept(self, answer: Mapping[str, Any], wanted: Filter) -> tuple[list[Document], int]:
        """The documents of an answer to one query that are wanted, and how many it had."""
        cosine = (self._collection.metadata or {}).get("hnsw:space") == "cosine"
        rows = _rows({name: values[0] for name, values in answer.items() if values and name in (*_INCLUDED, "ids")})
        found: list[Document] = []
        for row, distance in zip(rows, answer["distances"][0], strict=True):
            document = _document(*row, score=1 - distance if cosine else 1 / (1 + distance))
            if wanted.matches(document):
                found.append(document)
        return found, len(rows)


def _key(doc_id: str, user_id: str | None) -> str:
    return doc_id if user_id is None else hashed([user_id, doc_id])


def _of(user_id: str | None) -> dict[str, str] | None:
    return None if user_id is None else {_USER: f"={user_id}"}


def _rows(answer: Mapping[str, Any]) -> Sequence[tuple[str, Mapping[str, Any], str]]:
    """(key, metadata, text) of each; what has no text is no document."""
    ids = answer["ids"]
    metadatas: Any = answer.get("metadatas") or [None] * len(ids)
    texts: Any = answer.get("documents") or [None] * len(ids)
    return [
        (key, metadata or {}, text)
        for key, metadata, text in zip(ids, metadatas, texts, strict=True)
        if text is not None
    ]


def _document(key: str, metadata: Mapping[str, Any], text: str, score: float | None = None) -> Document:
    """Of one that somebody else has put in, all its metadata are its own."""
    user, made = metadata.get(_USER, _NOBODY), metadata.get(_MADE)
    own = jsontext.loads(metadata[_OWN]) if _OWN in metadata else dict(metadata)
    changed: str | None = metadata.get(_CHANGED)
    return Document(
        text,
        id=metadata.get(_ID, key),
        user_id=None if user == _NOBODY else user[1:],
        metadata=own,
        created_at=None if made is None else datetime.fromisoformat(made),
        updated_at=None if changed is None else datetime.fromisoformat(changed),
        score=score,
    )
