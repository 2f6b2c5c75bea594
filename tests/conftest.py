"""Servers the tests run against, named in the header of the run."""

from __future__ import annotations

import gc
import importlib
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers import WITHOUT, Server, cluster_servers, left_out, redis_8, redis_servers, running
from tests.sql_servers import Running, SQLServer, sql_servers

if TYPE_CHECKING:
    from tests.cluster import Cluster

pytest_plugins = ["pytester"]


def pytest_configure(config: pytest.Config) -> None:
    try:
        left_out()
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error


def pytest_collection_finish() -> None:
    # The many thousand tests need not be looked at by every collection of garbage, nor by tests that ask for one.
    gc.collect()
    gc.freeze()


def pytest_report_header(config: pytest.Config) -> list[str]:
    lines = [f"server {server}" for server in (*redis_servers(), redis_8(), *sql_servers())]
    lines.extend(f"server {name}: LEFT OUT by {WITHOUT}={os.environ[WITHOUT]}" for name in left_out())
    return lines


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for fixture, found in (
        ("redis_server", redis_servers),
        ("redis_cluster", cluster_servers),
        ("sql_server", sql_servers),
    ):
        if fixture in metafunc.fixturenames:
            servers: Sequence[Server | SQLServer] = found()
            if "postgres_server" in metafunc.fixturenames:
                servers = [server for server in servers if server.id == "postgres"]
            ids = [server.id for server in servers]
            metafunc.parametrize(fixture, servers, ids=ids, indirect=True, scope="session")


@pytest.fixture(scope="session")
def redis_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a real server of the Redis protocol; tests run once for each."""
    server: Server = request.param
    if server.missing:
        pytest.fail(f"{server.id} is needed and missing: {server.missing}", pytrace=False)
    with running(server) as url:
        yield url


@pytest.fixture(scope="session")
def sql_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a real SQL server; tests run once for each."""
    server: SQLServer = request.param
    if server.missing:
        pytest.fail(f"{server.id} is needed and missing: {server.missing}", pytrace=False)
    if server.url:
        yield server.url
        return
    with Running(server) as own:
        yield own.url


@pytest.fixture(scope="session")
def postgres_server(sql_server: str) -> str:
    """The URL of a real PostgreSQL server."""
    return sql_server


@pytest.fixture(scope="session")
def redis_cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Three masters of a Redis Cluster, of each binary there is."""
    server: Server = request.param
    if server.missing:
        pytest.fail(f"a cluster of {server.id} is needed and missing: {server.missing}", pytrace=False)
    # Not every environment in which tests run has the redis package.
    with importlib.import_module("tests.cluster").cluster(server.binary) as found:
        yield found


@pytest.fixture
def openai_server() -> Iterator[Any]:
    """A local server of OpenAI's API; `.base_url` is where it listens."""
    with importlib.import_module("memexllm.testing.server").OpenAIServer() as server:
        yield server
