"""Rows of `benchmarks.sql` about many threads, and about search: on PostgreSQL and MariaDB.

Threads are of 100 users, with two messages and a little metadata each, and are written in bulk. Messages that are
searched are those of `benchmarks.search`. Times are wall times of one call, medians of many.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import count
from statistics import median
from typing import Any

from benchmarks.search import N_MESSAGES, N_USERS, Speaker
from benchmarks.storage import CALL, TEXT
from memexllm.core.models import Message, Thread
from memexllm.storage import SQLStorage
from memexllm.storage._rows import Encoded, with_seq
from memexllm.storage._sql_operation import Operation
from memexllm.storage._sql_transaction import Transaction

N_LISTED = 50
N_SEARCHES = 30
_AT_ONCE = 2000
_FIRST_ID = 1_000_000
"""Above the ids that the database gives, so that these rows need not ask for theirs."""


def report(name: str, use: Callable[[], Any], n_rounds: int) -> None:
    use()
    times: list[float] = []
    for _ in range(n_rounds):
        started_at = time.perf_counter()
        use()
        times.append((time.perf_counter() - started_at) * 1000)
    print(f"  {name:44} {median(times):8.2f} ms median {min(times):8.2f} ms minimum")


def fill(storage: SQLStorage, n_threads: int) -> None:
    """What `append_messages` leaves of two messages in each thread."""
    encoded = [Encoded(Message(TEXT, "user")), Encoded(Message(TEXT, "assistant", call=CALL))]

    def write(tx: Transaction) -> None:
        for start in range(0, n_threads, _AT_ONCE):
            rows = [row_of(tx, number) for number in range(start, min(start + _AT_ONCE, n_threads))]
            for table, values in zip(("logs", "threads", "messages"), zip(*rows, strict=True), strict=True):
                inserted = [value for each in values for value in each]
                tx.execute(getattr(tx.tables, table).insert(), inserted)

    def row_of(tx: Transaction, number: int) -> tuple[list[dict[str, Any]], ...]:
        metadata = {"n": number, "channel": "web" if number % 3 else "phone"}
        thread = Thread(f"thread-{number:06}", user_id=f"user-{number % 100}", title="A title", metadata=metadata)
        n, fields = _FIRST_ID + number, tx.fields_of(thread)
        log = {"id": n, "user_id": fields["user_id"], "next_seq": 2, "message_count": 2, "version": 1}
        log |= {"write_id": tx.write_id, "updated_at": tx.now + number, "searchable": 0}
        messages = [
            {
                "log_id": n,
                "seq": seq,
                "superseded": 0,
                "wire_text": with_seq(each.wire_text, seq),
                "extra_text": each.extra_text,
                "tokens_text": None,
            }
            for seq, each in enumerate(encoded)
        ]
        return [log], [{**fields, "n": n, "id": thread.id, "whole_id": None}], messages

    storage._run(Operation("fill", "write", write))


def many_threads(storage: SQLStorage, n_threads: int) -> None:
    started_at = time.perf_counter()
    fill(storage, n_threads)
    print(f"{n_threads:,} threads of 2 messages, written in {time.perf_counter() - started_at:.1f} s")
    newest: dict[str, Any] = {"limit": N_LISTED, "order_by": "-updated"}
    middle = storage.list_threads(offset=n_threads // 2, **newest)[-1].cursor
    messages = [Message(TEXT, "user"), Message(TEXT, "assistant", call=CALL)]
    names = turns(n_threads)
    report(f"the newest {N_LISTED}", lambda: storage.list_threads(**newest), 60)
    report("... with previews", lambda: storage.list_threads(preview=True, **newest), 60)
    report("... of one user", lambda: storage.list_threads(user_id="user-7", **newest), 60)
    report("... from the middle on", lambda: storage.list_threads(after=middle, **newest), 60)
    wanted = {"n": n_threads // 2}
    report("... by metadata that one has", lambda: storage.list_threads(metadata=wanted, **newest), 5)
    report("append, to one after another", lambda: storage.append_messages(next(names), messages, create={}), 300)
    report("get_thread, one after another", lambda: storage.get_thread(next(names)), 300)
    report("newest 20 as rows, one after another", lambda: storage.read_messages(next(names), limit=20, wire=True), 300)


def turns(n_threads: int) -> Iterator[str]:
    """Ids all over the table."""
    return (f"thread-{number * 7919 % n_threads:06}" for number in count())


def searching(storage: SQLStorage, n_messages: int) -> None:
    speaker = Speaker()
    n_threads = max(1, n_messages // N_MESSAGES // N_USERS)
    for user in range(N_USERS):
        for number in range(n_threads):
            messages = [Message(speaker.says(), "user" if place % 2 else "assistant") for place in range(N_MESSAGES)]
            storage.save_thread(Thread(f"{user}-{number}", user_id=f"user {user}", messages=messages))
    print(f"search of {N_USERS * n_threads * N_MESSAGES:,} messages")
    started_at = time.perf_counter()
    storage.search_messages(speaker.asks())
    print(f"  {'first search, which makes the index':44} {time.perf_counter() - started_at:8.2f} s")
    named, said = f"5-{n_threads // 2}", Message(speaker.says(), "user")
    report("within a thread", lambda: storage.search_messages(speaker.asks(), thread_id=named), N_SEARCHES)
    report("within a tenth, one user's", lambda: storage.search_messages(speaker.asks(), user_id="user 5"), N_SEARCHES)
    report("over all", lambda: storage.search_messages(speaker.asks()), N_SEARCHES)

    def say_and_search() -> None:
        storage.append_messages(named, [Message(said.text, "user")])
        storage.search_messages(speaker.asks(), thread_id=named)

    report("a new message, and within its thread", say_and_search, N_SEARCHES)
