"""The rules between items: calls and their outputs, reasoning and what it led to, ids that must be known."""

from __future__ import annotations

from collections.abc import Sequence

from memexllm.testing.server.errors import InvalidRequestError
from memexllm.testing.server.item_kinds import CALL_OF, OUTPUT_OF, answered_id, asked_ids, is_produced, kind_of
from memexllm.testing.server.item_store import ItemStore
from memexllm.testing.server.jsontypes import JSONObject, string_at

_NAMES = {
    "function_call": "function call",
    "custom_tool_call": "custom tool call",
    "computer_call": "computer call",
    "local_shell_call": "local shell call",
    "shell_call": "shell call",
    "apply_patch_call": "apply patch call",
    "mcp_approval_request": "MCP approval request",
}


def check_order(items: Sequence[JSONObject], n_earlier: int, store: ItemStore, model: str) -> None:
    """`items` begins with `n_earlier` that the server had; those are known and only count as context."""
    _check_unique(items)
    _check_known(items[n_earlier:], store, model)
    _check_pairs(items)
    _check_reasoning(items, store)


def _refused(message: str, *, code: str | None = None, status: int = 400) -> InvalidRequestError:
    return InvalidRequestError(message, param="input", code=code, status=status)


def _check_unique(items: Sequence[JSONObject]) -> None:
    seen: set[str] = set()
    for item in items:
        # An output may carry the id of its call where the API says so.
        item_id = string_at(item, "id")
        if not item_id or kind_of(item) == "local_shell_call_output":
            continue
        if item_id in seen:
            raise _refused(
                f"Duplicate item found with id {item_id}. Remove duplicate items from your input and try again."
            )
        seen.add(item_id)


def _check_known(items: Sequence[JSONObject], store: ItemStore, model: str) -> None:
    for item in items:
        if kind_of(item) == "reasoning":
            _check_reasoning_known(item, store, model)


def _check_reasoning_known(item: JSONObject, store: ItemStore, model: str) -> None:
    item_id = string_at(item, "id")
    sealed = string_at(item, "encrypted_content")
    if not sealed and store.item(item_id) is None:
        raise not_found(item_id)
    if sealed and not store.opens(sealed, reasoning_id=item_id, model=model):
        raise InvalidRequestError(
            f"The encrypted content for item {item_id} could not be verified. "
            "Reason: Encrypted content could not be decrypted or parsed.",
            code="invalid_encrypted_content",
        )


def not_found(item_id: str) -> InvalidRequestError:
    return _refused(
        f"Item with id '{item_id}' not found. Items are not persisted when `store` is set to false. "
        "Try again with `store` set to true, or remove this item from your input.",
        status=404,
    )


def _check_pairs(items: Sequence[JSONObject]) -> None:
    called: dict[str, set[str]] = {call: set() for call in OUTPUT_OF}
    answered: dict[str, set[str]] = {call: set() for call in OUTPUT_OF}
    for item in items:
        kind = kind_of(item)
        if kind in OUTPUT_OF:
            called[kind].update(asked_ids(item))
        elif kind in CALL_OF:
            call, call_id = CALL_OF[kind], answered_id(item)
            if call_id not in called[call]:
                raise _refused(f"No tool call found for {_NAMES[call]} output with call_id {call_id}.")
            answered[call].add(call_id)
    for item in items:
        kind = kind_of(item)
        if kind in OUTPUT_OF and answered[kind].isdisjoint(asked_ids(item)):
            raise _refused(f"No tool output found for {_NAMES[kind]} {asked_ids(item)[0]}.")


def _check_reasoning(items: Sequence[JSONObject], store: ItemStore) -> None:
    thought: set[str] = set()
    dangling: str | None = None
    for item in items:
        kind, item_id = kind_of(item), string_at(item, "id")
        if dangling is not None and kind != "reasoning" and not is_produced(item):
            break
        if kind == "reasoning":
            thought.add(item_id)
            dangling = item_id
            continue
        dangling = None
        needed = store.reasoning_before(item_id) if item_id else None
        if needed is not None and needed not in thought:
            raise _refused(
                f"Item '{item_id}' of type '{kind}' was provided without its required 'reasoning' item: '{needed}'."
            )
    if dangling is not None:
        raise _refused(f"Item '{dangling}' of type 'reasoning' was provided without its required following item.")
