"""The one door to a storage: whichever it is, the library talks to it through a `StoragePort`.

The port knows whether calls block, are asynchronous, or stand on the defaults of the contract, and turns what a foreign
storage raises into a `StorageError`. Its methods give steps, which flows yield; only what takes several is a flow.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from memexllm.core.errors import ConfigurationError, MemexLLMError, StorageError
from memexllm.core.flow import Flow, Step
from memexllm.core.models import Message, Thread
from memexllm.core.moments import utc_now
from memexllm.core.plugins import Plugins
from memexllm.core.wire import MessageRow
from memexllm.storage import _defaults
from memexllm.storage._listing import ListQuery, list_keywords, listed
from memexllm.storage._packing import pack, unpack
from memexllm.storage.base import AsyncBaseStorage, BaseStorage

REQUIRED = ("save_thread", "get_thread", "list_threads", "delete_thread")
OPTIONAL = (
    "append_messages",
    "fork_thread",
    "patch_thread",
    "read_head",
    "read_messages",
    "replace_message",
    "restore_messages",
    "search_messages",
)
_OPERATIONS = {
    "append_messages": "add message to thread",
    "close": "close storage",
    "delete_thread": "delete thread",
    "fork_thread": "fork thread",
    "get_thread": "get thread",
    "list_threads": "list threads",
    "patch_thread": "update thread",
    "read_head": "get thread",
    "read_messages": "get messages",
    "replace_message": "replace message",
    "restore_messages": "restore messages",
    "save_thread": "save thread",
    "search_messages": "search messages",
}


def overrides(storage_type: type, name: str) -> bool:
    """Whether a storage's class brings `name` itself, rather than inheriting the contract's default."""
    found = inspect.getattr_static(storage_type, name, None)
    defaults = [inspect.getattr_static(base, name, None) for base in (BaseStorage, AsyncBaseStorage)]
    return found is not None and found not in defaults


def asynchronous_methods(storage: Any) -> list[str]:
    """Names of the storage's required methods that are `async def`."""
    return [name for name in REQUIRED if inspect.iscoroutinefunction(getattr(type(storage), name, None))]


