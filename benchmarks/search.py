"""What searching 100,000 messages takes: `python -m benchmarks.search`.

Ten users with 200 threads of 50 messages each, of 10 to 40 words drawn from 30,000 as words of a language are: the
commonest a thousand times as often as the thousandth. A query is five words, from common to rare. Times are CPU times
of the process, so that other work on the machine counts little: the first search makes the index, later ones find it up
to date, or with one new turn to index.
"""

from __future__ import annotations

import random
import sqlite3
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any

from memexllm import Message, SQLiteStorage, Thread

N_USERS, N_THREADS, N_MESSAGES = 10, 200, 50
N_WORDS = 30_000
N_SEARCHES = 40
_SYLLABLES = [consonant + vowel for consonant in "bcdfghjklmnpqrstvwz" for vowel in "aeiou"]


class Speaker:
    """Says and asks random things, the same ones on every run."""

    def __init__(self) -> None:
        self._random = random.Random(1)
        words: dict[str, None] = {}
        while len(words) < N_WORDS:
            words["".join(self._random.choices(_SYLLABLES, k=self._random.randint(2, 4)))] = None
        self.words = list(words)
        self._weights = list(accumulate(1 / (rank + 3) for rank in range(N_WORDS)))

    def says(self) -> str:
        return " ".join(self._random.choices(self.words, cum_weights=self._weights, k=self._random.randint(10, 40)))

    def asks(self) -> str:
        ranks = [(0, 20), (20, 200), (100, 1000), (200, 2000), (2000, 20_000)]
        return " ".join(self.words[self._random.randint(*bounds)] for bounds in ranks)


def filled(path: Path, speaker: Speaker) -> SQLiteStorage:
    storage = SQLiteStorage(path)
    for user in range(N_USERS):
        for number in range(N_THREADS):
            messages = [Message(speaker.says(), "user" if place % 2 else "assistant") for place in range(N_MESSAGES)]
            storage.save_thread(Thread(f"{user}-{number}", user_id=f"user {user}", messages=messages))
    return storage


def seconds(work: Callable[[], object]) -> float:
    started_at = time.process_time()
    work()
    return time.process_time() - started_at


def report(name: str, times: list[float]) -> None:
    middle, fastest, slowest = (each(times) * 1000 for each in (median, min, max))
    print(f"  {name:34} {middle:8.1f} ms   (fastest {fastest:.1f}, slowest {slowest:.1f})")


def main() -> None:
    speaker = Speaker()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chat.db"
        storage = filled(path, speaker)
        print(f"{N_USERS * N_THREADS * N_MESSAGES:,} messages, SQLite {sqlite3.sqlite_version}")
        size = path.stat().st_size
        report("first search", [seconds(lambda: storage.search_messages(speaker.asks()))])
        scopes: dict[str, dict[str, Any]] = {
            "within a thread": {"thread_id": "5-100"},
            "within a user of 10,000 messages": {"user_id": "user 5"},
            "over all": {},
        }
        for name, scope in scopes.items():
            searches = [partial(storage.search_messages, speaker.asks(), **scope) for _ in range(N_SEARCHES)]
            report(name, [seconds(search) for search in searches])
        times: list[float] = []
        for _ in range(N_SEARCHES):
            storage.append_messages("5-100", [Message(speaker.says(), "user"), Message(speaker.says(), "assistant")])
            times.append(seconds(lambda: storage.search_messages(speaker.asks(), thread_id="5-100")))
        report("within a thread, after a new turn", times)
        report("deleting a thread", [seconds(lambda: storage.delete_thread("5-101"))])
        report("searching after that", [seconds(lambda: storage.search_messages(speaker.asks(), user_id="user 5"))])
        storage.close()
        print(f"  the file: {size / 1e6:.0f} MB before, {path.stat().st_size / 1e6:.0f} MB with its index")


if __name__ == "__main__":
    main()
