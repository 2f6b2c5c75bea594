"""What the storage kit stores: every shape a message can have, by name, and random ones by seed."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from memexllm.core.models import CallInfo, Message, TokenCount
from memexllm.core.wire import MessageRow

PIXEL = "data:image/png;base64,iVBORw0KGgo="
FUNCTION_CALL = {"id": "call_f", "type": "function", "function": {"name": "add", "arguments": '{"b": 1, "a": "ü"}'}}
CUSTOM_CALL = {"id": "call_c", "type": "custom", "custom": {"name": "run_sql", "input": "SELECT '%_' -- ;"}}

WIRES: dict[str, dict[str, Any]] = {
    "system": {"role": "system", "content": "Be brief."},
    "developer": {"role": "developer", "content": "Be brief."},
    "user": {"role": "user", "content": "Hello."},
    "assistant": {"role": "assistant", "content": "Hello!"},
    "tool": {"role": "tool", "tool_call_id": "call_f", "content": "2"},
    "function": {"role": "function", "name": "add", "content": "2"},
    "named": {"role": "user", "name": "zoë", "content": "It is me."},
    "empty content": {"role": "assistant", "content": ""},
    "no content": {"role": "assistant", "content": None},
    "content not given": {"role": "assistant", "tool_calls": [FUNCTION_CALL]},
    "no parts": {"role": "user", "content": []},
    "text part": {"role": "user", "content": [{"type": "text", "text": "Look:"}]},
    "image part": {"role": "user", "content": [{"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}}]},
    "audio part": {
        "role": "user",
        "content": [{"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}],
    },
    "file part": {"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1", "filename": "a.pdf"}}]},
    "refusal part": {"role": "assistant", "content": [{"type": "refusal", "refusal": "I will not."}]},
    "unknown part": {"role": "user", "content": [{"type": "video_url", "video_url": {"url": "x", "fps": 0.5}}]},
    "text in several parts": {
        "role": "system",
        "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b", "cache_control": {"type": "e"}}],
    },
    "function tool call": {"role": "assistant", "content": None, "tool_calls": [FUNCTION_CALL]},
    "custom tool call": {"role": "assistant", "content": None, "tool_calls": [CUSTOM_CALL]},
    "parallel tool calls": {"role": "assistant", "content": "Wait.", "tool_calls": [FUNCTION_CALL, CUSTOM_CALL]},
    "function call": {"role": "assistant", "content": None, "function_call": {"name": "add", "arguments": "{}"}},
    "refusal": {"role": "assistant", "content": None, "refusal": "I will not."},
    "audio": {"role": "assistant", "content": None, "audio": {"id": "audio_1", "expires_at": 1735689600}},
    "null fields": {"role": "assistant", "content": "Hi", "refusal": None, "annotations": [], "tool_calls": None},
    "unknown fields": {
        "zeta": 1,
        "role": "assistant",
        "reasoning_content": "…",
        "alpha": {"b": [None, True, -1, 2.5, 1e-9, 9007199254740993], "a": {}},
        "content": "Hi",
    },
    "unicode": {
        "role": "user",
        "content": "Grüße, 世界, 🙂👨‍👩‍👧, ‮right to left‬, \u2028\u2029, \ufeff, \uffff, \U0010ffff, e\u0301",
    },
    "control characters": {"role": "user", "content": "nul \x00 bell \x07 escape \x1b delete \x7f tab \t cr \r lf \n"},
    "syntax": {"role": "user", "content": "'; DROP TABLE threads; -- % _ * ? [a] {b} \\u0000 \\ \" ` $1 :id %s"},
}
"""Wire messages by what is particular about each."""

OUR_FIELDS: dict[str, dict[str, Any]] = {
    "incomplete": {"status": "incomplete"},
    "pending": {"status": "pending"},
    "superseded": {"superseded": True},
    "pinned": {"pinned": True},
    "turn": {"turn_id": "turn-1 '%"},
    "items": {"items": [{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA\x00é"}, {}]},
    "call": {
        "call": CallInfo(
            model="gpt-4o-2024-08-06",
            server="api.openai.com",
            usage={"prompt_tokens": 12, "details": {"cached": 0, "none": None}},
            finish_reason="tool_calls",
            response_id="chatcmpl-1",
            latency_s=0.25,
            block_hash="b" * 64,
            cut_seq=3,
            summary_id="s1",
            recalled_ids=["r1", "r2"],
            repairs=[],
        )
    },
    "empty call": {"call": CallInfo()},
    "tokens": {"tokens": TokenCount(count=42, encoding="o200k_base")},
    "before 1970": {"created_at": datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=UTC)},
    "to the microsecond": {"created_at": datetime(2025, 6, 1, 12, 0, 0, 123457, tzinfo=UTC)},
    "far away": {"created_at": datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)},
}
"""Fields of ours by what is particular about each."""

METADATA: dict[str, Any] = {
    "string": "Grüße '\"%_*{}[]",
    "empty string": "",
    "integer": -7,
    "zero": 0,
    "float": 0.1,
    "whole float": 3.0,
    "true": True,
    "false": False,
    "null": None,
    "list": [1, "1", None, [True, []], {}],
    "dict": {"deep": {"deeper": [{"x": 1}]}, "": "empty key"},
    "": "empty key",
    "a.b[0] $.c": "no path",
    "'; --": "no SQL",
}
"""A value of every JSON type, under keys that a careless storage takes for syntax."""


def fingerprint(message: Message | MessageRow) -> str:
    """Everything that has to come back, as text: it tells 1, 1.0 and true apart, and the wire form's key order."""
    row: dict[str, Any] = {**(message.row() if isinstance(message, Message) else message)}
    row.pop("seq", None)
    wire = row.pop("wire")
    return f"{json.dumps(wire)} {json.dumps(row, sort_keys=True)}"


