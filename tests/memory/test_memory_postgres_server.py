"""PostgresVectorDatabase and its server: connections are lost, programs start at once, extensions are not there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from memexllm import AsyncMemoryManager, MemoryManager, Plugin
from memexllm.core.errors import (
    ConfigurationError,
    MemexLLMError,
    MissingDependencyError,
    ProviderError,
    ValidationError,
)
from memexllm.core.models import Message
from memexllm.memory import MemoryRecord, PostgresVectorDatabase
from memexllm.memory.embeddings import HashingEmbeddings
from memexllm.storage import SQLStorage
from tests.storage.cutting import Cutting, Moment

Opened = Callable[..., MemoryManager]
Directly = Callable[..., list[Any]]


def through(server: str, **query: str) -> str:
    """The server's URL with other parameters."""
    return sa.make_url(server).update_query_dict(query).render_as_string(hide_password=False)


# Lost connections.


@pytest.fixture
def cut(postgres_server: str, tmp_path: Path) -> Iterator[tuple[Cutting, str]]:
    """A way to the server that can be cut, and the URL through it."""
    folder = sa.make_url(postgres_server).query.get("host")
    if folder is None:
        pytest.fail("cutting a connection needs a server on a unix socket", pytrace=False)
    with Cutting(tmp_path / ".s.PGSQL.5432", Path(str(folder)) / ".s.PGSQL.5432") as cutting:
        yield cutting, through(postgres_server, host=str(tmp_path))


class Told(Plugin):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def on_memory_added(self, memory: MemoryRecord) -> None:
        self.texts.append(memory.text)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_every_write_is_made_once_though_its_answer_is_lost(
    cut: tuple[Cutting, str], opened: Opened, moment: Moment
) -> None:
    cutting, url = cut
    memory, told, commit = opened(url=url), Told(), b"COMMIT\x00"
    memory.load_plugin(told)
    first = memory.add("tea")
    records = [MemoryRecord("bread"), MemoryRecord("tea"), MemoryRecord("salt")]
    cutting.arm(b'memory_vectors" (n', moment)
    assert memory.add("dog").text == "dog"
    cutting.arm(commit, moment)
    added = memory.add_many(records)
    assert [record.id for record in added] == [records[0].id, first.id, records[2].id]
    assert told.texts == ["tea", "dog", "bread", "salt"]
    cutting.arm(commit, moment)
    memory.update(first.id, text="coffee")
    cutting.arm(commit, moment)
    assert memory.delete(records[0].id) is True
    cutting.arm(b"SELECT s.format", moment)
    assert memory.search("coffee", limit=1)[0].text == "coffee"
    assert cutting.n_cut == 5
    assert [record.text for record in opened().list()] == ["coffee", "dog", "salt"]


def test_connections_that_a_server_drops_are_made_again(
    opened: Opened, directly: Directly, postgres_server: str
) -> None:
    memory = opened(url=through(postgres_server, application_name="dropped"))
    memory.add("tea")
    uses: list[Callable[[], Any]] = [
        lambda: memory.add("bread"),
        lambda: memory.search("tea"),
        memory.count,
        memory.list,
    ]
    for use in uses:
        drop = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'dropped'"
        assert directly(drop) == [(True,)]
        use()
    assert [record.text for record in memory.list()] == ["tea", "bread"]


def test_memory_outlives_its_process(opened: Opened) -> None:
    record = opened().add("tea", user_id="ada", metadata={"n": [1, 2.5]})
    assert opened().search("tea", user_id="ada").memories == [record]


def test_a_closed_database_is_opened_again(opened: Opened) -> None:
    memory = opened()
    memory.add("tea")
    memory.close()
    assert memory.search("tea").total == 1


def test_a_server_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    database = PostgresVectorDatabase(f"postgresql://ann:secret@/chat?host={tmp_path}", HashingEmbeddings(8))
    with MemoryManager(database) as memory, pytest.raises(ProviderError, match="Failed to open the database") as raised:
        memory.search("tea")
    assert "secret" not in str(raised.value) + repr(database)


# Many at once.


def test_tables_are_made_once_by_those_who_start_together(opened: Opened) -> None:
    managers = [opened() for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda n: managers[n].add_many([MemoryRecord("tea"), MemoryRecord(f"bread {n}")]), range(6)))
    assert managers[0].count() == 7


