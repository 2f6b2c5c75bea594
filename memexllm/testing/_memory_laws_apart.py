"""Laws 6 and 7 of vector databases: users are kept apart, and nobody says the same thing twice."""

from __future__ import annotations

from typing import Any

import pytest

from memexllm.core.errors import MemoryNotFoundError, ValidationError
from memexllm.memory.records import MemoryRecord
from memexllm.testing._memory_driven import DrivenDatabase, KitEmbeddings

HOSTILE = ("alice", "Alice", "alice ", "", "ali%", "al_ce", "a' OR '1'='1", "*", "a:b", "a\x00b", "你", '{"$ne": 1}')


class MemoriesApart:
    """What one user's memory does not do to another's."""

    # Law 6: two users never see each other's records.

    @pytest.fixture
    def shared(self, memory: DrivenDatabase) -> DrivenDatabase:
        """Everyone has the same three memories, and one of nobody's lies between them."""
        for user_id in HOSTILE:
            memory.add(
                *(MemoryRecord(text, user_id=user_id, id=f"{user_id}/{text}") for text in ("tea", "bread", "dog"))
            )
        memory.add(MemoryRecord("tea", id="nobody's"))
        return memory

    @pytest.mark.parametrize("user_id", HOSTILE, ids=repr)
    def test_law06_a_user_sees_his_own_records_only(self, shared: DrivenDatabase, user_id: str) -> None:
        own = [f"{user_id}/{text}" for text in ("tea", "bread", "dog")]
        assert [record.id for record in shared.page(user_id=user_id)] == own
        found = shared.search("tea", limit=100, user_id=user_id)
        assert sorted(record.id for record in found) == sorted(own)
        assert (found.total, shared.page(user_id=user_id).total, shared.count(user_id=user_id)) == (3, 3, 3)

    def test_law06_a_small_page_holds_his_own_records(self, shared: DrivenDatabase) -> None:
        for user_id in HOSTILE:
            assert [record.id for record in shared.search("tea", limit=1, user_id=user_id)] == [f"{user_id}/tea"]

    def test_law06_an_unknown_user_sees_nothing(self, shared: DrivenDatabase) -> None:
        for user_id in ("bob", "ALICE", "%", "alice\x00"):
            assert list(shared.search("tea", user_id=user_id)) == []
            assert (shared.count(user_id=user_id), list(shared.page(user_id=user_id))) == (0, [])

    def test_law06_the_same_text_of_another_user_is_another_record(self, memory: DrivenDatabase) -> None:
        (alices,) = memory.add(MemoryRecord("likes tea", user_id="alice"))
        (bobs,) = memory.add(MemoryRecord("likes tea", user_id="bob"))
        assert alices != bobs
        assert memory.page(user_id="bob")[0].id == bobs

    def test_law06_an_update_reaches_no_other_users_record(self, shared: DrivenDatabase) -> None:
        with pytest.raises(MemoryNotFoundError):
            shared.call("update_memories", [MemoryRecord("stolen", id="alice/tea", user_id="Alice")])
        with pytest.raises(MemoryNotFoundError):
            shared.call("update_memories", [MemoryRecord("stolen", id="alice/tea")])
        assert shared.texts(user_id="alice") == ["tea", "bread", "dog"]

    def test_law06_another_users_id_cannot_be_taken(self, shared: DrivenDatabase) -> None:
        with pytest.raises(ValidationError):
            shared.add(MemoryRecord("stolen", id="alice/tea", user_id="bob"))
        assert shared.texts(user_id="alice") == ["tea", "bread", "dog"]
        assert shared.count(user_id="bob") == 0

    def test_law06_deleting_takes_nothing_from_others(self, shared: DrivenDatabase) -> None:
        shared.call("delete_memories", [f"alice/{text}" for text in ("tea", "bread", "dog")])
        assert shared.count(user_id="alice") == 0
        assert [shared.count(user_id=user_id) for user_id in HOSTILE[1:]] == [3] * (len(HOSTILE) - 1)

    def test_law06_a_change_of_one_user_is_seen_by_him_alone(self, shared: DrivenDatabase) -> None:
        def found(user_id: str) -> list[str]:
            return sorted(record.text for record in shared.search("tea", limit=100, user_id=user_id))

        before = {user_id: found(user_id) for user_id in HOSTILE}
        (stored,) = shared.call("get_memories", ["alice/tea"])
        shared.call("update_memories", [stored.changed(text="coffee")])
        shared.add(MemoryRecord("new", user_id="alice"))
        assert found("alice") == ["bread", "coffee", "dog", "new"]
        assert {user_id: found(user_id) for user_id in HOSTILE[1:]} == {
            user_id: before[user_id] for user_id in HOSTILE[1:]
        }

    # Law 7: what a user has said already is one record.

    def test_law07_the_same_text_of_the_same_user_is_one_record(
        self, memory: DrivenDatabase, embeddings: KitEmbeddings
    ) -> None:
        (first,) = memory.add(MemoryRecord("likes tea", user_id="ada", metadata={"n": 1}))
        embeddings.embedded = 0
        assert memory.add(MemoryRecord("likes tea", user_id="ada", metadata={"n": 2})) == [first]
        assert embeddings.embedded == 0
        assert [record.metadata for record in memory.page()] == [{"n": 1}]

    def test_law07_a_batch_that_says_it_twice_adds_it_once(self, memory: DrivenDatabase) -> None:
        twice = [MemoryRecord(text, user_id="ada") for text in ("tea", "dog", "tea")]
        ids = memory.add(*twice)
        assert ids == [twice[0].id, twice[1].id, twice[0].id]
        assert memory.texts() == ["tea", "dog"]

    @pytest.mark.parametrize("other", [{"kind": "triple"}, {"agent_id": "b"}, {"user_id": None}], ids=str)
    def test_law07_of_another_kind_or_agent_it_is_another_record(
        self, memory: DrivenDatabase, other: dict[str, Any]
    ) -> None:
        memory.add(MemoryRecord("tea", user_id="ada", agent_id="a"))
        memory.add(MemoryRecord("tea", user_id="ada", agent_id="a").changed(**{"id": "another", **other}))
        assert memory.texts() == ["tea", "tea"]

    def test_law07_documents_that_stand_elsewhere_are_others(self, memory: DrivenDatabase) -> None:
        chunks = [MemoryRecord("tea", kind="document", metadata={"start": start}) for start in (0, 7)]
        assert memory.add(*chunks) == [chunk.id for chunk in chunks]
        assert memory.add(chunks[0].changed(id="again")) == [chunks[0].id]

    def test_law07_many_who_say_it_at_once_add_it_once(self, memory: DrivenDatabase) -> None:
        ids = memory.at_once("add_memories", [[[MemoryRecord("tea", user_id="ada")]] for _ in range(20)])
        assert len({each for (each,) in ids}) == 1
        assert memory.count() == 1
