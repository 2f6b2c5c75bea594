"""`AsyncHistoryManager`: the same flows as in `manager.py`, awaited."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from memexllm.core.flow import arun
from memexllm.core.hits import MessageHit
from memexllm.core.models import Message, Thread
from memexllm.history import compacting, editing, flows
from memexllm.history.base import ManagerBase
from memexllm.history.explain import Explanation
from memexllm.history.manager import given
from memexllm.storage._defaults import UNSET
from memexllm.storage._listing import CursorLike, OrderBy, list_query, search_query


class AsyncHistoryManager(ManagerBase):
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
        return await arun(flows.create_thread(self._making, metadata, thread_id, user_id, title))

    async def fork(
        self,
        thread_id: str,
        at: str | None = None,
        *,
        new_thread_id: str | None = None,
        user_id: str | None = None,
        title: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Thread:
        """Async `HistoryManager.fork`."""
        return await arun(flows.fork(self._making, thread_id, at, new_thread_id, user_id, title, metadata))

    async def get_thread(self, thread_id: str) -> Thread:
        """Async `HistoryManager.get_thread`."""
        return await arun(flows.get_thread(self.port, self.chooser, thread_id, self.micros()))

    async def context(self, thread_id: str) -> list[Message]:
        """Async `HistoryManager.context`."""
        return await arun(flows.context(self.port, self.chooser, thread_id, self.micros()))

    async def explain(
        self,
        thread_id: str,
        *,
        model: str | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
        call: str | None = None,
    ) -> Explanation:
        """Async `HistoryManager.explain`."""
        return await arun(flows.explain(self.port, self.chooser, thread_id, model, tools, call, self.micros()))

    async def compact(self, thread_id: str, *, model: str | None = None) -> bool:
        """Async `HistoryManager.compact`."""
        return await arun(compacting.compact(self.port, self.chooser, thread_id, model, self.micros()))

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

    async def edit_message(
        self, thread_id: str, message_id: str, content: str | Sequence[Mapping[str, Any]] | None
    ) -> Message:
        """Async `HistoryManager.edit_message`."""
        return await arun(
            editing.edit_message(self.port, self.chooser, self._said_anew, thread_id, message_id, content)
        )

    async def correct_message(
        self, thread_id: str, message_id: str, content: str | Sequence[Mapping[str, Any]] | None
    ) -> Message:
        """Async `HistoryManager.correct_message`."""
        return await arun(editing.correct_message(self.port, thread_id, message_id, content))

    async def regenerate(self, thread_id: str) -> list[Message]:
        """Async `HistoryManager.regenerate`."""
        return await arun(editing.regenerate(self.port, thread_id))

    async def select_alternative(self, thread_id: str, message_id: str, index: int) -> Message:
        """Async `HistoryManager.select_alternative`."""
        return await arun(editing.select_alternative(self.port, thread_id, message_id, index))

    async def pin(self, thread_id: str, message_id: str) -> Message:
        """Async `HistoryManager.pin`."""
        return await arun(editing.set_pinned(self.port, thread_id, message_id, pinned=True))

    async def unpin(self, thread_id: str, message_id: str) -> Message:
        """Async `HistoryManager.unpin`."""
        return await arun(editing.set_pinned(self.port, thread_id, message_id, pinned=False))

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
        await arun(flows.update_thread(self.port, thread_id, given(title=title, metadata=metadata)))

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
