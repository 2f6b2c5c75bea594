"""Every law of storage on PostgreSQL and MariaDB, and on SQLite through SQLAlchemy; synchronous and asynchronous."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from memexllm.core.models import Message
from memexllm.storage import AsyncSQLStorage, SQLStorage
from memexllm.testing._batches import batch, check_batches, scale
from memexllm.testing._driven import in_threads
from memexllm.testing.storage import StorageConformance

TABLES = ("messages", "words", "threads", "logs")


@pytest.fixture(scope="session")
def sql_database(sql_server: str) -> Iterator[sa.Engine]:
    """The server for the tests themselves, with a table that is not ours."""
    engine = sa.create_engine(sql_server, isolation_level="AUTOCOMMIT", poolclass=sa.StaticPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(
            "DROP DATABASE IF EXISTS kit" if "mysql" in sql_server else "DROP SCHEMA IF EXISTS kit CASCADE"
        )
        connection.exec_driver_sql("CREATE DATABASE kit" if "mysql" in sql_server else "CREATE SCHEMA kit")
        connection.exec_driver_sql("CREATE TABLE kit.threads (id INTEGER PRIMARY KEY)")
        connection.exec_driver_sql("INSERT INTO kit.threads VALUES (1)")
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def tables_there(sql_database: sa.Engine) -> set[str]:
    """The tables that were found once on this server: nobody drops them."""
    return set()


@pytest.fixture
def sql_tables(sql_database: sa.Engine, tables_there: set[str]) -> sa.Engine:
    """The tables that the tests of the kit share, empty."""
    with sql_database.connect() as connection:
        for name in TABLES:
            if name not in tables_there and sa.inspect(connection).has_table(f"memexllm_{name}", schema="kit"):
                tables_there.add(name)
            if name in tables_there:
                connection.exec_driver_sql(f"DELETE FROM kit.memexllm_{name}")
    return sql_database


class OnAServer(StorageConformance):
    storage_type: Callable[..., Any]

    @pytest.fixture
    def storage(self, open_storage: Callable[[], Any]) -> Any:
        return open_storage()

    @pytest.fixture
    def open_storage(self, sql_server: str, sql_tables: sa.Engine) -> Callable[[], Any]:
        return functools.partial(self.storage_type, sql_server, schema="kit")

    @pytest.fixture
    def damage(self, sql_tables: sa.Engine) -> Callable[[str], None]:
        def cut_texts_in_half(thread_id: str) -> None:
            with sql_tables.connect() as connection:
                connection.execute(
                    sa.text(
                        "UPDATE kit.memexllm_messages SET wire_text = LEFT(wire_text, LENGTH(wire_text) / 2)"
                        " WHERE log_id = (SELECT n FROM kit.memexllm_threads WHERE id = :id)"
                    ),
                    {"id": thread_id},
                )

        return cut_texts_in_half

    @pytest.fixture
    def surroundings(self, sql_tables: sa.Engine) -> Callable[[], Any]:
        def others() -> Any:
            with sql_tables.connect() as connection:
                names = set(sa.inspect(connection).get_table_names(schema="kit"))
                rows = connection.exec_driver_sql("SELECT id FROM kit.threads").fetchall()
            return [tuple(row) for row in rows], {name for name in names if not name.startswith("memexllm_")}

        return others


class TestSQLStorage(OnAServer):
    storage_type = SQLStorage


class TestAsyncSQLStorage(OnAServer):
    storage_type = AsyncSQLStorage


class OnSQLite(StorageConformance):
    storage_type: Callable[..., Any]

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "chat.db"

    @pytest.fixture
    def storage(self, open_storage: Callable[[], Any]) -> Any:
        return open_storage()

    @pytest.fixture
    def open_storage(self, path: Path) -> Callable[[], Any]:
        return functools.partial(self.storage_type, f"sqlite:///{path}")

    @pytest.fixture
    def damage(self, path: Path) -> Callable[[str], None]:
        def cut_texts_in_half(thread_id: str) -> None:
            engine = sa.create_engine(f"sqlite:///{path}")
            with engine.begin() as connection:
                connection.execute(
                    sa.text(
                        "UPDATE memexllm_messages SET wire_text = substr(wire_text, 1, length(wire_text) / 2)"
                        " WHERE log_id = (SELECT n FROM memexllm_threads WHERE id = :id)"
                    ),
                    {"id": thread_id},
                )
            engine.dispose()

        return cut_texts_in_half

    @pytest.fixture
    def surroundings(self, path: Path) -> Callable[[], Any]:
        (path.parent / "neighbour.db").write_bytes(b"not ours")
        return lambda: {file.name: file.read_bytes() for file in path.parent.iterdir() if path.name not in file.name}


class TestSQLStorageOnSQLite(OnSQLite):
    storage_type = SQLStorage


@pytest.mark.skipif(scale() <= 1, reason="asynchronous on servers; MEMEXLLM_TEST_SCALE=2 here too")
class TestAsyncSQLStorageOnSQLite(OnSQLite):
    storage_type = AsyncSQLStorage


def test_a_database_in_memory_is_used_from_any_thread() -> None:
    with SQLStorage("sqlite://") as storage:
        storage.append_messages("t", [], create={})
        in_threads([functools.partial(storage.append_messages, "t", batch(writer, 0, 2)) for writer in range(4)])
        check_batches([message.text for message in storage.read_messages("t")], dict.fromkeys(range(4), 1))


SIGNS = ["{}", '"', "\\", '\\"', "NULL", "", " ", ",", "'", "\n", "{1,2}", '"},{"']


def test_a_text_comes_back_whatever_signs_an_array_is_written_with(sql_server: str, sql_tables: sa.Engine) -> None:
    with SQLStorage(sql_server, schema="kit") as storage:
        for place, text in enumerate(SIGNS):
            thread = f"t{place}"
            storage.append_messages(thread, [], create={})
            message = Message(text, "user", metadata={text: text}, turn_id=text)
            storage.append_messages(thread, [message, Message(text, "assistant", name="x")], counts={0: (1, text)})
            storage.append_messages(thread, [Message("more", "user")], counts={0: (2, text), 1: (3, text)})
            first, second, _ = storage.read_messages(thread)
            assert (first.text, first.metadata, first.turn_id, second.text) == (text, {text: text}, text, text)
            counted = [each.tokens and (each.tokens.count, each.tokens.encoding) for each in (first, second)]
            assert counted == [(2, text), (3, text)]


def test_previews_take_no_statement_for_each_thread() -> None:
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    counted: list[int] = []
    with SQLStorage(engine=engine) as storage:
        for number in range(30):
            storage.append_messages(f"t{number}", batch(number, 0, 2), create={})
        storage.append_messages("empty", [], create={})

        @sa.event.listens_for(engine, "after_cursor_execute")
        def note(*_: Any) -> None:
            counted[-1] += 1

        for limit in (2, 31):
            counted.append(0)
            found = storage.list_threads(limit, preview=True)
            assert [thread.preview is None for thread in found] == [thread.id == "empty" for thread in found]
    engine.dispose()
    assert counted[0] == counted[1]


def test_a_preview_is_of_a_message_that_its_thread_shows() -> None:
    with SQLStorage("sqlite://") as storage:
        storage.append_messages("parent", [Message("one", "user"), Message("two", "user")], create={})
        storage.fork_thread("parent", "fork")
        storage.append_messages("parent", [Message("three", "user")], supersede=[1])
        storage.append_messages("fork", [Message("7", "tool", tool_call_id="c")])
        storage.append_messages("cut", [Message("said", "user"), Message("gone", "user")], create={})
        storage.append_messages("cut", [], supersede_from=1)
        found = {thread.id: thread.preview for thread in storage.list_threads(preview=True)}
    assert found == {"parent": "three", "fork": "two", "cut": "said"}
