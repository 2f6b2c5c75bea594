"""The storage contract. Four methods make a storage; everything else has a correct, slower default.

The defaults are written once, as flows over the four methods (`memexllm/storage/_defaults.py`), and driven by both base
classes. Overriding one makes a storage faster and, for `append_messages`, safe across processes. The laws are tests:
`memexllm.testing.StorageConformance`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, overload

from memexllm.core.flow import arun, run
from memexllm.core.hits import MessageHit
from memexllm.core.models import Message, Thread
from memexllm.core.wire import MessageRow
from memexllm.storage import _defaults, _forking, _restoring, _searching
from memexllm.storage._checks import checked_max_messages as checked_max_messages
from memexllm.storage._checks import checked_message_limit as checked_message_limit
from memexllm.storage._checks import refuse_partial as refuse_partial
from memexllm.storage._defaults import UNSET
from memexllm.storage._listing import CursorLike, OrderBy, search_query
from memexllm.storage._locks import async_lock, thread_lock

State = Mapping[str, Any]
Counts = Mapping[int, tuple[int, str]]
"""Token counts noted after a message was stored: seq → (count, encoding)."""


class BaseStorage(ABC):
    """Where threads live, for synchronous code. Subclasses own what they open and close it in `close`.

    `max_messages` counts live messages; older ones are deleted for good. `blocking = False` tells the asynchronous
    manager that calls return at once and need no worker thread.
    """

    max_messages: int | None = None
    blocking: bool = True

    def __init__(self, max_messages: int | None = None) -> None:
        self.max_messages = checked_max_messages(max_messages)

    @abstractmethod
    def save_thread(self, thread: Thread) -> None:
        """Create or replace the thread and its messages; keeps only the newest `max_messages`."""

    @abstractmethod
    def get_thread(self, thread_id: str) -> Thread | None:
        """The whole thread, superseded messages included; None when there is none.

        Bytes that are there and cannot be read are a `CorruptThreadError`, never None.
        """

    @abstractmethod
    def list_threads(self, limit: int = 100, offset: int = 0) -> list[Thread]:
        """Threads in creation order, oldest first, stable under paging.

        A storage may name further keywords of `HistoryManager.list_threads` (`user_id`, `order_by`, ...) and is then
        asked with them; what it does not name is found among all its threads, which takes as long as reading them.
        """

    @abstractmethod
    def delete_thread(self, thread_id: str) -> bool:
        """Delete the thread; False when there was none."""

    def append_messages(
        self,
        thread_id: str,
        messages: Sequence[Message],
        *,
        expected_version: int | None = None,
        supersede_from: int | None = None,
        supersede: Collection[int] = (),
        state: State | None = None,
        create: Mapping[str, Any] | None = None,
        counts: Counts | None = None,
    ) -> int:
        """Everything a call changes, at once or not at all; the thread's new version.

        In order: the thread is created if there is none and `create` (its `user_id`, `title`, `metadata`) is given,
        else `ThreadNotFoundError`, also for a thread of another `user_id`; live messages from seq `supersede_from` on
        and those in `supersede` are superseded; `messages` are appended and get the next seqs; the keys of `state`
        replace those of the thread's (`{"$new": i}` stands for the seq of message i of this batch); `counts` are
        noted. A version that is not `expected_version` is a `ConcurrencyError` and changes nothing.
        """
        with thread_lock(self, thread_id):
            return run(
                _defaults.append_messages(
                    self, thread_id, messages, expected_version, supersede_from, supersede, state, create, counts
                )
            )

    def replace_message(
        self,
        thread_id: str,
        message_id: str,
        message: Message,
        *,
        expected_version: int | None = None,
        state: State | None = None,
    ) -> None:
        """Put `message` in the place (and seq) of `message_id`, the newest of that id, at once or not at all.

        `MessageNotFoundError` when it is not there; `expected_version` and `state` are those of `append_messages`.
        """
        with thread_lock(self, thread_id):
            run(_defaults.replace_message(self, thread_id, message_id, message, expected_version, state))

    def fork_thread(
        self, thread_id: str, new_id: str, *, at: str | None = None, create: Mapping[str, Any] | None = None
    ) -> Thread:
        """Make a thread `new_id` of what thread `thread_id` has up to message `at`, by default of all; its head.

        From then on neither changes with the other, whatever is written, edited, trimmed or deleted in one. Superseded
        messages and pins go with it; ids, times and seqs are the same; `max_messages` holds. `create` has fields in
        the place of the parent's: `user_id`, `title`, `metadata`, `created_at`. Of the state goes what is true of the
        messages that do (`memexllm.core.state`). The version is 1.

        `ThreadNotFoundError` and `MessageNotFoundError` for what is not there (`at` is the newest of its id); a
        `new_id` that exists and an `at` that was superseded are a `ValidationError`.
        """
        whole = _defaults.keeps_whole_threads(self)
        with thread_lock(self, new_id):
            return run(_forking.fork_thread(self, thread_id, new_id, at, create, whole))

    def restore_messages(self, thread: Thread, messages: Sequence[Message]) -> None:
        """Add messages at their own seqs, after all there are, and set every field of the thread, its version too.

        For copies in batches: `thread` is a head (its own messages are not looked at) and is made if it is not there.
        """
        with thread_lock(self, thread.id):
            run(_restoring.restore_messages(self, thread, messages, _defaults.keeps_whole_threads(self)))

    def read_head(self, thread_id: str) -> Thread | None:
        """The thread without its messages (`partial`), or None."""
        return run(_defaults.read_head(self, thread_id))

    @overload
    def read_messages(
        self,
        thread_id: str,
        *,
        limit: int | None = None,
        before: int | None = None,
        after: int | None = None,
        include_superseded: bool = False,
        wire: Literal[False] = False,
    ) -> list[Message]: ...
    @overload
    def read_messages(
        self,
        thread_id: str,
        *,
        limit: int | None = None,
        before: int | None = None,
        after: int | None = None,
        include_superseded: bool = False,
        wire: Literal[True],
    ) -> list[MessageRow]: ...
    def read_messages(
        self,
        thread_id: str,
        *,
        limit: int | None = None,
        before: int | None = None,
        after: int | None = None,
        include_superseded: bool = False,
        wire: bool = False,
    ) -> list[Message] | list[MessageRow]:
        """Live messages in order, with seqs between `after` and `before` (both exclusive).

        `limit` keeps the newest of them; when `after` is given, the oldest. An unknown thread has none. `wire=True`
        gives rows with `seq`, `id`, `created_at`, `wire` and, where they are not defaults, `status`, `origin`,
        `tokens` and `superseded`, without building messages.
        """
        found: list[Message] | list[MessageRow] = run(
            _defaults.read_messages(self, thread_id, limit, before, after, include_superseded, wire)
        )
        return found

    def patch_thread(
        self,
        thread_id: str,
        *,
        title: str | None = UNSET,
        metadata: Mapping[str, Any] = UNSET,
        user_id: str | None = UNSET,
        state: State = UNSET,
    ) -> None:
        """Set fields without touching messages; `state` replaces only the keys given.

        `metadata` replaces the whole of it. An unknown thread is a `ThreadNotFoundError`. A patch of `state` alone
        changes neither `version` nor `updated_at`: nobody else said anything.
        """
        with thread_lock(self, thread_id):
            run(_defaults.patch_thread(self, thread_id, title, metadata, user_id, state))

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
        """The threads whose metadata holds what `query` does; else as `HistoryManager.list_threads`."""
        listing = search_query(query, limit, offset, user_id, order_by, before, after, preview)
        whole = _defaults.keeps_whole_threads(self)
        return run(_defaults.search_threads(self, listing, whole))

    def search_messages(
        self, text: str, *, thread_id: str | None = None, user_id: str | None = None, limit: int = 10
    ) -> list[MessageHit]:
        """The live messages that hold words of `text`, best first, of one thread, one user, or all.

        `text` is words, never syntax; a blank one is a `ValidationError`. An unknown thread or user has no messages.
        This default scans at most 20,000 messages, of the threads created last.
        """
        return run(_searching.search_messages(self, text, thread_id, user_id, limit))

    def close(self) -> None:
        """Close what this storage opened; it may be used again afterwards, which opens it anew."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncBaseStorage(ABC):
    """Async `BaseStorage`: the same names, the same laws."""

    max_messages: int | None = None
    blocking: bool = False

    def __init__(self, max_messages: int | None = None) -> None:
        self.max_messages = checked_max_messages(max_messages)

    @abstractmethod
    async def save_thread(self, thread: Thread) -> None:
        """Async `BaseStorage.save_thread`."""

    @abstractmethod
    async def get_thread(self, thread_id: str) -> Thread | None:
        """Async `BaseStorage.get_thread`."""

    @abstractmethod
    async def list_threads(self, limit: int = 100, offset: int = 0) -> list[Thread]:
        """Async `BaseStorage.list_threads`."""

    @abstractmethod
    async def delete_thread(self, thread_id: str) -> bool:
        """Async `BaseStorage.delete_thread`."""

    async def append_messages(
        self,
        thread_id: str,
        messages: Sequence[Message],
        *,
        expected_version: int | None = None,
        supersede_from: int | None = None,
        supersede: Collection[int] = (),
        state: State | None = None,
        create: Mapping[str, Any] | None = None,
        counts: Counts | None = None,
    ) -> int:
        """Async `BaseStorage.append_messages`."""
        async with async_lock(self, thread_id):
            return await arun(
                _defaults.append_messages(
                    self, thread_id, messages, expected_version, supersede_from, supersede, state, create, counts
                )
            )

    async def replace_message(
        self,
        thread_id: str,
        message_id: str,
        message: Message,
        *,
        expected_version: int | None = None,
        state: State | None = None,
    ) -> None:
        """Async `BaseStorage.replace_message`."""
        async with async_lock(self, thread_id):
            await arun(_defaults.replace_message(self, thread_id, message_id, message, expected_version, state))

    async def fork_thread(
        self, thread_id: str, new_id: str, *, at: str | None = None, create: Mapping[str, Any] | None = None
    ) -> Thread:
        """Async `BaseStorage.fork_thread`."""
        whole = _defaults.keeps_whole_threads(self)
        async with async_lock(self, new_id):
            return await arun(_forking.fork_thread(self, thread_id, new_id, at, create, whole))

    async def restore_messages(self, thread: Thread, messages: Sequence[Message]) -> None:
        """Async `BaseStorage.restore_messages`."""
        whole = _defaults.keeps_whole_threads(self)
        async with async_lock(self, thread.id):
            await arun(_restoring.restore_messages(self, thread, messages, whole))

    async def read_head(self, thread_id: str) -> Thread | None:
        """Async `BaseStorage.read_head`."""
        return await arun(_defaults.read_head(self, thread_id))

    @overload
    async def read_messages(
        self,
        thread_id: str,
        *,
        limit: int | None = None,
        before: int | None = None,
        after: int | None = None,
        include_superseded: bool = False,
        wire: Literal[False] = False,
    ) -> list[Message]: ...
    @overload
    async def read_messages(
        self,
        thread_id: str,
        *,
        limit: int | None = None,
        before: int | None = None,
        after: int | None = None,
        include_superseded: bool = False,
        wire: Literal[True],
    ) -> list[MessageRow]: ...
    async def read_messages(
        self,
        thread_id: str,
        *,
        limit: int | None = None,
        before: int | None = None,
        after: int | None = None,
        include_superseded: bool = False,
        wire: bool = False,
    ) -> list[Message] | list[MessageRow]:
        """Async `BaseStorage.read_messages`."""
        return await arun(_defaults.read_messages(self, thread_id, limit, before, after, include_superseded, wire))

    async def patch_thread(
        self,
        thread_id: str,
        *,
        title: str | None = UNSET,
        metadata: Mapping[str, Any] = UNSET,
        user_id: str | None = UNSET,
        state: State = UNSET,
    ) -> None:
        """Async `BaseStorage.patch_thread`."""
        async with async_lock(self, thread_id):
            await arun(_defaults.patch_thread(self, thread_id, title, metadata, user_id, state))

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
        """Async `BaseStorage.search_threads`."""
        listing = search_query(query, limit, offset, user_id, order_by, before, after, preview)
        whole = _defaults.keeps_whole_threads(self)
        return await arun(_defaults.search_threads(self, listing, whole))

    async def search_messages(
        self, text: str, *, thread_id: str | None = None, user_id: str | None = None, limit: int = 10
    ) -> list[MessageHit]:
        """Async `BaseStorage.search_messages`."""
        return await arun(_searching.search_messages(self, text, thread_id, user_id, limit))

    async def close(self) -> None:
        """Async `BaseStorage.close`."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
