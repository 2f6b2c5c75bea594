"""What a type checker sees of a wrapped client: the SDK's own result types, and `thread_id`.

At run time a wrapped client is an instance of its own class (`clients.py`); nothing imports this module then.
"""

from __future__ import annotations

from typing import Any, Literal, Self, Unpack, overload

from openai import AsyncOpenAI, AsyncStream, OpenAI, Stream
from openai._compat import cached_property
from openai.resources.chat import AsyncChat, Chat
from openai.resources.chat.completions import AsyncCompletions, Completions
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat.completion_create_params import (
    CompletionCreateParamsNonStreaming,
    CompletionCreateParamsStreaming,
)

from memexllm.history.manager import AsyncHistoryManager, HistoryManager

Merge = Literal["auto", "append", "replace"]


class _NonStreaming(CompletionCreateParamsNonStreaming, total=False):
    extra_headers: dict[str, Any] | None
    extra_query: dict[str, object] | None
    extra_body: object
    timeout: Any


class _Streaming(CompletionCreateParamsStreaming, total=False):
    extra_headers: dict[str, Any] | None
    extra_query: dict[str, object] | None
    extra_body: object
    timeout: Any


class TypedCompletions(Completions):
    @overload  # type: ignore[override]  # the SDK's parameters arrive as its own TypedDict
    def create(
        self, *, thread_id: str | None = ..., merge: Merge | None = ..., **params: Unpack[_NonStreaming]
    ) -> ChatCompletion: ...
    @overload
    def create(
        self, *, thread_id: str | None = ..., merge: Merge | None = ..., **params: Unpack[_Streaming]
    ) -> Stream[ChatCompletionChunk]: ...
    def create(self, *, thread_id: str | None = None, merge: Merge | None = None, **params: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        raise NotImplementedError


class TypedAsyncCompletions(AsyncCompletions):
    @overload  # type: ignore[override]  # the SDK's parameters arrive as its own TypedDict
    async def create(
        self, *, thread_id: str | None = ..., merge: Merge | None = ..., **params: Unpack[_NonStreaming]
    ) -> ChatCompletion: ...
    @overload
    async def create(
        self, *, thread_id: str | None = ..., merge: Merge | None = ..., **params: Unpack[_Streaming]
    ) -> AsyncStream[ChatCompletionChunk]: ...
    async def create(self, *, thread_id: str | None = None, merge: Merge | None = None, **params: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        raise NotImplementedError


class TypedChat(Chat):
    @cached_property
    def completions(self) -> TypedCompletions:
        raise NotImplementedError


class TypedAsyncChat(AsyncChat):
    @cached_property
    def completions(self) -> TypedAsyncCompletions:
        raise NotImplementedError


class HistoryOpenAI(OpenAI):
    """What a type checker takes a wrapped `OpenAI` for; at run time it is an instance of its own class."""

    @cached_property
    def chat(self) -> TypedChat:
        raise NotImplementedError

    @property
    def history(self) -> HistoryManager:
        """The manager of this client's threads. It is bound to no user: it sees every thread."""
        raise NotImplementedError

    def with_thread(self, thread_id: str) -> Self:
        """This client bound to a thread, for the calls that name none. This one stays as it is."""
        raise NotImplementedError

    def for_user(self, user_id: str) -> Self:
        """This client bound to a user: it creates the user's threads, and other users' threads are unknown to it."""
        raise NotImplementedError

    def flush(self) -> None:
        """Store the turns that could not be stored yet; raises when they still cannot."""
        raise NotImplementedError


class AsyncHistoryOpenAI(AsyncOpenAI):
    """What a type checker takes a wrapped `AsyncOpenAI` for."""

    @cached_property
    def chat(self) -> TypedAsyncChat:
        raise NotImplementedError

    @property
    def history(self) -> AsyncHistoryManager:
        """Async `HistoryOpenAI.history`."""
        raise NotImplementedError

    def with_thread(self, thread_id: str) -> Self:
        """As `HistoryOpenAI.with_thread`."""
        raise NotImplementedError

    def for_user(self, user_id: str) -> Self:
        """As `HistoryOpenAI.for_user`."""
        raise NotImplementedError

    async def flush(self) -> None:
        """Async `HistoryOpenAI.flush`."""
        raise NotImplementedError
