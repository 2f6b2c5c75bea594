"""What the server keeps of its responses: those asked to be stored, conversations, and where each item came from."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from memexllm.testing.server.item_kinds import kind_of
from memexllm.testing.server.jsontypes import JSONObject, string_at

MAX_KEPT = 20_000
_SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$")
_ValueT = TypeVar("_ValueT")


@dataclass(frozen=True)
class StoredResponse:
    response: JSONObject
    input_items: Sequence[JSONObject]
    """Those of its request alone."""
    context: Sequence[JSONObject]
    """All a response that continues this one begins with: earlier items, input and output."""


@dataclass(frozen=True)
class _Sealed:
    reasoning_id: str
    model: str


class ItemStore:
    """Bounded: beyond `MAX_KEPT` of a kind the oldest are forgotten, as for a client that was away too long."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._responses: dict[str, StoredResponse] = {}
        self._conversations: dict[str, list[JSONObject]] = {}
        self._items: dict[str, JSONObject] = {}
        self._reasoning_before: dict[str, str] = {}
        self._sealed: dict[str, _Sealed] = {}

    def clear(self) -> None:
        with self._lock:
            for kept in (self._responses, self._conversations, self._items, self._reasoning_before, self._sealed):
                kept.clear()

    def note_produced(self, output: Iterable[JSONObject], model: str) -> None:
        """Remembers, stored or not, which reasoning led to which item, and for which model it is sealed."""
        reasoning_id: str | None = None
        with self._lock:
            for item in output:
                item_id = string_at(item, "id")
                if kind_of(item) == "reasoning":
                    reasoning_id = item_id
                    if sealed := string_at(item, "encrypted_content"):
                        _keep(self._sealed, sealed, _Sealed(item_id, _family(model)))
                elif reasoning_id and item_id:
                    _keep(self._reasoning_before, item_id, reasoning_id)

    def store(self, response: JSONObject, input_items: Sequence[JSONObject], earlier: Sequence[JSONObject]) -> None:
        output: list[JSONObject] = response["output"]
        kept = StoredResponse(response, input_items, [*earlier, *input_items, *output])
        with self._lock:
            _keep(self._responses, response["id"], kept)
            for item in (*input_items, *output):
                if item_id := string_at(item, "id"):
                    _keep(self._items, item_id, item)

    def response(self, response_id: str) -> StoredResponse | None:
        return self._responses.get(response_id)

    def delete_response(self, response_id: str) -> bool:
        """Whether there was one. Its items go with it."""
        with self._lock:
            stored = self._responses.pop(response_id, None)
            if stored is None:
                return False
            for item in (*stored.input_items, *stored.response["output"]):
                self._items.pop(string_at(item, "id"), None)
            return True

    def open_conversation(self, conversation_id: str, items: Sequence[JSONObject]) -> None:
        with self._lock:
            _keep(self._conversations, conversation_id, list(items))

    def conversation(self, conversation_id: str) -> list[JSONObject] | None:
        with self._lock:
            items = self._conversations.get(conversation_id)
            return None if items is None else list(items)

    def delete_conversation(self, conversation_id: str) -> bool:
        with self._lock:
            return self._conversations.pop(conversation_id, None) is not None

    def extend_conversation(self, conversation_id: str, items: Sequence[JSONObject]) -> None:
        with self._lock:
            if conversation_id in self._conversations:
                self._conversations[conversation_id].extend(items)
            for item in items:
                if item_id := string_at(item, "id"):
                    _keep(self._items, item_id, item)

    def item(self, item_id: str) -> JSONObject | None:
        return self._items.get(item_id)

    def reasoning_before(self, item_id: str) -> str | None:
        """The id of the reasoning item this server produced before that item."""
        return self._reasoning_before.get(item_id)

    def opens(self, sealed: str, *, reasoning_id: str, model: str) -> bool:
        """Whether this server sealed it, in that item, for a model of that family."""
        known = self._sealed.get(sealed)
        return known is not None and known.model == _family(model) and reasoning_id in ("", known.reasoning_id)


def seal(reasoning_id: str, text: str) -> str:
    """Looks like the API's encrypted content; it hides nothing."""
    return "gAAAAA" + base64.urlsafe_b64encode(f"{reasoning_id}\n{text}".encode("utf-8", "surrogatepass")).decode()


def _family(model: str) -> str:
    return _SNAPSHOT.sub("", model)


def _keep(kept: dict[str, _ValueT], key: str, value: _ValueT) -> None:
    kept[key] = value
    if len(kept) > MAX_KEPT:
        del kept[next(iter(kept))]
