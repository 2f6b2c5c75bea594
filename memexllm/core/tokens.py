"""How many tokens a message costs: exact for text, by OpenAI's published rules for the rest.

Text is counted with the model's own vocabulary, offline. A message costs 3 tokens more than its parts, a name one more,
and the answer's priming 3 once per request (OpenAI's cookbook, "How to count tokens"). Images cost tiles or patches of
their pixel size, which is read from a data URL's header; the size of a remote image is not known and taken as the
largest. What a server adds beyond that differs by a token or two, and more with tools: `usage` is the last word.
"""

from __future__ import annotations

import functools
import json
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from memexllm.core import vocabularies
from memexllm.core.images import image_size

PER_MESSAGE = 3
PER_NAME = 1
PRIMING = 3
"""Of the answer, once per request."""

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


class UnknownModelWarning(UserWarning):
    """A model's vocabulary is not known; its tokens are counted with `o200k_base`."""


def window_of(model: str | None) -> int:
    """Tokens of the model's context window; 128,000 for a model that is not known."""
    name = (model or "").removeprefix("ft:")
    matching = [prefix for prefix in _WINDOWS if name.startswith(prefix)]
    return _WINDOWS[max(matching, key=len)] if matching else _UNKNOWN_WINDOW


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
    """The same for a tool call or a tool's schema: its JSON is longer than what is counted of it."""
    text = json.dumps(value, default=str)
    return len(text) + 12 * (1 + text.count("{"))


def _n_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _part_bound(part: Any, model: str | None) -> int:
    if isinstance(part, Mapping) and part.get("type") == "image_url":
        return _image_tokens({}, model)
    text = part.get("text") or part.get("refusal") if isinstance(part, Mapping) else part
    return _n_bytes(text) if isinstance(text, str) else 0


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

    def count_text(self, text: str) -> int:
        """Tokens of `text`; text that looks like a special token is text."""
        return self._count(text)

    def count_message(self, message: Wire) -> int:
        """Tokens of a message in wire form, its share of the request's framing included."""
        total = PER_MESSAGE + self._count(str(message.get("role", "")))
        for key, value in message.items():
            if key == "content":
                total += self._content(value)
            elif key == "name" and isinstance(value, str):
                total += PER_NAME + self._count(value)
            elif key == "tool_calls" and value:
                total += sum(self._call(call) for call in value)
            elif key == "function_call" and isinstance(value, Mapping):
                total += self._call({"function": value})
            elif key in ("refusal", "tool_call_id") and isinstance(value, str):
                total += self._count(value)
        return total

    def count_messages(self, messages: Sequence[Wire]) -> int:
        """Tokens of a whole request's messages, the answer's priming included."""
        return PRIMING + sum(map(self.count_message, messages))

    def count_tools(self, tools: Sequence[Mapping[str, Any]] | None) -> int:
        """Tokens of the tools' schemas: the rule of OpenAI's cookbook, an approximation for nested schemas."""
        if not tools:
            return 0
        start = 7 if self.encoding == "o200k_base" else 10
        return 12 + sum(start + self._tool(tool.get("function") or tool.get("custom") or tool) for tool in tools)

    def _exact(self, text: str) -> int:
        return len(vocabularies.encoding(self.encoding).encode_ordinary(text))

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
            return self.count_image(image if isinstance(image, Mapping) else {"url": image})
        text = part.get("text") or part.get("refusal")
        if isinstance(text, str):
            return self._count(text)
        # A file or a sound: its bytes say little about its tokens, and nothing is published.
        return 0

    def count_image(self, image: Mapping[str, Any]) -> int:
        """Tokens of an `image_url` part's image, by its pixel size and `detail`."""
        return _image_tokens(image, self.model)

    def _call(self, call: Mapping[str, Any]) -> int:
        called = call.get("function") or call.get("custom") or {}
        texts = (called.get("name"), called.get("arguments"), called.get("input"), call.get("id"))
        return PER_MESSAGE + sum(self._count(text) for text in texts if isinstance(text, str))

    def _tool(self, tool: Mapping[str, Any]) -> int:
        total = self._count(f"{tool.get('name', '')}:{str(tool.get('description') or '').removesuffix('.')}")
        schema = tool.get("parameters")
        properties = schema.get("properties") if isinstance(schema, Mapping) else None
        if not isinstance(properties, Mapping) or not properties:
            return total
        return total + 3 + sum(self._property(name, each) for name, each in properties.items())

    def _property(self, name: str, schema: Any) -> int:
        if not isinstance(schema, Mapping):
            return 3 + self._count(name)
        total = 3
        if "enum" in schema:
            total += -3 + sum(3 + self._count(str(item)) for item in schema["enum"])
        kind, description = schema.get("type", ""), str(schema.get("description") or "").removesuffix(".")
        total += self._count(f"{name}:{kind}:{description}")
        nested = {key: schema[key] for key in ("properties", "items", "anyOf", "oneOf") if key in schema}
        return total + (self._count(json.dumps(nested)) if nested else 0)


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


def _image_rule(model: str | None) -> ImageRule:
    name = (model or "").removeprefix("ft:")
    matching = [prefix for prefix in _IMAGE_RULES if name.startswith(prefix)]
    return _IMAGE_RULES[max(matching, key=len)] if matching else _USUAL_IMAGE


def _patches(width: int, height: int) -> int:
    return math.ceil(width / 32) * math.ceil(height / 32)


def _fitted(width: int, height: int) -> tuple[float, float]:
    """Scaled down into 2048 pixels square, then to 768 on the short side."""
    scale = min(1.0, 2048 / max(width, height, 1))
    scale *= min(1.0, 768 / max(min(width, height) * scale, 1))
    return width * scale, height * scale
