"""Law 8 of vector databases: with `hybrid=True`, words are found as written; one without full text refuses it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from memexllm.core.errors import NotSupportedError, ValidationError
from memexllm.memory.records import MemoryRecord
from memexllm.testing._memory_driven import DrivenDatabase, KitEmbeddings

NAMES = ("Zorblax", "Xyzzy")
NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)


class MemoriesByWords:
    """What a search finds by words that the model knows nothing of."""

    @pytest.fixture
    def named(self, memory: DrivenDatabase, embeddings: KitEmbeddings) -> DrivenDatabase:
        """Twenty memories of ada's about tea and two about somebody whose name means nothing; bob has a third."""
        embeddings.blind_to = {name.lower() for name in NAMES}
        added = [MemoryRecord(f"tea {n}", user_id="ada", created_at=NOON) for n in range(20)]
        added[7:7] = [MemoryRecord("the sister of Zorblax sails", id="sister", user_id="ada", metadata={"n": 1})]
        added[3:3] = [MemoryRecord("Zorblax fears cats", id="cats", user_id="ada", created_at=NOON + timedelta(1))]
        added[1:1] = [MemoryRecord("Zorblax fears cats", id="of bob", user_id="bob", metadata={"n": 1})]
        memory.add(*added)
        try:
            memory.search("tea", hybrid=True)
        except (NotSupportedError, ValidationError, TypeError) as refusal:
            pytest.skip(f"{memory.name} refuses hybrid=True: {refusal}")
        return memory

    def test_law08_a_name_is_found_that_means_nothing_to_the_model(self, named: DrivenDatabase) -> None:
        found = named.search("Zorblax", limit=2, hybrid=True, user_id="ada")
        assert {record.id for record in found} == {"sister", "cats"}
        assert [record.id for record in named.search("cats of Zorblax?", limit=1, hybrid=True, user_id="ada")] == [
            "cats"
        ]

    def test_law08_what_is_near_in_meaning_is_found_all_the_same(self, named: DrivenDatabase) -> None:
        assert named.found("tea 4 Xyzzy", limit=1, hybrid=True, user_id="ada") == ["tea 4"]

    def test_law08_scores_fall_and_both_count_one_half(self, named: DrivenDatabase) -> None:
        scores = [record.score or 0.0 for record in named.search("fears cats", limit=50, hybrid=True, user_id="ada")]
        assert scores == sorted(scores, reverse=True)
        assert scores[0] == pytest.approx(1, abs=1e-3)
        assert scores[-1] == pytest.approx(0, abs=1e-3)

    def test_law08_pages_follow_each_other_with_right_totals(self, named: DrivenDatabase) -> None:
        whole = [record.id for record in named.search("the sister drinks tea 4", limit=50, hybrid=True, user_id="ada")]
        assert len(whole) == 22
        seen: list[str] = []
        offset: int | None = 0
        while offset is not None:
            page = named.search("the sister drinks tea 4", limit=5, offset=offset, hybrid=True, user_id="ada")
            assert page.total == 22
            seen.extend(record.id for record in page)
            offset = page.next_offset
        assert seen == whole

    def test_law08_users_are_kept_apart_and_filters_are_exact(self, named: DrivenDatabase) -> None:
        def found(**filters: Any) -> list[str]:
            page = named.search("Zorblax", limit=50, hybrid=True, **filters)
            assert page.total == len(page)
            return sorted(record.id for record in page)

        assert found(user_id="bob") == ["of bob"]
        assert found(user_id="eve") == []
        assert found(metadata={"n": 1}) == ["of bob", "sister"]
        assert found(user_id="ada", metadata={"n": 1}) == ["sister"]
        assert found(user_id="ada", created_at={"gt": NOON}) == ["cats", "sister"]
        assert found(user_id="ada", kind="document") == []

    def test_law08_a_filter_leaves_enough_to_be_found(self, named: DrivenDatabase) -> None:
        """However many others of the same words come before."""
        named.add(*(MemoryRecord(f"Xyzzy {n}", user_id="ada") for n in range(300)))
        named.add(MemoryRecord("and so on and so forth, says Xyzzy", id="wanted", user_id="ada", agent_id="a"))
        named.add(MemoryRecord("tea and so forth", user_id="ada", agent_id="a"))
        found = named.search("Xyzzy", limit=1, hybrid=True, user_id="ada", agent_id="a")
        assert [record.id for record in found] == ["wanted"]

    def test_law08_words_are_those_of_now(self, named: DrivenDatabase) -> None:
        (stored,) = named.call("get_memories", ["cats"])
        named.call("update_memories", [stored.changed(text="Xyzzy fears dogs")])
        named.call("delete_memories", ["sister"])
        best = named.search("Zorblax", limit=1, hybrid=True, user_id="ada")[0]
        assert "Zorblax" not in best.text
        assert named.found("Xyzzy", limit=1, hybrid=True, user_id="ada") == ["Xyzzy fears dogs"]
        named.add(MemoryRecord("Zorblax is back", user_id="ada"))
        assert named.found("Zorblax", limit=1, hybrid=True, user_id="ada") == ["Zorblax is back"]

    @pytest.mark.parametrize("query", ['"', "* OR tea", "NEAR(tea", "owner : x", "text", "'; DROP TABLE", "你好", "?!"])
    def test_law08_a_query_is_words_whatever_signs_it_has(self, named: DrivenDatabase, query: str) -> None:
        assert named.search(query, limit=50, hybrid=True, user_id="ada").total == 22
