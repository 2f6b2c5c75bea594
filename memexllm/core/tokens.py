"""How many tokens a message costs: text, calls, tools and images as OpenAI's API counts them.

Text is counted with the model's own vocabulary, offline. A message costs 3 tokens more than its parts, a name one more,
and the answer's priming 3 once per request (OpenAI's cookbook, "How to count tokens"). Images cost tiles or patches of
their pixel size, which is read from a data URL's header; the size of a remote image is not known and taken as the
largest. What is published nowhere (the framing of calls and tools) is what recorded requests were reported to cost
(tests/core/test_recorded_usage.py). `usage` is the last word.
"""

from __future__ import annotations

import functools
import json
import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from memexllm.core import vocabularies
from memexllm.core.images import image_size
from memexllm.core.tool_tokens import namespace_of, parallel_calls

PER_MESSAGE = 3
PER_NAME = 1
PRIMING = 3
"""Of the answer, once per request; `TokenCounter.priming` is a model's own."""
_CALL, _PARALLEL_CALLS, _RESULT = 5, 20, 4
"""Of a call with its name again before its result; of calls made at once, whose results come as one; of each result."""

Wire = Mapping[str, Any]

_OLD_FAMILY = re.compile(r"^(ft:)?(gpt-4(?!o|\.\d)|gpt-3\.5|gpt-35|text-embedding|davinci-002|babbage-002)")
_NEW_FAMILY = re.compile(r"^(ft:)?(gpt-4o|gpt-4\.\d|gpt-[5-9]|chatgpt-|o\d|gpt-oss|codex|computer-use)")


_WINDOWS: dict[str, int] = {
    "gpt-3.5": 16_385,
    "gpt-35": 16_385,
    "gpt-4": 8_192,
    "gpt-4-32k": 32_768,
    "gpt-4-turbo": 128_000,
    "gpt-4-1106": 128_000,
    "gpt-4-0125": 128_000,
    "gpt-4o": 128_000,
    "gpt-4.1": 1_047_576,
    "gpt-5": 400_000,
    "o1": 200_000,
    "o1-mini": 128_000,
    "o1-preview": 128_000,
    "o3": 200_000,
    "o4-mini": 200_000,
    "chatgpt-4o": 128_000,
}
_UNKNOWN_WINDOW = 128_000
_SHORT = 64
"""Characters of a text whose count is remembered."""


class UnknownModelWarning(UserWarning):
    """A model's vocabulary is not known; its tokens are counted with `o200k_base`."""


@functools.lru_cache(maxsize=256)
def window_of(model: str | None) -> int:
    """Tokens of the model's context window; 128,000 for a model that is not known."""
    return _WINDOWS.get(_longest_prefix(_WINDOWS, model), _UNKNOWN_WINDOW)


def byte_bound(message: Wire, model: str | None = None) -> int:
    """A number no smaller than the message's tokens, found without counting: a token is at least a byte long."""
    bound = PER_MESSAGE + PER_NAME
    for key, value in message.items():
        if isinstance(value, str):
            bound += _n_bytes(value)
        elif key == "content" and isinstance(value, Sequence):
            bound += sum(_part_bound(part, model) for part in value)
        elif value is not None:
            bound += json_bound(value)
    return bound


def json_bound(value: Any) -> int:
    """The same for tool calls: their JSON is longer than what is counted of it."""
    text = json.dumps(value, default=str)
    return len(text) + 12 * (1 + text.count("{"))


def tools_bound(tools: Sequence[Wire]) -> int:
    """The same for tools."""
    return _n_bytes(namespace_of(tools)) + max(framing.tools for framing in _FRAMINGS.values())


def _n_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _part_bound(part: Any, model: str | None) -> int:
    if isinstance(part, Mapping) and part.get("type") == "image_url":
        return _image_tokens({}, model) + _PATCHED
    text = part.get("text") or part.get("refusal") if isinstance(part, Mapping) else part
    return _n_bytes(text) if isinstance(text, str) else 0


@dataclass(frozen=True, slots=True)
class Framing:
    """Tokens around the texts of a request: of the answer's beginning, an answer, calls, tools without instructions."""

    priming: int = PRIMING
    answer: int = 0
    calls: int = 0
    tools: int = 9
    instructed: int = 4
    """Fewer for tools when a message with instructions is there: they are written into it."""


