"""Servers the tests run against, named in the header of the run."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.servers import WITHOUT, Server, left_out, redis_servers, running
from tests.sql_servers import Running, SQLServer, sql_servers

pytest_plugins = ["pytester"]


def pytest_configure(config: pytest.Config) -> None:
    try:
        left_out()
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error


def pytest_report_header(config: pytest.Config) -> list[str]:
    lines = [f"server {server}" for server in (*redis_servers(), *sql_servers())]
    lines.extend(f"server {name}: LEFT OUT by {WITHOUT}={os.environ[WITHOUT]}" for name in left_out())
    return lines


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "redis_server" in metafunc.fixturenames:
        servers = redis_servers()
        metafunc.parametrize(
            "redis_server", servers, ids=[server.id for server in servers], indirect=True, scope="session"
        )
    if "sql_server" in metafunc.fixturenames:
        sql = sql_servers()
        metafunc.parametrize("sql_server", sql, ids=[each.id for each in sql], indirect=True, scope="session")


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


@pytest.fixture
def openai_server() -> Iterator[Any]:
    """A local server of OpenAI's API; `.base_url` is where it listens."""
    with importlib.import_module("memexllm.testing.server").OpenAIServer() as server:
        yield server
