"""What no storage could keep is refused with an error of ours by both managers, and nothing is stored of it."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

import pytest

from memexllm import AsyncHistoryManager, HistoryManager, MemoryStorage, Message, SQLiteStorage
from memexllm.core.errors import ThreadNotFoundError, ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Spoken:
    """One of the managers, called in the same words."""

    def __init__(self, kind: type[Any], storage: Any) -> None:
        self.manager = kind(storage)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.manager, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            return asyncio.run(_awaited(result)) if inspect.isawaitable(result) else result

        return call


async def _awaited(result: Any) -> Any:
    return await result


@pytest.fixture(params=["sqlite", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    with SQLiteStorage(tmp_path / "chat.db") if request.param == "sqlite" else MemoryStorage() as storage:
        yield storage


@pytest.fixture(params=[HistoryManager, AsyncHistoryManager])
def manager(request: pytest.FixtureRequest, storage: Any) -> Any:
    spoken = Spoken(request.param, storage)
    spoken.create_thread(thread_id="t")
    spoken.add_message("t", "one", "user")
    return spoken


def cyclic() -> dict[str, Any]:
    found: dict[str, Any] = {}
    found["self"] = found
    return found


def deep() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(300):
        found = {"k": found}
    return found


NO_IDS: list[Any] = ["", None, 5, 1.5, True, b"t", ["t"], {"t": 1}, object(), "\ud83d"]
ODD_IDS = ["x" * 10_000, "a\x00b", "\x00", "a\nb", " ", "'", "%", "🙂", "\u202e", "../t", "t; DROP TABLE threads"]
NO_METADATA: list[Any] = [
    {"k": object()},
    {"k": float("nan")},
    {"k": float("inf")},
    {"k": [1, {"k": -float("inf")}]},
    {"k": {1, 2}},
    {"k": b"\xff"},
    {"k": 1j},
    {"k": "\ud83d"},
    {"\ud83d": 1},
    {1: "a"},
    {None: "a"},
    {("a", "b"): 1},
    cyclic(),
    deep(),
    "words",
    [1],
    5,
]


def names(value: Any) -> str:
    return type(value).__name__ if not isinstance(value, str) else repr(value[:12])


class TestThreadIds:
    @pytest.mark.parametrize("thread_id", NO_IDS, ids=names)
    def test_what_is_no_id_is_refused_by_every_method(self, manager: Any, thread_id: Any) -> None:
        uses: list[Callable[[], Any]] = [
            lambda: manager.get_thread(thread_id),
            lambda: manager.context(thread_id),
            lambda: manager.get_messages(thread_id),
            lambda: manager.add_message(thread_id, "x", "user"),
            lambda: manager.add_messages(thread_id, [Message("x", "user")]),
            lambda: manager.update_thread(thread_id, title="x"),
            lambda: manager.delete_thread(thread_id),
        ]
        if thread_id is not None:
            uses.append(lambda: manager.create_thread(thread_id=thread_id))
        for use in uses:
            with pytest.raises(ValidationError):
                use()
        assert [thread.id for thread in manager.list_threads()] == ["t"]

    @pytest.mark.parametrize("thread_id", ODD_IDS, ids=names)
    def test_any_text_is_an_id_of_its_own(self, manager: Any, thread_id: str) -> None:
        with pytest.raises(ThreadNotFoundError):
            manager.get_messages(thread_id)
        assert manager.create_thread(thread_id=thread_id).id == thread_id
        manager.add_message(thread_id, "two", "user")
        assert [message.text for message in manager.get_messages(thread_id)] == ["two"]
        assert [message.text for message in manager.get_messages("t")] == ["one"]
        assert manager.delete_thread(thread_id) is True
        assert [thread.id for thread in manager.list_threads()] == ["t"]


class TestMessages:
    @pytest.mark.parametrize(
        "role", ["", "User", "wizard", "user ", None, 5, b"user", ["user"], "x" * 10_000], ids=names
    )
    def test_a_role_of_nobody_is_refused(self, manager: Any, role: Any) -> None:
        with pytest.raises(ValidationError, match="Invalid role") as refusal:
            manager.add_message("t", "x", role)
        assert len(str(refusal.value)) < 500
        assert len(manager.get_messages("t")) == 1

    @pytest.mark.parametrize(
        "content", [5, 1.5, b"x", object(), [1], [None], "\ud83d", [{"type": "text", "text": "\ud83d"}]], ids=names
    )
    def test_content_that_is_none_is_refused(self, manager: Any, content: Any) -> None:
        with pytest.raises(ValidationError):
            manager.add_message("t", content, "user")
        assert len(manager.get_messages("t")) == 1

    @pytest.mark.parametrize("metadata", NO_METADATA, ids=names)
    def test_metadata_that_is_no_json_is_refused(self, manager: Any, metadata: Any) -> None:
        with pytest.raises(ValidationError):
            manager.add_message("t", "x", "user", metadata=metadata)
        assert len(manager.get_messages("t")) == 1

    @pytest.mark.parametrize("bad", [object(), {"role": "user"}, None, "hello"], ids=names)
    def test_what_is_no_message_is_refused_with_all_the_others(self, manager: Any, bad: Any) -> None:
        with pytest.raises(ValidationError):
            manager.add_messages("t", [Message("x", "user"), bad])
        assert len(manager.get_messages("t")) == 1

    def test_a_message_that_cannot_be_stored_takes_its_batch_with_it(self, manager: Any) -> None:
        with pytest.raises(ValidationError):
            manager.add_messages("t", [Message("x", "user"), Message("\ud83d", "user"), Message("y", "user")])
        assert len(manager.get_messages("t")) == 1

    @pytest.mark.parametrize("limit", [0, -1, "5", 1.5, object()], ids=names)
    def test_a_limit_that_is_none_is_refused(self, manager: Any, limit: Any) -> None:
        with pytest.raises(ValidationError, match="Limit must be a positive integer"):
            manager.get_messages("t", limit=limit)
        with pytest.raises(ValidationError, match="Limit must be a positive integer"):
            manager.list_threads(limit=limit)

    def test_a_limit_beyond_all_numbers_is_no_limit(self, manager: Any) -> None:
        assert len(manager.get_messages("t", limit=1 << 70)) == 1
        assert len(manager.list_threads(limit=1 << 70)) == 1

    @pytest.mark.parametrize("offset", [-1, "5", 1.5, None, object()], ids=names)
    def test_an_offset_that_is_none_is_refused(self, manager: Any, offset: Any) -> None:
        with pytest.raises(ValidationError, match="Offset must be a non-negative integer"):
            manager.list_threads(offset=offset)


class TestThreads:
    @pytest.mark.parametrize("metadata", NO_METADATA, ids=names)
    def test_metadata_that_is_no_json_is_refused(self, manager: Any, metadata: Any) -> None:
        with pytest.raises(ValidationError):
            manager.create_thread(metadata, thread_id="new")
        with pytest.raises(ValidationError):
            manager.update_thread("t", metadata=metadata)
        assert [(thread.id, thread.metadata) for thread in manager.list_threads()] == [("t", {})]

    @pytest.mark.parametrize("title", [5, b"x", ["x"], object(), "\ud83d"], ids=names)
    def test_a_title_that_is_no_text_is_refused(self, manager: Any, title: Any) -> None:
        with pytest.raises(ValidationError):
            manager.create_thread(thread_id="new", title=title)
        with pytest.raises(ValidationError):
            manager.update_thread("t", title=title)
        assert [(thread.id, thread.title) for thread in manager.list_threads()] == [("t", None)]

    @pytest.mark.parametrize("user_id", [5, b"x", ["x"], object(), "\ud83d"], ids=names)
    def test_a_user_that_is_no_text_is_refused(self, manager: Any, user_id: Any) -> None:
        with pytest.raises(ValidationError):
            manager.create_thread(thread_id="new", user_id=user_id)
        assert [thread.id for thread in manager.list_threads()] == ["t"]
