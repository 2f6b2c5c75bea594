"""The server's own replies: they show what the request contained, and nothing else decides them."""

from __future__ import annotations

import json

from memexllm.testing.server.jsontypes import JSONObject, object_at, objects_at, string_at, strings_at
from memexllm.testing.server.outcomes import Answer
from memexllm.testing.server.recall import recall
from memexllm.testing.server.received import ChatRequest, text_of
from memexllm.testing.server.schema_values import value_for
from memexllm.testing.server.tool_choice import called_tools


def reply_from_history(request: ChatRequest) -> Answer:
    """Reports tool results, answers questions about earlier messages from them, or calls a fitting tool.

    "What is my name?" is answered from "my name is Ada", "what is my favourite colour?" from "my favourite colour is
    green"; "what did I say about trains?" by quoting, "how many messages?" by counting. Anything else is echoed.
    Choices after the first are numbered, so they can be told apart. With the modality "audio" the text is the
    transcript of a spoken answer. The items of a Responses request are read as messages.
    """
    if request.messages and request.messages[-1]["role"] in ("tool", "function"):
        return _numbered(_report_of_results(request.messages), request)
    text = request.last_user_text
    if (structured := _structured_reply(request.body, text)) is not None:
        return Answer(structured)
    if not _call_is_forced(request.body) and (remembered := recall(request.messages)) is not None:
        return _numbered(remembered, request)
    if (message := called_tools(request.body, text)) is not None:
        return Answer(message)
    return _numbered(f"You said: {text}", request)


def thought_about(request: ChatRequest) -> str:
    """What a model that reasons thinks before it answers."""
    return f"I have read {len(request.messages)} messages, the question has {len(request.last_user_text)} characters."


def _numbered(text: str, request: ChatRequest) -> Answer:
    texts = [text, *(f"{text} (choice {number})" for number in range(2, request.n_choices + 1))]
    if "audio" not in strings_at(request.body, "modalities"):
        return Answer(texts[0], alternatives=texts[1:])
    first, *others = [{"content": None, "refusal": None, "audio": {"transcript": text}} for text in texts]
    return Answer(first, alternatives=others)


def _call_is_forced(body: JSONObject) -> bool:
    return body.get("tool_choice") not in (None, "auto", "none")


def _structured_reply(body: JSONObject, text: str) -> str | None:
    """JSON when `response_format` asks for it, with values from the user's text where they fit the schema."""
    response_format = object_at(body, "response_format")
    match response_format.get("type"):
        case "json_schema":
            return json.dumps(value_for(object_at(object_at(response_format, "json_schema"), "schema"), text))
        case "json_object":
            return json.dumps({"reply": text})
        case _:
            return None


def _report_of_results(messages: list[JSONObject]) -> str:
    names = {
        call["id"]: string_at(object_at(call, string_at(call, "type")), "name")
        for message in messages
        for call in objects_at(message, "tool_calls")
    }
    results: list[str] = []
    for message in reversed(messages):
        if message["role"] not in ("tool", "function"):
            break
        name = message["name"] if message["role"] == "function" else names[message["tool_call_id"]]
        results.append(f"The result of {name} is: {text_of(message)}")
    return "\n".join(reversed(results))
