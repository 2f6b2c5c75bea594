"""Laws 4, 5 and 10: many threads, tasks and processes at once; a process killed; forks, threads and event loops."""

from __future__ import annotations

import asyncio
import functools
import multiprocessing
import os
import random
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from memexllm.core.errors import ConcurrencyError
from memexllm.core.flow import arun, call
from memexllm.testing._batches import (
    OpenStorage,
    batch,
    batches_in,
    check_batches,
    scale,
    started,
    use_inherited,
    write_batches,
    write_until_killed,
)
from memexllm.testing._driven import DrivenStorage, in_threads, says

WRITERS = 8
ANSWER_S = 60.0
"""How long another process may take before it counts as stuck."""


class TogetherLaws:
    # Law 4: appends from many threads and processes.

    def test_law04_batches_of_many_writers_stay_whole(self, store: DrivenStorage) -> None:
        store.start("t")
        calls = [
            [("t", batch(writer, number, 1 + (writer + number) % 4)) for number in range(10)]
            for writer in range(WRITERS)
        ]
        store.at_once("append_messages", calls)
        check_batches(store.texts("t"), dict.fromkeys(range(WRITERS), 10))
        seqs = store.seqs("t")
        assert seqs == sorted(set(seqs))
        assert store.head("t").message_count == len(seqs)

    def test_law04_writers_of_different_threads_do_not_mix(self, store: DrivenStorage) -> None:
        for writer in range(WRITERS):
            store.start(f"t{writer}")
        calls = [[(f"t{writer}", batch(writer, number, 2)) for number in range(5)] for writer in range(WRITERS)]
        store.at_once("append_messages", calls)
        for writer in range(WRITERS):
            check_batches(store.texts(f"t{writer}"), {writer: 5})

    def test_law04_of_many_writers_at_one_version_one_wins(self, store: DrivenStorage) -> None:
        version = store.start("t")
        outcomes: list[str] = []
        lock = threading.Lock()

        def note(outcome: str) -> None:
            with lock:
                outcomes.append(outcome)

        append = store.bound("append_messages")
        if store.is_async:

            async def try_async(writer: int) -> None:
                try:
                    await append("t", batch(writer, 0, 2), expected_version=version)
                except ConcurrencyError:
                    note("refused")
                else:
                    note("stored")

            async def try_all() -> None:
                await asyncio.gather(*map(try_async, range(WRITERS)))

            store.run(try_all())
        else:

            def try_once(writer: int) -> None:
                try:
                    append("t", batch(writer, 0, 2), expected_version=version)
                except ConcurrencyError:
                    note("refused")
                else:
                    note("stored")

            in_threads([functools.partial(try_once, writer) for writer in range(WRITERS)])
        assert sorted(outcomes) == ["refused"] * (WRITERS - 1) + ["stored"]
        assert len(batches_in(store.texts("t"))) == 1

    def test_law04_a_cancelled_append_is_whole_or_absent(self, store: DrivenStorage) -> None:
        if not store.is_async:
            pytest.skip(f"cancellation binds asynchronous storages; {store.name} is not one")
        store.start("t")
        append = store.bound("append_messages")
        rng = random.Random(4)

        async def append_and_cancel() -> list[bool]:
            tasks = [asyncio.ensure_future(append("t", batch(0, number, 3))) for number in range(20)]
            while pending := [task for task in tasks if not task.done()]:
                await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED, timeout=rng.random() / 500)
                rng.choice(pending).cancel()
            return [not task.cancelled() and task.result() is not None for task in tasks]

        acknowledged = store.run(append_and_cancel())
        found = [number for _, number in batches_in(store.texts("t"))]
        assert len(found) == len(set(found))
        assert {number for number, stored in enumerate(acknowledged) if stored} <= set(found)
        store.append("t", *batch(1, 0, 1))
        assert batches_in(store.texts("t"))[-1] == (1, 0)

    def test_law04_processes_append_to_one_thread(self, store: DrivenStorage, open_storage: OpenStorage | None) -> None:
        opened = _across_processes(store, open_storage, "law 4 across processes")
        store.start("t")
        count = 25 * scale()
        writers = [started(write_batches, opened, "t", writer, count, 2) for writer in range(4)]
        for process, told in writers:
            assert _answer(process, told) == "open"
        for _, told in writers:
            told.send("go")
        for process, told in writers:
            assert _answer(process, told) == "done"
            process.join(ANSWER_S)
            assert process.exitcode == 0
            told.close()
        check_batches(store.texts("t"), dict.fromkeys(range(4), count))

    # Law 5: a process killed at any moment.

    def test_law05_a_killed_process_loses_nothing_acknowledged(
        self, store: DrivenStorage, open_storage: OpenStorage | None
    ) -> None:
        opened = _across_processes(store, open_storage, "law 5")
        rng = random.Random(5)
        store.start("t")
        acknowledged: dict[int, int] = {}
        for writer in range(5 * scale()):
            acknowledged[writer] = _killed(rng, opened, "t", writer)
            with DrivenStorage(opened()) as reopened:
                found = batches_in(reopened.texts("t"))
                state = reopened.head("t").state
            for each, count in acknowledged.items():
                numbers = [number for other, number in found if other == each]
                assert numbers in (list(range(count)), list(range(count + 1)))
            # What else an append changes came with its messages.
            assert found
            assert state.get("last") == found[-1][1]
        store.append("t", *batch(-1, 0, 1))
        assert batches_in(store.texts("t"))[-1] == (-1, 0)

    # Law 10: forks, threads, event loops.

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="law 10 on forks binds systems that have os.fork()")
    def test_law10_a_forked_child_can_use_the_storage(self, store: DrivenStorage) -> None:
        store.start("t", *batch(0, 0, 1))
        other = store.elsewhere()
        _fork(use_inherited, other, "t")
        other.leave()
        store.append("t", *batch(2, 0, 1))
        found = batches_in(store.texts("t"))
        assert found in ([(0, 0), (2, 0)], [(0, 0), (1, 0), (2, 0)])

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="law 10 on forks binds systems that have os.fork()")
    def test_law10_forked_children_write_to_the_same_store(
        self, store: DrivenStorage, open_storage: OpenStorage | None
    ) -> None:
        _across_processes(store, open_storage, "law 10 on forks that share a store")
        store.start("t", *batch(0, 0, 1))
        other = store.elsewhere()
        _fork(use_inherited, other, "t")
        other.leave()
        assert batches_in(store.texts("t")) == [(0, 0), (1, 0)]

    def test_law10_a_storage_works_from_any_thread(self, store: DrivenStorage) -> None:
        store.start("t", *batch(0, 0, 1))

        def use(writer: int) -> Callable[[], None]:
            def from_here() -> None:
                other = store.elsewhere()
                other.append("t", *batch(writer, 0, 2))
                assert (writer, 0) in batches_in(other.texts("t"))
                other.leave()

            return from_here

        for writer in (1, 2, 3):
            in_threads([use(writer)])
        assert batches_in(store.texts("t")) == [(0, 0), (1, 0), (2, 0), (3, 0)]

    def test_law10_a_storage_works_across_consecutive_event_loops(self, store: DrivenStorage) -> None:
        store.start("t")
        append, read = store.bound("append_messages"), store.bound("read_messages")

        async def in_a_loop(number: int) -> int:
            await asyncio.gather(*(arun(call(append, "t", batch(number, part, 2))) for part in range(4)))
            return len(await arun(call(read, "t")))

        assert [asyncio.run(in_a_loop(number)) for number in range(3)] == [8, 16, 24]
        assert sorted(batches_in(store.texts("t"))) == [(number, part) for number in range(3) for part in range(4)]

    def test_law10_a_closed_storage_can_be_used_again(
        self, store: DrivenStorage, open_storage: OpenStorage | None
    ) -> None:
        if not store.overrides("close"):
            pytest.skip(f"closing binds storages that override close; {store.name} does not")
        store.start("t", *says("a"))
        store.call("close")
        store.call("close")
        if open_storage is not None:
            assert store.texts("t") == ["a"]
        store.start("u", *says("b"))
        assert store.texts("u") == ["b"]


