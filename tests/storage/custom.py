"""Storages as users write them: four methods, and no thought of ours."""

from __future__ import annotations

import asyncio
import importlib
import json
import threading
from collections.abc import Sequence
from typing import Any

from memexllm.core.models import Message, Thread
from memexllm.storage import AsyncBaseStorage, BaseStorage


class LiveDictStorage(BaseStorage):
    """Keeps the very objects it is given, and gives them out again."""

    def __init__(self, max_messages: int | None = None) -> None:
        super().__init__(max_messages=max_messages)
        self.threads: dict[str, Thread] = {}

    def save_thread(self, thread: Thread) -> None:
        if self.max_messages is not None:
            thread.messages = thread.messages[-self.max_messages :]
        self.threads[thread.id] = thread

    def get_thread(self, thread_id: str) -> Thread | None:
        return self.threads.get(thread_id)

    def list_threads(self, limit: int = 100, offset: int = 0) -> list[Thread]:
        return list(self.threads.values())[offset : offset + limit]

    def delete_thread(self, thread_id: str) -> bool:
        return self.threads.pop(thread_id, None) is not None


class ForgetfulStorage(LiveDictStorage):
    """Never calls `super().__init__()`."""

    def __init__(self) -> None:
        self.threads = {}


class LockedStorage(BaseStorage):
    """Keeps every field, and makes one transaction of what the contract's append does."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: dict[str, str] = {}
        self.lock = threading.RLock()

    def save_thread(self, thread: Thread) -> None:
        self.texts[thread.id] = json.dumps(thread.to_dict())

    def get_thread(self, thread_id: str) -> Thread | None:
        text = self.texts.get(thread_id)
        return None if text is None else Thread.from_dict(json.loads(text))

    def list_threads(self, limit: int = 100, offset: int = 0) -> list[Thread]:
        return [Thread.from_dict(json.loads(text)) for text in list(self.texts.values())[offset : offset + limit]]

    def delete_thread(self, thread_id: str) -> bool:
        return self.texts.pop(thread_id, None) is not None

    def append_messages(self, thread_id: str, messages: Sequence[Message], **changes: Any) -> int:
        with self.lock:
            return super().append_messages(thread_id, messages, **changes)


class JSONRedisStorage(BaseStorage):
    """Keeps what its author knew of: a thread's id and metadata, a message's content, role, metadata and time."""

    def __init__(self, url: str, prefix: str, max_messages: int | None = None) -> None:
        super().__init__(max_messages=max_messages)
        # Not every environment in which these classes are used has the redis package.
        self.client: Any = importlib.import_module("redis").Redis.from_url(url)
        self.prefix = prefix

    def save_thread(self, thread: Thread) -> None:
        messages = thread.messages if self.max_messages is None else thread.messages[-self.max_messages :]
        key = json.dumps(thread.id)
        text = json.dumps(
            {
                "id": thread.id,
                "metadata": thread.metadata,
                "messages": [
                    {
                        "content": message.content,
                        "role": message.role,
                        "metadata": message.metadata,
                        "created_at": message.created_at.isoformat(),
                    }
                    for message in messages
                ],
            }
        )
        if self.client.hset(f"{self.prefix}:threads", key, text):
            self.client.rpush(f"{self.prefix}:order", key)

    def get_thread(self, thread_id: str) -> Thread | None:
        text = self.client.hget(f"{self.prefix}:threads", json.dumps(thread_id))
        return None if text is None else self._read(text)

    def list_threads(self, limit: int = 100, offset: int = 0) -> list[Thread]:
        keys = self.client.lrange(f"{self.prefix}:order", offset, offset + limit - 1) if limit else []
        return [self._read(self.client.hget(f"{self.prefix}:threads", key)) for key in keys]

    def delete_thread(self, thread_id: str) -> bool:
        key = json.dumps(thread_id)
        self.client.lrem(f"{self.prefix}:order", 0, key)
        return bool(self.client.hdel(f"{self.prefix}:threads", key))

    def close(self) -> None:
        self.client.close()

    def _read(self, text: bytes) -> Thread:
        found = json.loads(text)
        thread = Thread(id=found["id"], metadata=found["metadata"])
        thread.messages = [Message(**each) for each in found["messages"]]
        return thread


class AsyncDictStorage(AsyncBaseStorage):
    """Gives way to other tasks in the middle of everything."""

    def __init__(self, max_messages: int | None = None) -> None:
        super().__init__(max_messages=max_messages)
        self.inner = LiveDictStorage(max_messages)

    async def save_thread(self, thread: Thread) -> None:
        await asyncio.sleep(0)
        self.inner.max_messages = self.max_messages
        self.inner.save_thread(thread)
        await asyncio.sleep(0)

    async def get_thread(self, thread_id: str) -> Thread | None:
        await asyncio.sleep(0)
        found = self.inner.get_thread(thread_id)
        await asyncio.sleep(0)
        return found

    async def list_threads(self, limit: int = 100, offset: int = 0) -> list[Thread]:
        await asyncio.sleep(0)
        return self.inner.list_threads(limit, offset)

    async def delete_thread(self, thread_id: str) -> bool:
        await asyncio.sleep(0)
        return self.inner.delete_thread(thread_id)


class PlainStorage:
    """Four methods and no base class."""

    def __init__(self) -> None:
        self.inner = LiveDictStorage()

    def save_thread(self, thread: Thread) -> None:
        self.inner.save_thread(thread)

    def get_thread(self, thread_id: str) -> Thread | None:
        return self.inner.get_thread(thread_id)

    def list_threads(self, limit: int = 100, offset: int = 0) -> list[Thread]:
        return self.inner.list_threads(limit, offset)

    def delete_thread(self, thread_id: str) -> bool:
        return self.inner.delete_thread(thread_id)


class PlainAsyncStorage:
    """Four `async def` methods and no base class."""

    def __init__(self) -> None:
        self.inner = AsyncDictStorage()

    async def save_thread(self, thread: Thread) -> None:
        await self.inner.save_thread(thread)

    async def get_thread(self, thread_id: str) -> Thread | None:
        return await self.inner.get_thread(thread_id)

    async def list_threads(self, limit: int = 100, offset: int = 0) -> list[Thread]:
        return await self.inner.list_threads(limit, offset)

    async def delete_thread(self, thread_id: str) -> bool:
        return await self.inner.delete_thread(thread_id)
