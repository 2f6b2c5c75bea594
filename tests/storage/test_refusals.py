"""What no field of a thread can hold is refused by every storage; what is taken comes back."""

from __future__ import annotations

from typing import Any

import pytest

from memexllm import HistoryManager, MemoryStorage, SQLiteStorage
from memexllm.core.errors import ValidationError
from memexllm.core.models import Message
from memexllm.storage import BaseStorage
from tests.storage.custom import LiveDictStorage


@pytest.fixture(params=[MemoryStorage, lambda: SQLiteStorage(":memory:"), LiveDictStorage])
def storage(request: pytest.FixtureRequest) -> BaseStorage:
    made: BaseStorage = request.param()
    return made


@pytest.mark.parametrize(
    "fields",
    [{"title": 5}, {"title": ["x"]}, {"user_id": 5}, {"title": "\ud800"}, {"metadata": {"k": {1, 2}}}],
    ids=str,
)
def test_a_patch_of_another_type_is_refused_and_changes_nothing(storage: BaseStorage, fields: dict[str, Any]) -> None:
    storage.append_messages("t", [], create={"title": "old", "user_id": "ann", "metadata": {"k": 1}})
    before = storage.read_head("t")
    with pytest.raises(ValidationError):
        storage.patch_thread("t", **fields)
    assert storage.read_head("t") == before


def test_a_title_that_is_no_text_is_refused_by_the_manager(storage: BaseStorage) -> None:
    manager = HistoryManager(storage)
    manager.create_thread(thread_id="t", title="old")
    title: Any = 5
    with pytest.raises(ValidationError, match="title"):
        manager.update_thread("t", title=title)
    assert manager.get_thread("t").title == "old"


@pytest.mark.parametrize("fields", [{"thread_id": "\ud800"}, {"title": "\ud800"}, {"user_id": "\ud800"}], ids=str)
def test_no_thread_is_made_with_a_lone_surrogate(storage: BaseStorage, fields: dict[str, str]) -> None:
    manager = HistoryManager(storage)
    with pytest.raises(ValidationError):
        manager.create_thread(**fields)  # type: ignore[arg-type]  # one of the three
    assert manager.list_threads() == []


def test_of_two_messages_of_one_id_the_newest_is_replaced(storage: BaseStorage) -> None:
    storage.append_messages("t", [Message(text, "user", id="same") for text in ("first", "second")], create={})
    storage.replace_message("t", "same", Message("third", "user", id="same"))
    assert [message.text for message in storage.read_messages("t")] == ["first", "third"]


def test_a_metadata_key_of_the_librarys_name_is_the_users(storage: BaseStorage) -> None:
    manager = HistoryManager(storage)
    metadata = {"memexllm": {"id": "mine"}, "other": 1}
    manager.create_thread(metadata, thread_id="t")
    manager.add_message("t", "hi", "user", metadata)
    assert manager.get_thread("t").metadata == metadata
    assert manager.get_messages("t")[0].metadata == metadata
    assert [thread.metadata for thread in manager.list_threads()] == [metadata]
