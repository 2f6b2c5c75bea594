"""The order by update on SQLite, under a clock that stands still, jumps and goes back."""

from __future__ import annotations

import random
import time

import pytest

from memexllm.core.cursors import Cursor
from memexllm.core.models import Message, Thread
from memexllm.core.moments import from_micros, to_micros
from memexllm.storage import SQLiteStorage
from memexllm.testing._batches import scale

THREADS = "abcde"
LAST_MOMENT = 25


@pytest.mark.parametrize("seed", range(20 * scale()))
def test_the_order_is_that_of_the_times_whatever_the_clock_does(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    cursors: list[str] = []
    moment, thread_id = 0, "a"
    with SQLiteStorage(":memory:") as storage:
        for _ in range(80):
            # Mostly onwards: a thread that is written to again and again has a long span.
            moment = min(moment + 1, LAST_MOMENT) if rng.random() < 0.6 else rng.randint(0, LAST_MOMENT)
            thread_id = thread_id if rng.random() < 0.6 else rng.choice(THREADS)
            with monkeypatch.context() as clock:
                clock.setattr(time, "time_ns", lambda moment=moment: moment * 1000)
                write_something(storage, rng, thread_id, moment)
            found = storage.list_threads(order_by="updated")
            assert found == sorted(found, key=key)
            assert storage.list_threads(order_by="-updated") == found[::-1]
            for cursor in rng.sample(cursors, min(4, len(cursors))):
                check(storage, found, cursor)
            if found:
                cursors.append(rng.choice(found).cursor)


def write_something(storage: SQLiteStorage, rng: random.Random, thread_id: str, moment: int) -> None:
    kind = rng.choices(("append", "save", "delete", "patch"), (10, 3, 1, 2))[0]
    if kind == "append":
        storage.append_messages(thread_id, [Message("x", "user")], create={"user_id": user_of(thread_id)})
    elif kind == "save":
        storage.save_thread(Thread(thread_id, user_id=user_of(thread_id), updated_at=from_micros(moment)))
    elif kind == "patch" and storage.read_head(thread_id) is not None:
        storage.patch_thread(thread_id, title="x")
    else:
        storage.delete_thread(thread_id)


def user_of(thread_id: str) -> str:
    return "ann" if thread_id in "abc" else "bob"


def check(storage: SQLiteStorage, found: list[Thread], cursor: str) -> None:
    """An old cursor still parts what is below it from what is above, exactly."""
    at = from_cursor(cursor)
    above = [thread for thread in found if key(thread) > at]
    below = [thread for thread in found if key(thread) < at]
    assert storage.list_threads(order_by="updated", after=cursor) == above
    assert storage.list_threads(order_by="updated", before=cursor) == below
    assert storage.list_threads(order_by="-updated", after=cursor) == below[::-1]
    assert storage.list_threads(order_by="-updated", before=cursor) == above[::-1]
    of_ann = [thread for thread in below if thread.user_id == "ann"]
    assert storage.list_threads(2, order_by="-updated", after=cursor, user_id="ann") == of_ann[::-1][:2]


def key(thread: Thread) -> tuple[int, float]:
    return to_micros(thread.updated_at), thread.place or 0


def from_cursor(text: str) -> tuple[int, float]:
    cursor = Cursor.decoded(text)
    return cursor.updated_at, cursor.place or 0
