"""What a call of chat completions takes besides what is ours, for type checkers: the SDK's own parameters.

Written by scripts/openai-params from the signatures of openai 3.54.0. The SDK's parameters are spelled out in its
methods only, and its TypedDicts refuse the values that stand for "not given".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, Required

from openai import Timeout
from openai._types import Body, Headers, Query
from openai.types.chat import (
    ChatCompletionAudioParam,
    ChatCompletionMessageParam,
    ChatCompletionPredictionContentParam,
    ChatCompletionStreamOptionsParam,
    ChatCompletionToolChoiceOptionParam,
    ChatCompletionToolUnionParam,
    completion_create_params,
)
from openai.types.shared import ChatModel, ReasoningEffort
from openai.types.shared_params import Metadata

from memexllm.integrations.openai._ours import LeftOut, Ours


class Params(Ours, total=False):
    """Ours, and those of `create`, `parse` and `stream` alike."""

    messages: Required[Iterable[ChatCompletionMessageParam]]
    model: Required[str | ChatModel]
    audio: ChatCompletionAudioParam | LeftOut | None
    frequency_penalty: float | LeftOut | None
    function_call: completion_create_params.FunctionCall | LeftOut
    functions: Iterable[completion_create_params.Function] | LeftOut
    logit_bias: dict[str, int] | LeftOut | None
    logprobs: bool | LeftOut | None
    max_completion_tokens: int | LeftOut | None
    max_tokens: int | LeftOut | None
    metadata: Metadata | LeftOut | None
    modalities: list[Literal["text", "audio"]] | LeftOut | None
    moderation: Mapping[str, object] | LeftOut | None
    n: int | LeftOut | None
    parallel_tool_calls: bool | LeftOut
    prediction: ChatCompletionPredictionContentParam | LeftOut | None
    presence_penalty: float | LeftOut | None
    prompt_cache_key: str | LeftOut | None
    prompt_cache_options: Mapping[str, object] | LeftOut
    prompt_cache_retention: Literal["in_memory", "24h"] | LeftOut | None
    reasoning_effort: ReasoningEffort | LeftOut | None
    safety_identifier: str | LeftOut | None
    seed: int | LeftOut | None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | LeftOut | None
    stop: str | Sequence[str] | LeftOut | None
    store: bool | LeftOut | None
    stream_options: ChatCompletionStreamOptionsParam | LeftOut | None
    temperature: float | LeftOut | None
    tool_choice: ChatCompletionToolChoiceOptionParam | LeftOut
    tools: Iterable[ChatCompletionToolUnionParam] | LeftOut
    top_logprobs: int | LeftOut | None
    top_p: float | LeftOut | None
    user: str | LeftOut
    verbosity: Literal["low", "medium", "high"] | LeftOut | None
    web_search_options: completion_create_params.WebSearchOptions | LeftOut
    extra_headers: Headers | None
    extra_query: Query | None
    extra_body: Body | None
    timeout: float | Timeout | LeftOut | None


class CreateParams(Params, total=False):
    response_format: completion_create_params.ResponseFormat | LeftOut


class NotStreamed(CreateParams, total=False):
    stream: Literal[False] | LeftOut | None


class Streamed(CreateParams):
    stream: Literal[True]


class MaybeStreamed(CreateParams):
    stream: bool
