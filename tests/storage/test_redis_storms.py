"""Many processes at once, while the server dies: nothing acknowledged is lost, doubled or torn."""

from __future__ import annotations

import contextlib
import functools
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from memexllm.core.errors import ConnectionError
from memexllm.storage import AsyncRedisStorage, RedisStorage
from memexllm.testing._batches import batch, batches_in, check_batches, scale, started, write_batches
from tests.cluster import cluster
from tests.restarting import restarting
from tests.servers import Server, cluster_servers, own_servers

N_PROCESSES = 8
N_CALLS = 25 * scale()
ANSWER_S = 100.0
SERVERS = own_servers()
KINDS = (RedisStorage, AsyncRedisStorage)
# Each server and each kind once; every pair of them in the runs of full counts.
PAIRS = [
    pytest.param(server, kind, id=f"{server.id}-{kind.__name__}")
    for place, server in enumerate(SERVERS)
    for number, kind in enumerate(KINDS)
    if place % len(KINDS) == number or scale() > 1
]

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(params=SERVERS, ids=[server.id for server in SERVERS])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.param
    if found.missing:
        pytest.fail(f"{found.id} is needed and missing: {found.missing}", pytrace=False)
    return found


@pytest.mark.parametrize(("server", "kind"), PAIRS, indirect=["server"])
def test_processes_write_on_while_the_server_is_killed_and_started_again(server: Server, kind: Any) -> None:
    with restarting(server.binary) as place:
        opened = functools.partial(reached if kind is RedisStorage else reached_async, place.url)
        reader = RedisStorage(place.url, retry_timeout_s=60)
        reader.append_messages("t", [], create={})
        writers = [started(write_batches, opened, "t", writer, N_CALLS, 2) for writer in range(N_PROCESSES)]
        for _, told in writers:
            assert told.poll(ANSWER_S)
            assert told.recv() == "open"
        for _, told in writers:
            told.send("go")
        n_all = 2 * N_PROCESSES * N_CALLS
        for share in (0.25, 0.6):
            wait_for(lambda share=share: len(reader.read_messages("t")) >= share * n_all)  # type: ignore[misc]  # bound now
            place.kill()
            place.start()
        for process, told in writers:
            assert told.poll(ANSWER_S)
            assert told.recv() == "done"
            process.join(ANSWER_S)
            assert process.exitcode == 0
            told.close()
        check_batches([each.text for each in reader.read_messages("t")], dict.fromkeys(range(N_PROCESSES), N_CALLS))
        reader.close()


def test_who_does_not_wait_is_told_with_an_error_of_ours(server: Server) -> None:
    with restarting(server.binary) as place, RedisStorage(place.url, retry_timeout_s=0) as storage:
        storage.append_messages("t", batch(0, 0, 2), create={})
        place.kill()
        for use in (lambda: storage.append_messages("t", batch(0, 1, 2)), lambda: storage.read_messages("t")):
            with pytest.raises(ConnectionError, match="cannot be reached"):
                use()
        place.start()
        storage.append_messages("t", batch(0, 2, 2))
        assert batches_in([each.text for each in storage.read_messages("t")]) == [(0, 0), (0, 2)]


@pytest.mark.parametrize("server", cluster_servers(), ids=str, indirect=True)
def test_a_cluster_fails_over_while_processes_write(server: Server) -> None:
    """What a master acknowledged and had not yet handed to its replica dies with it: Redis promises no more.

    So of each writer a batch may be missing that was acknowledged within the last moment before the kill. Nothing is
    there twice, torn or out of order, and nothing acknowledged before or after is missing.
    """
    prefix = uuid.uuid4().hex
    with cluster(server.binary, durable=True) as nodes:
        thread_id, port = thread_on_a_master_to_kill(nodes, prefix)
        replica = nodes.add_replica(port)
        nodes.wait_until_whole()
        opened = functools.partial(RedisStorage, nodes.url, prefix=prefix, retry_timeout_s=60)
        reader = opened()
        reader.append_messages(thread_id, [], create={})
        n_processes = 3
        writers = [started(write_until_told, opened, thread_id, writer) for writer in range(n_processes)]
        acknowledged: list[list[float]] = [[] for _ in writers]

        def listen() -> None:
            for (_, told), times in zip(writers, acknowledged, strict=True):
                while told.poll(0):
                    times.append(told.recv())

        def all_have(n_more: int) -> Callable[[], bool]:
            wanted = [len(times) + n_more for times in acknowledged]

            def have() -> bool:
                listen()
                return all(len(times) >= n for times, n in zip(acknowledged, wanted, strict=True))

            return have

        wait_for(all_have(20))
        killed_at = time.time()
        nodes.kill(port)
        wait_for(lambda: nodes.promoted(replica))
        wait_for(all_have(20))
        for process, told in writers:
            told.send("stop")
            while (said := told.recv()) != "stopped":
                acknowledged[[each for each, _ in writers].index(process)].append(said)
            process.join(ANSWER_S)
            assert process.exitcode == 0
        found = batches_in([each.text for each in reader.read_messages(thread_id)])
        for writer, times in enumerate(acknowledged):
            numbers = [number for each, number in found if each == writer]
            assert numbers == sorted(set(numbers))
            missing = set(range(len(times))) - set(numbers)
            assert all(killed_at - 0.5 <= times[number] <= killed_at + 0.5 for number in missing)
        assert [each.id for each in reader.list_threads()] == [thread_id]
        reader.close()


def reached(url: str) -> RedisStorage:
    """A storage whose server answered, and is waited for when it is away."""
    storage = RedisStorage(url, retry_timeout_s=60)
    storage.read_head("t")
    return storage


async def reached_async(url: str) -> AsyncRedisStorage:
    storage = AsyncRedisStorage(url, retry_timeout_s=60)
    await storage.read_head("t")
    return storage


def thread_on_a_master_to_kill(nodes: Any, prefix: str) -> tuple[str, int]:
    """A thread's id and the port of the master it lies on: not the one that clients begin at."""
    with contextlib.closing(RedisStorage(nodes.url, prefix=prefix)) as storage:
        for number in range(100):
            storage.append_messages(str(number), [], create={})
            for port in nodes.masters[1:]:
                with nodes.client(port) as client:
                    here = client.keys(f"{{{prefix}:thread:={number}}}:head")
                if here:
                    for other in range(number + 1):
                        storage.delete_thread(str(other))
                    return str(number), port
            storage.delete_thread(str(number))
    raise AssertionError("every thread lies on the first master")


def write_until_told(opened: Callable[[], RedisStorage], thread_id: str, writer: int, told: Any) -> None:
    """Append batches, sending the time at which each was acknowledged, until a word comes."""
    with opened() as storage:
        storage.read_head(thread_id)
        number = 0
        while not told.poll(0.005):
            storage.append_messages(thread_id, batch(writer, number, 2))
            told.send(time.time())
            number += 1
        told.send("stopped")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + ANSWER_S
    while not condition():
        assert time.monotonic() < deadline, "it has not come to pass"
