"""`MessageRecall`: past turns by words and meaning, an index that keeps up, and users kept apart."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from time import process_time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memexllm import (
    AsyncMessageRecall,
    HistoryManager,
    MemoryStorage,
    Message,
    MessageHit,
    MessageRecall,
    SQLiteStorage,
)
from memexllm.core.errors import ConfigurationError, ProviderError, ValidationError
from memexllm.core.flow import arun
from memexllm.memory import InMemoryVectorDatabase, MemoryRecord, SQLiteVectorDatabase
from memexllm.memory._recall_index import KIND
from memexllm.memory._recall_ranking import Candidate, ranked
from memexllm.providers import HashingEmbeddings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOON = datetime(2026, 5, 8, 12, tzinfo=UTC)
TOPICS = ("dog", "puppy", "sea", "ocean", "pay", "salary")


class Meanings:
    """Three meanings, each of two words; `embedded` are the turns it was given."""

    dimensions = 4

    def __init__(self) -> None:
        self.embedded: list[str] = []
        self.fails_after: int | None = None

    def embed(self, text: str) -> list[float]:
        found = [0.01, 0.0, 0.0, 0.0]
        for index, topic in enumerate(TOPICS):
            if topic in text.lower():
                found[1 + index // 2] += 1.0
        return found

    def embed_batch(self, texts: list[str]) -> list[list[float]]:
        if self.fails_after is not None and len(self.embedded) >= self.fails_after:
            raise OSError("the model is down")
        self.embedded += texts
        return [self.embed(text) for text in texts]


class AsyncMeanings(Meanings):
    async def embed(self, text: str) -> list[float]:  # type: ignore[override]  # the asynchronous form of the contract
        return super().embed(text)

    async def embed_batch(self, texts: list[str]) -> list[list[float]]:  # type: ignore[override]  # as above
        return [Meanings.embed(self, text) for text in texts]


@pytest.fixture
def meanings() -> Meanings:
    return Meanings()


@pytest.fixture(params=["memory", "sqlite"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[HistoryManager]:
    with HistoryManager(MemoryStorage() if request.param == "memory" else SQLiteStorage(tmp_path / "chat.db")) as made:
        yield made


@pytest.fixture
def recall(manager: HistoryManager, meanings: Meanings) -> Iterator[MessageRecall]:
    with MessageRecall(manager.storage, embeddings=meanings) as made:
        yield made


def say(manager: HistoryManager, thread_id: str, *texts: str, user_id: str | None = None) -> None:
    if thread_id not in {thread.id for thread in manager.list_threads()}:
        manager.create_thread(thread_id=thread_id, user_id=user_id)
    manager.add_messages(thread_id, [Message(text, "user") for text in texts])


def texts(hits: list[MessageHit]) -> list[str]:
    return [hit.message.text for hit in hits]


def indexed(recall: MessageRecall) -> set[str]:
    """The texts in the index, whoever looks."""
    assert recall._index is not None
    database: Any = recall._index.database
    return {record.text for record in database.page_of_rows(_everything(), 1000, 0).records}


def _everything() -> Any:
    from memexllm.memory.filters import parsed_filters

    return parsed_filters({"kind": KIND})


def test_words_are_found_without_any_model(manager: HistoryManager) -> None:
    say(manager, "t", "We walked the dog.", "Dinner is at eight.")
    assert texts(MessageRecall(manager.storage).search("dog"))[0] == "We walked the dog."


def test_meaning_is_found_where_no_word_is_the_same(manager: HistoryManager, recall: MessageRecall) -> None:
    say(manager, "t", "Dinner is at eight.", "The puppy sleeps.", "We went to the ocean.")
    hits = recall.search("sea", limit=1)
    assert texts(hits) == ["We went to the ocean."]
    assert hits[0].thread_id == "t"
    assert hits[0].message.seq == 2


async def test_asynchronous_embeddings_find_the_same(manager: HistoryManager) -> None:
    say(manager, "t", "Dinner is at eight.", "We went to the ocean.")
    async with AsyncMessageRecall(manager.storage, embeddings=AsyncMeanings()) as recall:
        assert await recall.catch_up() == 2
        assert texts(await recall.search("sea", limit=1)) == ["We went to the ocean."]


def test_asynchronous_parts_are_refused_by_the_synchronous_class(manager: HistoryManager) -> None:
    with pytest.raises(ConfigurationError, match="AsyncMessageRecall"):
        MessageRecall(manager.storage, embeddings=AsyncMeanings())


def test_what_both_searches_find_comes_first(manager: HistoryManager, recall: MessageRecall) -> None:
    say(manager, "t", "The ocean was cold.", "The sea was warm, the sea was fine.", "A cold dinner.")
    assert texts(recall.search("sea", limit=3))[0] == "The sea was warm, the sea was fine."


def test_hits_are_ordered_by_score_and_no_more_than_asked_for(manager: HistoryManager, recall: MessageRecall) -> None:
    say(manager, "t", *(f"The dog and the puppy, number {number}" for number in range(20)))
    hits = recall.search("dog", limit=7)
    assert len(hits) == 7
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_a_speaker_whom_the_query_names_gains() -> None:
    moment = int(NOON.timestamp() * 1e6)
    ada = Candidate(("t", 1), moment, "Ada", lexical=1.0)
    bob = Candidate(("t", 2), moment, "Bob Will", lexical=1.1)
    for query, first in (("What did Ada say?", 1), ("What did Bob say?", 2), ("What will she say?", 2)):
        order = ranked(query, [ada, bob], fused=False, speaker_weight=0.2)
        assert order[0][1] == ("t", first)
    assert ranked("What did Ada say?", [ada, bob], fused=False, speaker_weight=0)[0][1] == ("t", 2)


def test_what_was_said_in_a_good_sitting_gains() -> None:
    moment, day = int(NOON.timestamp() * 1e6), 86_400_000_000
    alone = Candidate(("t", 1), moment, None, lexical=0.51)
    others = [
        Candidate(("t", 10 + n), moment + day + n, None, lexical=score) for n, score in enumerate((1.0, 0.9, 0.5))
    ]
    order = [place for _, place in ranked("x", [alone, *others], fused=False, speaker_weight=0)]
    assert order[-1] == ("t", 1)


def test_an_index_is_made_by_the_first_search_and_only_added_to_afterwards(
    manager: HistoryManager, recall: MessageRecall, meanings: Meanings
) -> None:
    say(manager, "t", "The dog.", "The sea.")
    recall.search("dog")
    recall.search("dog")
    assert meanings.embedded == ["The dog.", "The sea."]
    say(manager, "t", "The pay.")
    recall.search("dog")
    assert meanings.embedded == ["The dog.", "The sea.", "The pay."]


def test_another_process_goes_on_with_the_index(tmp_path: Path, meanings: Meanings) -> None:
    path = tmp_path / "chat.db"
    with HistoryManager(SQLiteStorage(path)) as manager:
        say(manager, "t", "The dog.", "The sea.")
        with MessageRecall(manager.storage, embeddings=meanings) as first:
            first.search("dog")
    with MessageRecall(path, embeddings=meanings) as second:
        assert texts(second.search("puppy", limit=1)) == ["The dog."]
    assert len(meanings.embedded) == 2
    assert (tmp_path / "chat.db.recall").exists()


def test_a_search_embeds_only_so_many_turns(manager: HistoryManager, meanings: Meanings) -> None:
    recall = MessageRecall(manager.storage, embeddings=meanings, embedded_by_a_search=3)
    say(manager, "t", *(f"The dog {number}." for number in range(8)))
    recall.search("dog")
    assert len(meanings.embedded) == 3
    recall.search("dog")
    assert len(meanings.embedded) == 6
    assert recall.catch_up() == 2
    assert sorted(meanings.embedded) == sorted(indexed(recall))


def test_threads_that_found_no_room_are_embedded_by_later_searches(manager: HistoryManager, meanings: Meanings) -> None:
    for number in range(230):
        say(manager, f"t{number}", f"The dog {number}.", user_id="ada")
    recall = MessageRecall(manager.storage, embeddings=meanings, embedded_by_a_search=110)
    for _ in range(4):
        recall.search("puppy", user_id="ada")
    assert len(meanings.embedded) == len(indexed(recall)) == 230


def test_an_index_that_was_cut_off_heals(manager: HistoryManager, meanings: Meanings) -> None:
    say(manager, "t", *(f"The dog {number}." for number in range(450)))
    index = InMemoryVectorDatabase(meanings)
    meanings.fails_after = 200
    with pytest.raises(ProviderError):
        MessageRecall(manager.storage, index=index).search("dog")
    meanings.fails_after = None
    healed = MessageRecall(manager.storage, index=index)
    healed.search("dog")
    assert len(meanings.embedded) == len(set(meanings.embedded)) == len(indexed(healed)) == 450


def test_what_is_replaced_corrected_or_deleted_leaves_the_index(manager: HistoryManager, recall: MessageRecall) -> None:
    say(manager, "t", "My dog.", "My puppy.", "The ocean.")
    say(manager, "u", "A dog elsewhere.")
    recall.search("dog")
    messages = manager.get_messages("t")
    manager.correct_message("t", messages[1].id, "My salary.")
    assert "My puppy." not in texts(recall.search("dog"))
    manager.edit_message("t", messages[2].id, "The mountain.")
    assert "The ocean." not in texts(recall.search("sea"))
    manager.delete_thread("u")
    assert "A dog elsewhere." not in texts(recall.search("dog"))
    assert indexed(recall) == {"My dog.", "My salary.", "The mountain."}


def test_a_correction_among_new_messages_is_never_shown_as_it_was(
    manager: HistoryManager, recall: MessageRecall
) -> None:
    say(manager, "t", "My puppy.", "Dinner.", "Lunch.")
    recall.search("dog")
    manager.correct_message("t", manager.get_messages("t")[0].id, "My salary.")
    say(manager, "t", "Breakfast.", "Supper.")
    assert "My puppy." not in texts(recall.search("dog"))
    assert texts(recall.search("pay", limit=1)) == ["My salary."]


def test_a_thread_that_is_made_anew_under_its_id_is_indexed_anew(
    manager: HistoryManager, recall: MessageRecall
) -> None:
    say(manager, "t", "My puppy.")
    recall.search("dog", thread_id="t")
    manager.delete_thread("t")
    say(manager, "t", "My salary.")
    assert texts(recall.search("dog", thread_id="t", limit=1)) == ["My salary."]
    assert indexed(recall) == {"My salary."}


def test_two_users_never_see_each_others_turns(manager: HistoryManager, recall: MessageRecall) -> None:
    say(manager, "a", "Ada's puppy.", user_id="ada")
    say(manager, "b", "Bob's puppy.", user_id="bob")
    say(manager, "n", "Nobody's puppy.")
    assert texts(recall.search("dog", user_id="ada")) == ["Ada's puppy."]
    assert texts(recall.search("dog", user_id="bob")) == ["Bob's puppy."]
    assert recall.search("dog", user_id="eve") == []
    assert recall.search("dog", thread_id="a", user_id="bob") == []
    assert len(recall.search("dog")) == 3


def test_a_thread_that_changes_hands_changes_hands_in_the_index(manager: HistoryManager, recall: MessageRecall) -> None:
    say(manager, "t", "A puppy.", user_id="ada")
    assert texts(recall.search("dog", user_id="ada")) == ["A puppy."]
    manager.storage.patch_thread("t", user_id="bob")
    assert recall.search("dog", user_id="ada") == []
    assert texts(recall.search("dog", user_id="bob")) == ["A puppy."]


def test_many_threads_are_walked_until_those_that_are_known(manager: HistoryManager, recall: MessageRecall) -> None:
    for number in range(205):
        say(manager, f"t{number}", f"The dog {number}.", user_id="ada")
    recall.search("puppy", user_id="ada")
    say(manager, "t7", "The ocean.")
    assert texts(recall.search("sea", user_id="ada", limit=1)) == ["The ocean."]
    assert len(indexed(recall)) == 206


def test_records_of_others_in_the_same_database_stay_and_are_not_turns(
    manager: HistoryManager, meanings: Meanings
) -> None:
    index = InMemoryVectorDatabase(meanings)
    others = [MemoryRecord("A dog fact."), MemoryRecord("A dog said elsewhere.", kind="message", thread_id="t")]
    index.insert_rows(others, {place: [1.0, 0.0, 0.0, 0.0] for place in range(2)})
    say(manager, "t", "The puppy.")
    recall = MessageRecall(manager.storage, index=index)
    assert texts(recall.search("dog")) == ["The puppy."]
    manager.delete_thread("t")
    recall.search("dog")
    assert index.count_rows(_filter({})) == 2


_EDITS = st.lists(
    st.tuples(
        st.sampled_from(["say", "say", "correct", "edit", "delete", "hand over", "search", "search"]),
        st.sampled_from(["t", "u"]),
        st.sampled_from(TOPICS),
    ),
    max_size=25,
)


@settings(max_examples=int(40 * float(os.environ.get("MEMEXLLM_TEST_SCALE", "1"))), deadline=None)
@given(_EDITS)
def test_whatever_is_edited_nothing_gone_is_shown_and_the_index_becomes_what_is_there(
    edits: list[tuple[str, str, str]],
) -> None:
    manager = HistoryManager(MemoryStorage())
    index = InMemoryVectorDatabase(Meanings())
    recall = MessageRecall(manager.storage, index=index)
    for number, (edit, thread_id, topic) in enumerate(edits):
        _apply(manager, edit, thread_id, f"{topic} {number}")
        for user_id in ("ada", "bob") if edit == "search" or number == len(edits) - 1 else ():
            found = set(texts(recall.search(topic, user_id=user_id, limit=30)))
            assert found <= _live(manager, user_id)
    healed = MessageRecall(manager.storage, index=index)
    healed.catch_up()
    assert indexed(healed) == _live(manager, "ada") | _live(manager, "bob")


def _apply(manager: HistoryManager, edit: str, thread_id: str, text: str) -> None:
    there = thread_id in {thread.id for thread in manager.list_threads()}
    messages = manager.get_messages(thread_id) if there else []
    if edit == "say":
        say(manager, thread_id, text, f"{text}, again", f"{text}!", user_id="ada" if thread_id == "t" else "bob")
    elif edit == "delete" and there:
        manager.delete_thread(thread_id)
    elif edit == "hand over" and there:
        manager.storage.patch_thread(thread_id, user_id="bob" if thread_id == "t" else "ada")
    elif edit == "correct" and messages:
        manager.correct_message(thread_id, messages[0].id, text)
    elif edit == "edit" and messages:
        manager.edit_message(thread_id, messages[-1].id, text)


def _live(manager: HistoryManager, user_id: str) -> set[str]:
    threads = manager.list_threads(user_id=user_id)
    return {message.text for thread in threads for message in manager.get_messages(thread.id)}


def _filter(filters: dict[str, Any]) -> Any:
    from memexllm.memory.filters import parsed_filters

    return parsed_filters(filters)


def test_a_query_that_is_none_is_refused(manager: HistoryManager, recall: MessageRecall) -> None:
    for wrong in ({"text": " "}, {"text": "x", "limit": 0}, {"text": "x", "thread_id": ""}):
        with pytest.raises(ValidationError):
            recall.search(**wrong)


@pytest.mark.parametrize("wrong", [{"index": "x.db"}, {"speaker_weight": -1}, {"embedded_by_a_search": 0}], ids=str)
def test_a_recall_that_cannot_work_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"embeddings|speaker_weight|embedded_by_a_search"):
        MessageRecall(MemoryStorage(), **wrong)


def test_it_shows_nothing_of_what_was_said(manager: HistoryManager, recall: MessageRecall) -> None:
    say(manager, "t", "My secret dog.")
    assert "secret" not in repr(recall) + repr(recall.search("dog"))


async def test_a_synchronous_search_serves_flows_of_asynchronous_callers(
    manager: HistoryManager, recall: MessageRecall
) -> None:
    say(manager, "t", "The ocean.")
    assert texts(await arun(recall.searching("sea", None, None, 1))) == ["The ocean."]


@pytest.mark.parametrize("user_id", ["ada", None])
def test_a_search_in_one_thread_reads_the_vectors_of_its_user_alone(tmp_path: Path, user_id: str | None) -> None:
    with HistoryManager(SQLiteStorage(tmp_path / "chat.db")) as manager:
        say(manager, "t", "The puppy sleeps.", user_id=user_id)
        say(manager, "u", *(f"The dog of another, number {n}" for n in range(20)), user_id="bob")
        index = SQLiteVectorDatabase(tmp_path / "index.db", Meanings())
        recall = MessageRecall(manager.storage, index=index)
        recall.catch_up()
        assert texts(recall.search("dog", thread_id="t")) == ["The puppy sleeps."]
        (scope,) = index._scopes._scopes.values()
        assert scope.size == 1
        index.close_rows()


def test_ten_thousand_turns_are_searched_in_milliseconds(tmp_path: Path) -> None:
    manager = HistoryManager(SQLiteStorage(tmp_path / "chat.db"))
    manager.create_thread(thread_id="t", user_id="ada")
    words = ["dog", "sea", "pay", "lunch", "rain", "train", "book", "song"]
    said = [f"{words[n % 8]} {words[n // 8 % 8]} number {n}, as it was said on day {n // 50}" for n in range(10_000)]
    messages = [Message(text, "user", created_at=NOON + timedelta(minutes=n)) for n, text in enumerate(said)]
    manager.add_messages("t", messages)
    index = SQLiteVectorDatabase(tmp_path / "index.db", HashingEmbeddings())
    recall = MessageRecall(manager.storage, index=index)
    recall.catch_up()
    recall.search("dog lunch", user_id="ada")
    spent: list[float] = []
    for _ in range(9):
        started = process_time()
        recall.search("the dog at lunch", user_id="ada")
        spent.append(process_time() - started)
    assert sorted(spent)[4] < 0.1
