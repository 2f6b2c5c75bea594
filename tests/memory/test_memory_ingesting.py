"""Texts and files become records: all or none, none twice, each knowing where it stands."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memexllm import AsyncMemoryManager, MemoryManager
from memexllm.core.errors import ConfigurationError, ProviderError, ValidationError
from memexllm.memory import ChunkingStrategy, InMemoryVectorDatabase, MemoryRecord, SQLiteVectorDatabase
from memexllm.memory.embeddings import HashingEmbeddings
from tests.memory.speaking import ListDatabase, Spoken

TEXT = "Tea is a drink. It is made of leaves.\n\nBread is made of flour. Tea is a drink.\n" * 30


class Paragraphs(ChunkingStrategy):
    def chunk(self, text: str) -> list[str]:
        return [paragraph for paragraph in text.split("\n\n") if paragraph.strip()]


class Shouting(ChunkingStrategy):
    """Its chunks do not stand in the text."""

    def chunk(self, text: str) -> list[str]:
        return [text.upper()]


class Silent(ChunkingStrategy):
    def chunk(self, text: str) -> list[str]:
        return []


class Broken(ChunkingStrategy):
    def chunk(self, text: str) -> list[str]:
        raise KeyError("no rule")


@pytest.fixture(params=["memory", "sqlite", "foreign"])
def memory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Spoken]:
    databases: dict[str, Any] = {
        "memory": lambda: InMemoryVectorDatabase(HashingEmbeddings()),
        "sqlite": lambda: SQLiteVectorDatabase(tmp_path / "memory.db", HashingEmbeddings()),
        "foreign": ListDatabase,
    }
    with asyncio.Runner() as runner:
        spoken = Spoken(AsyncMemoryManager(databases[request.param]()), runner)
        yield spoken
        spoken.close()


@pytest.mark.parametrize("strategy", ["fixed", "sentence", "markdown", "code", "token", "own"])
def test_chunks_know_where_they_stand(memory: Spoken, strategy: str) -> None:
    memory.register_chunking_strategy("own", Paragraphs())
    ingested = memory.ingest_text(TEXT, chunk_strategy=strategy, source="notes", user_id="ada", metadata={"n": 1})
    chunks = memory.list(limit=1000).memories
    assert [chunk.id for chunk in chunks] == ingested.memory_ids
    assert (ingested.n_added, ingested.n_removed) == (len(chunks), 0)
    for place, chunk in enumerate(chunks):
        assert TEXT[chunk.metadata["start"] : chunk.metadata["end"]] == chunk.text
        assert (chunk.kind, chunk.user_id, chunk.metadata["chunk"]) == ("document", "ada", place)
        assert (chunk.metadata["source"], chunk.metadata["n"]) == ("notes", 1)
        assert chunk.metadata["document_id"] == ingested.document_id


def test_a_text_that_is_there_is_not_ingested_again(memory: Spoken) -> None:
    first = memory.ingest_text(TEXT, user_id="ada")
    again = memory.ingest_text(TEXT, user_id="ada")
    assert (again.memory_ids, again.n_added, again.n_removed) == (first.memory_ids, 0, 0)
    assert memory.count() == len(first.memory_ids)


def test_cut_in_another_way_it_replaces_the_former_chunks(memory: Spoken) -> None:
    first = memory.ingest_text(TEXT, chunk_strategy="fixed", user_id="ada")
    second = memory.ingest_text(TEXT, chunk_strategy=Paragraphs(), user_id="ada")
    assert second.n_removed == len(first.memory_ids)
    assert [record.id for record in memory.list(limit=1000)] == second.memory_ids


def test_another_user_has_a_document_of_his_own(memory: Spoken) -> None:
    alices, bobs = memory.ingest_text(TEXT, user_id="alice"), memory.ingest_text(TEXT, user_id="bob")
    assert alices.document_id != bobs.document_id
    assert memory.delete_all(user_id="alice", metadata={"document_id": alices.document_id}) == len(alices.memory_ids)
    assert memory.count() == len(bobs.memory_ids) == memory.count(user_id="bob")


def test_what_was_broken_off_is_completed(memory: Spoken) -> None:
    whole = memory.ingest_text(TEXT, chunk_strategy=Paragraphs())
    for memory_id in whole.memory_ids[::2]:
        memory.delete(memory_id)
    again = memory.ingest_text(TEXT, chunk_strategy=Paragraphs())
    assert again.memory_ids == whole.memory_ids
    assert again.n_added == len(whole.memory_ids[::2])
    assert {record.id for record in memory.list(limit=1000)} == set(whole.memory_ids)


def test_the_same_text_said_twice_in_a_document_is_two_chunks(memory: Spoken) -> None:
    memory.ingest_text("Tea.\n\nTea.", chunk_strategy=Paragraphs())
    assert [(record.text, record.metadata["start"]) for record in memory.list()] == [("Tea.", 0), ("Tea.", 6)]


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_a_text_without_anything_leaves_nothing(memory: Spoken, text: str) -> None:
    assert memory.ingest_text(text).memory_ids == []
    assert memory.count() == 0


def test_a_chunker_registered_by_name_is_used(memory: Spoken) -> None:
    memory.register_chunking_strategy("paragraphs", Paragraphs())
    memory.register_chunking_strategy("silent", Silent())
    assert len(memory.ingest_text("a\n\nb", chunk_strategy="paragraphs").memory_ids) == 2
    assert memory.ingest_text("c", chunk_strategy="silent").memory_ids == []
    with pytest.raises(ConfigurationError, match="'nobody'"):
        memory.ingest_text("d", chunk_strategy="nobody")


def test_chunks_that_do_not_stand_in_the_text_have_no_offsets(memory: Spoken) -> None:
    memory.ingest_text("tea", chunk_strategy=Shouting())
    (chunk,) = memory.list()
    assert (chunk.text, "start" in chunk.metadata) == ("TEA", False)


def test_what_a_chunker_raises_names_it(memory: Spoken) -> None:
    with pytest.raises(ProviderError, match=r"\[Broken\] chunk failed: 'no rule'"):
        memory.ingest_text("tea", chunk_strategy=Broken())
    with pytest.raises(ValidationError):
        memory.ingest_text(b"tea")


class FailingLate(HashingEmbeddings):
    """Fails with the last batch."""

    def __init__(self) -> None:
        super().__init__()
        self.n_texts = 0

    def embed_batch(self, texts: Any) -> Any:
        self.n_texts += len(texts)
        if self.n_texts > 400:
            raise OSError("quota")
        return super().embed_batch(texts)


@pytest.mark.parametrize("place", ["memory:", ":memory:"])
def test_all_chunks_are_there_or_none(place: str) -> None:
    memory = MemoryManager(place, embeddings=FailingLate())
    with pytest.raises(ProviderError, match="quota"):
        memory.ingest_text("\n\n".join(f"tea {n}" for n in range(500)), chunk_strategy=Paragraphs())
    assert memory.count() == 0


def test_progress_is_told_up_to_the_last_chunk() -> None:
    told: list[tuple[int, int]] = []
    memory = MemoryManager("memory:")
    text = "\n\n".join(f"tea {n}" for n in range(300))
    memory.ingest_text(text, chunk_strategy=Paragraphs(), progress=lambda done, total: told.append((done, total)))
    assert told == [(128, 300), (256, 300), (300, 300)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "Tea is a drink."),
        ("a.md", "# Tea\n\nIs a drink.\n"),
        ("a.html", "<h1>Tea</h1><script>no()</script><p>Is a drink.</p>"),
        ("a.py", 'def tea():\n    return "drink"\n'),
    ],
)
def test_a_file_is_ingested_by_what_it_is(memory: Spoken, tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    told: list[tuple[int, int]] = []
    ingested = memory.ingest_file(path, user_id="ada", progress=lambda done, total: told.append((done, total)))
    assert memory.ingest_file(str(path), user_id="ada").n_added == 0
    records = memory.list(metadata={"source": str(path)}).memories
    assert [record.id for record in records] == ingested.memory_ids != []
    assert "drink" in "".join(record.text for record in records)
    assert "no()" not in "".join(record.text for record in records)
    assert told[-1][0] == told[-1][1] > 0


def test_a_file_that_is_not_there_is_the_usual_error(memory: Spoken, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        memory.ingest_file(tmp_path / "missing.txt")


def test_the_semantic_chunker_embeds_as_the_database_does() -> None:
    memory = MemoryManager("memory:")
    assert memory.ingest_text(TEXT, chunk_strategy="semantic").memory_ids != []


def test_an_ingested_chunk_is_told_to_plugins() -> None:
    told: list[MemoryRecord] = []

    class Told:
        def on_memory_added(self, record: MemoryRecord) -> None:
            told.append(record)

    memory = MemoryManager("memory:", plugins=[Told()])
    ingested = memory.ingest_text("a\n\nb", chunk_strategy=Paragraphs())
    memory.ingest_text("a\n\nb", chunk_strategy=Paragraphs())
    assert [record.id for record in told] == ingested.memory_ids
