"""What only servers do: they are restarted, cut off, shared by programs and by releases, and reached through pools."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from memexllm.core.errors import ConfigurationError, ConnectionError, OperationError, StorageError
from memexllm.core.models import Message, Thread
from memexllm.storage import AsyncSQLStorage, SQLStorage
from memexllm.storage._sql_dialects import engine_options
from memexllm.testing._batches import batch, check_batches, scale, started, write_batches
from memexllm.testing._driven import in_threads
from tests.sql_servers import Running, sql_servers
from tests.storage.cutting import Cutting, Moment

N_PROCESSES = 8
ANSWER_S = 100.0


@pytest.fixture
def schema(sql_server: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A schema of this test's own, which is not there yet."""
    name = "own"
    dropped = f"DROP SCHEMA IF EXISTS {name}" + ("" if "mysql" in sql_server else " CASCADE")
    engine = sa.create_engine(sql_server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(dropped)
    yield name
    with engine.connect() as connection:
        connection.exec_driver_sql(dropped)


@pytest.fixture
def opened(sql_server: str, schema: str) -> Iterator[Callable[..., SQLStorage]]:
    """Opens storages in the schema; they are closed afterwards."""
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(SQLStorage(sql_server, **{"schema": schema, **options}))


def says(*texts: str) -> list[Message]:
    return [Message(text, "user") for text in texts]


def texts(storage: SQLStorage, thread_id: str = "t") -> list[str]:
    return [message.text for message in storage.read_messages(thread_id)]


def commit_of(url: str) -> bytes:
    """How a commit looks on its way, and nothing else does."""
    return b"COMMIT\x00" if "postgres" in url else b"\x03COMMIT"


# Lost connections.


def in_use(url: str) -> SQLStorage:
    """A storage that has reached its server: one that never has does not wait for it."""
    storage = SQLStorage(url, retry_s=60.0)
    storage.read_head("t")
    return storage


@pytest.mark.timeout(300)
@pytest.mark.parametrize("server", sql_servers(), ids=lambda server: str(server.id))
def test_calls_of_many_processes_outlive_a_killed_server(server: Any) -> None:
    if server.missing or server.url:
        pytest.fail(f"a server of our own is needed to kill it: {server}", pytrace=False)
    count = 25 * scale()
    with Running(server) as own:
        opening = functools.partial(in_use, own.url)
        with opening() as storage:
            storage.append_messages("t", [], create={})
            writers = [started(write_batches, opening, "t", writer, count, 2) for writer in range(N_PROCESSES)]
            for _, told in writers:
                assert told.poll(ANSWER_S)
                assert told.recv() == "open"
            for _, told in writers:
                told.send("go")
            until_half = N_PROCESSES * count
            while len(storage.read_messages("t", wire=True)) < until_half // 2:
                assert all(process.exitcode in (None, 0) for process, _ in writers)
            own.kill()
            own.start()
            for process, told in writers:
                assert told.poll(ANSWER_S)
                assert told.recv() == "done"
                process.join(ANSWER_S)
                told.close()
            check_batches(texts(storage), dict.fromkeys(range(N_PROCESSES), count))
            head = storage.read_head("t")
            assert head is not None
            assert (head.message_count, head.version) == (2 * N_PROCESSES * count, N_PROCESSES * count + 1)


@pytest.fixture
def cut(sql_server: str, tmp_path: Path) -> Iterator[tuple[Cutting, str]]:
    """A way to the server that can be cut, and the URL through it."""
    url = sa.make_url(sql_server)
    on_mysql = "unix_socket" in url.query
    query = dict(url.query)
    if on_mysql:
        target, path = Path(str(query["unix_socket"])), tmp_path / "socket"
        query["unix_socket"] = str(path)
    elif "host" in query:
        target, path = Path(str(query["host"])) / ".s.PGSQL.5432", tmp_path / ".s.PGSQL.5432"
        query["host"] = str(tmp_path)
    else:
        pytest.fail("cutting a connection needs a server on a unix socket", pytrace=False)
    with Cutting(path, target) as cutting:
        yield cutting, url.set(query=query).render_as_string(hide_password=False)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("changes", [{}, {"state": {"k": 1}}], ids=["plain", "state"])
@pytest.mark.parametrize("others", [0, 2])
def test_a_call_whose_answer_is_lost_is_stored_once(
    cut: tuple[Cutting, str],
    opened: Callable[..., SQLStorage],
    schema: str,
    moment: Moment,
    changes: dict[str, Any],
    others: int,
) -> None:
    cutting, url = cut
    directly = opened()
    with SQLStorage(url, schema=schema) as storage:
        storage.append_messages("t", says("a"), create={})
        word = b"WITH moved" if "postgres" in url else commit_of(url)
        cutting.arm(word, moment)
        version = storage.append_messages("t", says("b", "c"), **changes)
        assert cutting.n_cut == 1
        assert (version, texts(directly)) == (2, ["a", "b", "c"])
        for number in range(others):
            directly.append_messages("t", says(str(number)))
        cutting.arm(word, moment)
        # The thread has moved on since the storage last saw it, which must not be taken for its own doing.
        assert storage.append_messages("t", says("d"), **changes) == 3 + others
        assert cutting.n_cut == 2
        assert texts(directly) == ["a", "b", "c", *map(str, range(others)), "d"]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_every_write_is_made_once_though_its_answer_is_lost(
    cut: tuple[Cutting, str], schema: str, moment: Moment
) -> None:
    cutting, url = cut
    first, second = says("a", "b")
    with SQLStorage(url, schema=schema) as storage:
        storage.save_thread(Thread("t", messages=[first]))
        version = storage.append_messages("t", [second])
        cutting.arm(commit_of(url), moment)
        storage.replace_message("t", first.id, says("A")[0], expected_version=version)
        cutting.arm(commit_of(url), moment)
        storage.patch_thread("t", title="x")
        head = storage.read_head("t")
        assert head is not None
        assert (head.version, head.title, texts(storage)) == (version + 2, "x", ["A", "b"])
        cutting.arm(commit_of(url), moment)
        storage.restore_messages(head.changed(version=9), [Message("c", "user", seq=7)])
        assert (storage.read_head("t"), texts(storage)) == (
            head.changed(version=9, stored_messages=3),
            ["A", "b", "c"],
        )
        cutting.arm(commit_of(url), moment)
        assert storage.delete_thread("t") is True
        assert storage.delete_thread("t") is False
        assert cutting.n_cut == 4


def test_a_connection_lost_while_the_tables_are_looked_for_is_made_again(cut: tuple[Cutting, str], schema: str) -> None:
    cutting, url = cut
    with SQLStorage(url, schema=schema) as storage:
        cutting.arm(b"memexllm_meta", "before")
        storage.append_messages("t", says("a"), create={})
        assert (cutting.n_cut, texts(storage)) == (1, ["a"])


def test_a_lost_connection_is_our_error_when_there_is_no_time_to_try_again(
    cut: tuple[Cutting, str], schema: str
) -> None:
    cutting, url = cut
    with SQLStorage(url, schema=schema, retry_s=0.0) as storage:
        storage.append_messages("t", says("a"), create={})
        cutting.arm(b"memexllm_messages", "before")
        with pytest.raises(ConnectionError, match="Failed to get messages"):
            storage.read_messages("t")
        assert texts(storage) == ["a"]
        cutting.arm(commit_of(url), "after")
        with pytest.raises(ConnectionError, match="it may be there or not"):
            storage.append_messages("t", says("b"), supersede=[0])


def test_a_server_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    for scheme, where in (("postgresql", f"host={tmp_path}"), ("mysql", f"unix_socket={tmp_path}/none")):
        storage = SQLStorage(f"{scheme}://ann:secret@/chat?{where}")
        with pytest.raises(ConnectionError, match="Failed to open the database") as raised:
            storage.read_messages("t")
        assert "secret" not in str(raised.value) + repr(storage)
        assert "ann:***@" in repr(storage)
        del raised
    with warnings.catch_warnings():
        # PyMySQL (seen in 1.2.4) leaves the socket of a connection it could not make to the collector.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.mark.parametrize(
    ("url", "without_tls"),
    [
        ("mysql+pymysql://ann@/chat?unix_socket=/run/mysqld/mysqld.sock", True),
        ("mysql+pymysql://ann@/chat?unix_socket=/run/mysqld/mysqld.sock&ssl_ca=/etc/ca.pem", False),
        ("mysql+pymysql://ann@db.example/chat", False),
        ("mysql+aiomysql://ann@/chat?unix_socket=/run/mysqld/mysqld.sock", False),
    ],
)
def test_only_a_connection_over_a_socket_goes_without_tls(url: str, without_tls: bool) -> None:
    arguments = engine_options(sa.make_url(url), 10, 30.0)["connect_args"]
    assert arguments.get("ssl_disabled", False) is without_tls


