"""The stored things of the Responses API: GET and DELETE of responses, and conversations."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from memexllm.testing.server.delivery import Delivery, json_delivery
from memexllm.testing.server.errors import InvalidRequestError
from memexllm.testing.server.item_rules import check_item
from memexllm.testing.server.item_store import ItemStore, StoredResponse
from memexllm.testing.server.jsontypes import JSONObject, is_list
from memexllm.testing.server.output_items import ItemIds, kept_item

# The first are Azure's ways to the same place.
_BASE = r"/(?:v1|openai(?:/v1)?)"
RESPONSES_PATH = re.compile(rf"{_BASE}/responses")
_RESPONSE_PATH = re.compile(rf"{_BASE}/responses/([^/]+)(/input_items)?")
_CONVERSATION_PATH = re.compile(rf"{_BASE}/conversations(?:/([^/]+)(/items)?)?")


class StoredThings:
    def __init__(self, store: ItemStore, ids: ItemIds, clock: Callable[[], float]) -> None:
        self._store = store
        self._ids = ids
        self._clock = clock

    def delivery(self, method: str, path: str, body: JSONObject | None) -> Delivery | None:
        """None when method and path speak of nothing stored; raises `InvalidRequestError` for unknown ids."""
        if asked := _RESPONSE_PATH.fullmatch(path):
            return self._response(method, asked[1], items=asked[2] is not None)
        if asked := _CONVERSATION_PATH.fullmatch(path):
            return self._conversation(method, asked[1], body, items=asked[2] is not None)
        return None

    def _response(self, method: str, response_id: str, *, items: bool) -> Delivery | None:
        stored = self._store.response(response_id)
        if method not in ("GET", "DELETE"):
            return None
        if stored is None:
            raise InvalidRequestError(f"Response with id '{response_id}' not found.", status=404)
        if method == "GET":
            return json_delivery(_listed(_newest_first(stored)) if items else stored.response)
        self._store.delete_response(response_id)
        return json_delivery({"id": response_id, "object": "response", "deleted": True})

    def _conversation(
        self, method: str, conversation_id: str | None, body: JSONObject | None, *, items: bool
    ) -> Delivery | None:
        if conversation_id is None:
            return self._new_conversation(body or {}) if method == "POST" else None
        kept = self._store.conversation(conversation_id)
        if kept is None:
            raise InvalidRequestError(f"Conversation with id '{conversation_id}' not found.", status=404)
        if method == "GET":
            return json_delivery(_listed(kept[::-1]) if items else self._conversation_json(conversation_id))
        if method == "DELETE" and not items:
            self._store.delete_conversation(conversation_id)
            return json_delivery({"id": conversation_id, "object": "conversation.deleted", "deleted": True})
        return None

    def _new_conversation(self, body: JSONObject) -> Delivery:
        given = body.get("items")
        items = given if is_list(given) else []
        for position, item in enumerate(items):
            check_item(item, f"items[{position}]")
        conversation_id = self._ids.new("conv")
        self._store.open_conversation(conversation_id, [kept_item(item, self._ids) for item in items])
        return json_delivery(self._conversation_json(conversation_id))

    def _conversation_json(self, conversation_id: str) -> JSONObject:
        return {"id": conversation_id, "object": "conversation", "created_at": int(self._clock()), "metadata": {}}


def _newest_first(stored: StoredResponse) -> list[JSONObject]:
    return list(stored.input_items)[::-1]


def _listed(items: Sequence[JSONObject]) -> JSONObject:
    ids = [item["id"] for item in items] or [None]
    return {"object": "list", "data": items, "first_id": ids[0], "last_id": ids[-1], "has_more": False}
