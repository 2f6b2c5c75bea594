"""Every law of storage on Redis and Valkey, and what is particular to them."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from memexllm.storage import AsyncRedisStorage, RedisStorage
from memexllm.testing.storage import StorageConformance
from tests.cluster import Cluster


class _OnAServer(StorageConformance):
    kind: Any = None

    @pytest.fixture
    def prefix(self, redis_server: str) -> Iterator[str]:
        prefix = uuid.uuid4().hex
        yield prefix
        with redis.Redis.from_url(redis_server) as client:
            for key in client.scan_iter(match=f"*{prefix}*", count=1000):
                client.delete(key)

    @pytest.fixture
    def storage(self, open_storage: Callable[[], Any]) -> Any:
        return open_storage()

    @pytest.fixture
    def open_storage(self, redis_server: str, prefix: str) -> Callable[[], Any]:
        return functools.partial(self.kind, redis_server, prefix=prefix)

    @pytest.fixture
    def damage(self, redis_server: str, prefix: str) -> Callable[[str], None]:
        def cut(thread_id: str) -> None:
            with redis.Redis.from_url(redis_server) as client:
                cut_texts_in_half(client, prefix, thread_id)

        return cut

    @pytest.fixture
    def surroundings(self, redis_server: str, prefix: str) -> Iterator[Callable[[], dict[str, Any]]]:
        with redis.Redis.from_url(redis_server) as client:
            for key in neighbours_of(prefix):
                client.set(key, "not ours")
            yield lambda: {key: client.get(key) for key in neighbours_of(prefix)}


class TestRedisStorage(_OnAServer):
    kind = RedisStorage


class TestAsyncRedisStorage(_OnAServer):
    kind = AsyncRedisStorage


class _OnACluster(StorageConformance):
    kind: Any = None

    @pytest.fixture
    def prefix(self) -> str:
        return uuid.uuid4().hex

    @pytest.fixture
    def storage(self, open_storage: Callable[[], Any]) -> Any:
        return open_storage()

    @pytest.fixture
    def open_storage(self, redis_cluster: Cluster, prefix: str) -> Callable[[], Any]:
        return functools.partial(self.kind, redis_cluster.url, prefix=prefix)

    @pytest.fixture
    def damage(self, redis_cluster: Cluster, prefix: str) -> Callable[[str], None]:
        def cut(thread_id: str) -> None:
            with redis.RedisCluster(host="127.0.0.1", port=redis_cluster.masters[0]) as client:
                cut_texts_in_half(client, prefix, thread_id)

        return cut

    @pytest.fixture
    def surroundings(self, redis_cluster: Cluster, prefix: str) -> Iterator[Callable[[], dict[str, Any]]]:
        with redis.RedisCluster(host="127.0.0.1", port=redis_cluster.masters[0]) as client:
            for key in neighbours_of(prefix):
                client.set(key, "not ours")
            yield lambda: {key: client.get(key) for key in neighbours_of(prefix)}


class TestRedisStorageOnACluster(_OnACluster):
    kind = RedisStorage


class TestAsyncRedisStorageOnACluster(_OnACluster):
    kind = AsyncRedisStorage


def cut_texts_in_half(client: Any, prefix: str, thread_id: str) -> None:
    key = f"{{{prefix}:thread:={thread_id}}}:live"
    for text, seq in client.zrange(key, 0, -1, withscores=True):
        client.zrem(key, text)
        client.zadd(key, {text[: len(text) // 2]: seq})


def neighbours_of(prefix: str) -> list[str]:
    """Keys that look like ours and are not."""
    return [
        f"{{{prefix}x:thread:=plain}}:head",
        f"{{x{prefix}:index}}:format",
        f"{prefix}",
        f"{{{prefix}}}",
        f"{{{prefix}:thread}}:head",
    ]
