"""`chat.completions` with history: subclasses of the SDK's resources whose methods take `thread_id`.

This module imports openai; it is loaded when an SDK client is wrapped.
"""

from __future__ import annotations

from typing import Any

from openai._compat import cached_property
from openai.resources.chat import AsyncChat, Chat
from openai.resources.chat.completions import AsyncCompletions, Completions

from memexllm.integrations.openai.interception import bound, create, create_async, parse, parse_async
from memexllm.integrations.openai.surface import CHAT


class HistoryCompletions(Completions):
    """`chat.completions` of a synchronous client."""

    def create(self, **params: Any) -> Any:
        return create(self, Completions, CHAT, params)

    def parse(self, **params: Any) -> Any:
        return parse(self, Completions, CHAT, params)

    def stream(self, **params: Any) -> Any:
        return Completions.stream(bound(self, params), **params)


class AsyncHistoryCompletions(AsyncCompletions):
    """`chat.completions` of an asynchronous client."""

    async def create(self, **params: Any) -> Any:
        return await create_async(self, AsyncCompletions, CHAT, params)

    async def parse(self, **params: Any) -> Any:
        return await parse_async(self, AsyncCompletions, CHAT, params)

    def stream(self, **params: Any) -> Any:
        return AsyncCompletions.stream(bound(self, params), **params)


class HistoryChat(Chat):
    @cached_property
    def completions(self) -> HistoryCompletions:
        return HistoryCompletions(self._client)


class AsyncHistoryChat(AsyncChat):
    @cached_property
    def completions(self) -> AsyncHistoryCompletions:
        return AsyncHistoryCompletions(self._client)
