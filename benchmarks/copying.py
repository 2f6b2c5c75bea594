"""A long thread copied from SQLite to a Valkey and a PostgreSQL, both started here: `python -m benchmarks.copying`.

One thread of `--messages` messages of 400 characters. Time is wall time of `copy_threads`, which reads everything back
and compares it; memory is the peak of what Python allocated meanwhile, in a second copy, which tracing makes slower.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.redis import server
from benchmarks.storage import TEXT
from memexllm.core.models import Message, Thread
from memexllm.history.copying import copy_threads
from memexllm.storage import RedisStorage, SQLiteStorage, SQLStorage
from memexllm.storage.base import BaseStorage
from tests.sql_servers import Running, sql_servers

_AT_ONCE = 1000


def timed(write: Callable[..., Any], times: list[float]) -> Callable[..., Any]:
    def timed_write(*args: Any, **keywords: Any) -> Any:
        started = time.perf_counter()
        try:
            return write(*args, **keywords)
        finally:
            times.append(time.perf_counter() - started)

    return timed_write


def copied(source: BaseStorage, target: BaseStorage) -> str:
    times: list[float] = []
    for name in ("restore_messages", "append_messages", "save_thread", "patch_thread"):
        setattr(target, name, timed(getattr(target, name), times))
    started = time.perf_counter()
    copy_threads(source, target)
    took = time.perf_counter() - started
    target.delete_thread("t")
    told = f"{took:6.1f} s, {len(times)} writes, the longest {max(times):.2f} s"
    tracemalloc.start()
    try:
        copy_threads(source, target)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return f"{told}; {peak_bytes / 1e6:.0f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("targets", nargs="*", default=["valkey", "postgres"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        source = stack.enter_context(SQLiteStorage(Path(folder) / "chat.db"))
        source.save_thread(Thread(id="t"))
        for start in range(0, arguments.messages, _AT_ONCE):
            n_messages = min(_AT_ONCE, arguments.messages - start)
            source.append_messages("t", [Message(TEXT, "user") for _ in range(n_messages)])
        if "valkey" in arguments.targets:
            target = stack.enter_context(RedisStorage(stack.enter_context(server())))
            print("valkey  ", copied(source, target))
        if "postgres" in arguments.targets:
            (postgres,) = [each for each in sql_servers() if each.id == "postgres"]
            url = postgres.url or stack.enter_context(Running(postgres)).url
            print("postgres", copied(source, stack.enter_context(SQLStorage(url, table_prefix="copied_"))))


if __name__ == "__main__":
    main()