# Longest prefix wins. gpt-5 adds `<|channel|>final` to an answer (github.com/openai/harmony) and rules for calls.
_FRAMINGS: dict[str, Framing] = {
    "": Framing(),
    "o1": Framing(priming=2),
    "o3": Framing(priming=2),
    "o4": Framing(priming=2),
    "gpt-5": Framing(priming=2, answer=2, calls=6, tools=91, instructed=0),
}
_INSTRUCTING = ("system", "developer")


def instructs(messages: Iterable[Wire]) -> bool:
    """Whether one of them is an instruction, into which tools are written."""
    return any(message.get("role") in _INSTRUCTING for message in messages)


class TextCounter(Protocol):
    def __call__(self, text: str, /) -> int: ...


@dataclass(frozen=True, slots=True)
class ImageRule:
    """What an image costs: `base` and `tile` per 512 pixels square, or `factor` for each 32 pixel patch."""

    base: int = 0
    tile: int = 0
    factor: float = 0.0


# Longest prefix wins. https://platform.openai.com/docs/guides/images-vision#calculating-costs
_IMAGE_RULES: dict[str, ImageRule] = {
    "gpt-4o-mini": ImageRule(2833, 5667),
    "gpt-4.1-mini": ImageRule(factor=1.62),
    "gpt-4.1-nano": ImageRule(factor=2.46),
    "gpt-5-mini": ImageRule(factor=1.62),
    "gpt-5-nano": ImageRule(factor=2.46),
    "gpt-5": ImageRule(70, 140),
    "o4-mini": ImageRule(factor=1.72),
    "o1": ImageRule(75, 150),
    "o3": ImageRule(75, 150),
}
_USUAL_IMAGE = ImageRule(85, 170)
_MAX_PATCHES = 1536
_PATCHED = 1
"""Of an image that is counted in patches, besides them."""
_DEAREST_SIZE = (768, 2048)
"""No image has more tiles than one of this size; an image whose size is not known is counted as one."""


def encoding_name(model: str | None) -> str:
    """`o200k_base` or `cl100k_base`; a model nobody has heard of is said once and counted as a new one."""
    if model is None or _NEW_FAMILY.match(model):
        return "o200k_base"
    if _OLD_FAMILY.match(model):
        return "cl100k_base"
    _say_unknown(model)
    return "o200k_base"


@functools.cache
def _say_unknown(model: str) -> None:
    warnings.warn(
        f"the vocabulary of model {model!r} is not known; its tokens are counted with o200k_base",
        UnknownModelWarning,
        stacklevel=4,
    )