def test_those_who_add_the_same_in_another_order_add_it_once(opened: Opened) -> None:
    managers = [opened() for _ in range(4)]
    managers[0].add("tea")
    texts = [f"bread {n}" for n in range(30)]

    def add(n: int) -> list[str]:
        return sorted(record.id for record in managers[n].add_many(map(MemoryRecord, texts if n % 2 else texts[::-1])))

    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(add, range(4)))
    assert ids == [ids[0]] * 4
    assert managers[0].count() == 31


def test_threads_add_and_search_at_once(opened: Opened) -> None:
    memory = opened(pool_size=3)

    def work(worker: int) -> None:
        user_id = f"user {worker % 2}"
        for n in range(10):
            memory.add(f"tea {worker} {n}", user_id=user_id)
            mine = memory.search("tea", user_id=user_id, limit=1000)
            assert {record.user_id for record in mine} == {user_id}
            assert mine.total == len(mine) >= n + 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert memory.count() == 40


async def test_many_tasks_remember_at_once(postgres_server: str, schema: str) -> None:
    database = PostgresVectorDatabase(postgres_server, HashingEmbeddings(32), schema=schema, pool_size=3)
    async with AsyncMemoryManager(database) as memory:
        await asyncio.gather(*(memory.add(f"tea {n % 20}", user_id="ada") for n in range(40)))
        assert await memory.count(user_id="ada") == 20


# Places.


def test_two_prefixes_never_meet(opened: Opened) -> None:
    places = [opened(), opened(table_prefix=""), opened(table_prefix="0_"), opened(table_prefix="memexllm_memory_")]
    for n, memory in enumerate(places):
        memory.add(f"tea {n}", user_id="ada")
    for n, memory in enumerate(places):
        assert [record.text for record in memory.search("tea", user_id="ada")] == [f"tea {n}"]
    places[0].delete_all(user_id="ada")
    places[1].reembed(HashingEmbeddings(16))
    assert [memory.count() for memory in places] == [0, 1, 1, 1]


def test_threads_and_memory_share_a_schema_and_prefix(opened: Opened, postgres_server: str, schema: str) -> None:
    memory = opened()
    memory.add("tea")
    with SQLStorage(postgres_server, schema=schema) as storage:
        storage.append_messages("t", [Message("bread", "user")], create={})
        assert [message.text for message in storage.read_messages("t")] == ["bread"]
    assert [record.text for record in memory.list()] == ["tea"]


def test_a_schema_may_have_any_name(opened: Opened, directly: Directly) -> None:
    name = 'a "b" %s :c 100% d'
    quoted = 'DROP SCHEMA IF EXISTS "a ""b"" %%s :c 100%% d" CASCADE'
    directly(quoted)
    memory = opened(schema=name)
    memory.add("tea")
    memory.reembed(HashingEmbeddings(8))
    assert memory.search("tea", kind="fact").total == 1
    directly(quoted)


def test_an_engine_of_the_callers_is_used_and_left_open(opened: Opened, postgres_server: str) -> None:
    engine = sa.create_engine(postgres_server)
    memory = opened(engine=engine)
    memory.add("tea")
    memory.close()
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM memory_own.memexllm_memory_records")).scalar_one() == 1
    engine.dispose()


def test_a_url_opens_memory(postgres_server: str, schema: str, directly: Directly) -> None:
    directly(f"CREATE SCHEMA {schema}")
    url = through(postgres_server, options=f"-c search_path={schema},public")
    with MemoryManager(url.replace("postgresql+psycopg://", "postgres://")) as memory:
        memory.add("tea")
        assert memory.search("tea").total == 1
    assert directly(f"SELECT count(*) FROM {schema}.memexllm_memory_records") == [(1,)]


# Formats.


def test_a_newer_format_is_refused_and_left_as_it_is(opened: Opened, directly: Directly) -> None:
    memory = opened()
    record = memory.add("tea")
    directly("UPDATE memory_own.memexllm_memory_state SET format = 2")
    for use in (
        lambda: memory.add("bread"),
        lambda: memory.update(record.id, metadata={"n": 1}),
        lambda: memory.delete(record.id),
        lambda: memory.search("tea"),
        lambda: memory.reembed(),
        lambda: opened().count(),
    ):
        with pytest.raises(ProviderError, match=r"format 2.*upgrade memexllm"):
            use()
    assert memory.list().memories == [record]


def test_tables_of_another_program_are_refused_and_left_as_they_are(opened: Opened, directly: Directly) -> None:
    directly("CREATE SCHEMA memory_own", "CREATE TABLE memory_own.memexllm_memory_records (id INTEGER)")
    with pytest.raises(ProviderError, match="memexllm_memory_records are there and are another program's"):
        opened().add("tea")
    assert directly("SELECT tablename FROM pg_tables WHERE schemaname = 'memory_own'") == [("memexllm_memory_records",)]


