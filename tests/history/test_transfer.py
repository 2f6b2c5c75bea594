"""Export and import: what comes back is what went out, and a bad file changes nothing."""

from __future__ import annotations

import asyncio
import functools
import io
import json
import os
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from memexllm import AsyncHistoryManager, HistoryManager, MemoryStorage, SQLiteStorage, Thread
from memexllm.core.errors import ConfigurationError, OperationError, ThreadNotFoundError, ValidationError
from memexllm.core.models import Message
from memexllm.history.transfer import Transfer, export_threads, import_threads
from memexllm.testing._corpus import METADATA, OUR_FIELDS, WIRES, random_json, random_messages
from tests.storage.custom import AsyncDictStorage, LiveDictStorage, PlainStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HEADER = {"type": "header", "format": "memexllm-threads", "version": 1}


@functools.cache
def every_shape() -> Thread:
    """A thread whose messages are the corpus's, with gaps between their seqs."""
    messages = [Message(wire=wire, id=f"w{number}") for number, wire in enumerate(WIRES.values())]
    messages += [Message("Hi.", "user", **{"id": f"f{n}", **each}) for n, each in enumerate(OUR_FIELDS.values())]
    for number, message in enumerate(messages):
        message.seq = 3 * number + 1
    return Thread(
        "every/shape\n",
        messages=messages,
        user_id="ada",
        title="\x1b[31mTitle\u202e",
        metadata=METADATA,
        state={"cut": {"seq": 4}, "block": [{"role": "system", "content": "Be brief."}]},
        created_at=datetime(2025, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        updated_at=datetime(2026, 1, 2, tzinfo=UTC),
        version=41,
    )


@functools.cache
def random_thread(seed: int) -> Thread:
    rng = random.Random(seed)
    messages = random_messages(seed, rng.randint(0, 12))
    for seq, message in enumerate(messages):
        message.seq = seq
    metadata = {"any": random_json(rng)}
    return Thread(f"t{seed}", messages=messages, metadata=metadata, version=rng.randint(1, 99))


def exported(history: Any, *thread_ids: str) -> bytes:
    file = io.BytesIO()
    export_threads(history, file, thread_ids or None)
    return file.getvalue()


def filled(storage: Any, *threads: Thread) -> Any:
    for thread in threads:
        storage.save_thread(thread)
    return storage


@pytest.fixture
def storages(tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    made: list[Any] = []

    def make(kind: str) -> Any:
        kinds: dict[str, Callable[[], Any]] = {
            "memory": MemoryStorage,
            "sqlite": lambda: SQLiteStorage(tmp_path / f"{len(made)}.db"),
            "four methods": LiveDictStorage,
            "no base class": PlainStorage,
        }
        storage = kinds[kind]()
        made.append(storage)
        return storage

    yield make
    for storage in made:
        getattr(storage, "close", lambda: None)()


KINDS = ["memory", "sqlite", "four methods", "no base class"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_of_an_import_is_the_same_bytes(kind: str, storages: Callable[[str], Any]) -> None:
    first = exported(filled(storages("sqlite"), every_shape(), *map(random_thread, range(30))))
    second = storages(kind)
    done = import_threads(second, io.BytesIO(first))
    assert done.n_threads == 31
    assert exported(second) == first


@pytest.mark.parametrize("kind", KINDS)
def test_a_thread_comes_back_equal(kind: str, storages: Callable[[str], Any]) -> None:
    thread = every_shape()
    storage = storages(kind)
    import_threads(storage, io.BytesIO(exported(filled(storages("memory"), thread))))
    manager = HistoryManager(storage)
    found = manager.get_messages(thread.id, include_superseded=True)
    assert found == thread.messages
    assert [message.seq for message in found] == [message.seq for message in thread.messages]
    kept = manager.get_thread(thread.id).changed(messages=thread.messages, partial=False)
    assert kept == thread


def test_an_asynchronous_storage_is_awaited() -> None:
    first = exported(filled(MemoryStorage(), *map(random_thread, range(5))))

    async def there_and_back() -> bytes:
        storage = AsyncDictStorage()
        assert (await import_threads(storage, io.BytesIO(first))).n_threads == 5
        file = io.BytesIO()
        await export_threads(AsyncHistoryManager(storage), file)
        return file.getvalue()

    assert asyncio.run(there_and_back()) == first


def test_no_line_of_an_export_can_steer_a_terminal(storages: Callable[[str], Any]) -> None:
    text = exported(filled(storages("memory"), every_shape())).decode()
    assert [char for char in text if char != "\n" and (not char.isprintable() and ord(char) < 0xA0)] == []
    assert not set(text) & set("\u202a\u202b\u202c\u202d\u202e\u2028\u2029\u2066\u2067\u2068\u2069")


def test_named_threads_are_exported_in_the_order_named(storages: Callable[[str], Any]) -> None:
    lines = exported(filled(storages("sqlite"), *map(random_thread, range(4))), "t2", "t0").splitlines()
    heads = [line for line in map(json.loads, lines) if line["type"] == "thread"]
    assert [head["id"] for head in heads] == ["t2", "t0"]


def test_a_missing_thread_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    file = tmp_path / "old.jsonl"
    file.write_text("what was there")
    with pytest.raises(ThreadNotFoundError, match="Thread not found: nobody"):
        export_threads(filled(MemoryStorage(), random_thread(1)), file, ["t1", "nobody"])
    assert file.read_text() == "what was there"
    assert os.listdir(tmp_path) == ["old.jsonl"]


class Failing(MemoryStorage):
    """Cannot read the second thread."""

    def get_thread(self, thread_id: str, message_limit: int | None = None) -> Thread | None:
        if thread_id == "t1":
            raise OperationError("Failed to get thread: the disk is gone")
        return super().get_thread(thread_id, message_limit)


def test_an_export_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "old.jsonl"
    file.write_text("what was there")
    with pytest.raises(OperationError):
        export_threads(filled(Failing(), random_thread(0), random_thread(1)), file)
    assert file.read_text() == "what was there"
    assert os.listdir(tmp_path) == ["old.jsonl"]


def test_an_exported_file_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "threads.jsonl"
    export_threads(filled(MemoryStorage(), random_thread(0)), file)
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_path_is_opened_and_closed(tmp_path: Path) -> None:
    filled(SQLiteStorage(tmp_path / "a.db"), every_shape()).close()
    export_threads(tmp_path / "a.db", tmp_path / "a.jsonl")
    assert import_threads(tmp_path / "b.db", str(tmp_path / "a.jsonl")) == Transfer(1, len(every_shape().messages))
    export_threads(f"sqlite:///{tmp_path / 'b.db'}", tmp_path / "b.jsonl")
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


class Pipe(io.RawIOBase):
    """Bytes that can be read once."""

    def __init__(self, data: bytes) -> None:
        self._rest = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._rest.readinto(buffer)


def test_a_stream_that_cannot_be_read_twice_is_imported() -> None:
    first = exported(filled(MemoryStorage(), *map(random_thread, range(3))))
    storage = MemoryStorage()
    import_threads(storage, io.BufferedReader(Pipe(first)))
    assert exported(storage) == first


def test_a_thread_that_exists_is_refused_and_nothing_is_changed() -> None:
    first = exported(filled(MemoryStorage(), *map(random_thread, range(3))))
    storage = filled(MemoryStorage(), Thread("t1", title="mine"))
    before = exported(storage)
    with pytest.raises(ValidationError, match=r"one of its threads exists already \('t1'\)"):
        import_threads(storage, io.BytesIO(first))
    assert exported(storage) == before


def test_a_thread_that_exists_is_skipped_when_asked() -> None:
    first = exported(filled(MemoryStorage(), *map(random_thread, range(3))))
    storage = filled(MemoryStorage(), Thread("t1", title="mine"))
    done = import_threads(storage, io.BytesIO(first), existing="skip")
    assert (done.n_threads, done.n_skipped) == (2, 1)
    assert storage.get_thread("t1").title == "mine"
    assert exported(storage, "t0", "t2") == exported(filled(MemoryStorage(), random_thread(0), random_thread(2)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_thread_that_exists_is_replaced_when_asked(kind: str, storages: Callable[[str], Any]) -> None:
    storage = storages(kind)
    with HistoryManager(storage) as manager:
        manager.create_thread(thread_id="every/shape\n", title="mine")
        import_threads(manager, io.BytesIO(exported(filled(MemoryStorage(), every_shape()))), existing="replace")
        assert manager.get_messages("every/shape\n", include_superseded=True) == every_shape().messages
        assert manager.get_thread("every/shape\n").title == every_shape().title


def lines_of(*threads: Thread) -> list[dict[str, Any]]:
    return [json.loads(line) for line in exported(filled(MemoryStorage(), *threads)).splitlines()]


def joined(lines: list[Any]) -> io.BytesIO:
    return io.BytesIO(
        b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)
    )


def two_threads() -> list[Any]:
    """header, thread a (2 messages), thread b (1 message), end: lines 1 to 7."""
    a = Thread("a", messages=[Message("secret words", "user", seq=0), Message("Yes.", "assistant", seq=1)])
    return lines_of(a, Thread("b", messages=[Message("Hi.", "user", seq=0)]))


def with_line(number: int, **changes: Any) -> list[Any]:
    lines = two_threads()
    lines[number - 1] = {key: value for key, value in {**lines[number - 1], **changes}.items() if value != "absent"}
    return lines


DAMAGES: dict[str, tuple[list[Any], str]] = {
    "no JSON": (
        [*two_threads()[:2], b'{"type":"message","secret words\n', *two_threads()[3:]],
        "line 3: it is no JSON",
    ),
    "no UTF-8": ([*two_threads()[:2], b'{"a":"\xff"}\n', *two_threads()[3:]], "line 3: it is no JSON"),
    "no object": ([*two_threads()[:2], ["secret words"], *two_threads()[3:]], "line 3: it holds a list"),
    "NaN": (with_line(3, metadata={"x": float("nan")}), "line 3: it is no JSON"),
    "a lone surrogate": (
        [*two_threads()[:2], json.dumps({**two_threads()[2], "wire": {"role": "user", "content": "\ud800"}}).encode()],
        "line 3: it is no JSON",
    ),
    "a wrong role": (with_line(3, wire={"role": "secret words"}), "line 3: Invalid role: str"),
    "content of another type": (with_line(3, wire={"role": "user", "content": 5}), "line 3: Content must be"),
    "a wire that is no object": (with_line(3, wire="secret words"), "line 3: its wire is a str"),
    "an unknown key": (with_line(3, colour="secret words"), "line 3: it has keys .* does not know: 'colour'"),
    "a missing key": (with_line(3, id="absent"), "line 3: it lacks id"),
    "an empty message id": (with_line(3, id=""), "line 3: message refused: id"),
    "a wrong status": (with_line(3, status="secret words"), "line 3: message refused: status"),
    "a time that is none": (with_line(3, created_at="secret words"), "line 3: its created_at is no time in ISO 8601"),
    "a seq that does not ascend": (with_line(4, seq=0), "line 4: its seq 0 does not come after 0"),
    "a seq that is none": (with_line(3, seq=True), "line 3: its seq is not an integer"),
    "a truth that is none": (with_line(3, superseded="yes"), "line 3: its superseded is a str"),
    "a message too few": (two_threads()[:3] + two_threads()[4:], "line 2: 1 messages follow where it says 2"),
    "a message too many": ([*two_threads()[:4], with_line(4, seq=9)[3], *two_threads()[4:]], "line 2: 3 messages"),
    "a thread without id": (with_line(2, id="absent"), "line 2: it lacks id"),
    "an empty thread id": (with_line(2, id=""), "line 2: its id is empty"),
    "a title of another type": (with_line(2, title=5), "line 2: thread refused: title"),
    "a state that is no object": (with_line(2, state=[]), "line 2: its state is a list"),
    "the same id twice": (with_line(5, id="a"), "line 5: thread 'a' is in the file twice"),
    "a message before its thread": ([two_threads()[0], *two_threads()[2:]], "line 2: a message stands before"),
    "another type": (with_line(3, type="secret words"), "line 3: its type is neither"),
    "cut off between threads": (two_threads()[:4], "line 4: the file ends here without its closing line"),
    "cut off within a line": (
        [*two_threads()[:2], json.dumps(two_threads()[2]).encode()[:40]],
        "line 3: it is no JSON",
    ),
    "more after the end": ([*two_threads(), two_threads()[4]], "line 8: it stands after the closing line"),
    "a thread lost": (two_threads()[:4] + two_threads()[6:], "line 5: 1 threads stand before the closing line"),
    "no header": (two_threads()[1:], "it is no export of memexllm"),
    "another format": (with_line(1, format="others"), "it is no export of memexllm"),
    "an empty file": ([], "it is no export of memexllm"),
    "a newer format": (with_line(1, version=2), "version 2 of the format; this release .* up to 1: upgrade memexllm"),
    "a version that is none": (with_line(1, version="1"), "not a positive integer"),
}


@pytest.mark.parametrize("lines", DAMAGES)
def test_a_damaged_file_is_refused_by_line_and_changes_nothing(lines: str) -> None:
    damaged, reason = DAMAGES[lines]
    storage = filled(MemoryStorage(), Thread("mine"))
    before = exported(storage)
    with pytest.raises(ValidationError, match=reason) as refusal:
        import_threads(storage, joined(damaged))
    assert exported(storage) == before
    assert "nothing was changed" in str(refusal.value).lower()
    assert "secret words" not in str(refusal.value)


def test_all_damaged_lines_are_told_up_to_ten() -> None:
    lines = [HEADER, *[b"{\n"] * 12, {"type": "end", "n_threads": 0}]
    with pytest.raises(ValidationError) as refusal:
        import_threads(MemoryStorage(), joined(lines))
    told = [f"line {number}: it is no JSON" for number in range(2, 12)]
    assert all(each in str(refusal.value) for each in told)
    assert "line 12" not in str(refusal.value)
    assert "and 2 more" in str(refusal.value)


def test_blank_lines_and_other_time_zones_are_no_damage() -> None:
    lines = with_line(2, created_at="2026-01-02T03:04:05+02:00")
    storage = MemoryStorage()
    import_threads(storage, joined([*lines, b"\n", b"  \r\n"]))
    found = storage.get_thread("a")
    assert found is not None
    assert found.created_at == datetime(2026, 1, 2, 1, 4, 5, tzinfo=UTC)


def test_memory_is_bounded_by_the_longest_thread(tmp_path: Path) -> None:
    import tracemalloc

    def peak_bytes(n_threads: int) -> int:
        text = "x" * 10_000
        with SQLiteStorage(tmp_path / f"{n_threads}.db") as storage:
            for number in range(n_threads):
                storage.save_thread(Thread(f"{number}", messages=[Message(text, "user") for _ in range(10)]))
            tracemalloc.start()
            try:
                export_threads(storage, tmp_path / "threads.jsonl")
                import_threads(storage, tmp_path / "threads.jsonl", existing="replace")
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    assert peak_bytes(80) < 1.5 * peak_bytes(8)


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    storage = filled(MemoryStorage(), *map(random_thread, range(3)))
    export_threads(storage, tmp_path / "threads.jsonl", progress=lambda *each: told.append(each))
    assert told == [(1, 3), (2, 3), (3, 3)]
    told.clear()
    import_threads(MemoryStorage(), tmp_path / "threads.jsonl", progress=lambda *each: told.append(each))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert {total for _, total in told} == {2 * (tmp_path / "threads.jsonl").stat().st_size}


@pytest.mark.parametrize("file", [io.StringIO(), object(), 5])
def test_a_file_of_text_is_refused(file: Any) -> None:
    with pytest.raises(ConfigurationError, match='opened with mode "wb"'):
        export_threads(MemoryStorage(), file)
    with pytest.raises(ConfigurationError, match='opened with mode "rb"'):
        import_threads(MemoryStorage(), file)


def test_another_word_for_existing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match='"refuse", "skip" or "replace"'):
        import_threads(MemoryStorage(), io.BytesIO(), existing="overwrite")  # type: ignore[call-overload]  # on purpose