class TokenCounter:
    """Counts for one model. `text_counter` replaces the vocabulary, for models of other makers."""

    def __init__(self, model: str | None = None, *, text_counter: TextCounter | None = None) -> None:
        self.model = model
        self.encoding = encoding_name(model) if text_counter is None else "custom"
        self._count: Callable[[str], int] = text_counter or self._exact
        self._framing = _FRAMINGS[_longest_prefix(_FRAMINGS, model)]

    def count_text(self, text: str) -> int:
        """Tokens of `text`; text that looks like a special token is text."""
        return self._count(text)

    @property
    def priming(self) -> int:
        """Tokens of the answer's beginning, once per request."""
        return self._framing.priming

    def count_message(self, message: Wire) -> int:
        """Tokens of a message in wire form, its share of the request's framing included.

        The ids of calls are not sent. A result repeats the name of its call, which is counted with the call.
        """
        total = PER_MESSAGE + self._author(message)
        for key, value in message.items():
            if key == "content":
                total += self._content(value)
            elif key == "tool_calls" and value:
                total += self._calls(value)
            elif key == "function_call" and isinstance(value, Mapping):
                total += PER_MESSAGE + sum(map(self._count, _called({"function": value})))
            elif key == "refusal" and isinstance(value, str):
                total += self._count(value)
        return total

    def count_messages(self, messages: Sequence[Wire]) -> int:
        """Tokens of a whole request's messages, the answer's priming included."""
        return self.priming + sum(map(self.count_message, messages))

    def count_tools(self, tools: Sequence[Mapping[str, Any]] | None, *, instructed: bool = False) -> int:
        """Tokens of the tools' schemas; `instructed` when a system or developer message is sent with them."""
        if not tools:
            return 0
        framing = self._framing.tools - (self._framing.instructed if instructed else 0)
        return framing + self._once(namespace_of(tools))

    def count_request(self, messages: Sequence[Wire], tools: Sequence[Mapping[str, Any]] | None = None) -> int:
        """Tokens of a whole request."""
        return self.count_messages(messages) + self.count_tools(tools, instructed=instructs(messages))

    def _once(self, text: str) -> int:
        """Counted once as long as it is the same from call to call."""
        return self._count(text) if self.encoding == "custom" else _count_same(self.encoding, text)

    def _author(self, message: Wire) -> int:
        role, name = str(message.get("role", "")), message.get("name")
        if not isinstance(name, str) or role == "tool":
            name = None
        if role == "function" and name is not None:
            return self._count(name)
        total = self._count(role) if name is None else self._count(role) + PER_NAME + self._count(name)
        return total + self._framing.answer if role == "assistant" and not message.get("tool_calls") else total

    def _exact(self, text: str) -> int:
        return _count_short(self.encoding, text) if len(text) <= _SHORT else _count(self.encoding, text)

    def _content(self, content: Any) -> int:
        if isinstance(content, str):
            return self._count(content)
        if not isinstance(content, Sequence):
            return 0
        return sum(self._part(part) for part in content if isinstance(part, Mapping))

    def _part(self, part: Mapping[str, Any]) -> int:
        kind = part.get("type")
        if kind == "image_url":
            image = part.get("image_url")
            own = self.count_image(image if isinstance(image, Mapping) else {"url": image})
            return own + (_PATCHED if _image_rule(self.model).factor else 0)
        text = part.get("text") or part.get("refusal")
        if isinstance(text, str):
            return self._count(text)
        # A file or a sound: its bytes say little about its tokens, and nothing is published.
        return 0

    def count_image(self, image: Mapping[str, Any]) -> int:
        """Tokens of an `image_url` part's image, by its pixel size and `detail`."""
        return _image_tokens(image, self.model)

    def _calls(self, calls: Sequence[Mapping[str, Any]]) -> int:
        called = [_called(call) for call in calls]
        if len(called) > 1:
            return self._framing.calls + _PARALLEL_CALLS - _RESULT * len(called) + self._count(parallel_calls(called))
        name, arguments = called[0]
        return self._framing.calls + _CALL + 2 * self._count(name) + self._count(arguments)


def _called(call: Mapping[str, Any]) -> tuple[str, str]:
    """The name of what is called, and what with."""
    called = call.get("function") or call.get("custom") or {}
    return str(called.get("name") or ""), str(called.get("arguments") or called.get("input") or "")


def _count(encoding: str, text: str) -> int:
    return len(vocabularies.encoding(encoding).encode_ordinary(text))


# Roles, names and placeholders come again and again, and the same tools with each call.
_count_short = functools.lru_cache(maxsize=4096)(_count)
_count_same = functools.lru_cache(maxsize=32)(_count)


def _image_tokens(image: Mapping[str, Any], model: str | None) -> int:
    rule = _image_rule(model)
    size = image_size(str(image.get("url") or ""))
    if rule.factor:
        patches = _MAX_PATCHES if size is None else min(_patches(*size), _MAX_PATCHES)
        return math.ceil(patches * rule.factor)
    if image.get("detail") == "low":
        return rule.base
    width, height = _fitted(*(size or _DEAREST_SIZE))
    return rule.base + rule.tile * math.ceil(width / 512) * math.ceil(height / 512)


@functools.lru_cache(maxsize=256)
def _image_rule(model: str | None) -> ImageRule:
    return _IMAGE_RULES.get(_longest_prefix(_IMAGE_RULES, model), _USUAL_IMAGE)


def _longest_prefix(known: Mapping[str, Any], model: str | None) -> str:
    """The longest key that the model's name begins with, or the empty one."""
    name = (model or "").removeprefix("ft:")
    return max((prefix for prefix in known if name.startswith(prefix)), key=len, default="")


def _patches(width: int, height: int) -> int:
    return math.ceil(width / 32) * math.ceil(height / 32)


def _fitted(width: int, height: int) -> tuple[float, float]:
    """Scaled down into 2048 pixels square, then to 768 on the short side."""
    scale = min(1.0, 2048 / max(width, height, 1))
    scale *= min(1.0, 768 / max(min(width, height) * scale, 1))
    return width * scale, height * scale
