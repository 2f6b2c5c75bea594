"""Any storage, called synchronously: what it returns is awaited on one event loop when it is awaitable.

The optional methods of the contract are called on the storage when it has them, else as the defaults of `BaseStorage`
or `AsyncBaseStorage`; so four plain methods, without any base class, are driven like everything else.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import pytest

from memexllm.core.flow import arun, run
from memexllm.core.models import Message, Thread
from memexllm.core.wire import MessageRow
from memexllm.storage._listing import list_keywords, list_query
from memexllm.storage._packing import pack
from memexllm.storage.base import AsyncBaseStorage, BaseStorage
from memexllm.storage.port import StoragePort

REQUIRED = ("save_thread", "get_thread", "list_threads", "delete_thread")


class DrivenStorage:
    """A storage with an event loop; a context manager that closes both. Used by one thread at a time."""

    def __init__(self, storage: Any) -> None:
        self._runner = asyncio.Runner()
        self.storage: Any = self._runner.run(_awaited(storage)) if inspect.isawaitable(storage) else storage
        self.name = type(self.storage).__name__
        self.is_async = isinstance(self.storage, AsyncBaseStorage) or any(
            inspect.iscoroutinefunction(getattr(self.storage, name)) for name in REQUIRED
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if hasattr(self.storage, "close"):
            self.call("close")
        self.leave()

    def elsewhere(self) -> DrivenStorage:
        """The same storage for another thread or process, on an event loop of its own."""
        return DrivenStorage(self.storage)

    def leave(self) -> None:
        """Close the event loop; the storage stays open."""
        self._runner.close()

    def overrides(self, method: str) -> bool:
        """Whether the storage has a method of its own in place of the contract's default."""
        own = getattr(type(self.storage), method, None)
        return own is not None and own not in (getattr(BaseStorage, method), getattr(AsyncBaseStorage, method))

    def skip_unless_it_overrides(self, method: str, law: str) -> None:
        if not self.overrides(method):
            pytest.skip(f"{law} binds storages that override {method}; {self.name} does not")

    def bound(self, method: str) -> Callable[..., Any]:
        """The storage's own method, or the contract's default bound to it."""
        base = AsyncBaseStorage if self.is_async else BaseStorage
        default: Callable[..., Any] | None = getattr(base, method, None)
        own: Callable[..., Any] | None = getattr(self.storage, method, None)
        if own is None and default is not None:
            own = default.__get__(self.storage)
        assert own is not None, f"{self.name} has no method {method}"
        return own

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        result = self.bound(method)(*args, **kwargs)
        return self.run(_awaited(result)) if inspect.isawaitable(result) else result

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(coroutine)

    def at_once(self, method: str, calls: Sequence[Sequence[Sequence[Any]]]) -> None:
        """Each list of arguments in `calls` by a thread of its own (a task, when async), in order; all at once."""
        function = self.bound(method)
        if self.is_async:
            self.run(_gather(function, calls))
            return
        in_threads([functools.partial(_one_by_one, function, arguments) for arguments in calls])

    # The contract by name.

    def save_thread(self, thread: Thread) -> None:
        """What the managers do: every field is packed into metadata for a storage that knows only four methods."""
        self.call("save_thread", thread if self.overrides("append_messages") else pack(thread))

    def whole_thread(self, thread_id: str) -> Thread:
        """The thread with all its messages, superseded ones too; it must be there."""
        if self.overrides("append_messages"):
            found: Thread | None = self.call("get_thread", thread_id)
            assert found is not None, f"{self.name} lost thread {thread_id!r}"
            return found
        return self.head(thread_id).changed(
            messages=self.read_messages(thread_id, include_superseded=True), partial=False
        )

    def append(self, thread_id: str, *messages: Message, **kwargs: Any) -> int:
        version: int = self.call("append_messages", thread_id, list(messages), **kwargs)
        return version

    def start(self, thread_id: str, *messages: Message, **kwargs: Any) -> int:
        """Make the thread with these messages; its version."""
        return self.append(thread_id, *messages, create={}, **kwargs)

    def read_head(self, thread_id: str) -> Thread | None:
        head: Thread | None = self.call("read_head", thread_id)
        return head

    def head(self, thread_id: str) -> Thread:
        """`read_head` of a thread that must be there."""
        head = self.read_head(thread_id)
        assert head is not None, f"{self.name} lost thread {thread_id!r}"
        return head

    def read_messages(self, thread_id: str, **bounds: Any) -> list[Message]:
        messages: list[Message] = self.call("read_messages", thread_id, **bounds)
        return messages

    def read_rows(self, thread_id: str, **bounds: Any) -> list[MessageRow]:
        rows: list[MessageRow] = self.call("read_messages", thread_id, wire=True, **bounds)
        return rows

    def texts(self, thread_id: str, **bounds: Any) -> list[str]:
        return [message.text for message in self.read_messages(thread_id, **bounds)]

    def seqs(self, thread_id: str, **bounds: Any) -> list[int]:
        seqs = [message.seq for message in self.read_messages(thread_id, **bounds)]
        assert all(isinstance(seq, int) for seq in seqs), f"{self.name} returned messages without a seq"
        return [seq for seq in seqs if seq is not None]

    def list_ids(self, **bounds: Any) -> list[str]:
        return [thread.id for thread in self.call("list_threads", **bounds)]

    def listed(self, limit: int = 100, offset: int = 0, **asked: Any) -> list[Thread]:
        """What the managers list."""
        flow = StoragePort(self.storage).list_threads(list_query(limit, offset, **asked))
        return self.run(arun(flow)) if self.is_async else run(flow)

    def listed_ids(self, limit: int = 100, offset: int = 0, **asked: Any) -> list[str]:
        return [thread.id for thread in self.listed(limit, offset, **asked)]

    def names_in_list_threads(self, *keywords: str) -> bool:
        """Whether the storage's own `list_threads` takes the keywords by name."""
        return list_keywords(type(self.storage)) >= set(keywords)

    def start_for(self, user_id: str | None, thread_id: str, metadata: dict[str, Any] | None = None) -> int:
        """Make an empty thread of the user."""
        return self.append(thread_id, create={"user_id": user_id, "metadata": metadata or {}})

    def delete_thread(self, thread_id: str) -> bool:
        deleted: bool = self.call("delete_thread", thread_id)
        return deleted


def in_threads(jobs: Sequence[Callable[[], object]]) -> None:
    """Each job in a thread of its own, all starting together and taking turns as often as Python can."""
    together = threading.Barrier(len(jobs))

    def start_together(job: Callable[[], object]) -> None:
        together.wait()
        job()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(len(jobs)) as pool:
            for done in [pool.submit(start_together, job) for job in jobs]:
                done.result()
    finally:
        sys.setswitchinterval(interval)


def says(*texts: str, role: str = "user", **fields: Any) -> list[Message]:
    """One message for each text."""
    return [Message(text, role, **fields) for text in texts]


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _one_by_one(function: Callable[..., Any], calls: Sequence[Sequence[Any]]) -> None:
    for arguments in calls:
        function(*arguments)


async def _gather(function: Callable[..., Any], calls: Sequence[Sequence[Sequence[Any]]]) -> None:
    async def one_by_one(each: Sequence[Sequence[Any]]) -> None:
        for arguments in each:
            await function(*arguments)

    await asyncio.gather(*(one_by_one(each) for each in calls))
