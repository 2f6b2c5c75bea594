"""What a type checker sees of a wrapped client: the SDK's own result types, and `thread_id`.

At run time a wrapped client is an instance of its own class (`clients.py`); nothing imports this module then. The
overloads of `create` are written once, over what one call and one stream of it give.
"""

# Nothing here is run, so hardly anything has a body; and every method takes more than the SDK's it stands for.
# mypy: disable-error-code="empty-body, override, assignment"
# pyright: reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false
# pyright: reportInvalidTypeVarUse=false

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol, Self, TypeVar, Unpack, overload

from openai import AsyncOpenAI, AsyncStream, OpenAI, Stream
from openai._client import (
    AsyncOpenAIWithRawResponse,
    AsyncOpenAIWithStreamedResponse,
    OpenAIWithRawResponse,
    OpenAIWithStreamedResponse,
)
from openai._compat import cached_property
from openai._legacy_response import LegacyAPIResponse
from openai._response import APIResponse, AsyncAPIResponse, AsyncResponseContextManager, ResponseContextManager
from openai.lib._parsing import ResponseFormatT
from openai.lib.streaming.chat import AsyncChatCompletionStreamManager, ChatCompletionStreamManager
from openai.resources.beta import AsyncBeta, Beta
from openai.resources.chat import AsyncChat, Chat
from openai.resources.chat.chat import (
    AsyncChatWithRawResponse,
    AsyncChatWithStreamingResponse,
    ChatWithRawResponse,
    ChatWithStreamingResponse,
)
from openai.resources.chat.completions import AsyncCompletions, Completions
from openai.resources.chat.completions.completions import (
    AsyncCompletionsWithRawResponse,
    AsyncCompletionsWithStreamingResponse,
    CompletionsWithRawResponse,
    CompletionsWithStreamingResponse,
)
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ParsedChatCompletion
from openai.types.chat.completion_create_params import ResponseFormat

from memexllm.history.async_manager import AsyncHistoryManager
from memexllm.history.manager import HistoryManager
from memexllm.integrations.openai._ours import LeftOut
from memexllm.integrations.openai._params import MaybeStreamed, NotStreamed, Params, Streamed
from memexllm.integrations.openai.typed_responses import (
    TypedAsyncRawResponses,
    TypedAsyncResponses,
    TypedAsyncStreamedResponses,
    TypedRawResponses,
    TypedResponses,
    TypedStreamedResponses,
)

Answer = TypeVar("Answer", covariant=True)
Chunks = TypeVar("Chunks", covariant=True)


class Create(Protocol[Answer, Chunks]):
    """`create` of any client: with `stream=True` it gives chunks, else an answer."""

    @overload
    def __call__(self, **params: Unpack[NotStreamed]) -> Answer: ...
    @overload
    def __call__(self, **params: Unpack[Streamed]) -> Chunks: ...
    @overload
    def __call__(self, **params: Unpack[MaybeStreamed]) -> Answer | Chunks: ...


class TypedRawCompletions(CompletionsWithRawResponse):
    create: Create[LegacyAPIResponse[ChatCompletion], LegacyAPIResponse[Stream[ChatCompletionChunk]]]

    def parse(
        self,
        *,
        response_format: type[ResponseFormatT] | LeftOut = ...,
        **params: Unpack[Params],
    ) -> LegacyAPIResponse[ParsedChatCompletion[ResponseFormatT]]: ...


class TypedStreamedCompletions(CompletionsWithStreamingResponse):
    create: Create[
        ResponseContextManager[APIResponse[ChatCompletion]],
        ResponseContextManager[APIResponse[Stream[ChatCompletionChunk]]],
    ]

    def parse(
        self,
        *,
        response_format: type[ResponseFormatT] | LeftOut = ...,
        **params: Unpack[Params],
    ) -> ResponseContextManager[APIResponse[ParsedChatCompletion[ResponseFormatT]]]: ...


class TypedCompletions(Completions):
    create: Create[ChatCompletion, Stream[ChatCompletionChunk]]

    def parse(
        self,
        *,
        response_format: type[ResponseFormatT] | LeftOut = ...,
        **params: Unpack[Params],
    ) -> ParsedChatCompletion[ResponseFormatT]: ...

    def stream(
        self,
        *,
        response_format: ResponseFormat | type[ResponseFormatT] | LeftOut = ...,
        **params: Unpack[Params],
    ) -> ChatCompletionStreamManager[ResponseFormatT]: ...

    @cached_property
    def with_raw_response(self) -> TypedRawCompletions: ...

    @cached_property
    def with_streaming_response(self) -> TypedStreamedCompletions: ...


class TypedRawChat(ChatWithRawResponse):
    @cached_property
    def completions(self) -> TypedRawCompletions: ...


class TypedStreamedChat(ChatWithStreamingResponse):
    @cached_property
    def completions(self) -> TypedStreamedCompletions: ...


class TypedChat(Chat):
    @cached_property
    def completions(self) -> TypedCompletions: ...

    @cached_property
    def with_raw_response(self) -> TypedRawChat: ...

    @cached_property
    def with_streaming_response(self) -> TypedStreamedChat: ...


class TypedBeta(Beta):
    @cached_property
    def chat(self) -> TypedChat: ...


