"""`HistoryManager` and `AsyncHistoryManager`: the flows of `flows.py`, run and awaited."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

from memexllm.algorithms.base import BaseAlgorithm
from memexllm.algorithms.foreign import as_algorithm
from memexllm.core.errors import ConfigurationError, NoStorageError
from memexllm.core.flow import arun, run
from memexllm.core.hits import MessageHit
from memexllm.core.models import Message, Thread
from memexllm.core.moments import Clock, IdSource, micros_now, new_id, to_micros, utc_now
from memexllm.history import flows
from memexllm.history.binding import bind_thread
from memexllm.history.explain import Explanation
from memexllm.storage._defaults import UNSET
from memexllm.storage._listing import CursorLike, OrderBy, list_query, search_query
from memexllm.storage.base import AsyncBaseStorage, BaseStorage
from memexllm.storage.port import StoragePort, asynchronous_methods

StorageLike = BaseStorage | AsyncBaseStorage | str | os.PathLike[str]


class _Manager:
    """What both managers are made of. `clock` and `id_source` give times and ids; tests hand in their own."""

    def __init__(
        self,
        storage: StorageLike,
        algorithm: BaseAlgorithm | None = None,
        *,
        clock: Clock = utc_now,
        id_source: IdSource = new_id,
    ) -> None:
        self.port = StoragePort(opened(storage))
        self.algorithm = algorithm
        self.clock = clock
        self.micros: Callable[[], int] = micros_now if clock is utc_now else lambda: to_micros(clock())
        self.id_source = id_source

    @property
    def storage(self) -> Any:
        return self.port.storage

    @property
    def chooser(self) -> BaseAlgorithm | None:
        """`algorithm` with every method of the contract, also when it is an object that has those of 0.1 only."""
        return as_algorithm(self.algorithm)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.storage!r}, algorithm={self.algorithm!r})"

    def thread(self, thread_id: str) -> AbstractContextManager[str]:
        """`with manager.thread("alice-1"):` makes it the thread of every wrapped client over this storage.

        Bound for the current task or thread only. A `thread_id` given to a call wins.
        """
        return bind_thread(self.storage, flows.checked_thread_id(thread_id))

    def _message(
        self,
        content: str | Sequence[Mapping[str, Any]] | None,
        role: str,
        metadata: Mapping[str, Any] | None,
        tool_calls: Sequence[Mapping[str, Any]] | None,
        tool_call_id: str | None,
        function_call: Mapping[str, Any] | None,
        name: str | None,
    ) -> Message:
        return Message(
            content,
            role,
            metadata=metadata,
            tool_calls=tool_calls,
            tool_call_id=tool_call_id,
            function_call=function_call,
            name=name,
            id=self.id_source(),
            created_at=self.clock(),
        )


class HistoryManager(_Manager):
    """Threads over a synchronous storage: an object, a path of a SQLite file, or a URL.

    Without an algorithm the window is the whole conversation. What it returns is the caller's; changing it changes
    nothing stored.
    """

    def __init__(
        self,
        storage: BaseStorage | str | os.PathLike[str],
        algorithm: BaseAlgorithm | None = None,
        *,
        clock: Clock = utc_now,
        id_source: IdSource = new_id,
    ) -> None:
        super().__init__(storage, algorithm, clock=clock, id_source=id_source)
        if self.port.asynchronous:
            name = asynchronous_methods(self.storage)[0]
            raise ConfigurationError(
                f"{type(self.storage).__name__}.{name} is async def, which HistoryManager cannot call; "
                "use AsyncHistoryManager"
            )

    def create_thread(
        self,
        metadata: Mapping[str, Any] | None = None,
        *,
        thread_id: str | None = None,
        user_id: str | None = None,
        title: str | None = None,
    ) -> Thread:
        """An empty thread, stored. An id that exists already is a `ValidationError`."""
        return run(flows.create_thread(self.port, self.clock, self.id_source, metadata, thread_id, user_id, title))

    def get_thread(self, thread_id: str) -> Thread:
        """The thread with the messages of its window; `ThreadNotFoundError` when there is none.

        With an algorithm, or when messages were superseded, the thread is `partial`. A cut that had to be computed is
        stored, so only the first read of an old thread looks at all of it.
        """
        return run(flows.get_thread(self.port, self.chooser, thread_id))

    def context(self, thread_id: str) -> list[Message]:
        """What a model would be sent now: the block, then the window, repaired."""
        return run(flows.context(self.port, self.chooser, thread_id))

    def explain(
        self, thread_id: str, *, model: str | None = None, tools: Sequence[Mapping[str, Any]] = ()
    ) -> Explanation:
        """What `context()` is made of, message by message: included, excluded and why, superseded, repaired, tokens.

        `model` names whose tokens are counted, by default the one that answered last; `tools` are the schemas a call
        brings. Reads the whole thread and changes nothing. `print()` shows it as a table.
        """
        return run(flows.explain(self.port, self.chooser, thread_id, model, tools))

    def get_messages(
        self, thread_id: str, *, limit: int | None = None, include_superseded: bool = False
    ) -> list[Message]:
        """The whole conversation as it stands, blocks included; the newest `limit` of it, in order."""
        return run(flows.get_messages(self.port, thread_id, limit, include_superseded))

    def add_message(
        self,
        thread_id: str,
        content: str | Sequence[Mapping[str, Any]] | None,
        role: str,
        metadata: Mapping[str, Any] | None = None,
        tool_calls: Sequence[Mapping[str, Any]] | None = None,
        tool_call_id: str | None = None,
        function_call: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> Message:
        """Append one message and return it. An unknown thread is a `ThreadNotFoundError`."""
        message = self._message(content, role, metadata, tool_calls, tool_call_id, function_call, name)
        return run(flows.add_messages(self.port, self.chooser, thread_id, [message]))[0]

    def add_messages(self, thread_id: str, messages: Iterable[Message]) -> list[Message]:
        """Append messages in order, all or none."""
        return run(flows.add_messages(self.port, self.chooser, thread_id, messages))

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
        """Threads in creation order, oldest first; the built-in storages leave their messages out (`partial`).

        `order_by` is "created" or "updated", with a minus for newest first. `user_id` and `metadata` keep the threads
        of that user and those whose metadata holds all that is given: a dict the keys given, anything else the same
        JSON value. `after` and `before` take a listed thread or its `cursor`, also of a thread that is gone, and keep
        what comes after and before it in the list, so pages follow each other whatever is written meanwhile:
        `list_threads(50, order_by="-updated", after=page[-1])`. With `before` alone these are the `limit` threads next
        to it. `preview=True` gives each thread's `preview`.
        """
        listing = list_query(limit, offset, user_id, metadata, order_by, before, after, preview)
        return run(self.port.list_threads(listing))

    def search_threads(
        self,
        query: Mapping[str, Any],
        limit: int = 100,
        offset: int = 0,
        *,
        user_id: str | None = None,
        order_by: OrderBy = "created",
        before: CursorLike = None,
        after: CursorLike = None,
        preview: bool = False,
    ) -> list[Thread]:
        """`list_threads` with a metadata filter, which cannot be empty."""
        listing = search_query(query, limit, offset, user_id, order_by, before, after, preview)
        return run(self.port.list_threads(listing))

    def search_messages(
        self, text: str, *, thread_id: str | None = None, user_id: str | None = None, limit: int = 10
    ) -> list[MessageHit]:
        """The messages that hold words of `text`, best first: of one thread, of one user's, or of all threads.

        `text` is words; no sign in it means anything. Superseded messages are not found.
        """
        return run(flows.search_messages(self.port, text, thread_id, user_id, limit))

    def update_thread(self, thread_id: str, *, title: str | None = UNSET, metadata: Mapping[str, Any] = UNSET) -> None:
        """Set the title, or replace the metadata; what is not given stays."""
        run(flows.update_thread(self.port, thread_id, _given(title=title, metadata=metadata)))

    def delete_thread(self, thread_id: str) -> bool:
        """Delete the thread for good; False when there was none."""
        return run(flows.delete_thread(self.port, thread_id))

    def close(self) -> None:
        """Close the storage."""
        run(self.port.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncHistoryManager(_Manager):
    """Async `HistoryManager`, over an asynchronous or a synchronous storage (called in a worker thread)."""

    async def create_thread(
        self,
        metadata: Mapping[str, Any] | None = None,
        *,
        thread_id: str | None = None,
        user_id: str | None = None,
        title: str | None = None,
    ) -> Thread:
        """Async `HistoryManager.create_thread`."""
        return await arun(
            flows.create_thread(self.port, self.clock, self.id_source, metadata, thread_id, user_id, title)
        )

    async def get_thread(self, thread_id: str) -> Thread:
        """Async `HistoryManager.get_thread`."""
        return await arun(flows.get_thread(self.port, self.chooser, thread_id))

    async def context(self, thread_id: str) -> list[Message]:
        """Async `HistoryManager.context`."""
        return await arun(flows.context(self.port, self.chooser, thread_id))

    async def explain(
        self, thread_id: str, *, model: str | None = None, tools: Sequence[Mapping[str, Any]] = ()
    ) -> Explanation:
        """Async `HistoryManager.explain`."""
        return await arun(flows.explain(self.port, self.chooser, thread_id, model, tools))

    async def get_messages(
        self, thread_id: str, *, limit: int | None = None, include_superseded: bool = False
    ) -> list[Message]:
        """Async `HistoryManager.get_messages`."""
        return await arun(flows.get_messages(self.port, thread_id, limit, include_superseded))

    async def add_message(
        self,
        thread_id: str,
        content: str | Sequence[Mapping[str, Any]] | None,
        role: str,
        metadata: Mapping[str, Any] | None = None,
        tool_calls: Sequence[Mapping[str, Any]] | None = None,
        tool_call_id: str | None = None,
        function_call: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> Message:
        """Async `HistoryManager.add_message`."""
        message = self._message(content, role, metadata, tool_calls, tool_call_id, function_call, name)
        return (await arun(flows.add_messages(self.port, self.chooser, thread_id, [message])))[0]

    async def add_messages(self, thread_id: str, messages: Iterable[Message]) -> list[Message]:
        """Async `HistoryManager.add_messages`."""
        return await arun(flows.add_messages(self.port, self.chooser, thread_id, messages))

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
        """Async `HistoryManager.list_threads`."""
        listing = list_query(limit, offset, user_id, metadata, order_by, before, after, preview)
        return await arun(self.port.list_threads(listing))

    async def search_threads(
        self,
        query: Mapping[str, Any],
        limit: int = 100,
        offset: int = 0,
        *,
        user_id: str | None = None,
        order_by: OrderBy = "created",
        before: CursorLike = None,
        after: CursorLike = None,
        preview: bool = False,
    ) -> list[Thread]:
        """Async `HistoryManager.search_threads`."""
        listing = search_query(query, limit, offset, user_id, order_by, before, after, preview)
        return await arun(self.port.list_threads(listing))

    async def search_messages(
        self, text: str, *, thread_id: str | None = None, user_id: str | None = None, limit: int = 10
    ) -> list[MessageHit]:
        """Async `HistoryManager.search_messages`."""
        return await arun(flows.search_messages(self.port, text, thread_id, user_id, limit))

    async def update_thread(
        self, thread_id: str, *, title: str | None = UNSET, metadata: Mapping[str, Any] = UNSET
    ) -> None:
        """Async `HistoryManager.update_thread`."""
        await arun(flows.update_thread(self.port, thread_id, _given(title=title, metadata=metadata)))

    async def delete_thread(self, thread_id: str) -> bool:
        """Async `HistoryManager.delete_thread`."""
        return await arun(flows.delete_thread(self.port, thread_id))

    async def close(self) -> None:
        """Async `HistoryManager.close`."""
        await arun(self.port.close())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def opened(storage: Any) -> Any:
    """A storage object as it is; a path, `:memory:` or a `sqlite:///` or `memory:` URL made into one."""
    if storage is None:
        raise NoStorageError("Storage can not be None; give a storage, or a path such as 'chat.db'")
    # A MagicMock in the place of a storage has __fspath__ as well.
    if not isinstance(storage, str | os.PathLike) or hasattr(storage, "save_thread"):
        return storage
    place = os.fspath(storage)
    if place.startswith("memory:"):
        from memexllm.storage.memory import MemoryStorage

        return MemoryStorage()
    from memexllm.storage.sqlite import SQLiteStorage

    if place.startswith("sqlite://"):
        # sqlite:///relative and sqlite:////absolute, as SQLAlchemy reads them; sqlite:// alone is in memory.
        return SQLiteStorage(place.removeprefix("sqlite://").removeprefix("/") or ":memory:")
    if "://" in place:
        raise ConfigurationError(
            f"no storage is known for {place.split('://')[0]!r} URLs; use sqlite:///chat.db, memory: or an object"
        )
    return SQLiteStorage(place)


def _given(**fields: Any) -> dict[str, Any]:
    given = {name: value for name, value in fields.items() if value is not UNSET}
    if not given:
        raise ConfigurationError("update_thread() changes what it is given: title=, metadata=")
    return given
