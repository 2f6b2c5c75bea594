"""Forks: random lives of threads and their forks, and what a SQLite file holds of them."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from memexllm.core.errors import MemexLLMError
from memexllm.core.models import Message
from memexllm.storage import BaseStorage, MemoryStorage, SQLiteStorage
from memexllm.testing._batches import scale
from memexllm.testing._driven import says
from tests.storage.custom import LiveDictStorage

Call = Callable[[BaseStorage], Any]
NAMES = ("a", "b", "c", "d", "e", "f")
WORDS = ("apple", "bread", "cheese")
READABLE = """
    WITH RECURSIVE reads (thread_id, log_id, high, depth) AS (
        SELECT threads.id, log_id, 4294967295, 0 FROM threads
        UNION ALL
        SELECT thread_id, parent_id, min(high, fork_seq), depth + 1
        FROM reads JOIN logs ON logs.id = reads.log_id WHERE parent_id IS NOT NULL),
    rows AS (
        SELECT position, thread_id, position & 4294967295 AS seq, depth
        FROM reads JOIN messages ON position BETWEEN log_id << 32 AND (log_id << 32 | high))
    SELECT position FROM rows WHERE depth = (
        SELECT min(depth) FROM rows AS nearer WHERE nearer.thread_id = rows.thread_id AND nearer.seq = rows.seq)"""


class Life:
    """Random calls; what was said is remembered, so that they name messages there are."""

    def __init__(self, seed: str) -> None:
        self.rng = random.Random(seed)
        self.ids = ["nothing"]

    def call(self) -> Call:
        weights = {"fork": 16, "append": 10, "replace": 4, "delete": 5, "patch": 1, "save": 1}
        (kind,) = self.rng.choices(list(weights), list(weights.values()))
        made: Call = getattr(self, kind)(self.rng.choice(NAMES))
        return made

    def said(self, count: int) -> list[Message]:
        messages = says(*[f"{self.rng.choice(WORDS)} {self.rng.randrange(1000)}" for _ in range(count)])
        self.ids.extend(message.id for message in messages)
        return messages

    def fork(self, name: str) -> Call:
        new_id = self.rng.choice(NAMES)
        at = self.rng.choice(self.ids) if self.rng.random() < 0.3 else None
        create = {"user_id": self.rng.choice(("ann", "bob"))} if self.rng.random() < 0.1 else None
        return lambda storage: kept(storage.fork_thread(name, new_id, at=at, create=create))

    def append(self, name: str) -> Call:
        options: dict[str, Any] = {
            "supersede_from": self.rng.randrange(20, 200),
            "supersede": [self.rng.randrange(90) for _ in range(4)],
            "counts": {self.rng.randrange(90): (self.rng.randrange(99), "e") for _ in range(3)},
            "state": {"cut": self.rng.randrange(90), "pins": [self.rng.randrange(90)]},
        }
        given = {key: value for key, value in options.items() if self.rng.random() < 0.3}
        messages = self.said(self.rng.choice((0, 1, 2, 40, 60)))
        return lambda storage: storage.append_messages(name, messages, create={"user_id": "ann"}, **given)

    def replace(self, name: str) -> Call:
        message_id = self.rng.choice(self.ids)
        (message,) = self.said(1)
        message.id = message_id
        message.superseded = self.rng.random() < 0.2
        return lambda storage: storage.replace_message(name, message_id, message)

    def delete(self, name: str) -> Call:
        return lambda storage: storage.delete_thread(name)

    def patch(self, name: str) -> Call:
        user_id = self.rng.choice(("ann", "bob"))
        return lambda storage: storage.patch_thread(name, user_id=user_id)

    def save(self, name: str) -> Call:
        def without_the_first(storage: BaseStorage) -> None:
            thread = storage.get_thread(name)
            if thread is not None:
                storage.save_thread(thread.changed(messages=thread.messages[1:]))

        return without_the_first


def kept(head: Any) -> Any:
    return (head.id, head.user_id, head.title, head.metadata, head.state, head.version, head.message_count)


def outcome(use: Call, storage: BaseStorage) -> Any:
    try:
        return use(storage)
    except MemexLLMError as error:
        return type(error)


def seen(storage: BaseStorage, rng: random.Random) -> dict[str, Any]:
    """What the contract shows; of bounded reads a few, the same for generators in the same state."""
    found: dict[str, Any] = {"listed": [thread.id for thread in storage.list_threads()]}
    read: Any = storage.read_messages
    for name in NAMES:
        head = storage.read_head(name)
        found[name] = head and kept(head)
        found[f"{name} rows"] = read(name, include_superseded=True, wire=True)
        low, high, limit = rng.randrange(-1, 150), rng.randrange(150), rng.randrange(1, 30)
        for bounds in ({"limit": limit}, {"after": low, "limit": limit}, {"before": high, "limit": limit}):
            found[f"{name} {bounds}"] = read(name, wire=True, **bounds)
        found[f"{name} between"] = read(name, after=low, before=high)
    return found


def hits(storage: BaseStorage, word: str) -> set[tuple[str, str, int | None]]:
    return {(hit.thread_id, hit.message.text, hit.message.seq) for hit in storage.search_messages(word, limit=100_000)}


def check_file(path: Path) -> None:
    """What is stored is read by a thread, and every log by a thread or a log; what two users said lies apart."""
    with closing(sqlite3.connect(path)) as db:
        texts = dict(db.execute("SELECT position, wire_text FROM messages"))
        read = {position for (position,) in db.execute(READABLE)}
        assert {text for position, text in texts.items() if position not in read} <= {texts[each] for each in read}
        needed = "SELECT log_id FROM threads UNION SELECT parent_id FROM logs WHERE parent_id IS NOT NULL"
        assert db.execute(f"SELECT id FROM logs WHERE id NOT IN ({needed})").fetchall() == []
        shared = """
            WITH RECURSIVE reads (n, log_id) AS (SELECT n, log_id FROM threads UNION ALL
                SELECT n, parent_id FROM reads JOIN logs ON logs.id = log_id WHERE parent_id IS NOT NULL)
            SELECT reads.log_id FROM reads JOIN threads USING (n)
            GROUP BY reads.log_id HAVING count(DISTINCT ifnull(user_id, '')) > 1"""
        assert db.execute(shared).fetchall() == []


@pytest.mark.parametrize("max_messages", [None, 70])
@pytest.mark.parametrize("seed", range(6 * scale()))
def test_forks_are_what_copies_are(tmp_path: Path, seed: int, max_messages: int | None) -> None:
    life = Life(f"{seed} {max_messages}")
    path = tmp_path / "chat.db"
    with MemoryStorage(max_messages) as copies, SQLiteStorage(path, max_messages) as pointers:
        for step in range(80):
            use = life.call()
            assert outcome(use, copies) == outcome(use, pointers), f"step {step}"
            bounds = str(life.rng.random())
            assert seen(copies, random.Random(bounds)) == seen(pointers, random.Random(bounds)), f"step {step}"
            if step % 8 == 0:
                word = life.rng.choice(WORDS)
                assert hits(copies, word) == hits(pointers, word), f"step {step}"
            check_file(path)
        for name in NAMES:
            pointers.delete_thread(name)
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("SELECT count(*) FROM messages").fetchone() == (0,)
            assert db.execute("SELECT count(*) FROM logs").fetchone() == (0,)
            if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'search_1_index'").fetchone():
                assert db.execute("SELECT count(*) FROM search_1_index").fetchone() == (0,)


@pytest.mark.parametrize("seed", range(3 * scale()))
def test_the_default_makes_the_same_forks(seed: int) -> None:
    life = Life(str(seed))
    with MemoryStorage() as copies, LiveDictStorage() as four_methods:
        for step in range(50):
            use = life.call()
            if use.__name__ == "without_the_first":
                continue  # a raw save_thread is the manager's business for a storage of four methods
            assert outcome(use, copies) == outcome(use, four_methods), f"step {step}"
            bounds = str(life.rng.random())
            assert seen(copies, random.Random(bounds)) == seen(four_methods, random.Random(bounds)), f"step {step}"


@pytest.mark.parametrize(
    "order", [("t", "a", "correct"), ("t", "correct", "a"), ("correct", "a", "t"), ("a", "t", "correct")]
)
def test_a_secret_is_gone_from_the_file_with_the_last_thread_that_has_it(
    tmp_path: Path, order: tuple[str, ...]
) -> None:
    path = tmp_path / "chat.db"
    with SQLiteStorage(path) as storage:
        secret, *rest = says("my password is s3cr3t", *map(str, range(80)))
        storage.append_messages("t", [secret, *rest], create={})
        storage.fork_thread("t", "a")
        storage.fork_thread("t", "between", at=rest[60].id)
        storage.append_messages("between", says(*map(str, range(40))))
        storage.fork_thread("between", "b")
        storage.delete_thread("between")
        storage.search_messages("password")
        for step in order:
            if step == "correct":
                storage.replace_message("b", secret.id, says("my password is none of yours")[0])
            else:
                storage.delete_thread(step)
        assert len(storage.read_messages("b")) == 102
        check_file(path)
        storage.search_messages("password")
    assert b"s3cr3t" not in path.read_bytes()
