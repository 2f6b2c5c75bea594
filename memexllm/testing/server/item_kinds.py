"""The kinds of items the Responses API knows: their fields, their ids, and which of them ask for an answer."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from memexllm.testing.server.jsontypes import JSONObject, is_object, string_at


@dataclass(frozen=True)
class ItemKind:
    required: AbstractSet[str]
    known: AbstractSet[str]
    """The required fields and the optional ones."""
    nullable: AbstractSet[str]
    id_prefix: str | None = None


def _kind(required: str, optional: str = "", nullable: str = "", id_prefix: str | None = None) -> ItemKind:
    """Fields parted by spaces; all kinds have a type, and the nullable ones are optional too."""
    needed = frozenset(required.split())
    may_be_null = frozenset(nullable.split())
    return ItemKind(needed, needed | may_be_null | set(optional.split()) | {"type"}, may_be_null, id_prefix)


# The input items of the API reference and of openai-python's `ResponseInputItemParam`; null is taken where the
# latter says `Optional`.
KINDS: dict[str, ItemKind] = {
    "message": _kind("role content", "id status", "phase", "msg"),
    "reasoning": _kind("summary", "id status", "content encrypted_content", "rs"),
    "function_call": _kind("call_id name arguments", "id status async namespace", "caller", "fc"),
    "function_call_output": _kind("call_id output", "", "id status caller name namespace"),
    "custom_tool_call": _kind("call_id name input", "id status async namespace", "caller", "ctc"),
    "custom_tool_call_output": _kind("call_id output", "id", "caller"),
    "computer_call": _kind("id call_id status", "action actions pending_safety_checks", "", "cu"),
    "computer_call_output": _kind("call_id output", "", "id status acknowledged_safety_checks"),
    "local_shell_call": _kind("id call_id action status", id_prefix="lsh"),
    "local_shell_call_output": _kind("output", "id call_id", "status"),
    "shell_call": _kind("call_id action", "", "id status caller environment"),
    "shell_call_output": _kind("call_id output", "", "id status caller max_output_length"),
    "apply_patch_call": _kind("call_id operation status", "", "id caller"),
    "apply_patch_call_output": _kind("call_id status", "", "id caller output"),
    "mcp_approval_request": _kind("id server_label name arguments", id_prefix="mcpr"),
    "mcp_approval_response": _kind("approval_request_id approve", "", "id reason"),
    "mcp_list_tools": _kind("id server_label tools", "", "error"),
    "mcp_call": _kind("id server_label name arguments", "status", "approval_request_id error output"),
    "file_search_call": _kind("id queries status", "", "results"),
    "web_search_call": _kind("id status", "action"),
    "code_interpreter_call": _kind("id container_id status", "", "code outputs"),
    "image_generation_call": _kind(
        "id status", "error svg_usage", "result action background output_format quality revised_prompt size"
    ),
    "tool_search_call": _kind("arguments", "execution", "id call_id status"),
    "tool_search_output": _kind("tools", "execution", "id call_id status"),
    "additional_tools": _kind("role tools", "", "id"),
    "configuration_update": _kind("", "reasoning text", "id"),
    "compaction": _kind("encrypted_content", "", "id"),
    "compaction_trigger": _kind("", "", "id"),
    "program": _kind("id call_id code fingerprint"),
    "program_output": _kind("id call_id result status"),
    "item_reference": _kind("id", nullable="type"),
}

OUTPUT_OF: dict[str, str] = {
    "function_call": "function_call_output",
    "custom_tool_call": "custom_tool_call_output",
    "computer_call": "computer_call_output",
    "local_shell_call": "local_shell_call_output",
    "shell_call": "shell_call_output",
    "apply_patch_call": "apply_patch_call_output",
    "mcp_approval_request": "mcp_approval_response",
}
"""What the client runs, and what it sends when it has."""

CALL_OF: dict[str, str] = {output: call for call, output in OUTPUT_OF.items()}


def kind_of(item: JSONObject) -> str:
    """The item's type; without one an item with a role is a message, and one with only an id a reference."""
    if kind := string_at(item, "type"):
        return kind
    return "message" if "role" in item else "item_reference" if "id" in item else ""


def asked_ids(call: JSONObject) -> list[str]:
    """The ids under which an answer to this call is known, the usual one first."""
    match kind_of(call):
        case "mcp_approval_request":
            names = ["id"]
        case "local_shell_call":
            # The reference names the output's id after the call; clients send either of the call's two.
            names = ["call_id", "id"]
        case _:
            names = ["call_id"]
    return [string_at(call, name) for name in names if string_at(call, name)]


def answered_id(output: JSONObject) -> str:
    """The id of the call this output answers."""
    if kind_of(output) == "mcp_approval_response":
        return string_at(output, "approval_request_id")
    return string_at(output, "call_id") or string_at(output, "id")


def is_produced(item: JSONObject) -> bool:
    """Whether a model made it: something a reasoning item may stand before."""
    kind = kind_of(item)
    if kind == "message":
        return item.get("role") == "assistant"
    return kind not in CALL_OF and kind not in ("reasoning", "item_reference", "additional_tools")


def with_items(value: object) -> list[JSONObject]:
    """A request's `input` as items: a text is a user's message."""
    if isinstance(value, str):
        return [{"type": "message", "role": "user", "content": value}]
    return [item for item in value if is_object(item)] if isinstance(value, list) else []
