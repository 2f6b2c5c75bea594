"""Token counts and the prompt cache behind `usage`.

Without `encode` a token is four bytes of UTF-8: deterministic and quick, but not a tokenizer. What is counted
is a rendering of the messages (role, text, calls), not the JSON, so key order and spacing do not matter.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from memexllm.testing.server.as_chat import message_of
from memexllm.testing.server.item_kinds import kind_of
from memexllm.testing.server.jsontypes import JSONObject, is_list, is_object, object_at, objects_at, string_at
from memexllm.testing.server.received import ResponsesRequest

Encode: TypeAlias = Callable[[str], Sequence[int]]
"""A tokenizer: the tokens of a text, as `tiktoken.Encoding.encode_ordinary` gives them."""

BYTES_PER_TOKEN = 4
CACHE_STEP_TOKENS = 128
CACHE_FROM_TOKENS = 1024


def render_prompt(body: JSONObject) -> str:
    return render_tools(body) + "".join(map(render_message, objects_at(body, "messages")))


def render_tools(body: JSONObject) -> str:
    tools = body.get("tools") or body.get("functions")
    return json.dumps(tools, sort_keys=True) + "\n" if tools else ""


def render_item(item: JSONObject) -> str:
    if kind_of(item) == "message":
        return render_message(message_of(item))
    return (
        json.dumps({name: value for name, value in item.items() if name not in ("id", "status")}, sort_keys=True) + "\n"
    )


def _instructions(body: JSONObject) -> str:
    instructions = body.get("instructions")
    return render_message({"role": "system", "content": instructions}) if isinstance(instructions, str) else ""


def _spoken_text(item: JSONObject) -> str:
    if item["type"] == "message":
        return _completion_text(message_of(item))
    return "".join(string_at(item, name) for name in ("name", "arguments", "input"))


def _thought(item: JSONObject) -> str:
    return "".join(string_at(part, "text") for name in ("summary", "content") for part in objects_at(item, name))


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

    def chat_usage(self, body: JSONObject, answers: Sequence[JSONObject]) -> JSONObject:
        """The usage of this request; its prompt counts as seen from now on."""
        n_prompt, n_cached = self._prompt(body["model"], render_prompt(body))
        n_reasoning = sum(self._count(string_at(answer, "reasoning_content")) for answer in answers)
        n_completion = n_reasoning + sum(self._count(_completion_text(answer)) for answer in answers)
        return {
            "prompt_tokens": n_prompt,
            "completion_tokens": n_completion,
            "total_tokens": n_prompt + n_completion,
            "prompt_tokens_details": {
                "cached_tokens": n_cached,
                "audio_tokens": 0,
            },
            "completion_tokens_details": {
                "reasoning_tokens": n_reasoning,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }

    def responses_usage(self, request: ResponsesRequest, output: Sequence[JSONObject]) -> JSONObject:
        """As `chat_usage`, in the words of the Responses API."""
        prompt = render_tools(request.body) + _instructions(request.body)
        prompt += "".join(map(render_item, (*request.earlier, *request.items)))
        n_input, n_cached = self._prompt(request.model, prompt)
        n_reasoning = sum(max(1, self._count(_thought(item))) for item in output if item["type"] == "reasoning")
        n_output = n_reasoning + sum(self._count(_spoken_text(item)) for item in output if item["type"] != "reasoning")
        return {
            "input_tokens": n_input,
            "input_tokens_details": {"cached_tokens": n_cached, "cache_write_tokens": 0},
            "output_tokens": n_output,
            "output_tokens_details": {"reasoning_tokens": n_reasoning},
            "total_tokens": n_input + n_output,
        }

    def embedding_tokens(self, inputs: Sequence[str | list[int]]) -> list[int]:
        """The tokens of each input."""
        return [self._count(given) if isinstance(given, str) else len(given) for given in inputs]

    def _prompt(self, model: str, prompt: str) -> tuple[int, int]:
        """The number of tokens, and how many of them a cache would have had."""
        n_prompt, blocks = self._tokens(prompt)
        return n_prompt, self._n_cached(model, blocks)

    def _count(self, text: str) -> int:
        return self._tokens(text)[0]

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