def fingerprints(messages: Sequence[Message] | Sequence[MessageRow]) -> list[str]:
    return [fingerprint(message) for message in messages]


def random_messages(seed: int, count: int) -> list[Message]:
    """Messages that mix the named wires, our fields and random JSON; the same for the same seed."""
    rng = random.Random(seed)
    return [_random_message(rng, f"{seed}-{index}") for index in range(count)]


def _random_message(rng: random.Random, message_id: str) -> Message:
    wire = dict(rng.choice(list(WIRES.values())))
    if isinstance(wire.get("content"), str):
        wire["content"] = random_text(rng)
    for _ in range(rng.randint(0, 3)):
        wire[f"x_{random_text(rng)}"] = random_json(rng)
    entries = list(wire.items())
    rng.shuffle(entries)
    fields: dict[str, Any] = {
        "created_at": datetime(2020, 1, 1, tzinfo=UTC) + timedelta(microseconds=rng.getrandbits(50))
    }
    for ours in rng.sample(list(OUR_FIELDS.values()), k=rng.randint(0, 3)):
        fields.update(ours)
    metadata = {random_text(rng): random_json(rng) for _ in range(rng.randint(0, 3))}
    return Message(wire=dict(entries), id=message_id, metadata=metadata, **fields)


def random_text(rng: random.Random) -> str:
    alphabets = ("abc XYZ 019", "%_*?[]{}()'\"\\`;:,.$-/|&<>", "äßñ中文字🙂👍\u0301\u200d", "\n\t\x00\x1f\x7f\u2028")
    return "".join(rng.choice(rng.choice(alphabets)) for _ in range(rng.randint(0, 20)))


def random_json(rng: random.Random, depth: int = 3) -> Any:
    kind = rng.randrange(9 if depth else 7)
    if kind == 7:
        return [random_json(rng, depth - 1) for _ in range(rng.randint(0, 4))]
    if kind == 8:
        return {random_text(rng): random_json(rng, depth - 1) for _ in range(rng.randint(0, 4))}
    scalars = (None, rng.random() < 0.5, rng.randint(-(2**53), 2**53), rng.random() * 10 ** rng.randint(-9, 9))
    return scalars[kind] if kind < 4 else random_text(rng)
