"""The rules of a Responses request's own fields."""

from __future__ import annotations

from memexllm.testing.server.errors import InvalidRequestError, missing, wrong_type
from memexllm.testing.server.item_kinds import kind_of, with_items
from memexllm.testing.server.item_order import check_order, not_found
from memexllm.testing.server.item_rules import check_item, unknown_parameter
from memexllm.testing.server.item_store import ItemStore
from memexllm.testing.server.jsontypes import JSONObject, is_list, is_object
from memexllm.testing.server.received import ResponsesRequest
from memexllm.testing.server.responses import conversation_of

KNOWN_PARAMETERS = frozenset(
    """
    access_programs background background_options context_management conversation image include input instructions
    max_output_tokens max_tool_calls metadata model moderation parallel_tool_calls previous_response_id prompt
    prompt_cache_key prompt_cache_options prompt_cache_retention reasoning safety_identifier service_tier store
    stream stream_options temperature text tool_choice tools top_logprobs top_p truncation user
    """.split()  # noqa: SIM905 - forty quoted lines read worse
)
"""Those of the API reference and of openai-python's `ResponseCreateParams`."""

_MOVED = {
    "messages": "input",
    "response_format": "text.format",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "reasoning_effort": "reasoning.effort",
    "functions": "tools",
    "function_call": "tool_choice",
    "verbosity": "text.verbosity",
}


def checked_request(body: JSONObject, headers: dict[str, str], store: ItemStore) -> ResponsesRequest:
    """The request with the items it continues; raises `InvalidRequestError` for what the API refuses."""
    _check_parameters(body)
    earlier = _earlier_items(body, store)
    given = body.get("input")
    if not given and given != "" and body.get("prompt") is None and not _continues(body):
        raise InvalidRequestError(
            "One of 'input' or 'previous_response_id' or 'prompt' or 'conversation' must be provided.",
            code="missing_required_parameter",
        )
    if is_list(given):
        for position, item in enumerate(given):
            check_item(item, f"input[{position}]")
    elif not isinstance(given, str | None):
        raise wrong_type("input", "one of a string or an array of input items")
    items = [_resolved(item, store) for item in with_items(given)]
    check_order([*earlier, *items], len(earlier), store, body["model"])
    return ResponsesRequest(body | {"input": items} if is_list(given) else body, headers, earlier)


def _check_parameters(body: JSONObject) -> None:
    for name in body:
        if name in _MOVED:
            raise InvalidRequestError(
                f"Unsupported parameter: '{name}'. In the Responses API, this parameter has moved to "
                f"'{_MOVED[name]}'. Try again with the new parameter.",
                param=name,
                code="unsupported_parameter",
            )
        if name not in KNOWN_PARAMETERS:
            raise unknown_parameter(name)
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise missing("model")
    for name, kind in (("instructions", str), ("previous_response_id", str), ("stream", bool), ("store", bool)):
        if body.get(name) is not None and not isinstance(body[name], kind):
            raise wrong_type(name, "a string" if kind is str else "a boolean")
    for name in ("tools", "include"):
        if not (body.get(name) is None or is_list(body[name])):
            raise wrong_type(name, "an array")
    _check_tools(body)


def _check_tools(body: JSONObject) -> None:
    for position, tool in enumerate(body.get("tools") or []):
        where = f"tools[{position}]"
        if not is_object(tool):
            raise wrong_type(where, "an object")
        if not isinstance(tool.get("type"), str):
            raise missing(f"{where}.type")
        if tool["type"] in ("function", "custom") and not isinstance(tool.get("name"), str):
            # A chat tool, its name one level deeper, ends here.
            raise missing(f"{where}.name")


def _continues(body: JSONObject) -> bool:
    return body.get("previous_response_id") is not None or conversation_of(body) is not None


def _earlier_items(body: JSONObject, store: ItemStore) -> list[JSONObject]:
    previous_id, conversation_id = body.get("previous_response_id"), conversation_of(body)
    if previous_id is not None and conversation_id is not None:
        raise InvalidRequestError(
            "Mutually exclusive parameters: 'previous_response_id' and 'conversation'. Provide only one of them.",
            code="mutually_exclusive_parameters",
        )
    if previous_id is not None:
        previous = store.response(previous_id)
        if previous is None:
            raise InvalidRequestError(
                f"Previous response with id '{previous_id}' not found.",
                param="previous_response_id",
                code="previous_response_not_found",
            )
        return list(previous.context)
    if conversation_id is not None:
        items = store.conversation(conversation_id)
        if items is None:
            raise InvalidRequestError(f"Conversation with id '{conversation_id}' not found.", status=404)
        return items
    return []


def _resolved(item: JSONObject, store: ItemStore) -> JSONObject:
    """What an item reference stands for, or the item."""
    if kind_of(item) != "item_reference":
        return item
    found = store.item(item["id"])
    if found is None:
        raise not_found(item["id"])
    return found
