"""Storages the laws need: one that counts, one that fails on command, one of four methods, an asynchronous one."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

from memexllm.storage.base import AsyncBaseStorage, BaseStorage
from memexllm.storage.memory import MemoryStorage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memexllm.core.models import Message, Thread


class CountingStorage(MemoryStorage):
    """Counts writes of calls and rows read."""

    def __init__(self) -> None:
        super().__init__()
        self.n_appends = 0
        self.n_replaced = 0
        self.n_rows_read = 0

    def append_messages(self, thread_id: str, messages: Sequence[Message], **changes: Any) -> int:
        self.n_appends += 1
        return super().append_messages(thread_id, messages, **changes)

    def replace_message(self, thread_id: str, message_id: str, message: Message, **changes: Any) -> None:
        self.n_replaced += 1
        super().replace_message(thread_id, message_id, message, **changes)

    def read_messages(self, thread_id: str, **which: Any) -> Any:
        found = super().read_messages(thread_id, **which)
        self.n_rows_read += len(found)
        return found


class CollectingStorage(MemoryStorage):
    """The garbage collector runs in the middle of its writes, as it may anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = self.deepest_write = 0

    def append_messages(self, thread_id: str, messages: Sequence[Message], **changes: Any) -> int:
        self.depth += 1
        self.deepest_write = max(self.deepest_write, self.depth)
        gc.collect()
        self.depth -= 1
        return super().append_messages(thread_id, messages, **changes)


class FailingStorage(MemoryStorage):
    """`failing_reads` and `failing_writes` are how many of the next ones fail; -1 is all of them.

    With `writes_arrive` a failing write has reached the storage before it fails.
    """

    def __init__(self) -> None:
        super().__init__()
        self.failing_reads = 0
        self.failing_writes = 0
        self.writes_arrive = False

    def append_messages(self, thread_id: str, messages: Sequence[Message], **changes: Any) -> int:
        if not self.failing_writes:
            return super().append_messages(thread_id, messages, **changes)
        self.failing_writes -= 1
        if self.writes_arrive:
            super().append_messages(thread_id, messages, **changes)
        raise OSError("no space left on device")

    def replace_message(self, thread_id: str, message_id: str, message: Message, **changes: Any) -> None:
        if self.failing_writes:
            self.failing_writes -= 1
            raise OSError("no space left on device")
        super().replace_message(thread_id, message_id, message, **changes)

    def read_head(self, thread_id: str) -> Thread | None:
        if self.failing_reads:
            self.failing_reads -= 1
            raise OSError("the disk is gone")
        return super().read_head(thread_id)


class FourMethodStorage(BaseStorage):
    """What the documentation's custom storage looks like; it hands out its own live objects."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: dict[str, Thread] = {}

    def save_thread(self, thread: Thread) -> None:
        self.threads[thread.id] = thread

    def get_thread(self, thread_id: str) -> Thread | None:
        return self.threads.get(thread_id)

    def list_threads(self, limit: int = 100, offset: int = 0) -> list[Thread]:
        return list(self.threads.values())[offset : offset + limit]

    def delete_thread(self, thread_id: str) -> bool:
        return self.threads.pop(thread_id, None) is not None


class AsyncMemoryStorage(AsyncBaseStorage):
    """Over a `MemoryStorage`. `writing` is set when a write has begun; it goes on when `may_write` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = MemoryStorage()
        self.writing = asyncio.Event()
        self.may_write = asyncio.Event()
        self.may_write.set()
        self.failing_writes = 0

    async def save_thread(self, thread: Thread) -> None:
        self.inner.save_thread(thread)

    async def get_thread(self, thread_id: str) -> Thread | None:
        return self.inner.get_thread(thread_id)

    async def list_threads(self, limit: int = 100, offset: int = 0) -> list[Thread]:
        return self.inner.list_threads(limit, offset)

    async def delete_thread(self, thread_id: str) -> bool:
        return self.inner.delete_thread(thread_id)

    async def append_messages(self, thread_id: str, messages: Sequence[Message], **changes: Any) -> int:
        self.writing.set()
        await self.may_write.wait()
        if self.failing_writes:
            self.failing_writes -= 1
            raise OSError("no space left on device")
        return self.inner.append_messages(thread_id, messages, **changes)

    async def replace_message(self, thread_id: str, message_id: str, message: Message, **changes: Any) -> None:
        self.inner.replace_message(thread_id, message_id, message, **changes)

    async def read_head(self, thread_id: str) -> Thread | None:
        return self.inner.read_head(thread_id)

    async def read_messages(self, thread_id: str, **which: Any) -> Any:
        return self.inner.read_messages(thread_id, **which)

    async def patch_thread(self, thread_id: str, **fields: Any) -> None:
        self.inner.patch_thread(thread_id, **fields)
