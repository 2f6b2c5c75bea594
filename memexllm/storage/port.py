"""The one door to a storage: whichever it is, the library talks to it through a `StoragePort`.

The port knows whether calls block, are asynchronous, or stand on the defaults of the contract, and turns what a foreign
storage raises into a `StorageError`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from memexllm.core.errors import ConfigurationError, MemexLLMError, StorageError
from memexllm.core.flow import Flow, Step
from memexllm.core.models import Message, MessageRow, Thread
from memexllm.storage import _defaults
from memexllm.storage._packing import unpack
from memexllm.storage.base import AsyncBaseStorage, BaseStorage

REQUIRED = ("save_thread", "get_thread", "list_threads", "delete_thread")
Storage = BaseStorage | AsyncBaseStorage


def overrides(storage_type: type, name: str) -> bool:
    """Whether a storage's class brings `name` itself, rather than inheriting the contract's default."""
    found = inspect.getattr_static(storage_type, name, None)
    defaults = [inspect.getattr_static(base, name, None) for base in (BaseStorage, AsyncBaseStorage)]
    return found is not None and found not in defaults


def asynchronous_methods(storage: Any) -> list[str]:
    """Names of the storage's required methods that are `async def`."""
    return [name for name in REQUIRED if inspect.iscoroutinefunction(getattr(type(storage), name, None))]


def storage_call(operation: str, fn: Callable[[], Any], *, blocking: bool, write: bool = False) -> Flow[Any]:
    """One call of a storage. What is not ours becomes `StorageError("Failed to {operation}: …")`."""
    try:
        return (yield Step(fn, (), blocking, write))
    except MemexLLMError:
        raise
    except Exception as error:
        raise StorageError(f"Failed to {operation}: {error}") from error


class StoragePort:
    """A storage as the flows see it; every method is a flow."""

    def __init__(self, storage: Any) -> None:
        missing = [name for name in REQUIRED if not callable(getattr(storage, name, None))]
        if missing:
            raise ConfigurationError(
                f"{type(storage).__name__} is no storage: it lacks {', '.join(missing)}; "
                "subclass memexllm.storage.BaseStorage"
            )
        self.storage = storage
        self.asynchronous = bool(asynchronous_methods(storage))
        self.blocking = not self.asynchronous and bool(getattr(storage, "blocking", True))
        # Such a storage is handed whole threads with our fields packed in metadata.
        self.keeps_whole_threads = not overrides(type(storage), "append_messages")

    def read(self, thread_id: str) -> Flow[Reader | None]:
        """A reader of one thread, or None for an unknown one."""
        if self.keeps_whole_threads:
            thread = yield from storage_call(
                "get thread", partial(self.storage.get_thread, thread_id), blocking=self.blocking
            )
            return None if thread is None else _WholeReader(self, unpack(thread))
        head = yield from self._call("get thread", "read_head", thread_id)
        return None if head is None else Reader(self, head)

    def append_messages(self, thread_id: str, messages: Sequence[Message], **changes: Any) -> Flow[int]:
        return self._call("add message to thread", "append_messages", thread_id, messages, write=True, **changes)

    def replace_message(self, thread_id: str, message_id: str, message: Message) -> Flow[None]:
        return self._call("replace message", "replace_message", thread_id, message_id, message, write=True)

    def patch_thread(self, thread_id: str, **fields: Any) -> Flow[None]:
        return self._call("update thread", "patch_thread", thread_id, write=True, **fields)

    def list_threads(self, limit: int, offset: int) -> Flow[list[Thread]]:
        threads = yield from storage_call(
            "list threads", partial(self.storage.list_threads, limit, offset), blocking=self.blocking
        )
        return [unpack(thread) for thread in threads] if self.keeps_whole_threads else threads

    def delete_thread(self, thread_id: str) -> Flow[bool]:
        deleted = yield from storage_call(
            "delete thread", partial(self.storage.delete_thread, thread_id), blocking=self.blocking, write=True
        )
        return bool(deleted)

    def close(self) -> Flow[None]:
        if callable(getattr(self.storage, "close", None)):
            yield from storage_call("close storage", self.storage.close, blocking=self.blocking, write=True)

    def _call(self, operation: str, name: str, *args: Any, write: bool = False, **kwargs: Any) -> Flow[Any]:
        method = partial(self._method(name), *args, **kwargs)
        return storage_call(operation, method, blocking=self.blocking, write=write)

    def _method(self, name: str) -> Callable[..., Any]:
        """The storage's own method, or the contract's default applied to a storage that is no subclass."""
        if isinstance(self.storage, BaseStorage | AsyncBaseStorage) or overrides(type(self.storage), name):
            return getattr(self.storage, name)  # type: ignore[no-any-return]  # a method of foreign code
        base = AsyncBaseStorage if self.asynchronous else BaseStorage
        return partial(getattr(base, name), self.storage)


class Reader:
    """One thread being read: its head, and bounded reads of its rows."""

    def __init__(self, port: StoragePort, head: Thread) -> None:
        self._port = port
        self.head = head

    def rows(
        self,
        *,
        limit: int | None = None,
        before: int | None = None,
        after: int | None = None,
        include_superseded: bool = False,
    ) -> Flow[list[MessageRow]]:
        """`BaseStorage.read_messages` with `wire=True`."""
        return self._read(True, limit, before, after, include_superseded)

    def messages(
        self,
        *,
        limit: int | None = None,
        before: int | None = None,
        after: int | None = None,
        include_superseded: bool = False,
    ) -> Flow[list[Message]]:
        """`BaseStorage.read_messages`."""
        return self._read(False, limit, before, after, include_superseded)

    def _read(self, wire: bool, limit: Any, before: Any, after: Any, include_superseded: bool) -> Flow[Any]:
        return self._port._call(
            "get messages",
            "read_messages",
            self.head.id,
            limit=limit,
            before=before,
            after=after,
            include_superseded=include_superseded,
            wire=wire,
        )


class _WholeReader(Reader):
    """Of a storage that has only whole threads: read once, answered from there."""

    def __init__(self, port: StoragePort, thread: Thread) -> None:
        super().__init__(port, _defaults.head_of(thread))
        self._thread = thread

    def _read(self, wire: bool, limit: Any, before: Any, after: Any, include_superseded: bool) -> Flow[Any]:
        yield from ()
        return _defaults.messages_between(self._thread, limit, before, after, include_superseded, wire)


def changes_given(**fields: Any) -> Mapping[str, Any]:
    """The keywords that carry a value: a storage of an older contract need not know the others."""
    return {name: value for name, value in fields.items() if value is not None and value != ()}
