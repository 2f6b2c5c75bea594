"""What our stores do beyond the laws of the kits."""

from __future__ import annotations

import asyncio
import inspect
import logging
from pathlib import Path
from typing import Any

import pytest

from memexllm import HistoryManager, MemoryManager, MemoryStorage, Message, Plugin, ProviderError, SQLiteStorage
from memexllm.core.errors import ConfigurationError, MemoryNotFoundError, StorageError, ValidationError
from memexllm.memory import MemoryRecord, Triple
from memexllm.memory.documents import chunk_records
from memexllm.memory.stores import (
    SyncThreadHistoryStore,
    SyncVectorDocumentStore,
    SyncVectorFactStore,
    SyncVectorGraphStore,
    ThreadHistoryStore,
    VectorDocumentStore,
    VectorFactStore,
    VectorGraphStore,
)
from tests.memory.test_memory_ingesting import TEXT, Paragraphs, Shouting, Silent

PAIRS = [
    (VectorFactStore, SyncVectorFactStore),
    (VectorDocumentStore, SyncVectorDocumentStore),
    (VectorGraphStore, SyncVectorGraphStore),
    (ThreadHistoryStore, SyncThreadHistoryStore),
]


@pytest.mark.parametrize(("waiting", "not_waiting"), PAIRS, ids=lambda kind: kind.__name__)
def test_both_stores_of_a_kind_have_the_same_methods_and_parameters(waiting: Any, not_waiting: Any) -> None:
    names = [name for name in vars(not_waiting) if not name.startswith("_")]
    assert [name for name in vars(waiting) if not name.startswith("_") and name != "sync"] == names
    for name in ["__init__", *names]:
        assert inspect.signature(getattr(waiting, name)) == inspect.signature(getattr(not_waiting, name)), name
    assert all(inspect.iscoroutinefunction(getattr(waiting, name)) for name in names)


# Facts.


def test_facts_are_memories_and_other_memories_are_no_facts() -> None:
    memory = MemoryManager("memory:")
    fact = memory.facts.add(content="likes tea", user_id="ada")
    document = memory.add("tea is a plant", user_id="ada", kind="document")
    assert memory.get(fact.id) == fact
    assert [each.id for each in memory.facts.search(query="tea")] == [fact.id]
    for call in (memory.facts.get, lambda fact_id: memory.facts.update(fact_id=fact_id, content="stolen")):
        with pytest.raises(MemoryNotFoundError):
            call(fact_id=document.id)
    memory.facts.delete(fact_id=document.id)
    memory.facts.delete_all(user_id="ada")
    assert [each.id for each in memory.list()] == [document.id]


def test_a_user_reaches_his_own_fact_only_when_he_is_named() -> None:
    facts = MemoryManager("memory:").facts
    fact = facts.add(content="likes tea", user_id="ada")
    with pytest.raises(MemoryNotFoundError):
        facts.get(fact_id=fact.id, user_id="bob")
    with pytest.raises(MemoryNotFoundError):
        facts.update(fact_id=fact.id, content="stolen", user_id="bob")
    facts.delete(fact_id=fact.id, user_id="bob")
    assert facts.get(fact_id=fact.id, user_id="ada").content == "likes tea"


def test_filters_add_to_what_the_store_asks_and_cannot_take_it_away() -> None:
    facts = MemoryManager("memory:").facts
    for number in range(3):
        facts.add(content=f"tea {number}", user_id="ada", metadata={"n": number})
    found = facts.search(query="tea", user_id="ada", filters={"metadata": {"n": {"gte": 1}}})
    assert sorted(fact.metadata["n"] for fact in found) == [1, 2]
    for filters in ({"user_id": "bob"}, {"kind": "document"}, {"n": 1}, "n"):
        with pytest.raises(ValidationError):
            facts.search(query="tea", user_id="ada", filters=filters)


