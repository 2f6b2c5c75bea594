"""Every law of storage on storages as users write them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from memexllm.core.models import Message, Thread
from memexllm.testing.report import examine
from memexllm.testing.storage import StorageConformance
from tests.storage.custom import (
    AsyncDictStorage,
    ForgetfulStorage,
    JSONRedisStorage,
    LiveDictStorage,
    LockedStorage,
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


def test_the_defaults_pack_nothing_for_a_storage_that_appends_itself() -> None:
    """Such a storage keeps every field, and what lies under our key in metadata is its user's."""
    report = examine(LockedStorage, "-k", "append or patch or replaced or law02 or law04 or fork_has or restored")
    assert (report.broken, report.name) == ([], "LockedStorage")

    storage = LockedStorage()
    metadata = {"memexllm": {"mine": 1}}
    storage.save_thread(Thread("t", metadata=metadata, messages=[Message("a", "user", id="m", metadata=metadata)]))
    storage.append_messages("t", [Message("b", "user")])
    storage.replace_message("t", "m", Message("c", "user", id="m", metadata=metadata))
    storage.patch_thread("t", title="Title")
    for thread_id in ("t", storage.fork_thread("t", "fork").id):
        found = storage.get_thread(thread_id)
        assert found is not None
        assert (found.metadata, found.title, [each.text for each in found.messages]) == (metadata, "Title", ["c", "b"])
        assert [each.metadata for each in found.messages] == [metadata, {}]
