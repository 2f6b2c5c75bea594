"""What a call of the Responses API takes besides what is ours, for type checkers: the SDK's own parameters.

Written by scripts/openai-params from the signatures of openai 3.54.0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from openai import Timeout
from openai._types import Body, Headers, Query
from openai.types.responses import (
    ResponseIncludable,
    ResponseInputParam,
    ResponsePromptParam,
    ResponseTextConfigParam,
    ToolParam,
    response_create_params,
)
from openai.types.responses.tool_param import ParseableToolParam
from openai.types.shared_params import Metadata, Reasoning, ResponsesModel

from memexllm.integrations.openai._ours import LeftOut, Ours


class Params(Ours, total=False):
    """Ours, and those of `create`, `parse` and `stream` alike."""

    access_programs: Mapping[str, object] | LeftOut
    background: bool | LeftOut | None
    background_options: Mapping[str, object] | LeftOut
    context_management: Iterable[Mapping[str, object]] | LeftOut | None
    conversation: str | Mapping[str, object] | LeftOut | None
    image: Mapping[str, object] | LeftOut
    include: list[ResponseIncludable] | LeftOut | None
    input: str | ResponseInputParam | LeftOut
    instructions: str | LeftOut | None
    max_output_tokens: int | LeftOut | None
    max_tool_calls: int | LeftOut | None
    metadata: Metadata | LeftOut | None
    model: ResponsesModel | LeftOut
    moderation: Mapping[str, object] | LeftOut | None
    parallel_tool_calls: bool | LeftOut | None
    previous_response_id: str | LeftOut | None
    prompt: ResponsePromptParam | LeftOut | None
    prompt_cache_key: str | LeftOut | None
    prompt_cache_options: Mapping[str, object] | LeftOut
    prompt_cache_retention: Literal["in_memory", "24h"] | LeftOut | None
    reasoning: Reasoning | LeftOut | None
    safety_identifier: str | LeftOut | None
    service_tier: str | LeftOut | None
    store: bool | LeftOut | None
    stream_options: response_create_params.StreamOptions | LeftOut | None
    temperature: float | LeftOut | None
    text: ResponseTextConfigParam | LeftOut
    tool_choice: response_create_params.ToolChoice | LeftOut
    top_logprobs: int | LeftOut | None
    top_p: float | LeftOut | None
    truncation: Literal["auto", "disabled"] | LeftOut | None
    user: str | LeftOut
    extra_headers: Headers | None
    extra_query: Query | None
    extra_body: Body | None
    timeout: float | Timeout | LeftOut | None


class CreateParams(Params, total=False):
    tools: Iterable[ToolParam] | LeftOut


class NotStreamed(CreateParams, total=False):
    stream: Literal[False] | LeftOut | None


class Streamed(CreateParams):
    stream: Literal[True]


class MaybeStreamed(CreateParams):
    stream: bool


class ParseParams(Params, total=False):
    parse_as: type | LeftOut | None
    tools: Iterable[ParseableToolParam] | LeftOut
    verbosity: Literal["low", "medium", "high"] | LeftOut | None


class StreamParams(Params, total=False):
    response_id: str | LeftOut
    tools: Iterable[ParseableToolParam] | LeftOut
    starting_after: int | LeftOut
