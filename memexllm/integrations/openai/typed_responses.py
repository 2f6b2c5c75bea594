"""`client.responses` of a wrapped client, to type checkers; nothing here is run. See `typed.py`."""

# Nothing here is run, so hardly anything has a body; and every method takes more than the SDK's it stands for.
# mypy: disable-error-code="empty-body, override, assignment"
# pyright: reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false
# pyright: reportInvalidTypeVarUse=false

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar, Unpack, overload

from openai import AsyncStream, Stream
from openai._compat import cached_property
from openai._legacy_response import LegacyAPIResponse
from openai._response import APIResponse, AsyncAPIResponse, AsyncResponseContextManager, ResponseContextManager
from openai.lib._parsing._responses import TextFormatT
from openai.lib.streaming.responses import AsyncResponseStreamManager, ResponseStreamManager
from openai.resources.responses import (
    AsyncResponses,
    AsyncResponsesWithRawResponse,
    AsyncResponsesWithStreamingResponse,
    Responses,
    ResponsesWithRawResponse,
    ResponsesWithStreamingResponse,
)
from openai.types.responses import ParsedResponse, Response, ResponseStreamEvent

from memexllm.integrations.openai._ours import LeftOut
from memexllm.integrations.openai._response_params import (
    MaybeStreamed,
    NotStreamed,
    ParseParams,
    Streamed,
    StreamParams,
)

Answer = TypeVar("Answer", covariant=True)
Events = TypeVar("Events", covariant=True)


class Create(Protocol[Answer, Events]):
    """`responses.create` of any client: with `stream=True` it gives events, else a response."""

    @overload
    def __call__(self, **params: Unpack[NotStreamed]) -> Answer: ...
    @overload
    def __call__(self, **params: Unpack[Streamed]) -> Events: ...
    @overload
    def __call__(self, **params: Unpack[MaybeStreamed]) -> Answer | Events: ...


class TypedRawResponses(ResponsesWithRawResponse):
    create: Create[
        LegacyAPIResponse[Response],
        LegacyAPIResponse[Stream[ResponseStreamEvent]],
    ]

    def parse(
        self,
        *,
        text_format: type[TextFormatT] | LeftOut = ...,
        **params: Unpack[ParseParams],
    ) -> LegacyAPIResponse[ParsedResponse[TextFormatT]]: ...


class TypedStreamedResponses(ResponsesWithStreamingResponse):
    create: Create[
        ResponseContextManager[APIResponse[Response]],
        ResponseContextManager[APIResponse[Stream[ResponseStreamEvent]]],
    ]


class TypedResponses(Responses):
    create: Create[Response, Stream[ResponseStreamEvent]]

    def parse(
        self,
        *,
        text_format: type[TextFormatT] | LeftOut = ...,
        **params: Unpack[ParseParams],
    ) -> ParsedResponse[TextFormatT]: ...

    def stream(
        self,
        *,
        text_format: type[TextFormatT] | LeftOut = ...,
        **params: Unpack[StreamParams],
    ) -> ResponseStreamManager[TextFormatT]: ...

    @cached_property
    def with_raw_response(self) -> TypedRawResponses: ...

    @cached_property
    def with_streaming_response(self) -> TypedStreamedResponses: ...


class TypedAsyncRawResponses(AsyncResponsesWithRawResponse):
    create: Create[
        Coroutine[Any, Any, LegacyAPIResponse[Response]],
        Coroutine[Any, Any, LegacyAPIResponse[AsyncStream[ResponseStreamEvent]]],
    ]

    async def parse(
        self,
        *,
        text_format: type[TextFormatT] | LeftOut = ...,
        **params: Unpack[ParseParams],
    ) -> LegacyAPIResponse[ParsedResponse[TextFormatT]]: ...


class TypedAsyncStreamedResponses(AsyncResponsesWithStreamingResponse):
    create: Create[
        AsyncResponseContextManager[AsyncAPIResponse[Response]],
        AsyncResponseContextManager[AsyncAPIResponse[AsyncStream[ResponseStreamEvent]]],
    ]


class TypedAsyncResponses(AsyncResponses):
    create: Create[Coroutine[Any, Any, Response], Coroutine[Any, Any, AsyncStream[ResponseStreamEvent]]]

    async def parse(
        self,
        *,
        text_format: type[TextFormatT] | LeftOut = ...,
        **params: Unpack[ParseParams],
    ) -> ParsedResponse[TextFormatT]: ...

    def stream(
        self,
        *,
        text_format: type[TextFormatT] | LeftOut = ...,
        **params: Unpack[StreamParams],
    ) -> AsyncResponseStreamManager[TextFormatT]: ...

    @cached_property
    def with_raw_response(self) -> TypedAsyncRawResponses: ...

    @cached_property
    def with_streaming_response(self) -> TypedAsyncStreamedResponses: ...
