"""The managers: one behaviour, spoken synchronously and asynchronously, over any storage."""

from __future__ import annotations

import asyncio
import inspect
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from memexllm import (
    AsyncHistoryManager,
    BaseStorage,
    FIFOAlgorithm,
    HistoryManager,
    MemoryStorage,
    Message,
    SQLiteStorage,
    Thread,
)
from memexllm.core.errors import ConfigurationError, StorageError, ThreadNotFoundError, ValidationError
from memexllm.storage import AsyncBaseStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class FourMethods(BaseStorage):
    """Hands out its own live objects, as the documentation's custom storage does."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: dict[str, Thread] = {}

    def save_thread(self, thread: Thread) -> None:
        self.threads[thread.id] = thread

    def get_thread(self, thread_id: str) -> Thread | None:
        return self.threads.get(thread_id)

    def list_threads(self, limit: int = 100, offset: int = 0) -> list[Thread]:
        return list(self.threads.values())[offset : offset + limit]

    def delete_thread(self, thread_id: str) -> bool:
        return self.threads.pop(thread_id, None) is not None


class AsyncFourMethods(AsyncBaseStorage):
    def __init__(self) -> None:
        super().__init__()
        self.inner = FourMethods()

    async def save_thread(self, thread: Thread) -> None:
        self.inner.save_thread(thread)

    async def get_thread(self, thread_id: str) -> Thread | None:
        return self.inner.get_thread(thread_id)

    async def list_threads(self, limit: int = 100, offset: int = 0) -> list[Thread]:
        return self.inner.list_threads(limit, offset)

    async def delete_thread(self, thread_id: str) -> bool:
        return self.inner.delete_thread(thread_id)


class Spoken:
    """A manager whose methods are called the same way, whichever it is."""

    def __init__(self, manager: HistoryManager | AsyncHistoryManager, runner: asyncio.Runner) -> None:
        self.manager = manager
        self.runner = runner

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.manager, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            return self.runner.run(_awaited(result)) if inspect.isawaitable(result) else result

        return call


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


KINDS = [
    "sync memory",
    "sync sqlite",
    "sync four methods",
    "async memory",
    "async sqlite",
    "async four methods",
    "async async",
]


@pytest.fixture(params=KINDS)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Spoken]]:
    """Makes managers over one storage."""
    speaking, _, kind = request.param.partition(" ")
    storages: dict[str, Callable[[], Any]] = {
        "memory": MemoryStorage,
        "sqlite": lambda: SQLiteStorage(tmp_path / "chat.db"),
        "four methods": FourMethods,
        "async": AsyncFourMethods,
    }
    storage = storages[kind]()
    manager_class: Any = HistoryManager if speaking == "sync" else AsyncHistoryManager
    with asyncio.Runner() as runner:
        yield lambda *args, **options: Spoken(manager_class(storage, *args, **options), runner)
        if kind == "sqlite":
            storage.close()


@pytest.fixture
def manager(made: Callable[..., Spoken]) -> Spoken:
    return made()


def contents(messages: list[Message]) -> list[Any]:
    return [message.content for message in messages]


def fill(manager: Spoken, n_messages: int, thread_id: str = "t") -> None:
    manager.create_thread(thread_id=thread_id)
    for index in range(n_messages):
        manager.add_message(thread_id, str(index), "assistant" if index % 2 else "user")


def test_both_managers_have_the_same_methods_and_parameters() -> None:
    def surface(manager_class: type) -> dict[str, list[tuple[str, Any, Any]]]:
        return {
            name: [(p.name, p.kind, p.default) for p in inspect.signature(member).parameters.values()]
            for name, member in inspect.getmembers(manager_class, callable)
            if not name.startswith("_")
        }

    assert surface(HistoryManager) == surface(AsyncHistoryManager)
    for name, member in inspect.getmembers(HistoryManager, inspect.isfunction):
        if not name.startswith("_"):
            assert member.__doc__, name


class TestThreads:
    def test_a_new_thread_is_empty_and_can_be_found(self, manager: Spoken) -> None:
        thread = manager.create_thread({"topic": "tea"}, user_id="alice", title="Tea")
        found = manager.get_thread(thread.id)
        assert (found.id, found.metadata, found.user_id, found.title) == (thread.id, {"topic": "tea"}, "alice", "Tea")
        assert found.messages == []
        assert found.created_at == thread.created_at

    def test_its_id_can_be_chosen_once(self, manager: Spoken) -> None:
        manager.create_thread(thread_id="t")
        with pytest.raises(ValidationError, match="exists already"):
            manager.create_thread(thread_id="t")

    def test_they_are_listed_in_the_order_of_creation(self, manager: Spoken) -> None:
        for name in "edcba":
            manager.create_thread(thread_id=name)
        assert [thread.id for thread in manager.list_threads()] == list("edcba")
        assert [thread.id for thread in manager.list_threads(limit=2, offset=1)] == ["d", "c"]
        assert manager.list_threads(offset=5) == []

    @pytest.mark.parametrize(
        ("limit", "offset", "message"),
        [
            (0, 0, "Limit must be a positive integer"),
            (-1, 0, "Limit must be a positive integer"),
            (1, -1, "Offset must be a non-negative integer"),
        ],
    )
    def test_a_page_that_is_none_is_refused(self, manager: Spoken, limit: int, offset: int, message: str) -> None:
        with pytest.raises(ValidationError, match=message):
            manager.list_threads(limit=limit, offset=offset)

    def test_a_sidebar_pages_through_the_newest_first(self, manager: Spoken) -> None:
        for number in range(5):
            manager.create_thread(thread_id=f"t{number}", user_id="ann")
        manager.create_thread(thread_id="other", user_id="bob")
        manager.add_message("t1", "the news", "user")
        sidebar: dict[str, Any] = {"order_by": "-updated", "user_id": "ann"}
        first = manager.list_threads(2, preview=True, **sidebar)
        assert [(thread.id, thread.preview) for thread in first] == [("t1", "the news"), ("t4", None)]
        manager.add_message("t0", "meanwhile", "user")
        second = manager.list_threads(2, after=first[-1].cursor, **sidebar)
        assert [thread.id for thread in second] == ["t3", "t2"]
        assert manager.list_threads(2, after=second[-1], **sidebar) == []
        assert [thread.id for thread in manager.list_threads(before=first[0], **sidebar)] == ["t0"]

    def test_they_are_found_by_their_metadata(self, manager: Spoken) -> None:
        for number in range(4):
            manager.create_thread({"n": number, "odd": number % 2 == 1}, thread_id=f"t{number}")
        assert [thread.id for thread in manager.search_threads({"odd": True})] == ["t1", "t3"]
        assert [thread.id for thread in manager.search_threads({"odd": True}, 1, order_by="-created")] == ["t3"]
        assert manager.list_threads(metadata={"odd": 1}) == []
        with pytest.raises(ValidationError, match="Search query cannot be empty"):
            manager.search_threads({})

    def test_title_and_metadata_can_be_changed_without_touching_messages(self, manager: Spoken) -> None:
        fill(manager, 2)
        manager.update_thread("t", title="Tea")
        manager.update_thread("t", metadata={"a": 1})
        found = manager.get_thread("t")
        assert (found.title, found.metadata, contents(found.messages)) == ("Tea", {"a": 1}, ["0", "1"])
        with pytest.raises(ConfigurationError):
            manager.update_thread("t")

    def test_deleted_it_is_gone(self, manager: Spoken) -> None:
        fill(manager, 1)
        assert manager.delete_thread("t") is True
        assert manager.delete_thread("t") is False
        with pytest.raises(ThreadNotFoundError):
            manager.get_thread("t")

    @pytest.mark.parametrize(
        ("method", "arguments"),
        [
            ("get_thread", ()),
            ("context", ()),
            ("get_messages", ()),
            ("add_message", ("hi", "user")),
            ("add_messages", ([Message("hi", "user")],)),
        ],
    )
    def test_an_unknown_thread_is_named(self, manager: Spoken, method: str, arguments: tuple[Any, ...]) -> None:
        with pytest.raises(ThreadNotFoundError, match=r"^Thread not found: nowhere"):
            getattr(manager, method)("nowhere", *arguments)
        assert manager.list_threads() == []

    @pytest.mark.parametrize(
        ("method", "arguments"),
        [
            ("get_thread", ()),
            ("context", ()),
            ("get_messages", ()),
            ("add_message", ("hi", "user")),
            ("add_messages", ([],)),
            ("delete_thread", ()),
        ],
    )
    def test_what_is_no_id_is_refused(self, manager: Spoken, method: str, arguments: tuple[Any, ...]) -> None:
        with pytest.raises(ValidationError, match="Thread ID cannot be empty"):
            getattr(manager, method)("", *arguments)
        with pytest.raises(ValidationError, match="Thread ID must be a string, got int"):
            getattr(manager, method)(7, *arguments)


class TestMessages:
    def test_they_come_back_as_they_were_given(self, manager: Spoken) -> None:
        manager.create_thread(thread_id="t")
        calls = [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]
        parts = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "https://x/y.png"}}]
        given = [
            manager.add_message("t", parts, "user", {"importance": 0.9}, name="ada"),
            manager.add_message("t", None, "assistant", tool_calls=calls),
            manager.add_message("t", "42", "tool", tool_call_id="c1"),
            manager.add_message("t", None, "assistant", function_call={"name": "f", "arguments": "{}"}),
        ]
        stored = manager.get_messages("t")
        assert stored == given
        assert stored[0].metadata == {"importance": 0.9}
        assert stored[0].wire == {"role": "user", "content": parts, "name": "ada"}
        assert stored[1].tool_calls == calls

    def test_many_are_added_at_once(self, manager: Spoken) -> None:
        manager.create_thread(thread_id="t")
        given = [Message("a", "user"), Message("b", "assistant")]
        assert manager.add_messages("t", iter(given)) == given
        assert contents(manager.get_messages("t")) == ["a", "b"]

    @pytest.mark.parametrize(("content", "role"), [("hi", "robot"), (7, "user"), ([1], "user"), ("hi", "")])
    def test_what_is_no_message_is_refused(self, manager: Spoken, content: Any, role: str) -> None:
        manager.create_thread(thread_id="t")
        with pytest.raises(ValidationError):
            manager.add_message("t", content, role)
        assert manager.get_messages("t") == []

    def test_the_newest_can_be_asked_for(self, manager: Spoken) -> None:
        fill(manager, 5)
        assert contents(manager.get_messages("t", limit=2)) == ["3", "4"]
        assert contents(manager.get_messages("t", limit=99)) == list("01234")
        for limit in (0, -1):
            with pytest.raises(ValidationError, match="Limit must be a positive integer"):
                manager.get_messages("t", limit=limit)

    def test_what_is_returned_is_the_callers(self, manager: Spoken) -> None:
        fill(manager, 3)
        thread = manager.get_thread("t")
        thread.messages[0].content = "changed"
        thread.messages.clear()
        thread.metadata["changed"] = True
        manager.get_messages("t")[0].wire["content"] = "changed"
        manager.context("t")[0].wire["content"] = "changed"
        given = Message(wire={"role": "user", "content": "mine"})
        manager.add_messages("t", [given])
        given.content = "changed"
        assert contents(manager.get_messages("t")) == ["0", "1", "2", "mine"]
        assert manager.get_thread("t").metadata == {}

    def test_times_and_ids_come_from_where_they_are_said_to(self, made: Callable[..., Spoken]) -> None:
        moments = iter(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=second) for second in range(9))
        names = iter("abcdefghi")
        manager = made(clock=lambda: next(moments), id_source=lambda: next(names))
        thread = manager.create_thread()
        message = manager.add_message(thread.id, "hi", "user")
        assert (thread.id, message.id) == ("a", "b")
        assert manager.get_thread("a").created_at == datetime(2026, 1, 1, tzinfo=UTC)
        assert manager.get_messages("a")[0].created_at == datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)


class TestWindow:
    def test_without_an_algorithm_it_is_everything(self, manager: Spoken) -> None:
        fill(manager, 150)
        assert len(manager.get_thread("t").messages) == 150
        assert not manager.get_thread("t").partial

    def test_a_thread_shows_its_window_and_keeps_the_rest(self, made: Callable[..., Spoken]) -> None:
        fill(made(), 10)
        windowed = made(FIFOAlgorithm(max_messages=3))
        thread = windowed.get_thread("t")
        assert contents(thread.messages) == ["7", "8", "9"]
        assert thread.partial
        assert contents(windowed.context("t")) == ["7", "8", "9"]
        assert len(windowed.get_messages("t")) == 10
        windowed.add_message("t", "10", "user")
        assert contents(windowed.get_thread("t").messages) == ["8", "9", "10"]
        assert len(made().get_messages("t")) == 11

    def test_the_block_comes_first_and_does_not_count(self, made: Callable[..., Spoken]) -> None:
        manager = made(FIFOAlgorithm(max_messages=2))
        manager.create_thread(thread_id="t")
        manager.add_message("t", "Be brief.", "system")
        for index in range(6):
            manager.add_message("t", str(index), "assistant" if index % 2 else "user")
        assert contents(manager.context("t")) == ["Be brief.", "4", "5"]
        assert contents(manager.get_thread("t").messages) == ["Be brief.", "4", "5"]

    def test_the_context_is_valid_and_the_thread_is_not_changed(self, manager: Spoken) -> None:
        manager.create_thread(thread_id="t")
        manager.add_message("t", "look", "user")
        calls = [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]
        manager.add_message("t", None, "assistant", tool_calls=calls)
        manager.add_message("t", "never mind", "user")
        assert contents(manager.context("t")) == ["look", "never mind"]
        assert len(manager.get_thread("t").messages) == 3

    def test_the_cut_rests_between_moves(self, made: Callable[..., Spoken]) -> None:
        manager = made(FIFOAlgorithm(max_messages=10, keep=4))
        manager.create_thread(thread_id="t")
        firsts = []
        for index in range(60):
            manager.add_message("t", str(index), "assistant" if index % 2 else "user")
            window = contents(manager.context("t"))
            assert len(window) <= 10
            assert window[-1] == str(index)
            firsts.append(window[0])
        assert len(set(firsts)) <= 11

    def test_another_manager_sees_the_same_cut(self, made: Callable[..., Spoken]) -> None:
        one, two = made(FIFOAlgorithm(10, keep=4)), made(FIFOAlgorithm(10, keep=4))
        one.create_thread(thread_id="t")
        for index in range(40):
            (one, two)[index % 2].add_message("t", str(index), "assistant" if index % 2 else "user")
            assert contents(one.context("t")) == contents(two.context("t"))


def test_a_storage_that_is_async_is_refused_with_its_method_and_the_remedy() -> None:
    with pytest.raises(ConfigurationError, match=r"AsyncFourMethods\.save_thread is async def.*AsyncHistoryManager"):
        HistoryManager(AsyncFourMethods())  # type: ignore[arg-type]  # the mistake


@pytest.mark.parametrize("storage", [None, 7, {}, "mongodb://localhost"])
def test_what_is_no_storage_is_refused(storage: Any) -> None:
    for manager_class in (HistoryManager, AsyncHistoryManager):
        with pytest.raises(ConfigurationError):
            manager_class(storage)


@pytest.mark.parametrize("place", ["memory:", ":memory:", "sqlite://", "sqlite:///chat.db", "chat.db"])
def test_a_storage_may_be_a_place(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with HistoryManager(place) as manager:
        manager.create_thread(thread_id="t")
        manager.add_message("t", "hi", "user")
        assert contents(manager.get_messages("t")) == ["hi"]
    assert (tmp_path / "chat.db").exists() is place.endswith("chat.db")


@pytest.mark.parametrize("place", ["memory:", ":memory:"])
def test_messages_are_added_together_or_not_at_all(place: str) -> None:
    broken = Message("c", "user")
    broken.wire["x"] = object()
    with HistoryManager(place) as manager:
        manager.create_thread(thread_id="t")
        with pytest.raises(ValidationError):
            manager.add_messages("t", [Message("ok", "user"), broken])
        assert manager.get_messages("t") == []


async def test_a_blocking_storage_runs_off_the_loop() -> None:
    class Watched(FourMethods):
        def __init__(self) -> None:
            super().__init__()
            self.seen: set[int] = set()

        def get_thread(self, thread_id: str) -> Thread | None:
            self.seen.add(threading.get_ident())
            return super().get_thread(thread_id)

        def save_thread(self, thread: Thread) -> None:
            self.seen.add(threading.get_ident())
            super().save_thread(thread)

    storage = Watched()
    manager = AsyncHistoryManager(storage)
    await manager.create_thread(thread_id="t")
    await manager.add_message("t", "hi", "user")
    assert storage.seen
    assert threading.get_ident() not in storage.seen


def test_what_a_storage_raises_becomes_a_storage_error() -> None:
    class Broken(FourMethods):
        def get_thread(self, thread_id: str) -> Thread | None:
            raise OSError("the disk is gone")

    with pytest.raises(StorageError, match="Failed to get thread: the disk is gone") as raised:
        HistoryManager(Broken()).get_thread("t")
    assert isinstance(raised.value.__cause__, OSError)


def test_a_live_thread_of_the_storage_is_not_changed_by_reading() -> None:
    storage = FourMethods()
    HistoryManager(storage).create_thread(thread_id="t")
    HistoryManager(storage).add_messages("t", [Message(str(number), "user") for number in range(10)])
    before = storage.threads["t"].model_dump_json()
    windowed = HistoryManager(storage, FIFOAlgorithm(max_messages=3))
    assert len(windowed.get_thread("t").messages) == 3
    assert storage.threads["t"].model_dump_json() == before
    assert len(storage.threads["t"].messages) == 10
