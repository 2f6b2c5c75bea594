"""The fields of the wire form as properties: what `Message` shows of its dict. Assignment writes through to it."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from memexllm.core.parts import WireDict, view
from memexllm.core.wire import ALTERNATIVES, checked_content, checked_role, plain, text_of


def alternatives_in(metadata: MutableMapping[str, Any]) -> list[WireDict]:
    """The wire dicts kept under `ALTERNATIVES`; what a user's own metadata holds there besides is none."""
    found = view(metadata, ALTERNATIVES)
    return [wire for wire in found if isinstance(wire, WireDict)] if isinstance(found, list) else []


class WireViews:
    """Properties over `wire`, which the class that takes them in has."""

    wire: dict[str, Any]
    metadata: dict[str, Any]

    @property
    def role(self) -> str:
        return str(self.wire.get("role"))

    @role.setter
    def role(self, value: str) -> None:
        self.wire["role"] = checked_role(value)

    @property
    def content(self) -> Any:
        """None, a string, or a list of parts (`WireDict`)."""
        return view(self.wire, "content")

    @content.setter
    def content(self, value: Any) -> None:
        self.wire["content"] = checked_content(value)

    @property
    def text(self) -> str:
        """The text parts joined; empty when there is none."""
        return text_of(self.wire)

    @property
    def name(self) -> str | None:
        return self.wire.get("name")

    @name.setter
    def name(self, value: str | None) -> None:
        self._write("name", value)

    @property
    def tool_calls(self) -> Any:
        """A list of calls (`WireDict`: `call.id`, `call.function.arguments`), or None."""
        return view(self.wire, "tool_calls")

    @tool_calls.setter
    def tool_calls(self, value: Any) -> None:
        self._write("tool_calls", value)

    @property
    def tool_call_id(self) -> str | None:
        return self.wire.get("tool_call_id")

    @tool_call_id.setter
    def tool_call_id(self, value: str | None) -> None:
        self._write("tool_call_id", value)

    @property
    def function_call(self) -> Any:
        return view(self.wire, "function_call")

    @function_call.setter
    def function_call(self, value: Any) -> None:
        self._write("function_call", value)

    @property
    def refusal(self) -> str | None:
        return self.wire.get("refusal")

    @refusal.setter
    def refusal(self, value: str | None) -> None:
        self._write("refusal", value)

    @property
    def audio(self) -> Any:
        return view(self.wire, "audio")

    @audio.setter
    def audio(self, value: Any) -> None:
        self._write("audio", value)

    @property
    def alternatives(self) -> list[WireDict]:
        """The other choices of an answer asked for with `n=`, in order: kept in the metadata, never sent."""
        return alternatives_in(self.metadata)

    def _write(self, key: str, value: Any) -> None:
        if value is None:
            self.wire.pop(key, None)
        else:
            self.wire[key] = plain(value)