# Pools and loops.


def test_many_tasks_share_a_small_pool(sql_server: str, schema: str) -> None:
    async def talk() -> int:
        async with AsyncSQLStorage(sql_server, schema=schema, pool_size=4) as storage:
            await storage.append_messages("t", [], create={})

            async def call(number: int) -> None:
                await storage.append_messages(f"t{number % 50}", says(str(number)), create={})
                await storage.read_messages(f"t{number % 50}", limit=20, wire=True)

            await asyncio.gather(*map(call, range(500)))
            return sum([thread.message_count for thread in await storage.list_threads()])

    assert asyncio.run(talk()) == 500


def test_one_asynchronous_storage_serves_loops_that_run_at_once(sql_server: str, schema: str) -> None:
    storage = AsyncSQLStorage(sql_server, schema=schema)

    async def talk(number: int) -> None:
        for place in range(5):
            await storage.append_messages("t", batch(number, place, 2), create={})

    in_threads([functools.partial(lambda each: asyncio.run(talk(each)), number) for number in range(4)])

    async def found() -> list[str]:
        return [message.text for message in await storage.read_messages("t")]

    check_batches(asyncio.run(found()), dict.fromkeys(range(4), 5))


def test_an_engine_of_the_callers_is_used_and_left_open(sql_server: str, schema: str) -> None:
    engine = sa.create_engine(sql_server)
    with SQLStorage(engine=engine, schema=schema) as storage:
        storage.append_messages("t", says("a", "b"), create={}, state={"k": 1})
    with engine.connect() as connection:
        found = connection.execute(sa.text(f"SELECT COUNT(*) FROM {schema}.memexllm_messages")).scalar_one()
        assert (found, connection.get_isolation_level() != "AUTOCOMMIT") == (2, True)
    engine.dispose()


