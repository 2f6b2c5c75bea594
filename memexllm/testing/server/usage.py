"""Token counts and the prompt cache behind `usage`.

Without `encode` a token is four bytes of UTF-8: deterministic and quick, but not a tokenizer. What is counted
is a rendering of the messages (role, text, calls), not the JSON, so key order and spacing do not matter.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from memexllm.testing.server.jsontypes import JSONObject, is_list, is_object, object_at, objects_at, string_at

Encode: TypeAlias = Callable[[str], Sequence[int]]
"""A tokenizer: the tokens of a text, as `tiktoken.Encoding.encode_ordinary` gives them."""

BYTES_PER_TOKEN = 4
CACHE_STEP_TOKENS = 128
CACHE_FROM_TOKENS = 1024


def render_prompt(body: JSONObject) -> str:
    tools = body.get("tools") or body.get("functions")
    head = json.dumps(tools, sort_keys=True) + "\n" if tools else ""
    return head + "".join(map(render_message, objects_at(body, "messages")))


def render_message(message: JSONObject) -> str:
    pieces = [f"{message.get('role', 'assistant')}: "]
    if "name" in message:
        pieces.append(f"({message['name']}) ")
    pieces.extend(_content_pieces(message.get("content")))
    pieces.append(string_at(message, "refusal"))
    for call in objects_at(message, "tool_calls"):
        shape = object_at(call, string_at(call, "type"))
        pieces.append(f" {shape.get('name')}({shape.get('arguments', shape.get('input'))})")
    if call := object_at(message, "function_call"):
        pieces.append(f" {call.get('name')}({call.get('arguments')})")
    if audio := object_at(message, "audio"):
        pieces.append(f" [audio {audio.get('id')}]")
    return "".join([*pieces, "\n"])


def _content_pieces(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    for part in content if is_list(content) else []:
        if is_object(part):
            yield string_at(part, "text") or string_at(part, "refusal") or _placeholder(part)


def _placeholder(part: JSONObject) -> str:
    """Of one size for every image, sound or file, and different for different ones."""
    digest = hashlib.blake2b(json.dumps(part, sort_keys=True).encode(), digest_size=8)
    return f"[{part.get('type')} {digest.hexdigest()}]"


class TokenMeter:
    """Counts tokens and remembers the prompts seen, per model."""

    def __init__(self, encode: Encode | None = None) -> None:
        self._encode = encode
        self._lock = threading.Lock()
        self._seen: dict[str, set[int]] = {}

    def clear(self) -> None:
        with self._lock:
            self._seen.clear()

    def usage(self, body: JSONObject, answers: Iterable[JSONObject]) -> JSONObject:
        """The usage of this request; its prompt counts as seen from now on."""
        n_prompt, blocks = self._tokens(render_prompt(body))
        n_completion = sum(self._tokens(_completion_text(answer))[0] for answer in answers)
        return {
            "prompt_tokens": n_prompt,
            "completion_tokens": n_completion,
            "total_tokens": n_prompt + n_completion,
            "prompt_tokens_details": {
                "cached_tokens": self._n_cached(body["model"], blocks),
                "audio_tokens": 0,
            },
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }

    def _tokens(self, text: str) -> tuple[int, Iterator[object]]:
        """The number of tokens, and the full blocks of `CACHE_STEP_TOKENS` they make."""
        if self._encode is None:
            # A lone surrogate is valid in JSON and has no UTF-8.
            encoded = text.encode("utf-8", "surrogatepass")
            return -(-len(encoded) // BYTES_PER_TOKEN), _blocks(encoded, CACHE_STEP_TOKENS * BYTES_PER_TOKEN)
        tokens = tuple(self._encode(text))
        return len(tokens), _blocks(tokens, CACHE_STEP_TOKENS)

    def _n_cached(self, model: str, blocks: Iterator[object]) -> int:
        prefixes = _prefix_hashes(blocks)
        with self._lock:
            seen = self._seen.setdefault(model, set())
            n_known = next((i for i, prefix in enumerate(prefixes) if prefix not in seen), len(prefixes))
            seen.update(prefixes)
        n_tokens = n_known * CACHE_STEP_TOKENS
        return n_tokens if n_tokens >= CACHE_FROM_TOKENS else 0


def _blocks(tokens: bytes | tuple[int, ...], size: int) -> Iterator[object]:
    for start in range(0, len(tokens) - size + 1, size):
        yield tokens[start : start + size]


def _prefix_hashes(blocks: Iterator[object]) -> list[int]:
    prefix = 0
    prefixes: list[int] = []
    for block in blocks:
        prefix = hash((prefix, block))
        prefixes.append(prefix)
    return prefixes


def _completion_text(answer: Mapping[str, Any]) -> str:
    return render_message(dict(answer)).removeprefix("assistant: ").removesuffix("\n")
