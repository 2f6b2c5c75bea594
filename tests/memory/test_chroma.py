"""The store over Chroma: on the package itself where it is installed, and on a double of its client."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from memexllm import Memio, ProviderError
from memexllm.core.errors import MemoryNotFoundError
from memexllm.providers.chroma import ChromaDocumentAdapter
from memexllm.testing import DocumentStoreConformance
from memexllm.testing._memory_driven import KitEmbeddings
from tests.memory.chroma_double import ChromaDouble

_numbers = itertools.count()


class TestOnADouble(DocumentStoreConformance):
    @pytest.fixture
    def store(self) -> ChromaDocumentAdapter:
        return ChromaDocumentAdapter(client=ChromaDouble(), collection_name="docs")


class TestOnADoubleEmbeddedHere(DocumentStoreConformance):
    @pytest.fixture
    def store(self) -> ChromaDocumentAdapter:
        return ChromaDocumentAdapter(client=ChromaDouble(), collection_name="docs", embeddings=KitEmbeddings())


class TestOnChroma(DocumentStoreConformance):
    @pytest.fixture
    def store(self) -> ChromaDocumentAdapter:
        chromadb = pytest.importorskip("chromadb", reason="Chroma is not installed")
        # All its clients in memory share one store.
        name = f"docs-{next(_numbers)}"
        return ChromaDocumentAdapter(
            client=chromadb.EphemeralClient(), collection_name=name, embeddings=KitEmbeddings()
        )


def test_what_others_have_put_in_is_nobodys() -> None:
    client = ChromaDouble()
    theirs = client.get_or_create_collection("docs")
    theirs.add(ids=["old"], documents=["tea"], metadatas=[{"lang": "en"}])
    store = ChromaDocumentAdapter(client=client, collection_name="docs")

    async def main() -> None:
        found = await store.get(doc_id="old")
        assert (found.content, found.user_id, found.metadata) == ("tea", None, {"lang": "en"})
        assert await store.get_all(user_id="ada") == []
        (hit,) = await store.search(query="tea", filters={"metadata": {"lang": "en"}})
        assert hit.score == 1
        with pytest.raises(MemoryNotFoundError):
            await store.get(doc_id="old", user_id="ada")

    asyncio.run(main())


class Unreachable:
    def get_or_create_collection(self, name: str, **options: Any) -> Any:
        raise ConnectionRefusedError("nobody answers")


def test_what_chroma_raises_is_a_provider_error() -> None:
    memory = Memio(documents=ChromaDocumentAdapter(client=Unreachable(), collection_name="docs"))
    with pytest.raises(ProviderError, match=r"^\[chroma\] get_or_create_collection failed: nobody answers"):
        asyncio.run(memory.documents.get_all())