async def test_an_asynchronous_engine_of_the_callers_is_used_and_left_open(sql_server: str, schema: str) -> None:
    url = sql_server.replace("mysql+pymysql", "mysql+aiomysql").replace("+psycopg:", "+psycopg_async:")
    engine = create_async_engine(url)
    async with AsyncSQLStorage(engine=engine, schema=schema) as storage:
        await storage.append_messages("t", says("a", "b"), create={}, state={"k": 1})
    async with engine.connect() as connection:
        found = await connection.execute(sa.text(f"SELECT COUNT(*) FROM {schema}.memexllm_messages"))
        assert found.scalar_one() == 2
    await engine.dispose()


def test_many_writers_make_a_thread_together(opened: Callable[..., SQLStorage]) -> None:
    storage = opened()

    def append(writer: int) -> None:
        for place in range(3):
            storage.append_messages(f"t{place}", batch(writer, place, 2), create={"user_id": "ann"})

    in_threads([functools.partial(append, writer) for writer in range(8)])
    for place in range(3):
        assert sorted(texts(storage, f"t{place}")) == sorted(
            message.text for writer in range(8) for message in batch(writer, place, 2)
        )


# Schemas and formats.


def test_tables_are_made_once_by_those_who_start_together(opened: Callable[..., SQLStorage]) -> None:
    storages = [opened() for _ in range(6)]
    jobs = [
        functools.partial(storage.append_messages, "t", batch(number, 0, 2), create={})
        for number, storage in enumerate(storages)
    ]
    in_threads(jobs)
    check_batches(texts(storages[0]), dict.fromkeys(range(6), 1))


