"""Copies between storages: what arrives is what was there, and a broken copy is gone on with."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import multiprocessing
import os
import signal
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from memexllm import AsyncHistoryManager, HistoryManager, MemoryStorage, Message, SQLiteStorage, Thread
from memexllm.core.errors import ConfigurationError, ConnectionError, StorageError, ThreadNotFoundError
from memexllm.history.copying import COPYING, Conflict, Copied, copy_threads
from memexllm.history.transfer import export_threads
from memexllm.testing._batches import scale
from memexllm.testing._corpus import fingerprints
from memexllm.testing._driven import DrivenStorage, says
from tests.history.test_transfer import every_shape, random_thread
from tests.storage.custom import AsyncDictStorage, LiveDictStorage, PlainStorage

LONG = 1100
"""Longer than a batch."""
KINDS: dict[str, Callable[[Path], Any]] = {
    "memory": lambda _: MemoryStorage(),
    "sqlite": lambda folder: SQLiteStorage(folder / "chat.db"),
    "four methods": lambda _: LiveDictStorage(),
    "no base": lambda _: PlainStorage(),
    "async": lambda _: AsyncDictStorage(),
}


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[str], DrivenStorage]]:
    made: list[DrivenStorage] = []

    def make(kind: str) -> DrivenStorage:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(DrivenStorage(KINDS[kind](folder)))
        return made[-1]

    yield make
    for each in made:
        each.__exit__(None, None, None)


def copied(source: DrivenStorage, target: DrivenStorage, *args: Any, **keywords: Any) -> Copied:
    result: Any = copy_threads(source.storage, target.storage, *args, **keywords)
    assert inspect.iscoroutine(result) == (source.is_async or target.is_async)
    done: Copied = asyncio.run(result) if inspect.iscoroutine(result) else result
    return done


def everything(store: DrivenStorage) -> list[Any]:
    return [(thread, fingerprints(thread.messages)) for thread in map(store.whole_thread, store.list_ids(limit=1000))]


def conversation(store: DrivenStorage, thread_id: str, length: int) -> None:
    store.start(thread_id, *says(*map(str, range(length))), state={"cut": 3})
    store.append(thread_id, supersede=[1, length - 1])


@pytest.mark.parametrize(("kind", "other"), list(itertools.product(KINDS, repeat=2)))
def test_a_copy_is_equal_in_every_direction(make: Callable[[str], DrivenStorage], kind: str, other: str) -> None:
    source, target = make(kind), make(other)
    for thread in (every_shape(), random_thread(1), random_thread(2), Thread("empty", user_id="ann")):
        source.save_thread(thread.model_copy(deep=True))
    conversation(source, "long", LONG if other in ("memory", "sqlite") else 40)
    source.call("fork_thread", "long", "fork")
    source.append("fork", *says("on"), supersede=[5])
    before = everything(source)
    n_messages = sum(len(thread.messages) for thread, _ in before)
    assert copied(source, target) == Copied(n_threads=6, n_messages=n_messages)
    assert everything(target) == before
    assert everything(source) == before
    assert copied(source, target) == Copied(n_skipped=6)
    source.delete_thread("long")
    assert target.texts("fork")[-1] == "on"
    target.append("long", *says("goes on"))
    assert target.texts("long", limit=1) == ["goes on"]


def test_named_threads_are_copied_once(make: Callable[[str], DrivenStorage]) -> None:
    source, target = make("memory"), make("sqlite")
    for name in "abc":
        source.start(name, *says(name))
    told: list[tuple[int, int]] = []
    assert copied(source, target, ["c", "a", "c"], progress=lambda *at: told.append(at)).n_threads == 2
    assert target.list_ids() == ["c", "a"]
    assert told == [(1, 2), (2, 2)]
    with pytest.raises(ThreadNotFoundError):
        copied(source, target, ["b", "nobody"])
    assert target.read_head("b") is None


@pytest.mark.parametrize("length", [3, LONG])
@pytest.mark.parametrize("other", ["memory", "sqlite", "four methods", "async"])
def test_another_thread_of_the_id_is_told_and_left_alone(
    make: Callable[[str], DrivenStorage], other: str, length: int
) -> None:
    source, target = make("sqlite"), make(other)
    conversation(source, "t", length)
    target.start("t", *says("mine"))
    source.start("u", *says("hi"))
    expected = Conflict("t", "the target has another thread of this id")
    for existing in ("keep", "update"):
        assert copied(source, target, existing=existing).conflicts == (expected,)
        assert target.texts("t") == ["mine"]
        assert target.texts("u") == ["hi"]
    done = copied(source, target, existing="replace")
    assert (done.n_threads, done.n_skipped, done.conflicts) == (1, 1, ())
    assert target.texts("t") == source.texts("t")
    assert copied(source, target).n_skipped == 2


@pytest.mark.parametrize("length", [3, LONG])
def test_what_changed_in_the_source_is_brought_up_to_date_when_asked(
    make: Callable[[str], DrivenStorage], length: int
) -> None:
    source, target = make("sqlite"), make("sqlite")
    for name in "abc":
        conversation(source, name, length)
    copied(source, target)
    source.append("a", *says("more"))
    source.append("b", *says("edited"), supersede_from=2)
    target.append("c", *says("said there"))
    source.append("c", *says("and here"), *says("and here"))
    before = everything(target)
    done = copied(source, target)
    assert [each.thread_id for each in done.conflicts] == ["a", "b", "c"]
    assert "changed since" in done.conflicts[0].reason
    assert everything(target) == before
    done = copied(source, target, existing="update")
    assert (done.n_threads, [each.thread_id for each in done.conflicts]) == (2, ["c"])
    for name in "ab":
        assert fingerprints(target.whole_thread(name).messages) == fingerprints(source.whole_thread(name).messages)
    assert target.texts("c")[-1] == "said there"


def test_a_title_that_was_changed_is_no_copy_any_more(make: Callable[[str], DrivenStorage]) -> None:
    source, target = make("memory"), make("sqlite")
    source.start("t", *says("hi"))
    copied(source, target)
    target.call("patch_thread", "t", title="mine")
    assert len(copied(source, target, existing="update").conflicts) == 1
    assert target.head("t").title == "mine"


def test_a_target_that_keeps_fewer_messages_is_told(make: Callable[[str], DrivenStorage]) -> None:
    source, target = make("memory"), make("sqlite")
    target.storage.max_messages = 2
    source.start("t", *says("a", "b", "c"))
    source.start("u", *says("a", "b"))
    done = copied(source, target)
    assert (done.n_threads, [each.thread_id for each in done.conflicts]) == (1, ["t"])
    assert "2" in done.conflicts[0].reason


class Forgets(MemoryStorage):
    """A target that loses something on the way."""

    def save_thread(self, thread: Thread) -> None:
        super().save_thread(thread.changed(messages=[each for each in thread.messages if each.text != "lost"]))


class ChangesKeys(MemoryStorage):
    def save_thread(self, thread: Thread) -> None:
        wires = [each.model_copy(update={"wire": dict(reversed(each.wire.items()))}) for each in thread.messages]
        super().save_thread(thread.changed(messages=wires))


@pytest.mark.parametrize("kind", [Forgets, ChangesKeys])
def test_what_comes_back_different_is_an_error_without_the_text(kind: type) -> None:
    source = MemoryStorage()
    source.append_messages("t", says("hi", "lost"), create={})
    with pytest.raises(StorageError, match=kind.__name__) as failure:
        copy_threads(source, kind())
    assert "lost" not in str(failure.value)


class Busy(MemoryStorage):
    """A source that is written to while it is read, so many times."""

    left = 0

    def get_thread(self, thread_id: str, message_limit: int | None = None) -> Thread | None:
        found = super().get_thread(thread_id, message_limit)
        if self.left and found is not None:
            self.left -= 1
            self.append_messages(thread_id, says(f"new {self.left}"))
        return found


def test_a_source_that_is_written_to_is_copied_as_it_is_then() -> None:
    source, target = Busy(), MemoryStorage()
    source.append_messages("t", says("hi"), create={})
    source.left = 2
    assert copy_threads(source, target).n_threads == 1
    assert [each.text for each in target.read_messages("t")] == ["hi", "new 1", "new 0"]
    source.left = 100
    source.append_messages("u", says("hi"), create={})
    with pytest.raises(StorageError, match="all the time"):
        copy_threads(source, target, ["u"])


def test_paths_urls_and_managers_are_taken(tmp_path: Path) -> None:
    with HistoryManager(tmp_path / "a.db") as manager:
        manager.create_thread(thread_id="t")
        assert copy_threads(manager, f"sqlite:///{tmp_path}/b.db").n_threads == 1
    assert copy_threads(tmp_path / "b.db", tmp_path / "c.db").n_threads == 1

    async def awaited() -> Any:
        async with AsyncHistoryManager(tmp_path / "d.db") as target:
            copying: Any = copy_threads(tmp_path / "c.db", target)
            return await copying

    assert asyncio.run(awaited()).n_threads == 1


@pytest.mark.parametrize("place", ["{}/typo.db", "sqlite:///{}/typo.db"])
def test_a_file_that_is_not_there_is_no_source_and_is_not_made(tmp_path: Path, place: str) -> None:
    source = place.format(tmp_path)
    backup = tmp_path / "backup.jsonl"
    backup.write_text("yesterday's")
    with pytest.raises(ConnectionError, match="no database"):
        copy_threads(source, tmp_path / "b.db")
    with pytest.raises(ConnectionError, match="no database"):
        export_threads(source, backup)
    assert [path.name for path in tmp_path.iterdir()] == ["backup.jsonl"]
    assert backup.read_text() == "yesterday's"


def test_what_cannot_be_copied_is_refused() -> None:
    storage = MemoryStorage()
    with pytest.raises(ConfigurationError, match="same storage"):
        copy_threads(storage, HistoryManager(storage))
    with pytest.raises(ConfigurationError, match="existing"):
        copy_threads(storage, MemoryStorage(), existing="overwrite")  # type: ignore[call-overload]  # what is tested


def copy_files(source: Path, target: Path) -> None:
    copy_threads(source, target)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="binds systems that can kill")
def test_a_killed_copy_is_gone_on_with(tmp_path: Path) -> None:
    source, target = tmp_path / "a.db", tmp_path / "b.db"
    with SQLiteStorage(source) as storage:
        messages = says(*map(str, range(5000)))
        for name in "abc":
            storage.append_messages(name, messages, create={"title": name}, state={"cut": 7})
    # Wherever a run is killed, the next one ends with the same.
    for n_messages in (1000, 3000, 5500)[: scale()]:
        child = multiprocessing.get_context("spawn").Process(target=copy_files, args=(source, target))
        child.start()
        while child.is_alive() and stored(target) < n_messages:
            time.sleep(0.002)
        os.kill(child.pid or 0, signal.SIGKILL)
        child.join()
    done = copy_threads(source, target)
    assert done.conflicts == ()
    assert done.n_threads + done.n_skipped == 3
    with DrivenStorage(SQLiteStorage(source)) as one, DrivenStorage(SQLiteStorage(target)) as other:
        assert everything(one) == everything(other)
    assert copy_threads(source, target) == Copied(n_skipped=3)


def stored(path: Path) -> int:
    if not path.exists():
        return 0
    with SQLiteStorage(path) as storage:
        return sum(thread.message_count for thread in storage.list_threads())


@pytest.mark.parametrize("other", ["memory", "sqlite"])
def test_a_copy_that_broke_off_is_finished(make: Callable[[str], DrivenStorage], other: str) -> None:
    source, target = make("sqlite"), make(other)
    conversation(source, "t", 2100)
    thread = source.whole_thread("t")
    head = thread.changed(messages=[], state={COPYING: True}, version=0)
    target.call("restore_messages", head, thread.messages[:1000])
    assert copied(source, target) == Copied(n_threads=1, n_messages=1100, n_finished=1)
    assert everything(target) == everything(source)
    target.call("restore_messages", head.changed(id="u"), thread.messages[:1000])
    target.append("u", *says("somebody went on"))
    source.save_thread(thread.changed(id="u"))
    assert [each.thread_id for each in copied(source, target).conflicts] == ["u"]
    assert target.texts("u")[-1] == "somebody went on"


def test_a_long_thread_is_copied_in_little_memory(tmp_path: Path) -> None:
    with SQLiteStorage(tmp_path / "a.db") as source, SQLiteStorage(tmp_path / "b.db") as target:
        source.append_messages("t", [], create={})
        for _ in range(8):
            source.append_messages("t", [Message("x" * 4000, "user") for _ in range(1000)])
        tracemalloc.start()
        try:
            copy_threads(source, target)
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak_bytes < 24_000_000, f"{peak_bytes:,}"
        assert len(target.read_messages("t", wire=True)) == 8000
