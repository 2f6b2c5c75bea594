"""What the tests of memory share."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.servers import redis_8

if TYPE_CHECKING:
    from tests.memory.redis8 import Redis8


@pytest.fixture(scope="session")
def redis8() -> Iterator[Redis8]:
    if missing := redis_8().missing:
        pytest.fail(f"redis-8 is needed and missing: {missing}", pytrace=False)
    # Not every environment in which tests run has the redis package.
    server: Redis8 = importlib.import_module("tests.memory.redis8").Redis8()
    with server.client:
        yield server


@pytest.fixture
def prefix(redis8: Redis8) -> Iterator[str]:
    """Of the keys of one test."""
    prefix = redis8.fresh_prefix()
    yield prefix
    redis8.forget(prefix)
