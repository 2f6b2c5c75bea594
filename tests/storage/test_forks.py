"""A process forks while other threads of it are in the middle of a call: the child is neither held up nor misled."""

from __future__ import annotations

import functools
import multiprocessing
import os
import threading
import warnings
from collections.abc import Callable

import pytest

from memexllm.core.models import Message
from memexllm.storage import BaseStorage, MemoryStorage, SQLiteStorage

LIMIT = 50
WAIT_S = 5.0


def use_in_child(storage: BaseStorage) -> None:
    before = storage.read_head("t")
    assert before is not None
    assert before.message_count == len(storage.read_messages("t")) == min(before.version - 1, LIMIT)
    storage.append_messages("t", [Message("from the child", "user")])
    assert storage.read_messages("t")[-1].text == "from the child"


def fork(storage: BaseStorage) -> int | None:
    """The exit code of a forked child that uses the storage; None when it was stuck."""
    with warnings.catch_warnings():
        # Python 3.12 warns of forks while other threads run, which is what is tested here.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = multiprocessing.get_context("fork").Process(target=use_in_child, args=(storage,))
        child.start()
    child.join(WAIT_S)
    code = child.exitcode
    child.kill()
    child.join()
    return code


@pytest.mark.skipif(not hasattr(os, "fork"), reason="binds systems that have os.fork()")
@pytest.mark.parametrize(
    "make", [MemoryStorage, functools.partial(SQLiteStorage, ":memory:")], ids=["memory", "sqlite"]
)
def test_a_child_forked_in_the_middle_of_appends_works(make: Callable[..., BaseStorage]) -> None:
    enough = threading.Event()
    with make(max_messages=LIMIT) as storage:
        storage.append_messages("t", [], create={})

        def append() -> None:
            while not enough.is_set():
                storage.append_messages("t", [Message("from the parent", "user")])

        writers = [threading.Thread(target=append) for _ in range(3)]
        for writer in writers:
            writer.start()
        try:
            codes = [fork(storage) for _ in range(8)]
        finally:
            enough.set()
            for writer in writers:
                writer.join()
    assert codes == [0] * 8