# The extension.


@pytest.fixture
def bare(postgres_server: str, directly: Directly) -> Iterator[str]:
    """A database without the extension, whose owner is no superuser: the URL."""
    directly("DROP DATABASE IF EXISTS memory_bare", "DROP ROLE IF EXISTS plain", "CREATE ROLE plain LOGIN")
    directly("CREATE DATABASE memory_bare OWNER plain")
    url = sa.make_url(postgres_server).set(username="plain", database="memory_bare")
    yield url.render_as_string(hide_password=False)
    directly("DROP DATABASE memory_bare WITH (FORCE)", "DROP ROLE plain")


def superuser(bare: str, postgres_server: str, *statements: str) -> None:
    url = sa.make_url(postgres_server).set(database=sa.make_url(bare).database)
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def test_a_database_without_the_extension_says_what_to_do(bare: str, opened: Opened, postgres_server: str) -> None:
    memory = opened(url=bare)
    with pytest.raises(ConfigurationError, match="run CREATE EXTENSION vector there once, as a superuser"):
        memory.add("tea")
    superuser(bare, postgres_server, "CREATE EXTENSION vector", "UPDATE pg_extension SET extversion = '0.7.4'")
    with pytest.raises(
        ConfigurationError, match=r"has pgvector 0\.7\.4, and 0\.8 or later .*ALTER EXTENSION vector UPDATE"
    ):
        memory.add("tea")
    superuser(
        bare, postgres_server, "DROP EXTENSION vector", "CREATE SCHEMA far", "CREATE EXTENSION vector SCHEMA far",
        "GRANT USAGE ON SCHEMA far TO plain",
    )  # fmt: skip
    with pytest.raises(ConfigurationError, match="lies in a schema where this connection does not look"):
        memory.add("tea")
    memory = opened(url=through(bare, options="-c search_path=public,far"))
    memory.add("tea")
    assert memory.search("tea").total == 1


def test_a_server_without_pgvector_says_what_to_do(bare: str, opened: Opened, postgres_server: str) -> None:
    engine = sa.create_engine(postgres_server, poolclass=sa.NullPool)
    with engine.connect() as connection:
        (version,) = connection.exec_driver_sql("SHOW server_version_num").one()
    if int(version) < 180000:
        pytest.skip("only from PostgreSQL 18 on can the extensions of a server be hidden")
    superuser(bare, postgres_server, "ALTER DATABASE memory_bare SET extension_control_path = '/nowhere'")
    with pytest.raises(ConfigurationError, match="which this server does not have: install it there"):
        opened(url=bare).add("tea")


# What is refused.


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"url": "mysql://host/secret"}, "takes a postgresql:// URL"),
        ({"url": "sqlite:///secret.db"}, "takes a postgresql:// URL"),
        ({"url": "not a url:secret"}, "takes a URL of a database"),
        ({}, "takes a URL or an engine"),
        ({"url": "postgresql://host/name", "table_prefix": "a;b"}, "table_prefix has at most 30"),
        ({"url": "postgresql://host/name", "ef_search": 0}, "ef_search"),
        ({"url": "postgresql://host/name", "ef_search": 1001}, "ef_search is at most 1000"),
        ({"url": "postgresql://host/name", "index_from": -1}, "index_from"),
        ({"url": "postgresql+psycopg_async://host/name"}, "asynchronous"),
        ({"url": "postgresql://host/name", "embeddings": None}, "needs embeddings="),
    ],
    ids=str,
)
def test_a_database_that_cannot_be_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises((ConfigurationError, ValidationError, MissingDependencyError), match=said) as raised:
        PostgresVectorDatabase(**{"embeddings": HashingEmbeddings(8), **given})
    assert "secret" not in str(raised.value)


def test_an_error_holds_nothing_that_was_said(opened: Opened) -> None:
    memory = opened()
    memory.add("a secret", memory_id="x")
    for wrong in (
        lambda: memory.add("another secret", memory_id="x"),
        lambda: memory.add("a secret \ud83d"),
        lambda: memory.get("y"),
        lambda: memory.search("secret", user_id="\ud83d secret"),
        lambda: memory.search("secret", metadata={"k": {"any": "secret"}}),
    ):
        with pytest.raises(MemexLLMError) as caught:
            wrong()
        assert "secret" not in str(caught.value)
    assert "secret" not in repr(memory)
