"""Servers are found, named and never missed in silence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from tests.servers import Server, left_out, redis_8, redis_servers

ROOT = Path(__file__).parent.parent


def run_pytest(*args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The tests of one storage on the Redis protocol, in a process with another environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MEMEXLLM_TEST") and name != "CI"}
    one_law = ["tests/storage/test_custom.py", "-k", "JSONRedis and megabyte", "-p", "no:cacheprovider"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *one_law, *args],
        cwd=ROOT,
        env={**kept, "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_url_wins_over_what_is_installed() -> None:
    (server,) = redis_servers({"MEMEXLLM_TEST_REDIS": "redis://ann:secret@example.org:6380/3"})
    assert server.url == "redis://ann:secret@example.org:6380/3"
    assert str(server) == "redis-url: redis://example.org:6380/3"


def test_servers_are_named_with_their_versions(redis_server: str, request: pytest.FixtureRequest) -> None:
    server: Server = request.node.callspec.params["redis_server"]
    with redis.Redis.from_url(redis_server) as client:
        found = client.info("server")
    assert found.get("valkey_version", found["redis_version"]).startswith(server.version)
    assert server.url or str(server).endswith(server.version)


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({}, []),
        ({"MEMEXLLM_TEST_WITHOUT": "redis"}, ["redis"]),
        ({"MEMEXLLM_TEST_WITHOUT": "redis, valkey"}, ["redis", "valkey"]),
    ],
)
def test_only_a_named_server_is_left_out(environ: dict[str, str], names: list[str]) -> None:
    assert left_out(environ) == names
    assert not {server.id.split("-")[0] for server in redis_servers(environ)} & set(names)


def test_a_server_nobody_knows_cannot_be_left_out() -> None:
    with pytest.raises(ValueError, match="can leave out mariadb, postgres, redis, valkey"):
        left_out({"MEMEXLLM_TEST_WITHOUT": "sqlite"})


def test_the_header_says_what_the_tests_of_vector_sets_run_on() -> None:
    standing_in, real = redis_8({}), redis_8({"MEMEXLLM_TEST_REDIS8": "redis://:secret@example.org:6388"})
    assert str(standing_in).startswith("redis-8: fakeredis ")
    assert "MEMEXLLM_TEST_REDIS8" in str(standing_in)
    assert str(real) == "redis-8: redis://example.org:6388"


def test_a_missing_server_is_a_failure_that_says_what_to_do() -> None:
    result = run_pytest(PATH="")
    assert result.returncode == 1
    assert "server redis: MISSING, apt-get install redis-server" in result.stdout
    assert "redis is needed and missing: apt-get install redis-server" in result.stdout
    assert "1 error" in result.stdout


def test_a_server_that_is_left_out_is_named_in_the_header() -> None:
    result = run_pytest(MEMEXLLM_TEST_WITHOUT="redis", PATH="")
    assert result.returncode == 0, result.stdout
    assert "server redis: LEFT OUT by MEMEXLLM_TEST_WITHOUT=redis" in result.stdout


def test_under_ci_no_server_is_left_out() -> None:
    result = run_pytest(MEMEXLLM_TEST_WITHOUT="redis", CI="true")
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert "refused where CI is set" in result.stderr