@pytest.mark.parametrize("slot", ["facts", "documents", "graph"])
def test_everything_is_deleted_where_that_is_allowed(slot: str) -> None:
    memory = MemoryManager("memory:", allow_delete_all=True)
    memory.facts.add(content="tea")
    memory.documents.add(content="tea")
    memory.graph.add(triples=[Triple("tea", "is", "green")])
    getattr(memory, slot).delete_all()
    assert memory.count() == 2


def test_plugins_are_told_of_facts() -> None:
    told: list[str] = []
    hooks = {"on_memory_added": lambda self, memory: told.append(memory.text)}
    memory = MemoryManager("memory:", plugins=[type("Mine", (Plugin,), hooks)])
    memory.facts.add(content="tea")
    memory.graph.add(triples=[Triple("Ada", "likes", "tea")])
    assert told == ["tea", "Ada likes tea"]


# Documents.


@pytest.mark.parametrize(
    "strategy", ["fixed", "sentence", "markdown", "code", "token", Paragraphs(), Shouting()], ids=range(7)
)
def test_a_document_is_put_together_whatever_cut_it(strategy: Any) -> None:
    text = f"\n \n{TEXT}\tend\n\n"
    documents = SyncVectorDocumentStore("memory:", chunk_strategy=strategy)
    documents.add(content=text, doc_id="a")
    assert documents.get(doc_id="a").content == text


def test_an_ingested_file_is_a_document(tmp_path: Path) -> None:
    text = "# Tea\n\nLeaves.\n\n\n# Bread\n\nFlour, and more flour.\n"
    (tmp_path / "handbook.md").write_text(text)
    memory = MemoryManager("memory:")
    ingested = memory.ingest_file(tmp_path / "handbook.md", user_id="ada", metadata={"lang": "en"})
    (document,) = memory.documents.get_all(user_id="ada")
    assert (document.id, document.content) == (ingested.document_id, text)
    assert (document.metadata["lang"], document.metadata["source"]) == ("en", str(tmp_path / "handbook.md"))
    assert not {"headings", "chunk", "start", "of_chunk"} & set(document.metadata)
    assert memory.documents.search(query="flour", user_id="ada")[0].content == text


def test_a_text_that_is_there_is_not_kept_twice() -> None:
    memory = MemoryManager("memory:")
    first = memory.documents.add(content=TEXT, doc_id="a")
    assert memory.documents.add(content=TEXT, doc_id="a") == first
    with pytest.raises(ValidationError, match=r"'a' exists already.*update\(\)"):
        memory.documents.add(content="another", doc_id="a")
    nameless = memory.documents.add(content="tea")
    assert memory.documents.add(content="tea").id == nameless.id
    assert memory.ingest_text("tea").document_id == nameless.id


def test_a_change_that_was_broken_off_is_cleared_up_by_the_next() -> None:
    memory = MemoryManager("memory:")
    memory.documents.add(content=TEXT, doc_id="a", metadata={"n": 1})
    apart = MemoryManager("memory:")
    apart.documents.add(content="new. " * 300, doc_id="a")
    memory.add_many(apart.list(limit=1000))  # as a change would that ended before the former chunks were deleted
    assert memory.documents.get(doc_id="a").content == "new. " * 300
    memory.documents.update(doc_id="a", content=TEXT)
    assert memory.documents.get(doc_id="a").content == TEXT
    assert {record.metadata["edition"] for record in memory.list(limit=1000)} == {memory.list()[0].metadata["edition"]}


def test_a_change_keeps_when_it_was_made() -> None:
    documents = MemoryManager("memory:").documents
    made = documents.add(content=TEXT, doc_id="a")
    changed = documents.update(doc_id="a", content="tea")
    assert (changed.created_at, documents.get(doc_id="a").created_at) == (made.created_at, made.created_at)
    assert changed.updated_at > made.updated_at


@pytest.mark.parametrize(
    "asked",
    [{"content": " \n"}, {"content": 1}, {"content": "a", "metadata": {"chunk": 1}}, {"content": "a", "doc_id": ""}],
    ids=range(4),
)
def test_what_is_no_document_is_refused(asked: dict[str, Any]) -> None:
    memory = MemoryManager("memory:")
    with pytest.raises(ValidationError):
        memory.documents.add(**asked)
    assert memory.count() == 0


