"""The rules of an embedding request, in the API's words."""

from __future__ import annotations

from memexllm.testing.server.errors import InvalidRequestError
from memexllm.testing.server.jsontypes import JSONObject, is_list

KNOWN_PARAMETERS = frozenset({"input", "model", "dimensions", "encoding_format", "user"})
"""Those of the API reference and of openai-python's `EmbeddingCreateParams`."""

MAX_INPUTS = 2048
MAX_INPUT_TOKENS = 8192
MAX_REQUEST_TOKENS = 300_000
DIMENSIONS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072, "text-embedding-ada-002": 1536}
OTHER_DIMENSIONS = 384
"""Of a model that is not OpenAI's."""


def check_embedding_body(body: JSONObject) -> None:
    """Raises `InvalidRequestError` for what the API refuses without counting tokens."""
    unknown = [name for name in body if name not in KNOWN_PARAMETERS]
    if unknown:
        noun = "argument" if len(unknown) == 1 else "arguments"
        raise InvalidRequestError(f"Unrecognized request {noun} supplied: {', '.join(unknown)}")
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise InvalidRequestError("you must provide a model parameter")
    if not _is_input(body.get("input")):
        raise InvalidRequestError(
            "'$.input' is invalid. Please check the API reference: https://platform.openai.com/docs/api-reference."
        )
    if body.get("encoding_format", "float") not in ("float", "base64"):
        raise InvalidRequestError(
            f"Invalid value: {body['encoding_format']!r}. Supported values are: 'float' and 'base64'.",
            param="encoding_format",
            code="invalid_value",
        )
    _check_dimensions(body)


def check_token_counts(counts: list[int]) -> None:
    """`counts`: the tokens of each input."""
    for n_tokens in counts:
        if n_tokens > MAX_INPUT_TOKENS:
            raise InvalidRequestError(
                f"This model's maximum context length is {MAX_INPUT_TOKENS} tokens, however you requested {n_tokens} "
                f"tokens ({n_tokens} in your prompt; 0 for the completion). Please reduce your prompt; or completion "
                "length."
            )
    if sum(counts) > MAX_REQUEST_TOKENS:
        raise InvalidRequestError(
            f"Requested {sum(counts)} tokens, max {MAX_REQUEST_TOKENS} tokens per request",
            kind="max_tokens_per_request",
            code="max_tokens_per_request",
        )


def _is_input(value: object) -> bool:
    """A text, tokens, or up to 2,048 of either; none of them empty."""
    if isinstance(value, str):
        return value != ""
    if not is_list(value) or not 1 <= len(value) <= MAX_INPUTS:
        return False
    return (
        _are_tokens(value)
        or all(isinstance(text, str) and text != "" for text in value)
        or all(is_list(tokens) and _are_tokens(tokens) for tokens in value)
    )


def _are_tokens(value: list[object]) -> bool:
    return bool(value) and all(isinstance(token, int) and not isinstance(token, bool) for token in value)


def _check_dimensions(body: JSONObject) -> None:
    dimensions = body.get("dimensions")
    if dimensions is None:
        return
    if body["model"] == "text-embedding-ada-002":
        raise InvalidRequestError("This model does not support specifying dimensions.", param="dimensions")
    most = DIMENSIONS.get(body["model"])
    if not isinstance(dimensions, int) or isinstance(dimensions, bool) or dimensions < 1:
        raise InvalidRequestError(
            f"Invalid 'dimensions': expected an integer >= 1, but got {dimensions!r} instead.",
            param="dimensions",
            code="invalid_value",
        )
    if most is not None and dimensions > most:
        raise InvalidRequestError(
            f"Invalid value for 'dimensions' = {dimensions}. Must be less than or equal to {most}.", param="dimensions"
        )
