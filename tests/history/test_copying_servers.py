"""Copies through all servers there are: what arrives is what was there, and a killed copy is gone on with."""

from __future__ import annotations

import contextlib
import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import sqlalchemy as sa

from memexllm import MemoryStorage, Message, SQLiteStorage
from memexllm.history.copying import Copied, copy_threads
from memexllm.storage import RedisStorage, SQLStorage
from memexllm.testing._batches import scale, started
from memexllm.testing._corpus import fingerprints
from memexllm.testing._laws_apart import HOSTILE
from tests.cluster import cluster
from tests.history.test_transfer import every_shape, random_thread
from tests.servers import Server, cluster_servers, redis_servers, running
from tests.sql_servers import Running, SQLServer, sql_servers

LONG = 1200
"""Messages of a thread that is copied in three batches."""
READ = 900
"""The copy is killed when it asks for what comes after so many of them."""
ANSWER_S = 60.0
PREFIX = f"copied{uuid.uuid4().hex[:8]}_"


class Dies(SQLiteStorage):
    """A source whose process is killed while the long thread is read."""

    def read_messages(self, thread_id: str, **bounds: Any) -> Any:
        if thread_id == "long" and (bounds.get("after") or 0) >= READ:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read_messages(thread_id, **bounds)


def opened(url: str, prefix: str) -> SQLStorage | RedisStorage:
    if url.startswith(("redis", "unix")):
        return RedisStorage(url, prefix=prefix)
    return SQLStorage(url, table_prefix=prefix)


def copy_and_die(source: Path, url: str, prefix: str, _told: Any) -> None:
    with Dies(source) as dying, opened(url, prefix) as target:
        copy_threads(dying, target)


def swept(url: str, prefix: str) -> None:
    """A server that was given keeps nothing of what was copied there."""
    if url.startswith(("redis", "unix")):
        with redis.Redis.from_url(url) as client:
            for key in client.scan_iter(match=f"*{prefix}*", count=1000):
                client.delete(key)
        return
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        tables = sa.MetaData()
        tables.reflect(connection, only=lambda name, _: name.startswith(prefix))
        tables.drop_all(connection)


@pytest.fixture
def servers() -> Iterator[list[str]]:
    """The URLs of all servers there are, and of a cluster."""
    found: list[Server | SQLServer] = [*sql_servers(), *redis_servers(), *cluster_servers()]
    if missing := [f"{server.id}: {server.missing}" for server in found if server.missing]:
        pytest.fail(f"all servers are needed; missing are {missing}", pytrace=False)
    with contextlib.ExitStack() as stack:
        urls = [stack.enter_context(Running(each)).url if not each.url else each.url for each in sql_servers()]
        urls += [stack.enter_context(running(each)) for each in redis_servers()]
        urls += [stack.enter_context(cluster(each.binary)).url for each in cluster_servers()[:1]]
        yield urls
        for given in (each.url for each in found if each.url):
            swept(given, PREFIX)


def everything(storage: Any) -> list[Any]:
    threads = [storage.get_thread(thread.id) for thread in storage.list_threads()]
    return [(thread, fingerprints(thread.messages)) for thread in threads]


def fill(storage: SQLiteStorage) -> None:
    storage.save_thread(every_shape())
    storage.append_messages("long", [], create={"user_id": "nul \x00 '%", "title": "\u2028"})
    for _ in range(2):
        messages = [Message(f"{number} 🙂", "user", metadata={"n": number}) for number in range(LONG // 2)]
        storage.append_messages("long", messages, state={"cut": {"$new": 7}})
    storage.append_messages("long", [], supersede=[3, LONG - 1], counts={5: (9, "o200k_base")})
    storage.fork_thread("long", "fork", at=storage.read_messages("long")[50].id)
    for seed in range(3):
        storage.save_thread(random_thread(seed).changed(id=f"{HOSTILE[seed]}/{seed}"))


def test_what_was_copied_through_every_backend_comes_back_to_the_byte(tmp_path: Path, servers: list[str]) -> None:
    with SQLiteStorage(tmp_path / "begin.db") as begin:
        fill(begin)
        expected = everything(begin)
    killed = servers if scale() > 1 else [servers[0], servers[-1]]
    dying = [started(copy_and_die, tmp_path / "begin.db", url, PREFIX) for url in killed]
    for process, told in dying:
        process.join(ANSWER_S)
        told.close()
        assert process.exitcode == -signal.SIGKILL
    with contextlib.ExitStack() as stack:
        last: Any = stack.enter_context(SQLiteStorage(tmp_path / "begin.db"))
        for url in servers:
            target = stack.enter_context(opened(url, PREFIX))
            done = copy_threads(last, target)
            assert (done.n_finished, done.conflicts) == (int(url in killed), ())
            assert everything(target) == expected
            last = target
        back = stack.enter_context(MemoryStorage())
        assert copy_threads(last, back).n_threads == len(expected)
        assert everything(back) == expected
        end = stack.enter_context(SQLiteStorage(tmp_path / "end.db"))
        assert copy_threads(back, end).n_threads == len(expected)
        assert everything(end) == expected
        assert copy_threads(end, tmp_path / "begin.db") == Copied(n_skipped=len(expected))
