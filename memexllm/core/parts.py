"""Parts of a message and tool calls: dicts of the wire form whose keys are attributes as well.

What a message shows of its wire form are these; what is put into one is copied to plain dicts first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Any

from memexllm.core.errors import ValidationError


class WireDict(dict[str, Any]):
    """A dict of the wire form whose keys are attributes as well: `part.text`, `call.function.name`.

    It is an ordinary dict for `==`, `json.dumps` and `isinstance`; nested dicts become `WireDict`s when looked at.
    """

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return view(self, name)
        raise AttributeError(f"this {self.get('type', 'part')!r} has no field {name!r}; it has {sorted(self)}")

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        if name not in self:
            raise AttributeError(name)
        del self[name]


class MessageContent(WireDict):
    """What the parts that 0.1 knew have in common."""

    def __init__(self) -> None:
        super().__init__()


class TextContent(MessageContent):
    """`{"type": "text", "text": text}`."""

    text: str

    def __init__(self, text: str) -> None:
        super().__init__()
        self.update(type="text", text=text)


class ImageContent(MessageContent):
    """`{"type": "image_url", "image_url": {"url": url, "detail": detail}}`; `detail` is left out when None."""

    image_url: Any

    def __init__(self, url: str, detail: str | None = None) -> None:
        super().__init__()
        self.update(type="image_url", image_url={"url": url} if detail is None else {"url": url, "detail": detail})

    @property
    def url(self) -> str:
        return str(self.image_url["url"])

    @property
    def detail(self) -> str | None:
        found: str | None = self.image_url.get("detail")
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("url", "detail"):
            self.image_url[name] = value
        else:
            super().__setattr__(name, value)


class ToolCallContent(MessageContent):
    """`{"id": id, "type": type, "function": function}`: a tool call, wherever it is put into a message."""

    id: str
    type: str
    function: Any

    def __init__(self, id: str, type: str, function: Mapping[str, Any]) -> None:  # noqa: A002 - the fields' names
        super().__init__()
        self.update(id=id, type=type, function=function)


def view(container: MutableMapping[str, Any], key: str) -> Any:
    """`container[key]` with dicts (also those in a list) turned into `WireDict`s in place, or None."""
    value = container.get(key)
    if type(value) is dict:
        value = container[key] = WireDict(value)
    elif type(value) is list:
        for index, item in enumerate(value):
            if type(item) is dict:
                value[index] = _part(item)
    return value


def _part(item: dict[str, Any]) -> WireDict:
    kind = item.get("type")
    cls: type[WireDict] = WireDict
    if kind == "text" and "text" in item:
        cls = TextContent
    elif kind == "image_url" and isinstance(item.get("image_url"), dict) and "url" in item["image_url"]:
        cls = ImageContent
    elif kind == "function" and "function" in item and "id" in item:
        cls = ToolCallContent
    made = cls.__new__(cls)
    made.update(item)
    return made


def without_tool_calls(content: Any, tool_calls: Sequence[Any]) -> tuple[Any, list[Any]]:
    """`content` and `tool_calls` with each `ToolCallContent` of the content moved to the calls, where the API has them.

    Content of which nothing is left is None.
    """
    if not isinstance(content, list | tuple) or not any(isinstance(part, ToolCallContent) for part in content):
        return content, list(tool_calls)
    rest = [part for part in content if not isinstance(part, ToolCallContent)]
    return rest or None, [*tool_calls, *(part for part in content if isinstance(part, ToolCallContent))]


def wire_parts(content: Any) -> Any:
    """`content` with the parts of type `image`, as 0.1 wrote them, in their wire form; everything else as it is."""
    if not isinstance(content, Iterable) or isinstance(content, str | bytes | Mapping):
        return content
    return [_wire_part(part) for part in content]


def _wire_part(part: Any) -> Any:
    if not isinstance(part, Mapping):
        return part
    kind, image = part.get("type"), part.get("image_url", part.get("url"))
    if kind not in ("image", "image_url") or image is None:
        return part
    if isinstance(image, str):
        image = {"url": image, **({"detail": part["detail"]} if "detail" in part else {})}
    if not isinstance(image, Mapping):
        raise ValidationError(f"an image is a URL or {{'url': …}}; this one is {type(image).__name__}")
    return {**{key: value for key, value in part.items() if key not in ("url", "detail")}} | {
        "type": "image_url",
        "image_url": dict(image),
    }
