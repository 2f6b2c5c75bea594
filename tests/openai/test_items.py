"""Items of the Responses API and messages: what came as items goes back exactly, everything else is converted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from memexllm.core.errors import ValidationError
from memexllm.core.exchanges import exchanges, repair
from memexllm.core.wire import row_of
from memexllm.integrations.openai.items_read import cleaned, drafts_of_input, drafts_of_items
from memexllm.integrations.openai.items_write import items_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memexllm.core.wire import Draft, MessageRow

Item = dict[str, Any]

REASONING: Item = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"}
CALL: Item = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "c1",
    "name": "look",
    "arguments": "{}",
    "status": "completed",
}
OTHER_CALL: Item = {**CALL, "id": "fc_2", "call_id": "c2"}
RESULT: Item = {"type": "function_call_output", "call_id": "c1", "output": "42"}
ANSWER: Item = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "It is 42.", "annotations": []}],
}
QUESTION: Item = {"role": "user", "content": [{"type": "input_text", "text": "What is it?"}]}
COMPUTER: Item = {"type": "computer_call", "id": "cu_1", "call_id": "c9", "action": {"type": "screenshot"}}
SCREENSHOT: Item = {
    "type": "computer_call_output",
    "call_id": "c9",
    "output": {"type": "computer_screenshot", "image_url": "data:image/png;base64,AAAA"},
}
HOSTED_SHELL: Item = {
    "type": "shell_call",
    "id": "sh_1",
    "call_id": "s1",
    "environment": {"type": "container_reference"},
}
HOSTED_OUTPUT: Item = {"type": "shell_call_output", "id": "so_1", "call_id": "s1", "output": []}
WEB_SEARCH: Item = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}}
APPROVAL: Item = {"type": "mcp_approval_request", "id": "mcpr_1", "name": "f", "arguments": "{}", "server_label": "s"}
APPROVED: Item = {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True}


def rows(drafts: Sequence[Draft]) -> list[MessageRow]:
    return [row_of(draft, f"m{index}", 0) for index, draft in enumerate(drafts)]


def back(drafts: Sequence[Draft], *, may_replay: bool = True) -> list[Item]:
    return items_of(rows(drafts), lambda row: may_replay)


CONVERSATIONS: dict[str, list[Item]] = {
    "text": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
    "parts": [QUESTION, ANSWER],
    "a tool loop": [QUESTION, REASONING, CALL, RESULT, ANSWER],
    "parallel calls": [QUESTION, REASONING, CALL, OTHER_CALL, RESULT, {**RESULT, "call_id": "c2"}, ANSWER],
    "a computer": [QUESTION, REASONING, COMPUTER, SCREENSHOT],
    "a hosted shell": [QUESTION, HOSTED_SHELL, HOSTED_OUTPUT, ANSWER],
    "a hosted search": [QUESTION, REASONING, WEB_SEARCH, ANSWER],
    "an approval": [QUESTION, APPROVAL, APPROVED, ANSWER],
    "unknown items": [QUESTION, {"type": "tomorrow", "id": "t_1", "deep": {"er": [1]}}],
    "instructions in the middle": [QUESTION, ANSWER, {"type": "message", "role": "developer", "content": "Be brief."}],
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_items_go_back_exactly_as_they_came(name: str) -> None:
    assert back(drafts_of_items(CONVERSATIONS[name])) == CONVERSATIONS[name]


def test_a_text_is_a_message_of_the_users() -> None:
    assert drafts_of_input("Hi") == [{"wire": {"role": "user", "content": "Hi"}}]


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_conversation_of_items_is_valid_in_its_chat_form(name: str) -> None:
    assert repair(rows(drafts_of_items(CONVERSATIONS[name]))).repaired_ids == []


def test_what_a_model_said_in_one_go_is_one_exchange_with_its_results() -> None:
    items = [QUESTION, REASONING, CALL, OTHER_CALL, RESULT, {**RESULT, "call_id": "c2"}, ANSWER]
    assert [len(exchange) for exchange in exchanges(rows(drafts_of_items(items)))] == [1, 3, 1]


def test_a_computer_and_its_screenshot_are_kept_together() -> None:
    assert [len(each) for each in exchanges(rows(drafts_of_items([QUESTION, COMPUTER, SCREENSHOT])))] == [1, 2]


def test_a_call_without_its_result_is_left_out_of_the_items_as_well() -> None:
    repaired = repair(rows(drafts_of_items([QUESTION, ANSWER, CALL, OTHER_CALL, RESULT]))).rows
    assert items_of(repaired, lambda row: True) == [QUESTION, ANSWER, CALL, RESULT]


def test_reasoning_that_may_not_go_back_takes_the_ids_that_ask_for_it_along() -> None:
    items = [QUESTION, REASONING, CALL, RESULT, REASONING, WEB_SEARCH, ANSWER]
    sent = back(drafts_of_items(items), may_replay=False)
    assert sent == [
        QUESTION,
        {key: value for key, value in CALL.items() if key != "id"},
        RESULT,
        {"role": "assistant", "content": "It is 42."},
    ]


def test_what_the_agents_sdk_notes_on_items_of_another_api_does_not_go_back() -> None:
    """As its chat completions model writes them: no server knows the id or the field."""
    noted = {"id": "__fake_id__", "provider_data": {"model": "gpt-4o"}}
    sent = back(drafts_of_items([QUESTION, {**CALL, **noted}, RESULT, {**ANSWER, **noted}]))
    bare_call = {key: value for key, value in CALL.items() if key != "id"}
    assert sent == [QUESTION, bare_call, RESULT, {"role": "assistant", "content": "It is 42."}]


def test_reasoning_without_its_encrypted_form_does_not_go_back() -> None:
    bare = {"type": "reasoning", "id": "rs_1", "summary": []}
    assert back(drafts_of_items([bare, CALL, RESULT]))[0] == {k: v for k, v in CALL.items() if k != "id"}


def test_chat_messages_become_items() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    custom = {"id": "c2", "type": "custom", "custom": {"name": "run", "input": "ls"}}
    wires: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "name": "ada",
            "content": [
                {"type": "text", "text": "See"},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
            ],
        },
        {"role": "assistant", "content": "I look.", "tool_calls": [call, custom]},
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "a"}]},
        {"role": "assistant", "content": None, "refusal": "No."},
        {"role": "assistant", "content": None, "audio": {"id": "a", "transcript": "Spoken."}},
    ]
    assert back([{"wire": wire} for wire in wires]) == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "See"},
                {"type": "input_image", "image_url": "https://example.com/a.png", "detail": "auto"},
            ],
        },
        {"role": "assistant", "content": "I look."},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "run", "input": "ls"},
        {"type": "function_call_output", "call_id": "c1", "output": "42"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "a"}]},
        {"role": "assistant", "content": "No."},
        {"role": "assistant", "content": "Spoken."},
    ]


def test_items_have_a_chat_form() -> None:
    image = {"type": "input_image", "image_url": "https://example.com/a.png", "detail": "low"}
    file = {"type": "input_file", "file_id": "file-1"}
    question = {"role": "user", "content": [{"type": "input_text", "text": "See"}, image, file]}
    drafts = drafts_of_items([question, REASONING, CALL, RESULT, COMPUTER, SCREENSHOT, ANSWER])
    assert [draft["wire"] for draft in drafts] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "See"},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}},
                {"type": "file", "file": {"file_id": "file-1"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "c9",
                    "type": "function",
                    "function": {"name": "computer", "arguments": '{"action": {"type": "screenshot"}}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "c9", "content": "(computer_screenshot)"},
        {"role": "assistant", "content": "It is 42."},
    ]


def test_what_no_server_takes_back_is_not_kept() -> None:
    part = {"type": "output_text", "text": "{}", "annotations": [], "parsed": {"a": 1}, "logprobs": []}
    item = {**ANSWER, "content": [part], "phase": None}
    assert cleaned(item) == {**ANSWER, "content": [{"type": "output_text", "text": "{}", "annotations": []}]}
    assert cleaned({**CALL, "parsed_arguments": {}}) == CALL


@pytest.mark.parametrize("given", [{"role": "user", "content": "Hi"}, 5, b"Hi", [5], ["Hi"]])
def test_an_input_that_is_none_is_refused(given: Any) -> None:
    with pytest.raises(ValidationError, match="input"):
        drafts_of_input(given)
