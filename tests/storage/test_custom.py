"""Every law of storage on storages as users write them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from memexllm.testing.storage import StorageConformance
from tests.storage.custom import (
    AsyncDictStorage,
    ForgetfulStorage,
    JSONRedisStorage,
    LiveDictStorage,
    PlainAsyncStorage,
    PlainStorage,
)


class TestLiveDictStorage(StorageConformance):
    @pytest.fixture
    def storage(self) -> LiveDictStorage:
        return LiveDictStorage()


class TestForgetfulStorage(StorageConformance):
    @pytest.fixture
    def storage(self) -> ForgetfulStorage:
        return ForgetfulStorage()


class TestAsyncDictStorage(StorageConformance):
    @pytest.fixture
    def storage(self) -> AsyncDictStorage:
        return AsyncDictStorage()


class TestPlainStorage(StorageConformance):
    @pytest.fixture
    def storage(self) -> PlainStorage:
        return PlainStorage()


class TestPlainAsyncStorage(StorageConformance):
    @pytest.fixture
    def storage(self) -> Any:
        async def made_in_the_loop() -> PlainAsyncStorage:
            return PlainAsyncStorage()

        return made_in_the_loop()


class TestJSONRedisStorage(StorageConformance):
    @pytest.fixture
    def client(self, redis_server: str) -> Iterator[Any]:
        with redis.Redis.from_url(redis_server) as client:
            yield client

    @pytest.fixture
    def prefix(self, client: Any) -> Iterator[str]:
        prefix = uuid.uuid4().hex
        yield prefix
        client.delete(f"{prefix}:threads", f"{prefix}:order")

    @pytest.fixture
    def storage(self, redis_server: str, prefix: str) -> JSONRedisStorage:
        return JSONRedisStorage(redis_server, prefix)

    @pytest.fixture
    def surroundings(self, client: Any, prefix: str) -> Iterator[Callable[[], dict[str, bytes]]]:
        neighbours = [f"{prefix}x", f"{prefix}:threads:x", f"x{prefix}"]
        for key in neighbours:
            client.set(key, "not ours")
        yield lambda: {key: client.get(key) for key in neighbours}
        client.delete(*neighbours)
