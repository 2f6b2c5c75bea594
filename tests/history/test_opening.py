"""Opening a file nobody has opened before."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from memexllm import HistoryManager

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("attempt", range(10))
def test_many_threads_may_open_a_new_file_at_once(tmp_path: Path, attempt: int) -> None:
    barrier = threading.Barrier(8)

    def create(number: int) -> None:
        barrier.wait()
        manager.create_thread(thread_id=str(number))

    with HistoryManager(tmp_path / f"{attempt}.db") as manager, ThreadPoolExecutor(8) as pool:
        list(pool.map(create, range(8)))
        assert {thread.id for thread in manager.list_threads()} == set("01234567")
