"""The four contracts of stores. Nothing is subclassed: an object whose asynchronous methods match is a store.

All arguments are given by name. A store keeps users apart: what one `user_id` has put in is never returned, counted,
changed or deleted through another. `user_id=None` means nobody's in what names one thing, and everybody's in what looks
for several. `filters` are those of `memexllm.memory.filters`, as one dict. What a store raises reaches the caller of a
manager as a `ProviderError`. The laws are tests: `memexllm.testing.FactStoreConformance` and its three siblings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from memexllm.core.models import Message
from memexllm.memory.records import Document, Fact
from memexllm.memory.stores.triples import GraphResult, Triple


@runtime_checkable
class FactStore(Protocol):
    """Short texts about a user or an agent."""

    async def add(
        self,
        *,
        content: str,
        user_id: str | None = None,
        agent_id: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Fact:
        """Remember a fact."""
        ...

    async def get(self, *, fact_id: str) -> Fact:
        """The fact; an error when there is none."""
        ...

    async def search(
        self,
        *,
        query: str,
        user_id: str | None = None,
        agent_id: str | None = None,
        limit: int = 10,
        filters: dict[str, Any] | None = None,
    ) -> list[Fact]:
        """At most `limit` facts, the best first."""
        ...

    async def update(self, *, fact_id: str, content: str, metadata: dict[str, Any] | None = None) -> Fact:
        """Give a fact another text, and other metadata where they are given; the fact as it is now."""
        ...

    async def delete(self, *, fact_id: str) -> None:
        """Delete a fact for good."""
        ...

    async def delete_all(self, *, user_id: str | None = None, agent_id: str | None = None) -> None:
        """Delete the facts of a user, of an agent, or of one in the service of the other."""
        ...

    async def get_all(self, *, user_id: str | None = None, agent_id: str | None = None, limit: int = 100) -> list[Fact]:
        """At most `limit` facts, in the order in which they were added."""
        ...


@runtime_checkable
class HistoryStore(Protocol):
    """Messages of conversations; a session is a thread."""

    async def add(self, *, session_id: str, messages: Sequence[Message], user_id: str | None = None) -> Any:
        """Append messages; the first ones begin the session, which is then this user's."""
        ...

    async def get(self, *, session_id: str, limit: int = 50, cursor: str | None = None) -> list[Message]:
        """The newest `limit` messages, oldest first; with the `next_cursor` of a page, those before it."""
        ...

    async def get_all(self, *, user_id: str | None = None, limit: int = 100) -> list[str]:
        """Ids of sessions."""
        ...

    async def search(self, *, session_id: str, query: str, limit: int = 10) -> list[Message]:
        """Messages of the session that hold words of the query, the best first."""
        ...

    async def delete(self, *, session_id: str) -> None:
        """Delete a session with all it holds."""
        ...

    async def delete_all(self, *, user_id: str | None = None) -> None:
        """Delete the sessions of a user."""
        ...


@runtime_checkable
class DocumentStore(Protocol):
    """Texts of any length. A document is one user's: two users may have one of the same `doc_id`."""

    async def add(
        self,
        *,
        content: str,
        doc_id: str | None = None,
        user_id: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Document:
        """Keep a text."""
        ...

    async def get(self, *, doc_id: str, user_id: str | None = None) -> Document:
        """The whole text; an error when there is none."""
        ...

    async def get_all(
        self, *, user_id: str | None = None, limit: int = 100, filters: dict[str, Any] | None = None
    ) -> list[Document]:
        """At most `limit` documents, whole."""
        ...

    async def search(
        self, *, query: str, user_id: str | None = None, limit: int = 10, filters: dict[str, Any] | None = None
    ) -> list[Document]:
        """At most `limit` documents, whole, each once, the best first."""
        ...

    async def update(
        self, *, doc_id: str, content: str, user_id: str | None = None, metadata: dict[str, Any] | None = None
    ) -> Document:
        """Give a document another text, and other metadata where they are given; the document as it is now."""
        ...

    async def delete(self, *, doc_id: str, user_id: str | None = None) -> None:
        """Delete a document for good."""
        ...

    async def delete_all(self, *, user_id: str | None = None) -> None:
        """Delete the documents of a user."""
        ...


@runtime_checkable
class GraphStore(Protocol):
    """Triples of subject, predicate and object: what is known of how things hang together."""

    async def add(self, *, triples: Sequence[Triple], user_id: str | None = None) -> Any:
        """Remember triples."""
        ...

    async def get(self, *, entity: str, user_id: str | None = None) -> GraphResult:
        """The triples whose subject or object this is."""
        ...

    async def get_all(self, *, user_id: str | None = None, limit: int = 100) -> GraphResult:
        """At most `limit` triples, in the order in which they were added."""
        ...

    async def search(self, *, query: str, user_id: str | None = None, limit: int = 10) -> GraphResult:
        """At most `limit` triples, the best first."""
        ...

    async def delete(
        self, *, entity: str | None = None, triple_id: str | None = None, user_id: str | None = None
    ) -> None:
        """Delete one triple, or all in which an entity stands."""
        ...

    async def delete_all(self, *, user_id: str | None = None) -> None:
        """Delete the triples of a user."""
        ...


PROTOCOLS: Mapping[str, type] = {
    "facts": FactStore,
    "history": HistoryStore,
    "documents": DocumentStore,
    "graph": GraphStore,
}
"""By the slot of a manager."""
