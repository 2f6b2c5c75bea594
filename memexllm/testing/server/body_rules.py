"""The rules of a chat request's own fields."""

from __future__ import annotations

from collections.abc import Mapping

from memexllm.testing.server.errors import InvalidRequestError, empty_array, missing, wrong_type
from memexllm.testing.server.jsontypes import JSONObject, is_list, is_object
from memexllm.testing.server.message_rules import check_messages
from memexllm.testing.server.reasoning_rules import ReasoningDialect
from memexllm.testing.server.tool_rules import check_tool_order

KNOWN_PARAMETERS = frozenset(
    """
    audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens
    messages metadata modalities model moderation n parallel_tool_calls prediction presence_penalty
    prompt_cache_key prompt_cache_options prompt_cache_retention reasoning_effort response_format
    safety_identifier seed service_tier stop store stream stream_options temperature tool_choice tools
    top_logprobs top_p user verbosity web_search_options
    """.split()  # noqa: SIM905 - forty quoted lines read worse
)
"""Those of the API reference and of openai-python's `CompletionCreateParams`."""

_MAX_CHOICES = 128


def check_chat_body(body: JSONObject, *, strict_fields: bool, reasoning: ReasoningDialect) -> None:
    """Raises `InvalidRequestError` for what the API refuses; values of sampling parameters are not judged."""
    _check_known(body)
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise InvalidRequestError("you must provide a model parameter")
    messages = check_messages(body, strict_fields=strict_fields, reasoning=reasoning)
    check_tool_order(messages)
    _check_tools(body)
    _check_stream(body)
    _check_n(body)


def check_headers(headers: Mapping[str, str]) -> None:
    """A private header on the wire means the library failed to take it off."""
    for name in headers:
        if name.startswith("x-memexllm-"):
            raise InvalidRequestError(f"Unrecognized request header supplied: {name}", param=name)


def _check_known(body: JSONObject) -> None:
    unknown = [name for name in body if name not in KNOWN_PARAMETERS]
    if unknown:
        noun = "argument" if len(unknown) == 1 else "arguments"
        raise InvalidRequestError(f"Unrecognized request {noun} supplied: {', '.join(unknown)}")


def _check_tools(body: JSONObject) -> None:
    tools = body.get("tools")
    if tools is None:
        for name in ("tool_choice", "parallel_tool_calls"):
            if body.get(name) is not None:
                raise InvalidRequestError(
                    f"Invalid value for '{name}': '{name}' is only allowed when 'tools' are specified.",
                    param=name,
                )
        return
    if not is_list(tools):
        raise wrong_type("tools", "an array of objects")
    if not tools:
        raise empty_array("tools")
    for position, tool in enumerate(tools):
        _check_tool(tool, f"tools[{position}]")


def _check_tool(tool: object, where: str) -> None:
    kind = tool.get("type") if is_object(tool) else None
    if not is_object(tool) or kind not in ("function", "custom"):
        raise InvalidRequestError(
            f"Invalid value: {kind!r}. Supported values are: 'function' and 'custom'.",
            param=f"{where}.type",
            code="invalid_value",
        )
    shape = tool.get(kind)
    if not is_object(shape) or not isinstance(shape.get("name"), str) or not shape["name"]:
        raise missing(f"{where}.{kind}.name")


def _check_stream(body: JSONObject) -> None:
    if not isinstance(body.get("stream"), bool | None):
        raise wrong_type("stream", "a boolean")
    if body.get("stream_options") is not None and body.get("stream") is not True:
        raise InvalidRequestError(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )


def _check_n(body: JSONObject) -> None:
    n = body.get("n")
    if n is not None and (not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= _MAX_CHOICES):
        raise InvalidRequestError(
            f"Invalid 'n': expected an integer between 1 and {_MAX_CHOICES}, but got {n!r} instead.",
            param="n",
            code="invalid_value",
        )
