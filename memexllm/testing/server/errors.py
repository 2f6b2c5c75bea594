"""Errors as the API words them."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from memexllm.testing.server.jsontypes import JSONObject
from memexllm.testing.server.outcomes import ServerError


class InvalidRequestError(Exception):
    """The request is answered with 400, or 404, and does not use up a planned outcome."""

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        status: int = 400,
        kind: str = "invalid_request_error",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code
        self.status = status
        self.kind = kind

    def as_outcome(self) -> ServerError:
        return ServerError(self.status, self.message, type=self.kind, param=self.param, code=self.code)


# status: (message, type, code)
_USUAL: dict[int, tuple[str, str, str | None]] = {
    400: ("Invalid request.", "invalid_request_error", None),
    401: ("Incorrect API key provided.", "invalid_request_error", "invalid_api_key"),
    403: ("You are not allowed to use this resource.", "invalid_request_error", None),
    404: (
        "The model does not exist or you do not have access to it.",
        "invalid_request_error",
        "model_not_found",
    ),
    408: ("Request timed out.", "timeout", None),
    409: ("Another request is modifying this resource.", "invalid_request_error", "conflict"),
    413: ("Request too large.", "invalid_request_error", None),
    429: ("Rate limit reached for requests.", "requests", "rate_limit_exceeded"),
    503: ("The engine is currently overloaded, please try again later.", "server_error", None),
}
_OTHER = ("The server had an error while processing your request. Sorry about that!", "server_error", None)


def error_json(error: ServerError) -> JSONObject:
    message, kind, code = _USUAL.get(error.status, _OTHER)
    if error.message is not None:
        # The usual code belongs to the usual message.
        message, code = error.message, None
    return {
        "error": {
            "message": message,
            "type": error.type or kind,
            "param": error.param,
            "code": error.code or code,
        }
    }


def error_headers(error: ServerError) -> dict[str, str]:
    if error.retry_after_s is None:
        return dict(error.headers)
    # The SDK takes a wait of 0 for "not given" and backs off half a second; 1 ms is the least it obeys.
    wait_ms = max(1, round(error.retry_after_s * 1000))
    return {"retry-after": f"{error.retry_after_s:g}", "retry-after-ms": str(wait_ms), **error.headers}


def check_fields(owner: JSONObject, known: AbstractSet[str], where: str) -> None:
    for name in owner:
        if name not in known:
            raise unrecognized(f"{where}.{name}")


def unrecognized(where: str) -> InvalidRequestError:
    return InvalidRequestError(f"Unrecognized field: '{where}'.", param=where, code="unrecognized_field")


def missing(where: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"Missing required parameter: '{where}'.", param=where, code="missing_required_parameter"
    )


def wrong_type(where: str, expected: str) -> InvalidRequestError:
    return InvalidRequestError(f"Invalid type for '{where}': expected {expected}.", param=where, code="invalid_type")


def empty_array(where: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"Invalid '{where}': empty array. Expected an array with minimum length 1, but got an empty array instead.",
        param=where,
        code="empty_array",
    )
