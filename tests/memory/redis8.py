"""A server with vector sets for the tests: the one at MEMEXLLM_TEST_REDIS8, else fakeredis in this process."""

from __future__ import annotations

import os
import uuid
from typing import Any

import fakeredis
import fakeredis.aioredis
import redis

from tests.servers import REDIS_8_URL


class Redis8:
    """Where databases are opened, and a client to look at what they wrote."""

    def __init__(self) -> None:
        self.url = os.environ.get(REDIS_8_URL)
        self._server = None if self.url else fakeredis.FakeServer(version=(8,))
        self.client = redis.Redis.from_url(self.url) if self.url else fakeredis.FakeRedis(server=self._server)

    def place(self, *, asynchronous: bool = False, **options: Any) -> dict[str, Any]:
        """What a database is opened with."""
        if self.url:
            return {"url": self.url}
        kind = fakeredis.aioredis.FakeRedis if asynchronous else fakeredis.FakeRedis
        return {"client": kind(server=self._server, **options)}

    def fresh_prefix(self) -> str:
        return uuid.uuid4().hex

    def keys(self, prefix: str) -> list[bytes]:
        return sorted(self.client.scan_iter(match=f"{{{prefix}*", count=1000))

    def forget(self, prefix: str) -> None:
        if keys := self.keys(prefix):
            self.client.delete(*keys)
