"""Laws of graph stores."""

from __future__ import annotations

from typing import Any

import pytest

from memexllm.memory.stores.checking import check_store
from memexllm.memory.stores.protocols import GraphStore
from memexllm.memory.stores.triples import Triple
from memexllm.testing._store_driven import HOSTILE, REFUSED, DrivenStore

ADA_WORKS = Triple("Ada", "works at", "Acme")
ADA_LIVES = Triple("Ada", "lives in", "Oslo")
BOB_LIVES = Triple("Bob", "lives in", "Oslo")


def said(result: Any) -> list[tuple[str, str, str]]:
    return [(triple.subject, triple.predicate, triple.object) for triple in result.triples]


class KeepingTriples:
    """What a graph store promises."""

    def test_law01_it_has_the_methods_of_the_protocol(self, graph: DrivenStore) -> None:
        check_store(graph.store, GraphStore, "graph")
        assert isinstance(graph.store, GraphStore)

    def test_law02_what_is_added_is_there(self, graph: DrivenStore) -> None:
        graph.add(triples=[ADA_WORKS, ADA_LIVES, BOB_LIVES], user_id="u")
        assert graph.get_all(user_id="u").triples == [ADA_WORKS, ADA_LIVES, BOB_LIVES]
        assert graph.get_all(user_id="u", limit=1).triples == [ADA_WORKS]
        assert graph.get_all().entities == ["Ada", "Acme", "Oslo", "Bob"]

    def test_law02_metadata_is_kept(self, graph: DrivenStore) -> None:
        graph.add(triples=[Triple("Ada", "knows", "Bob", metadata={"since": [1999, None]})], user_id="u")
        (triple,) = graph.get_all(user_id="u").triples
        assert (triple.metadata, triple.user_id) == ({"since": [1999, None]}, "u")

    def test_law02_an_entity_is_asked_for_from_either_end(self, graph: DrivenStore) -> None:
        graph.add(triples=[ADA_WORKS, ADA_LIVES, BOB_LIVES], user_id="u")
        assert sorted(said(graph.get(entity="Oslo", user_id="u"))) == sorted(said_of(ADA_LIVES, BOB_LIVES))
        assert sorted(said(graph.get(entity="Ada", user_id="u"))) == sorted(said_of(ADA_WORKS, ADA_LIVES))
        assert graph.get(entity="lives in", user_id="u").triples == []
        assert graph.get(entity="ada", user_id="u").triples == []

    def test_law02_the_same_words_cut_in_another_place_are_another_triple(self, graph: DrivenStore) -> None:
        graph.add(triples=[Triple("a b", "c", "d"), Triple("a", "b c", "d"), Triple("a", "b", "c d")], user_id="u")
        assert len(graph.get_all(user_id="u").triples) == 3
        assert len(graph.get(entity="a", user_id="u").triples) == 2

    def test_law02_what_was_said_already_is_one_triple(self, graph: DrivenStore) -> None:
        graph.add(triples=[ADA_WORKS], user_id="u")
        graph.add(triples=[Triple("Ada", "works at", "Acme")], user_id="u")
        assert said(graph.get_all(user_id="u")) == said_of(ADA_WORKS)

    def test_law03_a_triple_is_found_by_what_it_says(self, graph: DrivenStore) -> None:
        graph.add(triples=[ADA_WORKS, ADA_LIVES, BOB_LIVES], user_id="u")
        assert said(graph.search(query="who works at Acme", user_id="u", limit=1)) == said_of(ADA_WORKS)

    def test_law05_one_triple_is_deleted_or_all_of_an_entity(self, graph: DrivenStore) -> None:
        graph.add(triples=[ADA_WORKS, ADA_LIVES, BOB_LIVES], user_id="u")
        (works,) = graph.get(entity="Acme", user_id="u").triples
        graph.delete(triple_id=works.id, user_id="u")
        assert said(graph.get_all(user_id="u")) == said_of(ADA_LIVES, BOB_LIVES)
        graph.delete(entity="Ada", user_id="u")
        assert said(graph.get_all(user_id="u")) == said_of(BOB_LIVES)

    def test_law05_nobody_deletes_everything_by_saying_nothing(self, graph: DrivenStore) -> None:
        graph.add(triples=[ADA_WORKS], user_id="u")
        for method in ("delete_all", "delete"):
            with pytest.raises(REFUSED):
                graph.call(method)
        assert said(graph.get_all(user_id="u")) == said_of(ADA_WORKS)

    def test_law06_a_user_sees_his_own_triples_only(self, graph: DrivenStore) -> None:
        for user in HOSTILE:
            graph.add(triples=[Triple("Ada", "lives with", user)], user_id=user)
        for user in HOSTILE:
            own = [("Ada", "lives with", user)]
            for found in (
                graph.get_all(user_id=user),
                graph.get(entity="Ada", user_id=user),
                graph.search(query="lives with", user_id=user),
            ):
                assert said(found) == own
        for method, asked in (("get_all", {}), ("get", {"entity": "Ada"}), ("search", {"query": "Ada"})):
            assert graph.call(method, user_id="bob", **asked).triples == []

    def test_law06_deleting_takes_nothing_from_others(self, graph: DrivenStore) -> None:
        for user in HOSTILE:
            graph.add(triples=[Triple("Ada", "works at", "Acme")], user_id=user)
        (alices,) = graph.get_all(user_id="alice").triples
        graph.delete(triple_id=alices.id, user_id="Alice")
        graph.delete(entity="Ada", user_id="*")
        graph.delete_all(user_id="你")
        left = [user for user in HOSTILE if user not in ("*", "你")]
        assert [triple.user_id for triple in graph.get_all().triples] == left


def said_of(*triples: Triple) -> list[tuple[str, str, str]]:
    return [(triple.subject, triple.predicate, triple.object) for triple in triples]