class TypedRawClient(OpenAIWithRawResponse):
    @cached_property
    def chat(self) -> TypedRawChat: ...

    @cached_property
    def responses(self) -> TypedRawResponses: ...


class TypedStreamedClient(OpenAIWithStreamedResponse):
    @cached_property
    def chat(self) -> TypedStreamedChat: ...

    @cached_property
    def responses(self) -> TypedStreamedResponses: ...


class HistoryOpenAI(OpenAI):
    """A wrapped `OpenAI`, of which every call takes `thread_id`. It is an instance of its own class as well."""

    @cached_property
    def chat(self) -> TypedChat: ...

    @cached_property
    def beta(self) -> TypedBeta: ...

    @cached_property
    def responses(self) -> TypedResponses: ...

    @cached_property
    def with_raw_response(self) -> TypedRawClient: ...

    @cached_property
    def with_streaming_response(self) -> TypedStreamedClient: ...

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


class TypedAsyncRawCompletions(AsyncCompletionsWithRawResponse):
    create: Create[
        Coroutine[Any, Any, LegacyAPIResponse[ChatCompletion]],
        Coroutine[Any, Any, LegacyAPIResponse[AsyncStream[ChatCompletionChunk]]],
    ]

    async def parse(
        self,
        *,
        response_format: type[ResponseFormatT] | LeftOut = ...,
        **params: Unpack[Params],
    ) -> LegacyAPIResponse[ParsedChatCompletion[ResponseFormatT]]: ...


class TypedAsyncStreamedCompletions(AsyncCompletionsWithStreamingResponse):
    create: Create[
        AsyncResponseContextManager[AsyncAPIResponse[ChatCompletion]],
        AsyncResponseContextManager[AsyncAPIResponse[AsyncStream[ChatCompletionChunk]]],
    ]

    def parse(
        self,
        *,
        response_format: type[ResponseFormatT] | LeftOut = ...,
        **params: Unpack[Params],
    ) -> AsyncResponseContextManager[AsyncAPIResponse[ParsedChatCompletion[ResponseFormatT]]]: ...


class TypedAsyncCompletions(AsyncCompletions):
    create: Create[Coroutine[Any, Any, ChatCompletion], Coroutine[Any, Any, AsyncStream[ChatCompletionChunk]]]

    async def parse(
        self,
        *,
        response_format: type[ResponseFormatT] | LeftOut = ...,
        **params: Unpack[Params],
    ) -> ParsedChatCompletion[ResponseFormatT]: ...

    def stream(
        self,
        *,
        response_format: ResponseFormat | type[ResponseFormatT] | LeftOut = ...,
        **params: Unpack[Params],
    ) -> AsyncChatCompletionStreamManager[ResponseFormatT]: ...

    @cached_property
    def with_raw_response(self) -> TypedAsyncRawCompletions: ...

    @cached_property
    def with_streaming_response(self) -> TypedAsyncStreamedCompletions: ...


class TypedAsyncRawChat(AsyncChatWithRawResponse):
    @cached_property
    def completions(self) -> TypedAsyncRawCompletions: ...


class TypedAsyncStreamedChat(AsyncChatWithStreamingResponse):
    @cached_property
    def completions(self) -> TypedAsyncStreamedCompletions: ...


class TypedAsyncChat(AsyncChat):
    @cached_property
    def completions(self) -> TypedAsyncCompletions: ...

    @cached_property
    def with_raw_response(self) -> TypedAsyncRawChat: ...

    @cached_property
    def with_streaming_response(self) -> TypedAsyncStreamedChat: ...


class TypedAsyncBeta(AsyncBeta):
    @cached_property
    def chat(self) -> TypedAsyncChat: ...


class TypedAsyncRawClient(AsyncOpenAIWithRawResponse):
    @cached_property
    def chat(self) -> TypedAsyncRawChat: ...

    @cached_property
    def responses(self) -> TypedAsyncRawResponses: ...


class TypedAsyncStreamedClient(AsyncOpenAIWithStreamedResponse):
    @cached_property
    def chat(self) -> TypedAsyncStreamedChat: ...

    @cached_property
    def responses(self) -> TypedAsyncStreamedResponses: ...


class AsyncHistoryOpenAI(AsyncOpenAI):
    """Async `HistoryOpenAI`."""

    @cached_property
    def chat(self) -> TypedAsyncChat: ...

    @cached_property
    def beta(self) -> TypedAsyncBeta: ...

    @cached_property
    def responses(self) -> TypedAsyncResponses: ...

    @cached_property
    def with_raw_response(self) -> TypedAsyncRawClient: ...

    @cached_property
    def with_streaming_response(self) -> TypedAsyncStreamedClient: ...

    @property
    def history(self) -> AsyncHistoryManager:
        """Async `HistoryOpenAI.history`."""
        raise NotImplementedError

    def with_thread(self, thread_id: str) -> Self:
        """This client bound to a thread, for the calls that name none. This one stays as it is."""
        raise NotImplementedError

    def for_user(self, user_id: str) -> Self:
        """This client bound to a user: it creates the user's threads, and other users' threads are unknown to it."""
        raise NotImplementedError

    async def flush(self) -> None:
        """Async `HistoryOpenAI.flush`."""
        raise NotImplementedError
