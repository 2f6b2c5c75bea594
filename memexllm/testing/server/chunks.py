"""An answer cut into the deltas the API streams."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from memexllm.testing.server.completion import Completion
from memexllm.testing.server.jsontypes import JSONObject, is_object, object_at, objects_at, string_at
from memexllm.testing.server.reasoning_rules import REASONING_FIELDS

# About the size of a token: a short word with the space before it.
_PIECE = re.compile(r"\s*\S{1,8}|\s+")
_KNOWN_FIELDS = frozenset({"role", "content", "refusal", "tool_calls", "function_call", "audio"})


def stream_chunks(completion: Completion, *, include_usage: bool) -> Iterator[JSONObject]:
    """Choices take turns, a delta each; the usage chunk, when asked for, is the last and has no choices."""
    usage: JSONObject = {"usage": None} if include_usage else {}
    streams = [
        _choice_chunks(index, message, finish_reason)
        for index, (message, finish_reason) in enumerate(
            zip(completion.messages, completion.finish_reasons, strict=True)
        )
    ]
    for turn in zip_longest(*streams):
        for choice in turn:
            if choice is not None:
                yield _chunk(completion, [choice]) | usage | dict(completion.extra)
    if include_usage:
        yield _chunk(completion, []) | {"usage": completion.usage} | dict(completion.extra)


def _chunk(completion: Completion, choices: list[JSONObject]) -> JSONObject:
    return completion.envelope("chat.completion.chunk", choices)


def _choice_chunks(index: int, message: JSONObject, finish_reason: str) -> Iterator[JSONObject]:
    for delta in _deltas(message):
        yield {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
    yield {"index": index, "delta": {}, "logprobs": None, "finish_reason": finish_reason}


def _deltas(message: JSONObject) -> Iterator[JSONObject]:
    content = message.get("content")
    first = "" if isinstance(content, str) else None
    yield {"role": message["role"], "content": first, "refusal": None}
    for name, value in message.items():
        if name in REASONING_FIELDS and isinstance(value, str):
            yield from ({name: piece} for piece in pieces_of(value))
        elif name not in _KNOWN_FIELDS and not (name == "annotations" and not value):
            yield {name: value}
    if isinstance(content, str):
        yield from ({"content": piece} for piece in pieces_of(content))
    elif content is not None:
        yield {"content": content}
    yield from ({"refusal": piece} for piece in pieces_of(string_at(message, "refusal")))
    for position, call in enumerate(objects_at(message, "tool_calls")):
        yield from ({"tool_calls": [delta]} for delta in _call_deltas(position, call))
    if call := object_at(message, "function_call"):
        yield from ({"function_call": delta} for delta in _text_deltas(call, "arguments"))
    if audio := object_at(message, "audio"):
        yield from ({"audio": delta} for delta in _audio_deltas(audio))


def _call_deltas(position: int, call: JSONObject) -> Iterator[JSONObject]:
    kind = string_at(call, "type") or "function"
    shape = call.get(kind)
    if not is_object(shape):
        yield {"index": position, **call}
        return
    first, *rest = _text_deltas(shape, "input" if kind == "custom" else "arguments")
    yield {"index": position, **call, kind: first}
    yield from ({"index": position, kind: delta} for delta in rest)


def _text_deltas(shape: JSONObject, text_field: str) -> Iterator[JSONObject]:
    """The shape with an empty text first, then the text in pieces."""
    yield {**shape, text_field: ""}
    yield from ({text_field: piece} for piece in pieces_of(string_at(shape, text_field)))


def _audio_deltas(audio: JSONObject) -> Iterator[JSONObject]:
    for name, value in audio.items():
        values: list[Any] = pieces_of(value) if name == "transcript" and isinstance(value, str) else [value]
        yield from ({name: piece} for piece in values)


def pieces_of(text: str) -> list[str]:
    """The text in at least two pieces if it has two characters; joined they are the text."""
    pieces = _PIECE.findall(text)
    if len(pieces) == 1 and len(text) > 1:
        half = len(text) // 2
        return [text[:half], text[half:]]
    return pieces
