"""A closed storage leaves no connection open on any server, also none that was made after another one broke."""

from __future__ import annotations

import gc
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
import redis

from memexllm import Message
from memexllm.storage import AsyncRedisStorage, RedisStorage
from tests.cluster import Cluster
from tests.storage.losing import Losing, losing


@pytest.fixture
def name() -> str:
    """What the connections of a test are called on the server."""
    return uuid.uuid4().hex


@pytest.fixture
def n_open(redis_server: str, name: str) -> Iterator[Callable[[], int]]:
    with redis.Redis.from_url(redis_server) as client:
        yield lambda: sum(each["name"] == name for each in client.client_list())


@pytest.fixture
def lossy(redis_server: str) -> Iterator[Losing]:
    with losing(urlsplit(redis_server).path) as found:
        yield found


def say(text: str) -> list[Message]:
    return [Message(text, "user")]


def until_none(n_open: Callable[[], int]) -> None:
    """A server notices a closed connection when it comes round to it: each of these asks it once."""
    for _ in range(10_000):
        if n_open() == 0:
            return
    raise AssertionError(f"{n_open()} connections are still open")


def test_a_closed_storage_has_no_connection(redis_server: str, name: str, n_open: Callable[[], int]) -> None:
    storage = RedisStorage(f"{redis_server}?client_name={name}", prefix=name)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda number: storage.append_messages(f"t{number}", say("a"), create={}), range(20)))
    assert n_open() > 0
    storage.close()
    until_none(n_open)
    assert len(storage.list_threads()) == 20
    storage.close()
    until_none(n_open)


def test_connections_made_after_a_lost_answer_are_closed_as_well(
    lossy: Losing, name: str, n_open: Callable[[], int]
) -> None:
    with RedisStorage(f"redis://127.0.0.1:{lossy.port}?client_name={name}", prefix=name) as storage:
        storage.append_messages("t", say("a"), create={})
        lossy.n_answers = 1
        storage.append_messages("t", say("b"))
        assert lossy.n_lost == 1
        assert n_open() > 0
    until_none(n_open)


async def test_a_closed_asynchronous_storage_has_no_connection(
    redis_server: str, name: str, n_open: Callable[[], int]
) -> None:
    storage = AsyncRedisStorage(f"{redis_server}?client_name={name}", prefix=name)
    await storage.append_messages("t", say("a"), create={})
    assert n_open() > 0
    await storage.close()
    until_none(n_open)


def test_a_storage_closed_on_a_cluster_has_no_connection_to_any_node(redis_cluster: Cluster, name: str) -> None:
    def n_open() -> int:
        found = 0
        for port in redis_cluster.masters:
            with redis_cluster.client(port) as client:
                found += sum(each["name"] == name for each in client.client_list())
        return found

    with RedisStorage(f"{redis_cluster.url}?client_name={name}", prefix=name) as storage:
        for number in range(6):
            storage.append_messages(f"t{number}", say("a"), create={})
        assert n_open() > 1
        # An error's traceback may hold connections as well; what closes them is close(), not their collection.
        held = [each for each in gc.get_objects() if isinstance(each, redis.Connection)]
    until_none(n_open)
    assert held
