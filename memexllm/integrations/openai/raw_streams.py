"""Streams that are read as bytes or lines and never parsed: `with_streaming_response`, and what a raw response holds.

The reader's own iteration is listened to, after decompression; nothing is read that it does not read.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from memexllm.core.flow import Flow
from memexllm.integrations.openai.call import Call
from memexllm.integrations.openai.streams import (
    AsyncListeningIterator,
    ListeningIterator,
    StreamRecorder,
    watch_close,
)


def listen_to_bytes(response: Any, call: Call, request: Mapping[str, Any], is_parsed: Callable[[], bool]) -> None:
    """Listen to an HTTP response that is a stream; when it is parsed, the SDK's own stream is listened to instead."""
    asynchronous = hasattr(type(response.stream), "__aiter__")
    name, kind = ("aiter_bytes", AsyncListeningIterator) if asynchronous else ("iter_bytes", ListeningIterator)
    inner = getattr(response, name)
    recorder = BytesRecorder(call, request, is_parsed)

    def iter_bytes(*args: Any, **kwargs: Any) -> Any:
        received = inner(*args, **kwargs)
        return received if is_parsed() else kind(received, recorder)

    setattr(response, name, iter_bytes)
    watch_close(response, recorder, asynchronous=asynchronous)
    # One that is neither read nor closed ends its call as well, which others may wait for.
    weakref.finalize(response, recorder.end).atexit = False


class BytesRecorder(StreamRecorder):
    """Hears the bytes of a stream instead of its pieces, as long as nobody has parsed it."""

    def __init__(self, call: Call, request: Mapping[str, Any], is_parsed: Callable[[], bool]) -> None:
        super().__init__(call, request)
        self._decoder = ServerSentJSON()
        self._is_parsed = is_parsed

    def hear(self, chunk: Any) -> bool:
        whole = False
        for piece in self._decoder.feed(chunk):
            whole = super().hear(piece) or whole
        return whole

    def interrupt(self) -> Flow[None]:
        if not self._is_parsed():
            yield from super().interrupt()

    def end(self) -> None:
        if not self._is_parsed():
            super().end()


class ServerSentJSON:
    """The JSON objects in the data of server-sent events, as their bytes come."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, received: bytes) -> Iterator[dict[str, Any]]:
        lines = (self._rest + received).splitlines(keepends=True)
        # A carriage return at the end may be the first half of a line's end.
        self._rest = b"" if not lines or lines[-1].endswith(b"\n") else lines.pop()
        for line in lines:
            text = line.rstrip(b"\r\n")
            if text.startswith(b"data:"):
                self._data.append(text.removeprefix(b"data:"))
            elif not text:
                yield from self._event()

    def _event(self) -> Iterator[dict[str, Any]]:
        data, self._data = b"\n".join(self._data), []
        try:
            found = json.loads(data) if data else None
        except ValueError:  # "[DONE]", or what only its reader may judge
            return
        if isinstance(found, dict):
            yield found
