"""Lists of 100,000 threads: `python -m benchmarks.listing`.

All threads are written within the same minute, by 100 users in turn, each thread with two messages and a little
metadata. The aim is 5 ms for the newest 50, whichever way they are asked for; a filter by metadata has no index and
looks at every thread. Times are wall times of one call, the median of many.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from memexllm.core.models import Message, Thread
from memexllm.storage import SQLiteStorage
from memexllm.storage._rows import Encoded
from memexllm.storage._sqlite_statements import insert_messages, insert_thread, note_write

N_THREADS = 100_000
N_USERS = 100
N_LISTED = 50
AIM_MS = 5.0


def fill(storage: SQLiteStorage) -> None:
    """What `append_messages` does for each thread, in one transaction for all."""
    question, answer = "Where is my order? " * 5, "It left the house this morning. " * 10

    def write(db: Any) -> None:
        for number in range(N_THREADS):
            metadata = {"n": number, "channel": "web" if number % 3 else "phone", "tags": {"vip": number % 1000 == 0}}
            thread = Thread(f"thread-{number:06}", user_id=f"user-{number % N_USERS}", metadata=metadata)
            log = insert_thread(db, thread)
            encoded = [Encoded(Message(question, "user")), Encoded(Message(answer, "assistant"))]
            insert_messages(db, log, range(2), encoded)
            note_write(db, log, 2, 2)

    storage._connections.write("fill", write)


def measured(name: str, use: Callable[[], Any], n_rounds: int = 30) -> None:
    times: list[float] = []
    use()
    for _ in range(n_rounds):
        started_at = time.perf_counter()
        found = use()
        times.append((time.perf_counter() - started_at) * 1000)
    print(f"  {name:52} {median(times):8.2f} ms median {max(times):8.2f} ms maximum   {len(found)} threads")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, SQLiteStorage(Path(folder) / "chat.db") as storage:
        started_at = time.perf_counter()
        fill(storage)
        print(f"{N_THREADS:,} threads of 2 messages, written in {time.perf_counter() - started_at:.1f} s")
        threads = storage.list_threads
        newest: dict[str, Any] = {"limit": N_LISTED, "order_by": "-updated"}
        first = threads(**newest)[-1]
        middle = threads(offset=N_THREADS // 2, **newest)[-1].cursor
        first_of_user = threads(user_id="user-7", **newest)[-1]
        print(f"the newest {N_LISTED}, aim {AIM_MS:g} ms")
        measured("of all", lambda: threads(**newest))
        measured("of all, with previews", lambda: threads(preview=True, **newest))
        measured("the second page", lambda: threads(after=first, **newest))
        measured("the page before the second", lambda: threads(before=first, **newest))
        measured("a page in the middle", lambda: threads(after=middle, **newest))
        measured("of one user's 1,000", lambda: threads(user_id="user-7", **newest))
        measured("the second page of one user", lambda: threads(user_id="user-7", after=first_of_user, **newest))
        measured("by creation", lambda: threads(N_LISTED, order_by="-created"))
        measured("by creation, of one user", lambda: threads(N_LISTED, order_by="-created", user_id="user-7"))
        print("by metadata, no index")
        measured("a third of the threads match", lambda: threads(metadata={"channel": "phone"}, **newest))
        measured("every thousandth matches", lambda: threads(metadata={"tags": {"vip": True}}, **newest))
        measured("one matches, of all", lambda: threads(metadata={"n": 4007}, **newest), 5)
        measured("one matches, of one user", lambda: threads(metadata={"n": 4007}, user_id="user-7", **newest))


if __name__ == "__main__":
    main()
