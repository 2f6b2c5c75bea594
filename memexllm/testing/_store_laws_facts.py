"""Laws of fact stores."""

from __future__ import annotations

from typing import Any

import pytest

from memexllm.memory.stores.checking import check_store
from memexllm.memory.stores.protocols import FactStore
from memexllm.testing._store_driven import HOSTILE, REFUSED, UNKNOWN, DrivenStore

NESTED = {"tags": ["a", None, 1.5], "below": {"yes": True}}


def texts(facts: Any) -> list[str]:
    return [fact.content for fact in facts]


class KeepingFacts:
    """What a fact store promises."""

    def test_law01_it_has_the_methods_of_the_protocol(self, facts: DrivenStore) -> None:
        check_store(facts.store, FactStore, "facts")
        assert isinstance(facts.store, FactStore)

    def test_law02_what_is_added_is_there(self, facts: DrivenStore) -> None:
        added = facts.add(content="likes tea ☕", user_id="ada", agent_id="cook", metadata=NESTED)
        for fact in (added, facts.get(fact_id=added.id), *facts.get_all(user_id="ada")):
            assert (fact.id, fact.content, fact.metadata) == (added.id, "likes tea ☕", NESTED)
            assert (fact.user_id, fact.agent_id) == ("ada", "cook")
            assert fact.created_at.utcoffset() is not None

    def test_law02_what_is_not_there_is_an_error(self, facts: DrivenStore) -> None:
        with pytest.raises(UNKNOWN):
            facts.get(fact_id="nothing")
        with pytest.raises(UNKNOWN):
            facts.update(fact_id="nothing", content="something")
        assert facts.get_all() == []

    def test_law02_what_is_returned_is_the_callers(self, facts: DrivenStore) -> None:
        added = facts.add(content="tea", user_id="ada", metadata={"tags": ["a"]})
        added.metadata["tags"].append("b")
        facts.get(fact_id=added.id).metadata["tags"].append("b")
        facts.get_all(user_id="ada")[0].metadata["tags"].append("b")
        assert facts.get(fact_id=added.id).metadata == {"tags": ["a"]}

    def test_law03_a_fact_is_found_by_what_it_says(self, facts: DrivenStore) -> None:
        for content in ("tea is green", "bread is brown", "the dog barks"):
            facts.add(content=content, user_id="ada")
        assert texts(facts.search(query="bread", user_id="ada", limit=1)) == ["bread is brown"]
        assert len(facts.search(query="is", user_id="ada", limit=1)) == 1

    def test_law03_they_are_listed_as_they_were_added(self, facts: DrivenStore) -> None:
        for number in range(7):
            facts.add(content=f"fact {number}", user_id="ada")
        assert texts(facts.get_all(user_id="ada")) == [f"fact {number}" for number in range(7)]
        assert texts(facts.get_all(user_id="ada", limit=2)) == ["fact 0", "fact 1"]

    def test_law04_an_update_changes_the_text_and_what_it_is_given(self, facts: DrivenStore) -> None:
        added = facts.add(content="likes tea", user_id="ada", agent_id="cook", metadata={"n": 1})
        other = facts.add(content="likes bread", user_id="ada")
        changed = facts.update(fact_id=added.id, content="likes coffee")
        for fact in (changed, facts.get(fact_id=added.id)):
            assert (fact.id, fact.content, fact.metadata) == (added.id, "likes coffee", {"n": 1})
            assert (fact.user_id, fact.agent_id, fact.created_at) == ("ada", "cook", added.created_at)
        assert facts.update(fact_id=added.id, content="likes coffee", metadata={}).metadata == {}
        assert texts(facts.search(query="coffee", user_id="ada", limit=1)) == ["likes coffee"]
        assert facts.get(fact_id=other.id).content == "likes bread"

    def test_law05_what_is_deleted_is_gone(self, facts: DrivenStore) -> None:
        tea, bread = (facts.add(content=content, user_id="ada") for content in ("tea", "bread"))
        facts.delete(fact_id=tea.id)
        with pytest.raises(UNKNOWN):
            facts.get(fact_id=tea.id)
        assert texts(facts.get_all(user_id="ada")) == ["bread"]
        assert [fact.id for fact in facts.search(query="tea bread", user_id="ada")] == [bread.id]

    def test_law05_nobody_deletes_everything_by_saying_nothing(self, facts: DrivenStore) -> None:
        facts.add(content="tea", user_id="ada")
        with pytest.raises(REFUSED):
            facts.delete_all()
        assert texts(facts.get_all(user_id="ada")) == ["tea"]

    def test_law06_a_user_sees_his_own_facts_only(self, facts: DrivenStore) -> None:
        ids = {user: facts.add(content="likes tea", user_id=user).id for user in HOSTILE}
        facts.add(content="likes tea")
        assert len(set(ids.values())) == len(HOSTILE)
        for user in HOSTILE:
            assert [fact.id for fact in facts.get_all(user_id=user)] == [ids[user]]
            assert [fact.id for fact in facts.search(query="tea", user_id=user)] == [ids[user]]
        for user in ("bob", "ALICE", "%", ""):
            assert (facts.get_all(user_id=user), facts.search(query="tea", user_id=user)) == ([], [])

    def test_law06_a_small_page_holds_his_own_facts(self, facts: DrivenStore) -> None:
        for user in (*HOSTILE, "last"):
            facts.add(content="likes tea", user_id=user)
        assert [fact.user_id for fact in facts.search(query="tea", user_id="last", limit=1)] == ["last"]
        assert [fact.user_id for fact in facts.get_all(user_id="last", limit=1)] == ["last"]

    def test_law06_deleting_all_of_one_takes_nothing_from_others(self, facts: DrivenStore) -> None:
        for user in HOSTILE:
            facts.add(content="likes tea", user_id=user)
        for gone, user in enumerate(HOSTILE, start=1):
            facts.delete_all(user_id=user)
            assert [len(facts.get_all(user_id=each)) for each in HOSTILE] == [0] * gone + [1] * (len(HOSTILE) - gone)
        facts.delete_all(user_id="")

    def test_law06_an_update_reaches_one_users_fact(self, facts: DrivenStore) -> None:
        ids = {user: facts.add(content="likes tea", user_id=user).id for user in ("alice", "bob")}
        facts.update(fact_id=ids["alice"], content="likes coffee")
        facts.delete(fact_id=ids["alice"])
        assert texts(facts.get_all(user_id="bob")) == ["likes tea"]

    def test_law07_an_agents_facts_are_apart_too(self, facts: DrivenStore) -> None:
        for user in ("ada", "bob"):
            for agent in ("cook", "guard"):
                facts.add(content=f"{agent} knows {user}", user_id=user, agent_id=agent)
        assert texts(facts.get_all(user_id="ada", agent_id="cook")) == ["cook knows ada"]
        assert sorted(texts(facts.search(query="knows", agent_id="cook"))) == ["cook knows ada", "cook knows bob"]
        facts.delete_all(user_id="ada", agent_id="cook")
        assert texts(facts.get_all(user_id="ada")) == ["guard knows ada"]
        facts.delete_all(agent_id="guard")
        assert texts(facts.get_all()) == ["cook knows bob"]

    def test_law08_facts_added_at_once_are_all_there(self, facts: DrivenStore) -> None:
        facts.at_once("add", [{"content": f"fact {number}", "user_id": "ada"} for number in range(20)])
        assert sorted(texts(facts.get_all(user_id="ada"))) == sorted(f"fact {number}" for number in range(20))
