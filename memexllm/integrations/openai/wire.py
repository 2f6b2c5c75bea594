"""The wire form of chat messages: what an answer looks like when it is kept, and what of a message is ever sent again.

Servers differ in what they accept back. The normal form leaves out what no server needs: null refusal, tool_calls,
function_call and audio, annotations, `parsed`, `parsed_arguments` and logprobs. Reasoning goes back only to the server
and model family that produced it: Groq refuses it, DeepSeek's thinking mode requires it on tool-call turns.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from memexllm.core.errors import ValidationError
from memexllm.core.wire import Draft, MessageRow, plain

ReplayReasoning = Literal["auto", "always", "never"]
Wire = dict[str, Any]

REASONING_KEYS = frozenset({"reasoning", "reasoning_content", "reasoning_details"})
_NEVER_SENT = frozenset({"annotations", "parsed", "logprobs"})
_EMPTY_UNLESS_SET = frozenset({"refusal", "tool_calls", "function_call", "audio", "annotations"})
LEFT_OUT = ("NotGiven", "Omit")
"""The SDK's marks for "not given": it sends no such field."""
_USUAL = frozenset({"role", "content", "name"})
_VERSION = re.compile(r"[-@:_]?(\d{4}-\d{2}-\d{2}|\d{8}|\d{4}|v?\d+(\.\d+)*|latest|preview)$")


def drafts_of_messages(messages: Any) -> list[Draft]:
    """The caller's messages as plain JSON of their own: what the SDK's transform makes of them.

    The SDK renames and reformats nothing in a message, so a plain copy is what it would send, and costs a hundredth.
    """
    if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Iterable):
        raise ValidationError(f"messages must be a list of messages, got {type(messages).__name__}")
    drafts: list[Draft] = []
    for message in messages:
        wire = _copied(message) if type(message) is dict else plain(message)
        if type(wire) is not dict:
            raise ValidationError(
                f"each message must be a dict or a message of the SDK's, got {type(message).__name__}"
            )
        if not isinstance(wire.get("role"), str | None):
            raise ValidationError(f"a message's role is a string, not {type(wire['role']).__name__}")
        drafts.append({"wire": wire})
    return drafts


def _copied(message: Wire) -> Wire:
    copied: Wire = {}
    for key, value in message.items():
        kind = type(value)
        if kind is str or value is None:
            copied[key] = value
        elif kind.__name__ not in LEFT_OUT:
            copied[key] = plain(value)
    return copied


def answer_wire(message: Mapping[str, Any]) -> Wire:
    """An answer as it is kept: role and content first, the other fields in the order they came.

    Whatever its server calls itself, it is the assistant's: the API takes no other role back. Stream indexes, `parsed`
    and empty fields go; everything else stays, unknown fields too.
    """
    kept: Wire = {"role": "assistant", "content": message.get("content")}
    for key, value in message.items():
        if key in kept or key == "parsed" or (key in _EMPTY_UNLESS_SET and not value):
            continue
        kept[key] = _call_wires(value) if key == "tool_calls" else value
    for key in ("content", "name", "refusal"):
        if not _is_text_or_parts(kept.get(key), parts=key == "content"):
            # Sent back as it is, it would end the thread with a 400; as its JSON it is all there, and is text.
            kept[key] = json.dumps(kept[key], ensure_ascii=False, default=str)
    return with_whole_characters(kept)  # type: ignore[no-any-return]  # a dict stays one


def sendable(row: MessageRow, target: Sequence[str | None], replay_reasoning: ReplayReasoning) -> Wire:
    """What is sent for a row: its own wire dict when nothing has to go.

    `target` is the `[server, model]` of this call.
    """
    wire = row["wire"]
    if wire.get("role") != "assistant" or wire.keys() <= _USUAL:
        return wire
    dropped = {key for key in wire if key in _NEVER_SENT or (key in _EMPTY_UNLESS_SET and not wire[key])}
    if "origin" in row:
        dropped |= _misshapen(wire)
    if not may_replay_reasoning(row, target, replay_reasoning):
        dropped |= REASONING_KEYS & wire.keys()
    sent = {key: value for key, value in wire.items() if key not in dropped}
    if "tool_calls" in sent:
        sent["tool_calls"] = _call_wires(sent["tool_calls"])
    if "audio" in sent:
        _replay_audio(sent)
    return sent


def model_family(model: str | None) -> str:
    """A model's name without the date or version it ends in."""
    name = model or ""
    while True:
        shorter = _VERSION.sub("", name)
        if shorter == name or not shorter:
            return name
        name = shorter


def may_replay_reasoning(row: MessageRow, target: Sequence[str | None], replay: ReplayReasoning) -> bool:
    if replay != "auto":
        return replay == "always"
    origin = row.get("origin")
    # A message without an origin is the caller's own: it is sent as it was given.
    return origin is None or (origin[0] == target[0] and model_family(origin[1]) == model_family(target[1]))


def _misshapen(wire: Wire) -> set[str]:
    """Fields of an answer that its server made of something else: sent back, they would end the thread with a 400."""
    calls = wire.get("tool_calls")
    found: set[str] = {key for key in ("audio", "function_call") if key in wire and not isinstance(wire[key], dict)}
    if calls and not (isinstance(calls, list) and all(isinstance(call, dict) for call in calls)):
        found.add("tool_calls")
    return found


def _is_text_or_parts(value: Any, *, parts: bool) -> bool:
    if value is None or isinstance(value, str):
        return True
    return parts and isinstance(value, list) and all(isinstance(part, dict) for part in value)


def _call_wires(calls: Any) -> Any:
    return [_call_wire(call) for call in calls] if isinstance(calls, list) else calls


def _call_wire(call: Any) -> Any:
    """A tool call without the stream's `index` and the SDK's `parsed_arguments`."""
    if not isinstance(call, dict):
        return call
    function = call.get("function")
    if "index" not in call and not (isinstance(function, dict) and "parsed_arguments" in function):
        return call
    kept = {key: value for key, value in call.items() if key != "index"}
    if isinstance(function, dict):
        kept["function"] = {key: value for key, value in function.items() if key != "parsed_arguments"}
    return kept


def with_whole_characters(value: Any) -> Any:
    """The same with no half characters in its texts.

    Servers cut an emoji into two escapes, in two chunks even. Joined they are one character again; a half that is left
    alone, which UTF-8 cannot express, becomes U+FFFD.
    """
    if isinstance(value, str):
        if value.isascii():
            return value
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return value
    if isinstance(value, dict):
        return {key: with_whole_characters(item) for key, item in value.items()}
    return [with_whole_characters(item) for item in value] if isinstance(value, list) else value


def _replay_audio(sent: Wire) -> None:
    """The API takes a spoken answer back by its id until that expires; afterwards its transcript is the text."""
    audio = sent["audio"]
    if not isinstance(audio, dict):
        return  # the caller's own: the API says what is wrong with it
    if audio.get("expires_at", 0) and audio["expires_at"] <= time.time():
        del sent["audio"]
        if not sent.get("content"):
            sent["content"] = audio.get("transcript") or ""
    else:
        sent["audio"] = {"id": audio.get("id")}
