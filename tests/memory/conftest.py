"""Servers for tests of memory. Not every environment in which other tests run has redis or SQLAlchemy."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from memexllm import MemoryManager
from memexllm.memory import PostgresVectorDatabase
from memexllm.memory.embeddings import HashingEmbeddings
from tests.servers import redis_8

if TYPE_CHECKING:
    from tests.memory.redis8 import Redis8


@pytest.fixture(scope="session")
def redis8() -> Iterator[Redis8]:
    if missing := redis_8().missing:
        pytest.fail(f"redis-8 is needed and missing: {missing}", pytrace=False)
    server: Redis8 = importlib.import_module("tests.memory.redis8").Redis8()
    with server.client:
        yield server


@pytest.fixture
def prefix(redis8: Redis8) -> Iterator[str]:
    """Of the keys of one test."""
    prefix = redis8.fresh_prefix()
    yield prefix
    redis8.forget(prefix)


@pytest.fixture(scope="module")
def directly(postgres_server: str) -> Iterator[Callable[..., list[Any]]]:
    """Carries out statements as the server's superuser; the rows."""
    sqlalchemy = importlib.import_module("sqlalchemy")
    engine = sqlalchemy.create_engine(
        postgres_server, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.pool.StaticPool
    )

    def carried_out(*statements: str) -> list[Any]:
        with engine.connect() as connection:
            for statement in statements:
                found = connection.exec_driver_sql(statement)
            return [tuple(row) for row in found] if found.returns_rows else []

    yield carried_out
    engine.dispose()


@pytest.fixture
def schema(directly: Callable[..., list[Any]]) -> Iterator[str]:
    """A schema of this test's own, which is not there yet."""
    directly("DROP SCHEMA IF EXISTS memory_own CASCADE")
    yield "memory_own"
    directly("DROP SCHEMA IF EXISTS memory_own CASCADE")


@pytest.fixture
def opened(postgres_server: str, schema: str) -> Iterator[Callable[..., MemoryManager]]:
    """Opens managers in the schema; they are closed afterwards."""
    with contextlib.ExitStack() as stack:

        def open_manager(embeddings: Any = None, **options: Any) -> MemoryManager:
            given = {"schema": schema, **options}
            url = None if "engine" in given else given.pop("url", postgres_server)
            database = PostgresVectorDatabase(url, embeddings or HashingEmbeddings(32), **given)
            return stack.enter_context(MemoryManager(database))

        yield open_manager