def test_a_document_without_chunks_is_refused() -> None:
    with pytest.raises(ValidationError, match="no chunk"):
        SyncVectorDocumentStore("memory:", chunk_strategy=Silent()).add(content="tea")


def test_no_text_of_a_document_stands_in_two_chunks_for_the_sake_of_keeping_it() -> None:
    documents = SyncVectorDocumentStore("memory:")
    from memexllm.memory.chunking import SentenceChunker, chunks_of
    from memexllm.memory.documents import Ingested

    records = chunk_records(Ingested(TEXT), chunks_of(SentenceChunker(), TEXT))
    between = "".join(record.metadata.get("before", "") + record.metadata.get("after", "") for record in records)
    assert between.isspace() or not between
    assert documents.get_all() == []


# Triples.

ROUTES = [
    Triple("Oslo", "rail", "Bergen"),
    Triple("Bergen", "ferry", "Leeds"),
    Triple("Oslo", "air", "Leeds"),
    Triple("Leeds", "road", "York"),
    Triple("Rome", "road", "Pisa"),
]


def names(path: list[Triple]) -> list[str]:
    return [triple.predicate for triple in path]


def test_neighbours_are_reached_step_by_step() -> None:
    graph = MemoryManager("memory:").graph
    graph.add(triples=ROUTES, user_id="u")
    graph.add(triples=[Triple("York", "rail", "Whitby")], user_id="v")
    assert names(graph.neighbours(entity="York", user_id="u").triples) == ["road"]
    assert set(names(graph.neighbours(entity="York", depth=2, user_id="u"))) == {"road", "ferry", "air"}
    assert set(graph.neighbours(entity="York", depth=9, user_id="u").entities) == {"York", "Leeds", "Bergen", "Oslo"}
    assert graph.neighbours(entity="nowhere", depth=9, user_id="u").triples == []


def test_paths_lead_from_one_entity_to_another_the_shortest_first() -> None:
    graph = MemoryManager("memory:").graph
    graph.add(triples=ROUTES, user_id="u")
    graph.add(triples=[Triple("Oslo", "secret", "York")], user_id="v")
    assert [names(path) for path in graph.paths(start="Oslo", end="York", user_id="u")] == [
        ["air", "road"],
        ["rail", "ferry", "road"],
    ]
    assert [names(path) for path in graph.paths(start="York", end="Oslo", max_depth=2, user_id="u")] == [
        ["road", "air"]
    ]
    assert len(graph.paths(start="Oslo", end="York", limit=1, user_id="u")) == 1
    assert graph.paths(start="Oslo", end="Rome", max_depth=9, user_id="u") == []
    assert graph.paths(start="Oslo", end="Oslo", user_id="u") == []


def test_too_many_ways_are_refused_and_not_walked_for_ever() -> None:
    graph = MemoryManager("memory:").graph
    cities = [f"city {number}" for number in range(14)]
    graph.add(triples=[Triple(a, "road", b) for a in cities for b in cities if a != b])
    with pytest.raises(ValidationError, match="max_depth"):
        graph.paths(start="city 0", end="nowhere", max_depth=9)


def test_a_memory_that_is_called_a_triple_and_is_none_is_left_out() -> None:
    memory = MemoryManager("memory:")
    memory.add("no triple", kind="triple")
    assert memory.graph.get_all().triples == memory.graph.search(query="triple").triples == []


def test_a_triple_shows_nothing_of_what_it_says() -> None:
    assert "Ada" not in repr(Triple("Ada", "likes", "tea"))
    for blank in ("", " ", 1):
        with pytest.raises(ValidationError):
            Triple("Ada", blank, "tea")  # type: ignore[arg-type]  # what is refused


