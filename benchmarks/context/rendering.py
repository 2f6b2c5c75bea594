"""Messages as tokens, in the order a model would read them: what a prefix cache compares.

A message is its framing, role and parts, closed by a mark that nothing else holds; so one message is never the
beginning of another. Its length is what `TokenCounter` counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from memexllm.core import vocabularies
from memexllm.core.tokens import PRIMING as PRIMING
from memexllm.core.tokens import TokenCounter

Tokens = tuple[int, ...]
Prompt = tuple[Tokens, ...]

_COUNTER = TokenCounter("gpt-4o")
_OPEN, _SEPARATOR, _CLOSE, _CALL = -1, -2, -3, -4


@cache
def text_tokens(text: str) -> Tokens:
    return tuple(vocabularies.encoding("o200k_base").encode_ordinary(text))


def rendered(message: Mapping[str, Any]) -> Tokens:
    if message.keys() == {"role", "content"}:
        return _plain(message["role"], message["content"] or "")
    return _any(json.dumps(message, sort_keys=True))


def prompt_of(messages: Sequence[Mapping[str, Any]]) -> Prompt:
    return tuple(map(rendered, messages))


def tokens_in(message: Mapping[str, Any]) -> int:
    return len(rendered(message))


@cache
def _plain(role: str, content: str) -> Tokens:
    return (_OPEN, *text_tokens(role), _SEPARATOR, *text_tokens(content), _CLOSE)


@cache
def _any(message_json: str) -> Tokens:
    message = json.loads(message_json)
    *tokens, close = _plain(message["role"], message.get("content") or "")
    for call in message.get("tool_calls") or ():
        for part in (call["function"]["name"], call["function"]["arguments"]):
            tokens += (_CALL, *text_tokens(part))
    if "name" in message:
        tokens += (_CALL, *text_tokens(message["name"]))
    # The rest is what the counter has for the framing of calls and results.
    framing = _COUNTER.count_message(message) - len(tokens) - 1
    assert framing >= 0, message
    return (*tokens, *[_CALL] * framing, close)
