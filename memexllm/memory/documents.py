"""How a text is kept as records, one for each chunk, and put together again.

A chunk's metadata has the document's own, and beside them what is named in `RESERVED`: the document's id, the chunk's
number and place, and what stands between it and the chunk before (`before`; `after`, of the last) when that is in no
chunk. So the whole text is there once, and every record is short enough to be embedded. A document whose id somebody
chose may be given another text: `edition` tells the chunks of one text from those of another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from memexllm.core import jsontext
from memexllm.core.flow import Flow
from memexllm.memory import flows
from memexllm.memory.chunking.base import Chunk
from memexllm.memory.opening import Opening
from memexllm.memory.records import Document, MemoryRecord

DOCUMENT = "document"
RESERVED = ("document_id", "edition", "chunk", "start", "end", "page", "before", "after", "of_chunk")
"""Keys of a chunk's metadata. `of_chunk` names those that the chunker gave it."""
_PAGE = 1000


@dataclass(frozen=True)
class Ingested:
    """A text to be ingested, and what its chunks have in common. `kind` chooses the chunker where none is asked for."""

    text: Any
    source: str | None = None
    user_id: str | None = None
    agent_id: str | None = None
    metadata: Mapping[str, Any] | None = None
    kind: str = "text"
    page_of: Callable[[int], int | None] | None = None
    chosen_id: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def document_id(self) -> str:
        if self.chosen_id is not None:
            return self.chosen_id
        return hashed([self.user_id, self.agent_id, self.text])

    @property
    def edition(self) -> str | None:
        return None if self.chosen_id is None else hashed(self.text)


def chunk_records(document: Ingested, chunks: Sequence[Chunk]) -> list[MemoryRecord]:
    common = {**(document.metadata or {}), "document_id": document.document_id}
    if document.source is not None:
        common["source"] = document.source
    if document.edition is not None:
        common["edition"] = document.edition
    kept = [chunk for chunk in chunks if chunk.text.strip()]
    records: list[MemoryRecord] = []
    for place, (chunk, between) in enumerate(zip(kept, _between(document.text, kept), strict=True)):
        at: dict[str, Any] = {} if chunk.start is None else {"start": chunk.start, "end": chunk.end}
        if chunk.start is not None and document.page_of is not None:
            at["page"] = document.page_of(chunk.start)
        of_chunk = sorted(chunk.metadata.keys() - common.keys())
        if of_chunk:
            at["of_chunk"] = of_chunk
        identity = [document.user_id, document.document_id, document.edition, place, chunk.start, chunk.text]
        records.append(
            MemoryRecord(
                chunk.text,
                id=hashed(identity),
                kind=DOCUMENT,
                user_id=document.user_id,
                agent_id=document.agent_id,
                metadata={**chunk.metadata, **common, "chunk": place, **at, **between},
                created_at=document.created_at,
                updated_at=document.updated_at,
            )
        )
    return records


def chunks_of_document(opening: Opening, document_id: str, user_id: str | None) -> Flow[list[MemoryRecord]]:
    """The records of this user's document, or with None of nobody's, in the order in which they were added."""
    filters = {"user_id": user_id, "kind": DOCUMENT, "metadata": {"document_id": document_id}}
    found: list[MemoryRecord] = []
    offset: int | None = 0
    while offset is not None:
        page = yield from flows.list_memories(opening, _PAGE, offset, filters)
        found.extend(record for record in page if record.user_id == user_id)
        offset = page.next_offset
    return found


def whole_document(chunks: Sequence[MemoryRecord], score: float | None = None) -> Document:
    """The document of these records, of which there is at least one: its newest edition, if a change was broken off.

    A chunk that was deleted by itself is missing in its text.
    """
    edition = chunks[-1].metadata.get("edition")
    chunks = [chunk for chunk in chunks if chunk.metadata.get("edition") == edition]
    first = min(chunks, key=lambda chunk: chunk.metadata.get("chunk", 0))
    return Document(
        _put_together(chunks),
        id=first.metadata["document_id"],
        user_id=first.user_id,
        agent_id=first.agent_id,
        metadata=own_metadata(first),
        created_at=first.created_at,
        updated_at=max(chunk.updated_at for chunk in chunks),
        score=score,
    )


def own_metadata(chunk: MemoryRecord) -> dict[str, Any]:
    """The document's metadata, without what a chunk has for itself."""
    apart = {*RESERVED, *chunk.metadata.get("of_chunk", ())}
    return {key: value for key, value in chunk.metadata.items() if key not in apart}


def hashed(value: Any) -> str:
    return hashlib.blake2b(jsontext.dumps(value, "document").encode(), digest_size=16).hexdigest()


def _between(text: str, chunks: Sequence[Chunk]) -> list[dict[str, str]]:
    """For each chunk what stands before it and in none, and for the last what comes after it."""
    found: list[dict[str, str]] = []
    end = 0
    for chunk in chunks:
        gap = "" if chunk.start is None else text[end : chunk.start]
        found.append({"before": gap} if gap else {})
        end = end if chunk.end is None else max(end, chunk.end)
    if chunks and end < len(text):
        found[-1]["after"] = text[end:]
    return found


def _put_together(chunks: Iterable[MemoryRecord]) -> str:
    pieces = sorted(_pieces(chunks))
    text: list[str] = []
    end = 0
    for start, piece in pieces:
        text.append(piece[max(0, end - start) :])
        end = max(end, start + len(piece))
    return "".join(text)


def _pieces(chunks: Iterable[MemoryRecord]) -> Iterable[tuple[int, str]]:
    """What each chunk has of the text, and where: chunks that do not stand in it leave that to the last."""
    for chunk in chunks:
        start, before, after = (chunk.metadata.get(key) for key in ("start", "before", "after"))
        if start is not None:
            yield start - len(before or ""), (before or "") + chunk.text + (after or "")
        elif after is not None:
            yield 0, after
