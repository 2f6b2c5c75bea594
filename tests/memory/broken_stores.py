"""Stores that are broken in one way each."""

from __future__ import annotations

from typing import Any

from memexllm import MemoryStorage
from memexllm.memory.stores import ThreadHistoryStore, VectorDocumentStore, VectorFactStore, VectorGraphStore
from memexllm.testing._memory_driven import KitEmbeddings


class Facts(VectorFactStore):
    def __init__(self) -> None:
        super().__init__("memory:", embeddings=KitEmbeddings())


class FactsSearchEveryone(Facts):
    async def search(self, *, user_id: Any = None, **asked: Any) -> Any:
        return await super().search(**asked)


class FactsListEveryone(Facts):
    async def get_all(self, *, user_id: Any = None, agent_id: Any = None, limit: int = 100) -> Any:
        return await super().get_all(agent_id=agent_id, limit=limit)


class FactsDeleteEveryones(Facts):
    async def delete_all(self, *, user_id: Any = None, agent_id: Any = None) -> None:
        for fact in await self.get_all(limit=1000):
            await self.delete(fact_id=fact.id)


class FactsLoseMetadata(Facts):
    async def add(self, *, content: str, metadata: Any = None, **whose: Any) -> Any:
        return await super().add(content=content, **whose)


class Documents(VectorDocumentStore):
    def __init__(self) -> None:
        super().__init__("memory:", embeddings=KitEmbeddings())


class DocumentsAreStripped(Documents):
    async def add(self, *, content: str, **given: Any) -> Any:
        return await super().add(content=content.strip(), **given)


class DocumentsOfAnyone(Documents):
    async def get(self, *, doc_id: str, user_id: Any = None) -> Any:
        return next(each for each in await self.get_all(limit=1000) if each.id == doc_id)


class DocumentsKeepTheOldText(Documents):
    async def update(self, *, doc_id: str, content: str, user_id: Any = None, metadata: Any = None) -> Any:
        await self.get(doc_id=doc_id, user_id=user_id)
        return await self.add(content=content, doc_id=f"{doc_id}-2", user_id=user_id, metadata=metadata)


class Graph(VectorGraphStore):
    def __init__(self) -> None:
        super().__init__("memory:", embeddings=KitEmbeddings())


class GraphDeletesAnyones(Graph):
    async def delete(self, *, entity: Any = None, triple_id: Any = None, user_id: Any = None) -> None:
        await super().delete(entity=entity, triple_id=triple_id)


class GraphLooksAtSubjects(Graph):
    async def get(self, *, entity: str, user_id: Any = None) -> Any:
        found = await super().get(entity=entity, user_id=user_id)
        return type(found)([triple for triple in found if triple.subject == entity])


class History(ThreadHistoryStore):
    def __init__(self) -> None:
        super().__init__(MemoryStorage())


class HistoryLetsAnyoneIn(History):
    async def add(self, *, session_id: str, messages: Any, user_id: Any = None) -> Any:
        begun = await self.get(session_id=session_id)
        return await super().add(session_id=session_id, messages=messages, user_id=None if begun else user_id)


class HistoryGivesTheOldest(History):
    async def get(self, *, session_id: str, limit: int = 50, cursor: Any = None, user_id: Any = None) -> Any:
        page = await super().get(session_id=session_id, limit=1000)
        return type(page)(page[:limit])
