"""Laws 1 to 5 of vector databases: what is kept, found, listed, filtered and changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from memexllm.core.errors import EmbeddingError, MemexLLMError, MemoryNotFoundError, ValidationError
from memexllm.memory.filters import parsed_filters
from memexllm.memory.records import MemoryRecord
from memexllm.testing._memory_driven import DrivenDatabase, KitEmbeddings

DAY = timedelta(days=1)
NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)
TEXTS = (
    "green tea in the morning",
    "a dog named Rex",
    "bread with salt",
    "the tide comes in at noon",
    "Grüße, 你好 🙂",
)
METADATA: tuple[dict[str, Any], ...] = (
    {},
    {"n": 1},
    {"n": 1.0},
    {"n": True},
    {"n": "1"},
    {"n": None},
    {"n": 2.5},
    {"n": [1, "a"]},
    {"n": {"m": 1}},
    {"n": "b"},
    {"n": 9007199254740993},
    {"n": "a\x00b"},
    {"": "empty", "a.b": 1, 'quo"te': 1, "$": 1},
)
FILTERS: tuple[dict[str, Any], ...] = (
    {"n": 1},
    {"n": True},
    {"n": "1"},
    {"n": None},
    {"n": "a"},
    {"n": "a\x00b"},
    {"n": [1, "a"]},
    {"n": {"m": 1}},
    {"n": {"m": {"gt": 0}}},
    {"n": {"ne": 1}},
    {"n": {"any": [1, "b"]}},
    {"n": {"any": ["a", False]}},
    {"n": {"all": [1, "a"]}},
    {"n": {"all": [1, 1.0]}},
    {"n": {"gt": 1}},
    {"n": {"gte": 1, "lt": 2.5}},
    {"n": {"lte": 1}},
    {"n": {"gte": "1", "lt": "b"}},
    {"n": {"gt": 9007199254740992}},
    {"n": 9007199254740992},
    {"": "empty"},
    {"a.b": 1, 'quo"te': 1},
    {"$": 1},
    {"missing": {"ne": 1}},
    {"missing": None},
)


def memories(*texts: str, **fields: Any) -> list[MemoryRecord]:
    return [MemoryRecord(text, **fields) for text in texts]


class KeepingMemories:
    """What one user's memory does."""

    # Law 1: what is added is kept as it is.

    def test_law01_a_memory_comes_back_whole(self, memory: DrivenDatabase) -> None:
        added = MemoryRecord(
            "Grüße, 你好 🙂 \x00\n",
            id="an id",
            kind="preference",
            user_id="ada",
            agent_id="agent",
            thread_id="t",
            metadata={"nested": {"list": [1, 2.5, None, True, "é"]}, "n": 1},
            created_at=NOON,
            updated_at=NOON + DAY,
        )
        assert memory.add(added) == ["an id"]
        assert memory.page().memories == [added]
        assert memory.call("get_memories", ["an id", "another"]) == [added]
        assert memory.search("Grüße")[0] == added

    def test_law01_nothing_can_be_changed_through_what_was_handed_over(self, memory: DrivenDatabase) -> None:
        added = MemoryRecord("tea", metadata={"tags": ["green"]})
        memory.add(added)
        added.metadata["tags"].append("changed")
        memory.page()[0].metadata["tags"].append("changed")
        memory.search("tea")[0].metadata["tags"].append("changed")
        assert memory.page()[0].metadata == {"tags": ["green"]}

    def test_law01_ids_come_in_the_order_of_the_memories(self, memory: DrivenDatabase) -> None:
        added = memories(*TEXTS)
        assert memory.add(*added) == [record.id for record in added]
        assert memory.add() == []
        assert memory.texts() == list(TEXTS)

    def test_law01_a_batch_is_added_whole_or_not_at_all(self, memory: DrivenDatabase) -> None:
        memory.add(MemoryRecord("there", id="taken"))
        for wrong in (MemoryRecord("other", id="taken"), MemoryRecord("a \ud83d alone"), "no record"):
            with pytest.raises(ValidationError):
                memory.call("add_memories", [*memories("one", "two"), wrong])
        assert memory.texts() == ["there"]

    def test_law01_a_thousand_at_once_are_kept(self, memory: DrivenDatabase) -> None:
        added = memories(*(f"number {number}" for number in range(1000)))
        assert memory.add(*added) == [record.id for record in added]
        assert memory.count() == 1000

    def test_law01_a_short_answer_of_the_model_loses_nothing(
        self, memory: DrivenDatabase, embeddings: KitEmbeddings
    ) -> None:
        embeddings.answers_short = True
        with pytest.raises(EmbeddingError):
            memory.add(*memories(*TEXTS))
        assert memory.count() == 0
        embeddings.answers_short = False
        memory.add(*memories(*TEXTS))
        assert memory.count() == len(TEXTS)

    # Law 2: the nearest are found, and the totals are right.

    def test_law02_the_nearest_come_first_with_falling_scores(self, memory: DrivenDatabase) -> None:
        memory.add(*memories("tea tea tea", "tea and bread", "bread", "salt"))
        found = memory.search("tea")
        assert [record.text for record in found][:2] == ["tea tea tea", "tea and bread"]
        scores = [record.score for record in found]
        assert scores == sorted(scores, key=lambda score: -(score or 0))
        assert scores[0] == pytest.approx(1, abs=1e-3)
        assert scores[-1] == pytest.approx(0, abs=1e-3)

    def test_law02_equally_near_ones_come_in_the_order_of_adding(self, memory: DrivenDatabase) -> None:
        memory.add(*memories(*(f"tea{' ' * n}" for n in range(1, 30))))
        assert [len(text) for text in memory.found("tea", limit=20)] == list(range(4, 24))

    def test_law02_pages_follow_each_other_with_right_totals(self, memory: DrivenDatabase) -> None:
        memory.add(*memories(*(f"tea {number}" for number in range(25))))
        for ask in (memory.page, partial(memory.search, "tea")):
            first = ask(limit=10)
            assert (first.total, first.next_offset, len(first)) == (25, 10, 10)
            seen: list[str] = []
            offset: int | None = 0
            while offset is not None:
                page = ask(limit=10, offset=offset)
                assert page.total == 25
                seen.extend(record.text for record in page)
                offset = page.next_offset
            assert sorted(seen) == sorted(f"tea {number}" for number in range(25))
            assert ask(limit=25).next_offset is None
            assert list(ask(limit=10, offset=30)) == []

    def test_law02_an_empty_database_finds_nothing(self, memory: DrivenDatabase) -> None:
        found = memory.search("tea")
        assert (list(found), found.total, found.next_offset) == ([], 0, None)
        assert (memory.count(), list(memory.page())) == (0, [])

    @pytest.mark.parametrize("query", ["", " \n", None])
    def test_law02_a_blank_query_is_refused(self, memory: DrivenDatabase, query: Any) -> None:
        with pytest.raises(ValidationError):
            memory.search(query)

    # Law 3: filters are exact.

    @pytest.mark.parametrize("wanted", FILTERS, ids=str)
    def test_law03_metadata_is_compared_as_json_has_it(self, memory: DrivenDatabase, wanted: dict[str, Any]) -> None:
        added = [MemoryRecord(f"tea {n}", metadata=metadata) for n, metadata in enumerate(METADATA)]
        memory.add(*added)
        expected = [record.text for record in added if parsed_filters({"metadata": wanted}).matches(record)]
        assert memory.texts(metadata=wanted) == expected
        assert sorted(memory.found("tea", limit=100, metadata=wanted)) == sorted(expected)
        assert memory.search("tea", metadata=wanted).total == len(expected)
        assert memory.count(metadata=wanted) == len(expected)

    def test_law03_fields_are_filtered_together(self, memory: DrivenDatabase) -> None:
        memory.add(
            MemoryRecord("one", kind="fact", agent_id="a", created_at=NOON),
            MemoryRecord("two", kind="document", agent_id="a", created_at=NOON + DAY),
            MemoryRecord("three", kind="fact", thread_id="t", created_at=NOON + 2 * DAY),
        )
        assert memory.texts(kind="fact") == ["one", "three"]
        assert memory.texts(kind={"any": ["document", "triple"]}) == ["two"]
        assert memory.texts(agent_id={"eq": None}) == ["three"]
        assert memory.texts(agent_id={"ne": "a"}) == ["three"]
        assert memory.texts(kind="fact", agent_id="a") == ["one"]
        assert memory.texts(thread_id={"all": ["t", "u"]}) == []
        assert memory.texts(thread_id={"all": ["t", "t"]}) == ["three"]
        assert memory.texts(created_at={"gt": NOON, "lte": NOON + DAY}) == ["two"]
        assert memory.texts(created_at={"gte": "2025-01-02T12:00:00+00:00"}) == ["two", "three"]
        assert memory.texts(created_at=NOON) == ["one"]
        assert memory.texts(agent_id=None) == ["one", "two", "three"]
        assert memory.count(kind={"gte": "e"}) == 2

    @pytest.mark.parametrize(
        "filters",
        [{"color": "red"}, {"kind": 1}, {"kind": {"like": "f"}}, {"created_at": "noon"}, {"metadata": "en"}],
        ids=str,
    )
    def test_law03_a_filter_that_is_not_understood_is_refused(
        self, memory: DrivenDatabase, filters: dict[str, Any]
    ) -> None:
        memory.add(*memories("tea"))
        for ask in (memory.page, memory.count, partial(memory.search, "tea")):
            with pytest.raises(ValidationError):
                ask(**filters)

    # Law 4: an update replaces, and is found by its new text.

    def test_law04_an_update_is_found_by_what_it_says_now(self, memory: DrivenDatabase) -> None:
        first, second = memories("a dog", "green tea", created_at=NOON)
        memory.add(first, second)
        changed = second.changed(text="black coffee", metadata={"n": 1}, updated_at=NOON + DAY)
        memory.call("update_memories", [changed])
        assert memory.page().memories == [first, changed]
        assert memory.found("coffee", limit=1) == ["black coffee"]
        assert memory.found("green tea", limit=1) == ["a dog"]

    def test_law04_two_memories_may_trade_their_texts(self, memory: DrivenDatabase) -> None:
        first, second = memories("tea", "coffee")
        memory.add(first, second)
        memory.call("update_memories", [first.changed(text="coffee"), second.changed(text="tea")])
        assert memory.texts() == ["coffee", "tea"]
        assert memory.search("tea")[0].id == second.id

    def test_law04_an_update_of_what_is_not_there_changes_nothing(self, memory: DrivenDatabase) -> None:
        (there,) = memories("tea")
        memory.add(there)
        with pytest.raises(MemoryNotFoundError):
            memory.call("update_memories", [there.changed(text="coffee"), MemoryRecord("x")])
        assert memory.texts() == ["tea"]

    def test_law04_an_update_embeds_only_what_says_something_else(
        self, memory: DrivenDatabase, embeddings: KitEmbeddings
    ) -> None:
        added = memories("tea", "coffee")
        memory.add(*added)
        embeddings.embedded = 0
        memory.call("update_memories", [record.changed(metadata={"n": 1}) for record in added])
        assert embeddings.embedded == 0
        assert memory.count(metadata={"n": 1}) == 2

    def test_law04_an_update_does_not_make_two_memories_one(self, memory: DrivenDatabase) -> None:
        first, second = memories("tea", "coffee")
        memory.add(first, second)
        with pytest.raises(MemexLLMError):
            memory.call("update_memories", [second.changed(text="tea")])
        assert memory.texts() == ["tea", "coffee"]

    # Law 5: what is deleted is gone.

    def test_law05_what_is_deleted_is_gone(self, memory: DrivenDatabase) -> None:
        ids = memory.add(*memories(*TEXTS))
        memory.call("delete_memories", [ids[0], ids[3], "not there"])
        memory.call("delete_memories", [ids[0]])
        memory.call("delete_memories", [])
        left = [TEXTS[1], TEXTS[2], TEXTS[4]]
        assert memory.texts() == left
        assert sorted(memory.found("tea")) == sorted(left)
        assert memory.call("get_memories", ids) == memory.page().memories
        assert memory.add(*memories(TEXTS[0])) != [ids[0]]
        assert memory.found("green tea", limit=1) == [TEXTS[0]]