@pytest.mark.parametrize(
    "triples", [["a"], Triple("a", "b", "c"), 1, [Triple("a", "b", "c", user_id="v")]], ids=range(4)
)
def test_what_is_no_list_of_triples_is_refused(triples: Any) -> None:
    memory = MemoryManager("memory:")
    with pytest.raises(ValidationError):
        memory.graph.add(triples=triples, user_id="u")
    assert memory.count() == 0


# History.


def test_sessions_are_the_threads_of_a_history_manager(tmp_path: Path) -> None:
    with HistoryManager(tmp_path / "chat.db") as manager, MemoryManager("memory:", history=manager) as memory:
        thread = manager.create_thread(user_id="ada")
        manager.add_message(thread.id, "I like tea", "user")
        memory.history.add(session_id=thread.id, messages=[Message("Noted", "assistant")], user_id="ada")
        assert [message.content for message in manager.get_messages(thread.id)] == ["I like tea", "Noted"]
        assert memory.history.get_all(user_id="ada") == [thread.id]
        memory.close()
        assert manager.get_messages(thread.id)  # what was given is not closed


def test_a_session_of_another_user_counts_as_unknown() -> None:
    history = SyncThreadHistoryStore(MemoryStorage())
    history.add(session_id="a", messages=[Message("tea", "user")], user_id="ada")
    assert history.get(session_id="a", user_id="bob") == []
    assert history.search(session_id="a", query="tea", user_id="bob") == []
    history.delete(session_id="a", user_id="bob")
    assert len(history.get(session_id="a", user_id="ada")) == 1


class Failing(MemoryStorage):
    provider_name = "threads"

    def read_head(self, thread_id: str) -> Any:
        raise RuntimeError("no connection")


def test_what_a_storage_raises_is_a_provider_error() -> None:
    history = SyncThreadHistoryStore(Failing())
    with pytest.raises(ProviderError, match=r"^\[threads\] get failed: Failed to get thread: no connection") as failed:
        history.get(session_id="a")
    assert isinstance(failed.value.cause, StorageError)


@pytest.mark.parametrize(
    ("method", "asked"),
    [
        ("get", {"session_id": ""}),
        ("get", {"session_id": "a", "limit": 0}),
        ("get", {"session_id": "a", "cursor": "x"}),
        ("search", {"session_id": "a", "query": " "}),
        ("add", {"session_id": "a", "messages": Message("a", "user")}),
        ("add", {"session_id": "a", "messages": ["a"]}),
        ("add", {"session_id": "a", "messages": [{"content": "a"}]}),
    ],
    ids=range(7),
)
def test_what_cannot_be_asked_is_refused(method: str, asked: dict[str, Any]) -> None:
    history = SyncThreadHistoryStore(MemoryStorage())
    history.add(session_id="a", messages=[Message("tea", "user")])
    with pytest.raises(ValidationError):
        getattr(history, method)(**asked)
    assert len(history.get(session_id="a")) == 1


def test_two_users_who_begin_one_session_at_once_do_not_share_it(tmp_path: Path) -> None:
    async def main() -> list[Any]:
        history = ThreadHistoryStore(SQLiteStorage(tmp_path / "chat.db"))
        adding = [
            history.add(session_id="a", messages=[Message(user, "user")], user_id=user)
            for user in ("ada", "bob", "eve")
        ]
        outcomes = await asyncio.gather(*adding, return_exceptions=True)
        said = await history.get(session_id="a")
        await history.close()
        return [said, [each for each in outcomes if isinstance(each, Exception)]]

    said, refused = asyncio.run(main())
    assert (len(said), len(refused)) == (1, 2)


def test_nothing_is_said_of_what_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        memory = MemoryManager("memory:", history=MemoryStorage())
        for slot in (memory.facts, memory.documents, memory.graph, memory.history):
            assert "secret" not in repr(slot)
        memory.facts.add(content="secret")
        record = MemoryRecord("secret", kind="document")
    assert "secret" not in caplog.text + repr(record)


def test_a_store_needs_a_place() -> None:
    with pytest.raises(ConfigurationError, match="VectorFactStore needs"):
        VectorFactStore(None)
