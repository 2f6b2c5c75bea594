"""A wrapped SDK client: an instance of a run-time subclass of the client's own class, over the same connections.

This module imports openai; it is loaded when an SDK client is wrapped.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

from openai import AsyncOpenAI

from memexllm.core.flow import arun, run
from memexllm.history.async_manager import AsyncHistoryManager
from memexllm.history.flows import checked_thread_id, checked_user_id
from memexllm.history.manager import HistoryManager
from memexllm.integrations.openai.client_history import ClientHistory, Scope, without_thread_header
from memexllm.integrations.openai.resources import AsyncHistoryChat, HistoryChat

if TYPE_CHECKING:
    from memexllm.integrations.openai.beta import AsyncHistoryBeta, HistoryBeta
    from memexllm.integrations.openai.responses import AsyncHistoryResponses, HistoryResponses


class _HistoryClient:
    _memexllm: ClassVar[ClientHistory]
    _memexllm_scope: Scope = Scope()
    _memexllm_async: ClassVar[bool] = False
    _memexllm_original: Any = None
    """The client that was wrapped; copies have none, as the SDK's copies lose what was patched onto an instance."""

    def with_thread(self, thread_id: str) -> Self:
        """This client bound to a thread, for the calls that name none. Nothing is left behind on this one."""
        bound: Self = _rebound(self, Scope(checked_thread_id(thread_id), self._memexllm_scope.user_id))
        return bound

    def for_user(self, user_id: str) -> Self:
        """This client bound to a user: it creates the user's threads, and other users' threads are unknown to it."""
        bound: Self = _rebound(self, Scope(self._memexllm_scope.thread_id, checked_user_id(user_id)))
        return bound

    def copy(self, **options: Any) -> Self:
        copied: Self = super().copy(**options)  # type: ignore[misc]  # the SDK's client comes next
        copied.__dict__["_memexllm_scope"] = self._memexllm_scope
        _bind_by_header(copied)
        return copied

    with_options = copy


class HistoryOpenAI(_HistoryClient):
    """What every wrapped synchronous client is an instance of, beside its own class.

    To type checkers it is an `OpenAI` whose calls take `thread_id` (`typed.py`).
    """

    @cached_property
    def chat(self) -> HistoryChat:
        client: Any = self
        return HistoryChat(client)

    @cached_property
    def beta(self) -> HistoryBeta:
        from memexllm.integrations.openai.beta import HistoryBeta

        client: Any = self
        return HistoryBeta(client)

    @cached_property
    def responses(self) -> HistoryResponses:
        from memexllm.integrations.openai.responses import HistoryResponses

        client: Any = self
        return HistoryResponses(client)

    @cached_property
    def history(self) -> HistoryManager:
        """A synchronous manager of this client's threads: the one it was given, or one over the same storage."""
        manager = self._memexllm.manager
        if isinstance(manager, HistoryManager):
            return manager
        return HistoryManager(manager.storage, manager.algorithm, clock=manager.clock, id_source=manager.id_source)

    def flush(self) -> None:
        """Store the turns that could not be stored yet; raises when they still cannot."""
        run(self._memexllm.outbox.finish())


class AsyncHistoryOpenAI(_HistoryClient):
    """Async `HistoryOpenAI`."""

    _memexllm_async: ClassVar[bool] = True

    @cached_property
    def chat(self) -> AsyncHistoryChat:
        client: Any = self
        return AsyncHistoryChat(client)

    @cached_property
    def beta(self) -> AsyncHistoryBeta:
        from memexllm.integrations.openai.beta import AsyncHistoryBeta

        client: Any = self
        return AsyncHistoryBeta(client)

    @cached_property
    def responses(self) -> AsyncHistoryResponses:
        from memexllm.integrations.openai.responses import AsyncHistoryResponses

        client: Any = self
        return AsyncHistoryResponses(client)

    @cached_property
    def history(self) -> AsyncHistoryManager:
        """Async `HistoryOpenAI.history`."""
        manager = self._memexllm.manager
        if isinstance(manager, AsyncHistoryManager):
            return manager
        return AsyncHistoryManager(manager.storage, manager.algorithm, clock=manager.clock, id_source=manager.id_source)

    async def flush(self) -> None:
        """Async `HistoryOpenAI.flush`."""
        await arun(self._memexllm.outbox.finish())


def wrapped(client: Any, history: ClientHistory) -> Any:
    """A new client with history; the original stays as it is."""
    base = type(client)
    mixin = AsyncHistoryOpenAI if isinstance(client, AsyncOpenAI) else HistoryOpenAI
    # The class carries the history, so that copies the SDK makes of a client keep it.
    cls = type(
        base.__name__,
        (mixin, base),
        {
            "_memexllm": history,
            "__module__": base.__module__,
            "__qualname__": base.__qualname__,
            "__doc__": base.__doc__,
        },
    )
    new = _without_resources(client, cls)
    new.__dict__["_memexllm_original"] = client
    _bind_by_header(new)
    return new


def history_on(client: Any) -> ClientHistory | None:
    """The history of a client that is wrapped already."""
    return getattr(type(client), "_memexllm", None)


def _bind_by_header(client: Any) -> None:
    """A client whose `default_headers` name a thread is bound to it, as by `with_thread`; the header is not sent."""
    given = client._custom_headers
    headers, thread_id = without_thread_header(given)
    if headers is not given:
        client._custom_headers = headers
        if thread_id is not None:
            client.__dict__["_memexllm_scope"] = Scope(checked_thread_id(thread_id), client._memexllm_scope.user_id)


def _rebound(client: Any, scope: Scope) -> Any:
    bound = _without_resources(client, type(client))
    bound.__dict__["_memexllm_scope"] = scope
    return bound


def _without_resources(client: Any, cls: type) -> Any:
    """A shallow copy without the cached resources, which are bound to `client`.

    Without its `chat` and `responses` in any case: a mock there is called by ours, and must not take the place of ours.
    """
    new: Any = object.__new__(cls)
    new.__dict__.update(
        {
            name: value
            for name, value in client.__dict__.items()
            if name not in ("chat", "responses") and getattr(value, "_client", None) is not client
        }
    )
    return new
