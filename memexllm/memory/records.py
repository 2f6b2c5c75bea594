"""`MemoryRecord`: one thing worth keeping beyond its thread, and what a search or a list of them returns."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self, overload

from pydantic import BaseModel, ConfigDict, Field

from memexllm._extras import required
from memexllm.core import jsontext
from memexllm.core.errors import MemoryNotFoundError, ValidationError
from memexllm.core.moments import Moment, new_id, utc_now
from memexllm.core.refusals import refusals
from memexllm.core.wire import plain

_ABSENT: Any = object()
_FLAT = ("id", "text", "kind", "user_id", "agent_id", "thread_id")
_READ = (*_FLAT, "content", "metadata", "created_at", "updated_at", "score")
TRIPLE = "triple"
_IN_PLACE = ("document", "message")
"""Kinds whose text stands somewhere: said again elsewhere, it is another record."""
ENDS = ("subject", "predicate", "object")


class MemoryRecord(BaseModel):
    """One fact, document chunk, message or triple. `content` is another name of `text`, and `Memory` of the class.

    `kind` is "fact" unless said otherwise. `metadata` holds JSON values. `score` is set on what a search found: the
    cosine similarity with the query, at most 1. `embedding` is the text's vector where one is at hand; it is neither
    compared nor written by `to_dict` unless asked for.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True, arbitrary_types_allowed=True)

    text: str
    id: str
    kind: str
    user_id: str | None
    agent_id: str | None
    thread_id: str | None
    metadata: dict[str, Any]
    created_at: Moment
    updated_at: Moment
    score: float | None
    embedding: Any = Field(repr=False)

    def __init__(
        self,
        text: str = _ABSENT,
        *,
        content: str = _ABSENT,
        id: str | None = None,  # noqa: A002 - the seeds' name
        kind: str = "fact",
        user_id: str | None = None,
        agent_id: str | None = None,
        thread_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        created_at: datetime | str | None = None,
        updated_at: datetime | str | None = None,
        score: float | None = None,
        embedding: Any = None,
    ) -> None:
        if (text is _ABSENT) == (content is _ABSENT):
            raise ValidationError("a memory has one text, given as text= or as content=")
        created_at = utc_now() if created_at is None else created_at
        said: Any = content if text is _ABSENT else text
        if isinstance(said, str) and not said.strip():
            raise ValidationError("a memory needs a text; this one is blank")
        with refusals("memory"):
            super().__init__(
                text=said,
                id=new_id() if id is None else id,
                kind=kind,
                user_id=user_id,
                agent_id=agent_id,
                thread_id=thread_id,
                metadata={} if metadata is None else plain(metadata),
                created_at=created_at,
                updated_at=created_at if updated_at is None else updated_at,
                score=score,
                embedding=embedding,
            )

    @property
    def content(self) -> str:
        return self.text

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """The record of a dict as `to_dict` gives it, also with keys and values as bytes, as Redis returns them.

        An empty dict, which is how Redis says that there is none, is a `MemoryNotFoundError`. Other keys are ignored.
        """
        if not isinstance(data, Mapping):
            raise ValidationError(f"a memory is read from a dict; this is {type(data).__name__}")
        if not data:
            raise MemoryNotFoundError("Memory not found: the dict to read it from is empty")
        found = {_text(key): value for key, value in data.items()}
        fields = {name: _text(found[name]) for name in _READ if found.get(name) is not None}
        if isinstance(fields.get("metadata"), str):
            fields["metadata"] = _metadata(fields["metadata"])
        if isinstance(fields.get("score"), str):
            fields["score"] = _number(fields["score"])
        if fields.get("text") is not None:
            fields.pop("content", None)
        embedding = found.get("embedding")
        if isinstance(embedding, bytes):
            embedding = required("numpy", extra="memory", by="MemoryRecord.from_dict").frombuffer(embedding, "<f4")
        return cls(**fields, embedding=embedding)

    def to_dict(self, *, embedding: bool = False) -> dict[str, Any]:
        """All of it as one flat dict of texts and numbers, such as a Redis hash can hold; what is None is left out.

        Times are ISO texts, `metadata` is JSON text. With `embedding`, a vector that is there is added as the bytes of
        its little-endian float32 numbers, the form in which Redis indexes vectors.
        """
        data: dict[str, Any] = {name: value for name in _FLAT if (value := getattr(self, name)) is not None}
        data["metadata"] = jsontext.dumps(self.metadata, "metadata")
        data["created_at"] = self.created_at.isoformat()
        data["updated_at"] = self.updated_at.isoformat()
        if self.score is not None:
            data["score"] = self.score
        if embedding and self.embedding is not None:
            numpy = required("numpy", extra="memory", by="MemoryRecord.to_dict")
            data["embedding"] = numpy.asarray(self.embedding, dtype="<f4").tobytes()
        return data

    def identity(self) -> bytes:
        """16 bytes that two records share when they say the same: of one user, agent and kind, with the same text.

        Documents and messages stand somewhere; of these, the thread and the metadata must be the same too. Of triples
        it is subject, predicate and object that must be, whose one text can be cut in several ways.
        """
        place: Any = [self.thread_id, self.metadata] if self.kind in _IN_PLACE else None
        if self.kind == TRIPLE:
            place = [self.metadata.get(end) for end in ENDS]
        said = jsontext.dumps([self.user_id, self.agent_id, self.kind, self.text, place], "memory")
        return hashlib.blake2b(said.encode(), digest_size=16).digest()

    def changed(self, **fields: Any) -> Self:
        """A copy with these fields; the metadata is the copy's own. Another text has no embedding yet."""
        if "text" in fields and fields["text"] != self.text:
            fields.setdefault("embedding", None)
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**{**values, **fields})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MemoryRecord):
            return NotImplemented
        mine, theirs = self.__dict__, other.__dict__
        return all(mine[name] == theirs[name] for name in mine if name not in ("score", "embedding"))

    __hash__ = None  # type: ignore[assignment]  # a record is mutable

    def __repr__(self) -> str:
        """Names the record without showing what it says."""
        score = "" if self.score is None else f", score={self.score:.3g}"
        return f"{type(self).__name__}(id={self.id!r}, kind={self.kind!r}, user_id={self.user_id!r}{score})"

    __str__ = __repr__


