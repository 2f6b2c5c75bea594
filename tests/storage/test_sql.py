"""Every law of storage on PostgreSQL and MariaDB, and on SQLite through SQLAlchemy; synchronous and asynchronous."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

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


@pytest.fixture
def sql_tables(sql_database: sa.Engine) -> sa.Engine:
    """The tables that the tests of the kit share, empty."""
    with sql_database.connect() as connection:
        for name in TABLES:
            if sa.inspect(connection).has_table(f"memexllm_{name}", schema="kit"):
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