class StoragePort:
    """A storage as the flows see it."""

    def __init__(self, storage: Any) -> None:
        if isinstance(storage, type):
            raise ConfigurationError(
                f"{storage.__name__} is a class, and a storage is an object: {storage.__name__}(...)"
            )
        missing = [name for name in REQUIRED if not callable(getattr(storage, name, None))]
        if missing:
            raise ConfigurationError(
                f"{type(storage).__name__} is no storage: it lacks {', '.join(missing)}; "
                "subclass memexllm.storage.BaseStorage"
            )
        self.storage = storage
        self.plugins: Plugins | None = None
        """Of the manager whose port this is; None when none is loaded."""
        self.asynchronous = bool(asynchronous_methods(storage))
        self.blocking = not self.asynchronous and bool(getattr(storage, "blocking", True))
        # Such a storage is handed whole threads with our fields packed in metadata.
        self.keeps_whole_threads = not overrides(type(storage), "append_messages")
        self.restores_in_batches = overrides(type(storage), "restore_messages")
        self._list_keywords = list_keywords(type(storage))
        self._takes_rows = _takes_rows(type(storage))
        self._invoke = self._await_call if self.asynchronous else self._call
        self._defaults = self._missing_methods()

    def read(self, thread_id: str, doing: str = "get thread") -> Flow[Reader | None]:
        """A reader of one thread, or None for an unknown one; `doing` is what failed when the storage fails."""
        if self.keeps_whole_threads:
            thread: Thread | None = yield self.step("get_thread", (thread_id,), doing=doing)
            return None if thread is None else _WholeReader(self, unpack(thread))
        head: Thread | None = yield self.step("read_head", (thread_id,), doing=doing)
        return None if head is None else Reader(self, head, doing)

    def create_thread(self, thread: Thread, *, id_is_new: bool) -> Flow[int]:
        """Store a thread without messages; its version. An id made just now is not looked up first."""
        if self.keeps_whole_threads and id_is_new:
            # As every write does, whatever clock the manager has: threads listed by their last write stay comparable.
            stored = pack(thread.changed(version=1, updated_at=utc_now()))
            yield self.step("save_thread", (stored,), write=True, doing="create thread")
            return 1
        create = changes_given(
            metadata=thread.metadata or None,
            user_id=thread.user_id,
            title=thread.title,
            created_at=thread.created_at,
        )
        changes = {"create": create, "expected_version": 0}
        version: int = yield self.step("append_messages", (thread.id, []), changes, write=True, doing="create thread")
        return version

    def whole_thread(self, thread_id: str) -> Flow[Thread | None]:
        """The thread with all its messages, superseded ones included, as it was at one moment."""
        thread: Thread | None = yield self.step("get_thread", (thread_id,))
        return unpack(thread) if thread is not None and self.keeps_whole_threads else thread

    def save_thread(self, thread: Thread) -> Step:
        """Create or replace a whole thread."""
        return self.step("save_thread", (pack(thread) if self.keeps_whole_threads else thread,), write=True)

    def append_messages(self, thread_id: str, rows: Sequence[MessageRow], changes: Mapping[str, Any]) -> Step:
        """The new version; `changes` are further keywords of `BaseStorage.append_messages`."""
        batch = rows if self._takes_rows else [Message.from_row(row) for row in rows]
        return self.step("append_messages", (thread_id, batch), changes, write=True)

    def replace_message(
        self, thread_id: str, message_id: str, message: Message, changes: Mapping[str, Any] | None = None
    ) -> Step:
        """`changes` are further keywords of `BaseStorage.replace_message`."""
        return self.step("replace_message", (thread_id, message_id, message), changes, write=True)

    def fork_thread(self, thread_id: str, new_id: str, at: str | None, create: Mapping[str, Any]) -> Step:
        return self.step("fork_thread", (thread_id, new_id), changes_given(at=at, create=create), write=True)

    def restore_messages(self, thread: Thread, messages: Sequence[Message]) -> Step:
        return self.step("restore_messages", (thread, messages), write=True)

    def patch_thread(self, thread_id: str, **fields: Any) -> Step:
        return self.step("patch_thread", (thread_id,), fields, write=True)

    def list_threads(self, query: ListQuery) -> Flow[list[Thread]]:
        return listed(self.step, self._list_keywords, self.keeps_whole_threads, query)

    def search_messages(self, text: str, thread_id: str | None, user_id: str | None, limit: int) -> Step:
        return self.step("search_messages", (text,), changes_given(thread_id=thread_id, user_id=user_id, limit=limit))

    def delete_thread(self, thread_id: str) -> Step:
        return self.step("delete_thread", (thread_id,), write=True)

    def close(self) -> Flow[None]:
        if callable(getattr(self.storage, "close", None)):
            yield self.step("close", (), write=True)

    def step(
        self,
        name: str,
        args: tuple[Any, ...],
        keywords: Mapping[str, Any] | None = None,
        *,
        write: bool = False,
        doing: str | None = None,
    ) -> Step:
        """One call of a storage's method."""
        return Step(self._invoke, (name, args, keywords or {}, doing), self.blocking, write)

    def _call(self, name: str, args: tuple[Any, ...], keywords: Mapping[str, Any], doing: str | None) -> Any:
        """The door for what a foreign storage raises."""
        try:
            return (self._defaults.get(name) or getattr(self.storage, name))(*args, **keywords)
        except MemexLLMError:
            raise
        except Exception as error:
            raise StorageError(f"Failed to {doing or _OPERATIONS[name]}: {error}") from error

    async def _await_call(
        self, name: str, args: tuple[Any, ...], keywords: Mapping[str, Any], doing: str | None
    ) -> Any:
        """The same door for an asynchronous storage."""
        try:
            result = (self._defaults.get(name) or getattr(self.storage, name))(*args, **keywords)
            return await result if hasattr(type(result), "__await__") else result
        except MemexLLMError:
            raise
        except Exception as error:
            raise StorageError(f"Failed to {doing or _OPERATIONS[name]}: {error}") from error

    def _missing_methods(self) -> dict[str, Callable[..., Any]]:
        """The contract's defaults, applied to a storage that is no subclass of ours."""
        # By its type: a mock with `spec=BaseStorage` passes isinstance() and inherits nothing.
        if issubclass(type(self.storage), BaseStorage | AsyncBaseStorage):
            return {}
        base = AsyncBaseStorage if self.asynchronous else BaseStorage
        missing = [name for name in OPTIONAL if not overrides(type(self.storage), name)]
        return {name: partial(getattr(base, name), self.storage) for name in missing}


class Reader:
    """One thread being read: its head, and steps that read a bounded part of its messages."""

    def __init__(self, port: StoragePort, head: Thread, doing: str = "get thread") -> None:
        self._port = port
        self._doing = doing
        self.head = head
        self.with_metadata = False
        """Whether those who read rows need what a request does not: each message's metadata and `call`."""

    def rows(self, **bounds: Any) -> Step:
        """`BaseStorage.read_messages` with `wire=True`; the step's result is a `list[MessageRow]`."""
        bounds["wire"] = True
        return self._port.step("read_messages", (self.head.id,), bounds, doing=self._doing)

    def messages(self, **bounds: Any) -> Step:
        """`BaseStorage.read_messages`; the step's result is a `list[Message]`."""
        return self._port.step("read_messages", (self.head.id,), bounds, doing=self._doing)


class _WholeReader(Reader):
    """Of a storage that has only whole threads: read once, answered from there."""

    def __init__(self, port: StoragePort, thread: Thread) -> None:
        super().__init__(port, _defaults.head_of(thread))
        self._thread = thread

    def rows(self, **bounds: Any) -> Step:
        return Step(partial(_defaults.messages_between, self._thread, wire=True, **bounds), (), blocking=False)

    def messages(self, **bounds: Any) -> Step:
        return Step(partial(_defaults.messages_between, self._thread, wire=False, **bounds), (), blocking=False)


def _takes_rows(storage_type: type) -> bool:
    """Whether the class whose `append_messages` runs says that it takes rows, too (`takes_rows = True`)."""
    for cls in storage_type.__mro__:
        if "append_messages" in vars(cls):
            return bool(vars(cls).get("takes_rows", False))
    return False


def changes_given(**fields: Any) -> dict[str, Any]:
    """The keywords that carry a value: a storage of an older contract need not know the others."""
    return {name: value for name, value in fields.items() if value is not None and value != ()}