class MemoryRecordResult(MemoryRecord):
    """A record that was found. `dist` is the cosine distance, `1 - score`."""

    def __init__(self, text: str = _ABSENT, *, dist: float | None = None, **fields: Any) -> None:
        if dist is not None and fields.get("score") is None:
            fields["score"] = 1.0 - dist
        super().__init__(text, **fields)

    @property
    def dist(self) -> float | None:
        return None if self.score is None else 1.0 - self.score


@dataclass(frozen=True)
class MemoryRecordResults(Sequence[MemoryRecord]):
    """A page of records, which is a sequence of them.

    `total` counts all that match, on whichever page; `next_offset` is where the next page begins, None after the last.
    """

    memories: list[MemoryRecord]
    total: int = -1
    next_offset: int | None = None

    def __post_init__(self) -> None:
        if self.total < 0:
            object.__setattr__(self, "total", len(self.memories))

    def __len__(self) -> int:
        return len(self.memories)

    @overload
    def __getitem__(self, index: int) -> MemoryRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[MemoryRecord]: ...
    def __getitem__(self, index: int | slice) -> MemoryRecord | list[MemoryRecord]:
        return self.memories[index]

    def __iter__(self) -> Iterator[MemoryRecord]:
        return iter(self.memories)


class Document(MemoryRecord):
    """A record whose kind is "document" unless said otherwise."""

    def __init__(self, text: str = _ABSENT, *, kind: str = "document", **fields: Any) -> None:
        super().__init__(text, kind=kind, **fields)


Memory = MemoryRecord
Fact = MemoryRecord


def _text(value: Any) -> Any:
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ValidationError("a memory is read from UTF-8; this dict holds other bytes") from None


def _metadata(text: str) -> Any:
    try:
        return jsontext.loads(text or "{}")
    except ValueError:
        raise ValidationError("a memory's metadata is a dict or its JSON text; this text is no JSON") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValidationError("a memory's score is a number; this text is none") from None
