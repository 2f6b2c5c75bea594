"""Laws of document stores."""

from __future__ import annotations

from typing import Any

import pytest

from memexllm.memory.stores.checking import check_store
from memexllm.memory.stores.protocols import DocumentStore
from memexllm.testing._store_driven import HOSTILE, REFUSED, UNKNOWN, DrivenStore

LONG = (
    "\n\n  # Tea\r\n\nTea is made of leaves.\tIt is green, or black.\n\n\n"
    + "Bread is made of flour. " * 400
    + "猫\n \n"
)


def ids(documents: Any) -> list[str]:
    return [document.id for document in documents]


class KeepingDocuments:
    """What a document store promises."""

    def test_law01_it_has_the_methods_of_the_protocol(self, documents: DrivenStore) -> None:
        check_store(documents.store, DocumentStore, "documents")
        assert isinstance(documents.store, DocumentStore)

    @pytest.mark.parametrize("content", ["tea", " tea ", LONG], ids=["word", "blanks", "long"])
    def test_law02_a_document_comes_back_whole(self, documents: DrivenStore, content: str) -> None:
        added = documents.add(content=content, doc_id="handbook", user_id="ada", metadata={"tags": ["a", None]})
        documents.add(content="of somebody else", doc_id="other", user_id="ada")
        found = documents.get(doc_id="handbook", user_id="ada")
        (listed,) = documents.get_all(user_id="ada", limit=1)
        for document in (added, found, listed):
            assert (document.id, document.content, document.user_id) == ("handbook", content, "ada")
            assert document.metadata == {"tags": ["a", None]}

    def test_law02_a_document_without_an_id_is_given_one(self, documents: DrivenStore) -> None:
        tea, bread = (documents.add(content=content, user_id="ada") for content in ("tea", "bread"))
        assert tea.id != bread.id
        assert documents.get(doc_id=tea.id, user_id="ada").content == "tea"

    def test_law02_what_is_not_there_is_an_error(self, documents: DrivenStore) -> None:
        with pytest.raises(UNKNOWN):
            documents.get(doc_id="nothing")
        with pytest.raises(UNKNOWN):
            documents.update(doc_id="nothing", content="something")
        assert documents.get_all() == []

    def test_law03_a_document_is_found_by_what_stands_in_it(self, documents: DrivenStore) -> None:
        for name in ("tea", "bread", "dog"):
            documents.add(content=f"{name} {name} {name}", doc_id=name, user_id="ada")
        assert ids(documents.search(query="bread", user_id="ada", limit=1)) == ["bread"]
        assert len(documents.search(query="tea", user_id="ada", limit=2)) <= 2

    def test_law03_a_long_document_is_found_once_and_whole(self, documents: DrivenStore) -> None:
        documents.add(content=LONG, doc_id="long", user_id="ada")
        documents.add(content="a dog barks", doc_id="dog", user_id="ada")
        found = documents.search(query="bread made of flour", user_id="ada")
        assert ids(found).count("long") == 1
        assert found[0].content == LONG

    def test_law03_filters_are_kept_to(self, documents: DrivenStore) -> None:
        for number in range(4):
            documents.add(content=f"tea {number}", doc_id=str(number), metadata={"even": number % 2 == 0})
        wanted = {"metadata": {"even": True}}
        assert ids(documents.get_all(filters=wanted)) == ["0", "2"]
        assert sorted(ids(documents.search(query="tea", filters=wanted))) == ["0", "2"]

    def test_law03_they_are_listed_as_they_were_added(self, documents: DrivenStore) -> None:
        for number in range(5):
            documents.add(content=f"text {number}", doc_id=f"id {number}", user_id="ada")
        assert ids(documents.get_all(user_id="ada")) == [f"id {number}" for number in range(5)]
        assert ids(documents.get_all(user_id="ada", limit=2)) == ["id 0", "id 1"]

    @pytest.mark.parametrize(("old", "new"), [("tea", LONG), (LONG, "tea"), (LONG, LONG[:900]), ("tea", "tea")])
    def test_law04_an_update_leaves_nothing_of_the_former_text(
        self, documents: DrivenStore, old: str, new: str
    ) -> None:
        documents.add(content=old, doc_id="a", user_id="ada", metadata={"n": 1})
        documents.update(doc_id="a", content=new, user_id="ada")
        found = documents.get(doc_id="a", user_id="ada")
        assert (found.content, found.metadata) == (new, {"n": 1})
        documents.update(doc_id="a", content=new, user_id="ada", metadata={})
        (found,) = documents.get_all(user_id="ada")
        assert (found.content, found.metadata) == (new, {})
        documents.delete(doc_id="a", user_id="ada")
        assert documents.get_all(user_id="ada") == documents.search(query=old[:100], user_id="ada") == []

    def test_law05_what_is_deleted_is_gone(self, documents: DrivenStore) -> None:
        for name in ("tea", "bread"):
            documents.add(content=name, doc_id=name, user_id="ada")
        documents.delete(doc_id="tea", user_id="ada")
        with pytest.raises(UNKNOWN):
            documents.get(doc_id="tea", user_id="ada")
        assert ids(documents.get_all(user_id="ada")) == ["bread"]
        assert "tea" not in ids(documents.search(query="tea bread", user_id="ada"))

    def test_law05_nobody_deletes_everything_by_saying_nothing(self, documents: DrivenStore) -> None:
        documents.add(content="tea", doc_id="tea", user_id="ada")
        with pytest.raises(REFUSED):
            documents.delete_all()
        assert ids(documents.get_all(user_id="ada")) == ["tea"]

    def test_law06_a_user_sees_his_own_documents_only(self, documents: DrivenStore) -> None:
        for user in HOSTILE:
            documents.add(content=f"tea of {user}", doc_id="handbook", user_id=user)
        documents.add(content="tea of nobody", doc_id="handbook")
        for user in HOSTILE:
            own = f"tea of {user}"
            assert documents.get(doc_id="handbook", user_id=user).content == own
            assert [document.content for document in documents.get_all(user_id=user)] == [own]
            assert [document.content for document in documents.search(query="tea", user_id=user)] == [own]
        assert documents.get(doc_id="handbook").content == "tea of nobody"
        with pytest.raises(UNKNOWN):
            documents.get(doc_id="handbook", user_id="bob")
        assert (documents.get_all(user_id="bob"), documents.search(query="tea", user_id="bob")) == ([], [])

    def test_law06_one_user_changes_and_deletes_his_own(self, documents: DrivenStore) -> None:
        for user in HOSTILE:
            documents.add(content=f"tea of {user}", doc_id="handbook", user_id=user)
        documents.update(doc_id="handbook", content="coffee", user_id="alice")
        with pytest.raises(UNKNOWN):
            documents.update(doc_id="handbook", content="stolen", user_id="bob")
        documents.delete(doc_id="handbook", user_id="Alice")
        documents.delete_all(user_id="*")
        left = [user for user in HOSTILE if user not in ("Alice", "*")]
        assert sorted(document.user_id for document in documents.get_all()) == sorted(left)
        assert documents.get(doc_id="handbook", user_id="alice").content == "coffee"
        assert documents.get(doc_id="handbook", user_id="你").content == "tea of 你"
