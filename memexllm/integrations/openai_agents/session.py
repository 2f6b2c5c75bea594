"""`MemexSession`: what the runner of the OpenAI Agents SDK asks of a session, kept in a thread."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from memexllm.algorithms.base import BaseAlgorithm
from memexllm.core.errors import ConfigurationError, ValidationError
from memexllm.core.flow import arun
from memexllm.history.async_manager import AsyncHistoryManager
from memexllm.history.base import StorageLike
from memexllm.history.flows import checked_thread_id, checked_user_id
from memexllm.history.manager import HistoryManager
from memexllm.integrations.openai_agents import flows
from memexllm.integrations.openai_agents.grouping import checked_items

if TYPE_CHECKING:
    from agents.items import TResponseInputItem
    from agents.memory import SessionSettings


class MemexSession:
    """A session for `Runner.run(agent, input, session=...)`, kept in the thread `session_id` of a storage.

    `storage` is a storage of either kind, a path of a SQLite file, a URL, or a manager, which brings its own
    algorithm. Sessions over the same storage see each other's threads, in this process and in others, and so does a
    client with history. One session may serve one event loop after another. With a `user_id` the thread is created
    for that user, and another user's is a `ThreadNotFoundError`.
    """

    session_id: str
    session_settings: SessionSettings | None

    def __init__(
        self,
        session_id: str,
        storage: StorageLike | HistoryManager | AsyncHistoryManager,
        *,
        algorithm: BaseAlgorithm | None = None,
        user_id: str | None = None,
        session_settings: SessionSettings | None = None,
    ) -> None:
        self.session_id = checked_thread_id(session_id)
        self.session_settings = session_settings
        self._history = _manager(storage, algorithm)
        given = storage.storage if isinstance(storage, HistoryManager | AsyncHistoryManager) else storage
        self._owns_storage = self._history.storage is not given
        self._place = flows.Place(self._history, session_id, None if user_id is None else checked_user_id(user_id))

    @property
    def history(self) -> AsyncHistoryManager:
        """The manager over this session's storage: its threads, search, and `explain(session_id)`."""
        return self._history

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """The items for the next run, oldest first: the algorithm's window, or without an algorithm all of them.

        A window keeps or drops a call with its results, and leaves out calls that have none, but for those at the end:
        the run may bring their results. `limit`, by default that of `session_settings`, asks for the newest items
        whatever the algorithm; there are fewer where a result's call would be left out. Items are as they were added;
        messages that came from elsewhere are given as items.
        """
        if limit is None and self.session_settings is not None:
            limit = self.session_settings.limit
        if limit is None:
            found = await arun(flows.window(self._place))
        else:
            found = await arun(flows.newest(self._place, _checked_limit(limit)))
        return found  # type: ignore[return-value]  # the items that were added, as JSON

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        """Append items, all or none; the thread is created when there is none."""
        await arun(flows.add(self._place, checked_items(items)))

    async def pop_item(self) -> TResponseInputItem | None:
        """Take back the newest item, the algorithm's window or not; None when there is none.

        In the thread's log it stays, superseded.
        """
        popped: Any = await arun(flows.pop(self._place))
        return popped  # type: ignore[no-any-return]  # an item that was added, as JSON

    async def clear_session(self) -> None:
        """Empty the session. The thread and its metadata stay, and what was said stays in its log, superseded.

        `session.history.delete_thread(session.session_id)` deletes it for good.
        """
        await arun(flows.clear(self._place))

    async def close(self) -> None:
        """Close the storage if this session opened it, from a path or a URL; a later call opens it anew."""
        if self._owns_storage:
            await self._history.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"MemexSession({self.session_id!r}, {self._history!r})"


def _manager(storage: Any, algorithm: BaseAlgorithm | None) -> AsyncHistoryManager:
    if not isinstance(storage, HistoryManager | AsyncHistoryManager):
        return AsyncHistoryManager(storage, algorithm)
    if algorithm is not None:
        raise ConfigurationError("give either a manager, which has an algorithm, or a storage and an algorithm")
    if isinstance(storage, AsyncHistoryManager):
        return storage
    return AsyncHistoryManager(storage.storage, storage.algorithm, clock=storage.clock, id_source=storage.id_source)


def _checked_limit(limit: Any) -> int:
    if not isinstance(limit, int) or limit < 0:
        raise ValidationError(f"limit must be a whole number from 0 on, or None for the window; got {limit!r:.20}")
    return limit
