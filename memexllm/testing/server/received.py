"""What came in: the request as it was on the wire, and its reading as a request of each API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from memexllm.testing.server.as_chat import chat_body
from memexllm.testing.server.item_kinds import with_items
from memexllm.testing.server.jsontypes import (
    JSONObject,
    is_list,
    is_object,
    object_at,
    objects_at,
    string_at,
    strings_at,
)


@dataclass
class ReceivedRequest:
    method: str
    path: str
    """As sent, query included."""
    headers: dict[str, str]
    """Names in lower case; of a repeated header the last."""
    body: JSONObject
    """Empty when the body was no JSON object."""
    raw: bytes
    status: int | None = None
    """The HTTP status sent; None as long as there is none (held at a gate) and after a dropped line."""


@dataclass(frozen=True)
class ChatRequest:
    """A chat completion request as a reply function reads it.

    A reply function reads a Responses request in the same way: its items as messages, in `responses` as it came.
    """

    body: JSONObject
    headers: dict[str, str]
    responses: ResponsesRequest | None = None

    @property
    def as_chat(self) -> ChatRequest:
        return self

    @property
    def model(self) -> str:
        return string_at(self.body, "model")

    @property
    def messages(self) -> list[JSONObject]:
        return objects_at(self.body, "messages")

    @property
    def tools(self) -> list[JSONObject]:
        return objects_at(self.body, "tools")

    @property
    def stream(self) -> bool:
        return self.body.get("stream") is True

    @property
    def include_usage(self) -> bool:
        return object_at(self.body, "stream_options").get("include_usage") is True

    @property
    def n_choices(self) -> int:
        n = self.body.get("n")
        return n if isinstance(n, int) else 1

    @property
    def last_user_text(self) -> str:
        """Empty without a user message."""
        return next((text_of(m) for m in reversed(self.messages) if m.get("role") == "user"), "")


@dataclass(frozen=True)
class ResponsesRequest:
    """A Responses request, with the items of earlier responses that it continues."""

    body: JSONObject
    headers: dict[str, str]
    earlier: Sequence[JSONObject] = ()
    """What the server had stored: of `previous_response_id`, or of the conversation."""

    @property
    def model(self) -> str:
        return string_at(self.body, "model")

    @property
    def items(self) -> list[JSONObject]:
        """The input's; a text is a user's message."""
        return with_items(self.body.get("input"))

    @property
    def tools(self) -> list[JSONObject]:
        return objects_at(self.body, "tools")

    @property
    def stream(self) -> bool:
        return self.body.get("stream") is True

    @property
    def stored(self) -> bool:
        return self.body.get("store") is not False

    @property
    def includes(self) -> list[str]:
        return strings_at(self.body, "include")

    @property
    def as_chat(self) -> ChatRequest:
        return ChatRequest(chat_body(self.body, [*self.earlier, *self.items]), self.headers, self)


@dataclass(frozen=True)
class EmbeddingRequest:
    """A request for embeddings."""

    body: JSONObject
    headers: dict[str, str]

    @property
    def model(self) -> str:
        return string_at(self.body, "model")

    @property
    def inputs(self) -> list[str | list[int]]:
        """What each embedding is of, in order: texts, or lists of tokens."""
        value = self.body.get("input")
        if not is_list(value):
            return [value] if isinstance(value, str) else []
        return [value] if value and isinstance(value[0], int) else value

    @property
    def dimensions(self) -> int | None:
        """None: the model's."""
        value = self.body.get("dimensions")
        return value if isinstance(value, int) else None

    @property
    def encoding_format(self) -> str:
        return string_at(self.body, "encoding_format") or "float"


def text_of(message: JSONObject) -> str:
    """The content's text: a string as it is, text parts joined by spaces."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if is_list(content) else []
    return " ".join(string_at(part, "text") for part in parts if is_object(part) and part.get("type") == "text")
