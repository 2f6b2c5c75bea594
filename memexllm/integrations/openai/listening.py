"""Streams that are not the SDK's: what a caller gets in their place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

from memexllm.integrations.openai.call import Call
from memexllm.integrations.openai.info import attach
from memexllm.integrations.openai.streams import AsyncListeningIterator, ListeningIterator, StreamRecorder


def is_stream(result: Any, params: Mapping[str, Any]) -> bool:
    return bool(params.get("stream")) and (hasattr(type(result), "__iter__") or hasattr(type(result), "__aiter__"))


def listening(
    stream: Any, call: Call, params: Mapping[str, Any], asynchronous: bool
) -> ListeningStream | AsyncListeningStream:
    """What the caller gets in the place of a foreign stream; of one that can be read both ways, what the call was."""
    either = hasattr(type(stream), "__aiter__"), hasattr(type(stream), "__iter__")
    kind = AsyncListeningStream if either[0] and (asynchronous or not either[1]) else ListeningStream
    return kind(stream, call, params)


class ListeningStream:
    """A foreign stream, listened to; its other attributes are the stream's own."""

    def __init__(self, stream: Any, call: Call, request: Mapping[str, Any]) -> None:
        self._stream = stream
        self._listening = ListeningIterator(iter(stream), StreamRecorder(call, request))
        attach(self, call.info)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._listening)

    def __next__(self) -> Any:
        return next(self._listening)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._listening.close()


class AsyncListeningStream:
    """Async `ListeningStream`."""

    def __init__(self, stream: Any, call: Call, request: Mapping[str, Any]) -> None:
        self._stream = stream
        self._listening = AsyncListeningIterator(aiter(stream), StreamRecorder(call, request))
        attach(self, call.info)

    def __aiter__(self) -> AsyncListeningIterator:
        return aiter(self._listening)

    async def __anext__(self) -> Any:
        return await anext(self._listening)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._listening.aclose()
