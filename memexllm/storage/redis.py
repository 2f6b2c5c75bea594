"""RedisStorage: threads on a Redis or Valkey server or cluster, from version 6.2 on.

What is in the database is described in `_redis_scripts.py` (a thread) and `_redis_index.py` (the lists). An operation
is one round trip, a script, whatever the thread's length; on a cluster a write takes a second one, for the lists.

A write carries a token that the thread keeps for some minutes. So a write whose answer was lost, because the connection
or the server went away, is sent again until `retry_timeout_s` has passed, and is done once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any

from memexllm.core.errors import ConfigurationError
from memexllm.core.flow import arun, run
from memexllm.core.hits import MessageHit
from memexllm.core.models import Message, Thread
from memexllm.storage._defaults import UNSET
from memexllm.storage._listing import CursorLike, OrderBy, list_query
from memexllm.storage._redis_calls import AsyncCalls, Calls, driver_for
from memexllm.storage._redis_flows import Operations
from memexllm.storage._redis_keys import checked_prefix
from memexllm.storage._redis_listing import Lists
from memexllm.storage._redis_saving import Saving
from memexllm.storage.base import AsyncBaseStorage, BaseStorage, checked_message_limit, refuse_partial

__all__ = ["RedisStorage", "AsyncRedisStorage"]


class RedisStorage(BaseStorage):
    """Threads on a server at `url` (`redis://`, `rediss://`, `unix://`), or a cluster (`redis+cluster://`).

    A `client` of redis-py, also one of a cluster or of fakeredis, is used as it is and never closed. `prefix` begins
    every key. `ttl`, seconds or a `timedelta`, is how long a thread is kept after its last write. At most
    `max_connections` are open at once, for each server; who finds them all in use waits. `timeout_s` is how long an
    answer or a free connection is waited for, `retry_timeout_s` how long an operation is repeated while a server that
    answered before is away; both only bind connections opened here, a client handed in has settings of its own.
    """

    takes_rows = True

    def __init__(
        self,
        url: str | None = None,
        *,
        client: Any = None,
        prefix: str = "memexllm",
        ttl: float | timedelta | None = None,
        max_messages: int | None = None,
        max_connections: int = 50,
        timeout_s: float = 20.0,
        retry_timeout_s: float = 10.0,
    ) -> None:
        super().__init__(max_messages=max_messages)
        driver = driver_for("RedisStorage", url, client, max_connections, timeout_s, retry_timeout_s)
        self.prefix = checked_prefix(prefix)
        self._place = driver.place
        self._calls = Calls(driver, client)
        self._do = Operations(self._calls, driver.place, self.prefix, _milliseconds(ttl), retry_timeout_s)
        self._lists = Lists(self._do)
        self._whole = Saving(self._do)

    def __repr__(self) -> str:
        return f"RedisStorage({str(self._place)!r}, prefix={self.prefix!r})"

    def save_thread(self, thread: Thread) -> None:
        refuse_partial(thread)
        run(self._whole.save(thread, self.max_messages))

    def get_thread(self, thread_id: str, message_limit: int | None = None) -> Thread | None:
        """The whole thread; with `message_limit` its newest live messages, as a partial thread."""
        checked_message_limit(message_limit)
        return run(self._do.whole(thread_id, message_limit))

    def list_threads(
        self,
        limit: int = 100,
        offset: int = 0,
        *,
        user_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        order_by: OrderBy = "created",
        before: CursorLike = None,
        after: CursorLike = None,
        preview: bool = False,
    ) -> list[Thread]:
        """As `HistoryManager.list_threads`: without messages (`partial`), each order along a sorted set of its own.

        A `metadata` filter looks at every thread (of the user, if one is given) until the page is full.
        """
        query = list_query(limit, offset, user_id, metadata, order_by, before, after, preview)
        return run(self._lists.page(query))

    def delete_thread(self, thread_id: str) -> bool:
        return run(self._do.delete(thread_id))

    def append_messages(
        self,
        thread_id: str,
        messages: Sequence[Message],
        *,
        expected_version: int | None = None,
        supersede_from: int | None = None,
        supersede: Collection[int] = (),
        state: Mapping[str, Any] | None = None,
        create: Mapping[str, Any] | None = None,
        counts: Mapping[int, tuple[int, str]] | None = None,
    ) -> int:
        flow = self._do.append(
            thread_id,
            messages,
            expected_version,
            supersede_from,
            supersede,
            state,
            create,
            counts,
            self.max_messages,
        )
        return run(flow)

    def replace_message(
        self,
        thread_id: str,
        message_id: str,
        message: Message,
        *,
        expected_version: int | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        run(self._do.replace(thread_id, message_id, message, expected_version, state))

    def fork_thread(
        self, thread_id: str, new_id: str, *, at: str | None = None, create: Mapping[str, Any] | None = None
    ) -> Thread:
        """`BaseStorage.fork_thread` by a copy, made in parts of 500 messages and there at once."""
        return run(self._whole.fork(thread_id, new_id, at, create, self.max_messages))

    def restore_messages(self, thread: Thread, messages: Sequence[Message]) -> None:
        run(self._whole.restore(thread, messages, self.max_messages))

    def read_head(self, thread_id: str) -> Thread | None:
        return run(self._do.read_head(thread_id))

    def read_messages(
        self,
        thread_id: str,
        *,
        limit: int | None = None,
        before: int | None = None,
        after: int | None = None,
        include_superseded: bool = False,
        wire: bool = False,
    ) -> Any:
        return run(self._do.read_messages(thread_id, limit, before, after, include_superseded, wire))

    def patch_thread(
        self,
        thread_id: str,
        *,
        title: str | None = UNSET,
        metadata: Mapping[str, Any] = UNSET,
        user_id: str | None = UNSET,
        state: Mapping[str, Any] = UNSET,
    ) -> None:
        run(self._do.patch(thread_id, title, metadata, user_id, state))

    def search_messages(
        self, text: str, *, thread_id: str | None = None, user_id: str | None = None, limit: int = 10
    ) -> list[MessageHit]:
        """`BaseStorage.search_messages` by looking at 20,000 messages at most, of the threads created last."""
        return run(self._lists.search_messages(text, thread_id, user_id, limit))

    def close(self) -> None:
        self._calls.close()


class AsyncRedisStorage(AsyncBaseStorage):
    """Async `RedisStorage`. What it opens is opened once for each event loop, and closed with it.

    A `client` handed in is one of `redis.asyncio` and belongs to the loop it was first used on.
    """

    takes_rows = True

    def __init__(
        self,
        url: str | None = None,
        *,
        client: Any = None,
        prefix: str = "memexllm",
        ttl: float | timedelta | None = None,
        max_messages: int | None = None,
        max_connections: int = 50,
        timeout_s: float = 20.0,
        retry_timeout_s: float = 10.0,
    ) -> None:
        super().__init__(max_messages=max_messages)
        driver = driver_for("AsyncRedisStorage", url, client, max_connections, timeout_s, retry_timeout_s)
        self.prefix = checked_prefix(prefix)
        self._place = driver.place
        self._calls = AsyncCalls(driver, client)
        self._do = Operations(self._calls, driver.place, self.prefix, _milliseconds(ttl), retry_timeout_s)
        self._lists = Lists(self._do)
        self._whole = Saving(self._do)

    def __repr__(self) -> str:
        return f"AsyncRedisStorage({str(self._place)!r}, prefix={self.prefix!r})"

    async def save_thread(self, thread: Thread) -> None:
        """Async `RedisStorage.save_thread`."""
        refuse_partial(thread)
        await arun(self._whole.save(thread, self.max_messages))

    async def get_thread(self, thread_id: str, message_limit: int | None = None) -> Thread | None:
        """Async `RedisStorage.get_thread`."""
        checked_message_limit(message_limit)
        return await arun(self._do.whole(thread_id, message_limit))

    async def list_threads(
        self,
        limit: int = 100,
        offset: int = 0,
        *,
        user_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        order_by: OrderBy = "created",
        before: CursorLike = None,
        after: CursorLike = None,
        preview: bool = False,
    ) -> list[Thread]:
        """Async `RedisStorage.list_threads`."""
        query = list_query(limit, offset, user_id, metadata, order_by, before, after, preview)
        return await arun(self._lists.page(query))

    async def delete_thread(self, thread_id: str) -> bool:
        """Async `RedisStorage.delete_thread`."""
        return await arun(self._do.delete(thread_id))

    async def append_messages(
        self,
        thread_id: str,
        messages: Sequence[Message],
        *,
        expected_version: int | None = None,
        supersede_from: int | None = None,
        supersede: Collection[int] = (),
        state: Mapping[str, Any] | None = None,
        create: Mapping[str, Any] | None = None,
        counts: Mapping[int, tuple[int, str]] | None = None,
    ) -> int:
        """Async `RedisStorage.append_messages`."""
        flow = self._do.append(
            thread_id,
            messages,
            expected_version,
            supersede_from,
            supersede,
            state,
            create,
            counts,
            self.max_messages,
        )
        return await arun(flow)

    async def replace_message(
        self,
        thread_id: str,
        message_id: str,
        message: Message,
        *,
        expected_version: int | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        """Async `RedisStorage.replace_message`."""
        await arun(self._do.replace(thread_id, message_id, message, expected_version, state))

    async def fork_thread(
        self, thread_id: str, new_id: str, *, at: str | None = None, create: Mapping[str, Any] | None = None
    ) -> Thread:
        """Async `RedisStorage.fork_thread`."""
        return await arun(self._whole.fork(thread_id, new_id, at, create, self.max_messages))

    async def restore_messages(self, thread: Thread, messages: Sequence[Message]) -> None:
        """Async `RedisStorage.restore_messages`."""
        await arun(self._whole.restore(thread, messages, self.max_messages))

    async def read_head(self, thread_id: str) -> Thread | None:
        """Async `RedisStorage.read_head`."""
        return await arun(self._do.read_head(thread_id))

    async def read_messages(
        self,
        thread_id: str,
        *,
        limit: int | None = None,
        before: int | None = None,
        after: int | None = None,
        include_superseded: bool = False,
        wire: bool = False,
    ) -> Any:
        """Async `RedisStorage.read_messages`."""
        return await arun(self._do.read_messages(thread_id, limit, before, after, include_superseded, wire))

    async def patch_thread(
        self,
        thread_id: str,
        *,
        title: str | None = UNSET,
        metadata: Mapping[str, Any] = UNSET,
        user_id: str | None = UNSET,
        state: Mapping[str, Any] = UNSET,
    ) -> None:
        """Async `RedisStorage.patch_thread`."""
        await arun(self._do.patch(thread_id, title, metadata, user_id, state))

    async def search_messages(
        self, text: str, *, thread_id: str | None = None, user_id: str | None = None, limit: int = 10
    ) -> list[MessageHit]:
        """Async `RedisStorage.search_messages`."""
        return await arun(self._lists.search_messages(text, thread_id, user_id, limit))

    async def close(self) -> None:
        """Close what was opened on the running loop."""
        await self._calls.close()


def _milliseconds(ttl: float | timedelta | None) -> int | None:
    if ttl is None:
        return None
    seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    if type(seconds) not in (int, float) or not 0.001 <= seconds < 1e10:
        raise ConfigurationError(f"ttl is a number of seconds above 0, a timedelta, or None; got {ttl!r}")
    return int(seconds * 1000)
