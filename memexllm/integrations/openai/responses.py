"""`client.responses` with history. Loaded when it is looked at: the SDK's own takes long to import."""

from __future__ import annotations

from typing import Any

from openai.resources.responses import AsyncResponses, Responses

from memexllm.integrations.openai.interception import bound, create, create_async, parse, parse_async
from memexllm.integrations.openai.surface import RESPONSES


class HistoryResponses(Responses):
    """`responses` of a synchronous client; what it retrieves was stored when it was created."""

    def create(self, **params: Any) -> Any:
        return create(self, Responses, RESPONSES, params)

    def parse(self, **params: Any) -> Any:
        return parse(self, Responses, RESPONSES, params)

    def stream(self, **params: Any) -> Any:
        return Responses.stream(bound(self, params), **params)


class AsyncHistoryResponses(AsyncResponses):
    """`responses` of an asynchronous client."""

    async def create(self, **params: Any) -> Any:
        return await create_async(self, AsyncResponses, RESPONSES, params)

    async def parse(self, **params: Any) -> Any:
        return await parse_async(self, AsyncResponses, RESPONSES, params)

    def stream(self, **params: Any) -> Any:
        return AsyncResponses.stream(bound(self, params), **params)
