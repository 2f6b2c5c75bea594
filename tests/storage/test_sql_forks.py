"""Forks in SQL databases: random lives of threads and forks, what the tables hold of them, and what is written."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from memexllm.storage import MemoryStorage, SQLStorage
from memexllm.storage._sql_forking import COPIED, LONGEST_CHAIN
from memexllm.testing._batches import batch, check_batches, scale
from memexllm.testing._driven import in_threads, says
from tests.storage.test_thread_forks import NAMES, WORDS, Life, hits, outcome, seen

PREFIX = "forked_"
TABLES = ("messages", "logs", "threads", "words")
LONG = 2_000
N_GENERATIONS = 18


@pytest.fixture
def engine(url: str) -> Iterator[sa.Engine]:
    """For what a test itself looks at."""
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    yield engine
    engine.dispose()


@pytest.fixture
def storage(url: str) -> Iterator[SQLStorage]:
    with SQLStorage(url, table_prefix=PREFIX) as storage:
        yield storage


def rows_in(engine: sa.Engine, columns: str, table: str) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.exec_driver_sql(f"SELECT {columns} FROM {PREFIX}{table}"))


def counted(engine: sa.Engine) -> dict[str, int]:
    names = [name for name in TABLES if sa.inspect(engine).has_table(PREFIX + name)]
    return {name: rows_in(engine, "count(*)", name)[0][0] for name in names}


def check_tables(engine: sa.Engine) -> None:
    """What is stored is read by a thread, and every log by a thread or a log; what two users said lies apart."""
    logs = {each: above for each, *above in rows_in(engine, "id, parent_id, fork_seq", "logs")}
    texts = {(log, seq): text for log, seq, text in rows_in(engine, "log_id, seq, wire_text", "messages")}
    read: set[tuple[int, int]] = set()
    readers: dict[int, set[str | None]] = {}
    for thread, user in rows_in(engine, "n, user_id", "threads"):
        found: dict[int, tuple[int, int]] = {}
        log, high = thread, 1 << 62
        while log is not None:
            readers.setdefault(log, set()).add(user)
            parent, fork_seq = logs[log]
            rows = log if parent is None else -log
            for each, seq in texts:
                if each == rows and seq <= high:
                    found.setdefault(seq, (each, seq))
            log, high = parent, high if parent is None else min(high, fork_seq)
        read |= set(found.values())
    assert {text for place, text in texts.items() if place not in read} <= {texts[place] for place in read}
    assert {abs(log) for log, _ in texts} <= set(logs)
    assert set(logs) <= set(readers)
    assert all(len(users) == 1 for users in readers.values())


class Forks:
    @pytest.mark.parametrize("max_messages", [None, 70])
    @pytest.mark.parametrize("seed", range(scale()))
    def test_forks_in_a_database_are_what_copies_are(
        self, url: str, engine: sa.Engine, seed: int, max_messages: int | None
    ) -> None:
        life = Life(f"sql {seed} {max_messages} {url[:6]}")
        with MemoryStorage(max_messages) as copies, SQLStorage(url, max_messages, table_prefix=PREFIX) as pointers:
            for step in range(50):
                use = life.call()
                assert outcome(use, copies) == outcome(use, pointers), f"step {step}"
                bounds = str(life.rng.random())
                if step % 3 == 0:
                    assert seen(copies, random.Random(bounds)) == seen(pointers, random.Random(bounds)), f"step {step}"
                    check_tables(engine)
                if step % 12 == 0:
                    word = life.rng.choice(WORDS)
                    # A neighbour's words count only nearby (`_REACH`), so messages are compared that say the word.
                    found = [{hit for hit in hits(each, word) if word in hit[1]} for each in (copies, pointers)]
                    assert found[0] == found[1], f"step {step}"
            for name in NAMES:
                pointers.delete_thread(name)
            assert set(counted(engine).values()) == {0}

    def test_a_fork_of_a_long_thread_writes_three_rows(self, storage: SQLStorage, engine: sa.Engine) -> None:
        storage.append_messages("t", says(*map(str, range(LONG))), create={"user_id": "ann"})
        before = counted(engine)
        for number in range(2):
            storage.fork_thread("t", f"f{number}")
        after = counted(engine)
        assert {name: after[name] - before[name] for name in before} == {
            name: 2 if name in ("logs", "threads") else 0 for name in before
        }
        assert storage.delete_thread("t")
        assert [len(storage.read_messages(name, wire=True)) for name in ("t", "f0", "f1")] == [0, LONG, LONG]
        storage.delete_thread("f0")
        assert len(storage.read_messages("f1", wire=True)) == LONG
        storage.delete_thread("f1")
        assert set(counted(engine).values()) == {0}

    def test_forks_of_forks_are_read_whole_however_many_there_are(self, storage: SQLStorage, engine: sa.Engine) -> None:
        expected: list[str] = []
        storage.append_messages("0", [], create={})
        for number in range(N_GENERATIONS):
            texts = [f"{number}.{place}" for place in range(COPIED + 1)]
            storage.append_messages(str(number), says(*texts))
            storage.fork_thread(str(number), str(number + 1))
            expected += texts
        for number in range(N_GENERATIONS):
            storage.delete_thread(str(number))
        last = str(N_GENERATIONS)
        assert [message.text for message in storage.read_messages(last)] == expected
        assert [message.text for message in storage.read_messages(last, before=50, limit=40)] == expected[10:50]
        check_tables(engine)
        assert len(rows_in(engine, "id", "logs")) <= LONGEST_CHAIN

    def test_a_fork_writes_as_much_whatever_the_length(self, storage: SQLStorage, url: str) -> None:
        written: list[int] = []
        engine = sa.create_engine(url)

        @sa.event.listens_for(engine, "after_cursor_execute")
        def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
            if statement.startswith(("INSERT", "UPDATE", "DELETE")):
                written.append(cursor.rowcount)

        found: dict[int, int] = {}
        with SQLStorage(engine=engine, table_prefix=PREFIX) as counting:
            for length in (100, LONG):
                storage.append_messages(f"t{length}", says(*map(str, range(length))), create={})
                storage.append_messages(f"t{length}", [], supersede=[0])
                counting.read_head(f"t{length}")
                written.clear()
                counting.fork_thread(f"t{length}", f"f{length}")
                found[length] = sum(written)
        engine.dispose()
        assert found[100] == found[LONG] < 10

    def test_threads_and_their_forks_are_written_to_at_once(self, storage: SQLStorage, engine: sa.Engine) -> None:
        messages = says(*map(str, range(60)))
        storage.append_messages("parent", messages, create={})
        storage.fork_thread("parent", "fork")
        storage.fork_thread("fork", "fork of the fork")
        names = ["parent", "fork", "fork of the fork"]

        def life(place: int, name: str) -> Callable[[], None]:
            def lead() -> None:
                for number in range(8):
                    storage.append_messages(name, batch(place, number, 2))
                    storage.append_messages(name, [], supersede=[number + 10 * place], counts={40: (place, "e")})
                    storage.replace_message(name, messages[30 + number].id, says(f"{name} {number}")[0])
                    storage.fork_thread(name, f"{name} {number}")
                    storage.read_messages(name, limit=5)
                storage.delete_thread(f"{name} 3")

            return lead

        in_threads([life(place, name) for place, name in enumerate(names)])
        for place, name in enumerate(names):
            found = storage.read_messages(name, include_superseded=True)
            assert [each.seq for each in found if each.superseded] == [number + 10 * place for number in range(8)]
            assert [each.text for each in found[30:38]] == [f"{name} {number}" for number in range(8)]
            assert found[40].tokens is not None
            assert found[40].tokens.count == place
            check_batches([each.text for each in found[60:]], {place: 8})
            for number in (0, 7):
                fork = storage.read_messages(f"{name} {number}", include_superseded=True)
                assert [each.text for each in fork[30:38]] == [
                    f"{name} {each}" if each <= number else str(30 + each) for each in range(8)
                ]
        check_tables(engine)

    def test_what_a_deleted_thread_said_is_gone_when_its_fork_says_something_else(
        self, storage: SQLStorage, engine: sa.Engine
    ) -> None:
        messages = says("secret", *map(str, range(50)))
        storage.append_messages("t", messages, create={})
        storage.fork_thread("t", "f")
        storage.replace_message("f", messages[0].id, says("blank")[0])
        assert storage.read_messages("t", limit=1, before=1)[0].text == "secret"
        storage.delete_thread("t")
        assert not any("secret" in text for (text,) in rows_in(engine, "wire_text", "messages"))
        storage.replace_message("f", messages[1].id, says("blank")[0])
        assert len(rows_in(engine, "seq", "messages")) == len(messages)


class TestOnAServer(Forks):
    @pytest.fixture
    def url(self, sql_server: str) -> str:
        """With our tables empty."""
        engine = sa.create_engine(sql_server)
        with engine.begin() as connection:
            for name in TABLES:
                if sa.inspect(connection).has_table(PREFIX + name):
                    connection.exec_driver_sql(f"DELETE FROM {PREFIX}{name}")
        engine.dispose()
        return sql_server


class TestOnSQLite(Forks):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path / 'chat.db'}"