def _across_processes(store: DrivenStorage, open_storage: OpenStorage | None, law: str) -> OpenStorage:
    store.skip_unless_it_overrides("append_messages", law)
    if open_storage is None:
        pytest.skip(
            f"{law} binds storages that several processes can open; {type(store.storage).__name__} "
            "is tested without the fixture open_storage"
        )
    return open_storage


def _fork(target: Callable[..., None], *args: Any) -> None:
    """`target` in a forked child, which must end well."""
    with warnings.catch_warnings():
        # Python 3.12 warns of forks while other threads run; here those are idle workers of the event loop.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = multiprocessing.get_context("fork").Process(target=target, args=args)
        child.start()
    child.join(ANSWER_S)
    assert child.exitcode == 0, "the forked child failed; its error is on stderr"


def _answer(process: Any, told: Any) -> Any:
    assert told.poll(ANSWER_S), f"a process gave no answer for {ANSWER_S:g} s"
    try:
        return told.recv()
    except EOFError:
        process.join(ANSWER_S)
        return f"a process broke off with exit code {process.exitcode}; its error is on stderr"


def _killed(rng: random.Random, open_storage: OpenStorage, thread_id: str, writer: int) -> int:
    """How many appends were acknowledged to a process before it was killed at a random moment."""
    process, told = started(write_until_killed, open_storage, thread_id, writer)
    wanted = rng.randint(1, 30)
    count = 0
    while count < wanted:
        assert _answer(process, told) == count
        count += 1
    process.join(rng.random() / 200)
    process.kill()
    process.join(ANSWER_S)
    while _sent(told):
        count += 1
    told.close()
    return count


def _sent(told: Any) -> bool:
    try:
        told.recv()
    except EOFError:
        return False
    return True