def test_prefixes_and_schemas_share_nothing(opened: Callable[..., SQLStorage], sql_server: str) -> None:
    places = [opened(), opened(table_prefix="a_"), opened(table_prefix="a"), opened(table_prefix="")]
    for number, storage in enumerate(places):
        storage.append_messages("t", says(str(number)), create={"user_id": "ann", "metadata": {"k": 1}})
    for number, storage in enumerate(places):
        assert texts(storage) == [str(number)]
        assert [hit.message.text for hit in storage.search_messages(f"{number}")] == [str(number)]
        assert len(storage.list_threads(user_id="ann", metadata={"k": 1})) == 1
    places[0].delete_thread("t")
    assert [storage.read_head("t") is None for storage in places] == [True, False, False, False]


def test_a_newer_format_is_refused_and_left_as_it_is(
    opened: Callable[..., SQLStorage], sql_server: str, schema: str
) -> None:
    storage = opened()
    storage.append_messages("t", says("a"), create={})
    engine = sa.create_engine(sql_server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"UPDATE {schema}.memexllm_meta SET value = '2' WHERE name = 'format'")
    for write in (
        lambda: storage.append_messages("t", says("b")),
        lambda: storage.append_messages("t", says("b"), state={"k": 1}),
        lambda: storage.delete_thread("t"),
        lambda: opened().append_messages("t", says("b")),
        lambda: opened().read_messages("t"),
    ):
        with pytest.raises(StorageError, match="format 2"):
            write()
    assert texts(storage) == ["a"]


def test_tables_of_another_program_are_refused_and_left_as_they_are(
    opened: Callable[..., SQLStorage], sql_server: str, schema: str
) -> None:
    opened().read_messages("t")
    engine = sa.create_engine(sql_server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE TABLE {schema}.their_threads (id INTEGER)")
    with pytest.raises(StorageError, match="their_threads are there and are another program's"):
        opened(table_prefix="their_").read_messages("t")
    with engine.connect() as connection:
        names = sa.inspect(connection).get_table_names(schema=schema)
    assert [name for name in names if name.startswith("their")] == ["their_threads"]


# What is refused.


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "takes a URL or an engine"),
        ({"url": "not a url:secret"}, "takes a URL of a database"),
        ({"url": "cobol://host/secret"}, "knows no database 'cobol'"),
        ({"url": "sqlite://", "table_prefix": "a;b"}, "table_prefix has at most 30"),
        ({"url": "sqlite://", "table_prefix": "A"}, "table_prefix has at most 30"),
        ({"url": "sqlite://", "schema": ""}, "schema is the name"),
        ({"url": "sqlite://", "pool_size": 0}, "pool_size"),
        ({"url": "postgresql+psycopg_async://host/name"}, "AsyncSQLStorage takes it"),
        ({"engine": "postgresql://"}, "takes an Engine"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_storage_that_cannot_be_is_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises((ConfigurationError, ValueError), match=said) as raised:
        SQLStorage(**arguments)
    assert "secret" not in str(raised.value)


def test_a_message_larger_than_a_packet_is_a_clear_error(opened: Callable[..., SQLStorage], sql_server: str) -> None:
    storage = opened()
    storage.append_messages("t", says("a"), create={})
    large = Message("x" * (17 << 20), "user")
    if "mysql" in sql_server:
        with pytest.raises(OperationError, match="max_allowed_packet"):
            storage.append_messages("t", [large])
        assert texts(storage) == ["a"]
    else:
        storage.append_messages("t", [large])
        assert len(texts(storage)[-1]) == 17 << 20
