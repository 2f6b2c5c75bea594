"""`ProviderError`: its parts, and that it survives being copied between processes."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from memexllm.core.errors import MemexLLMError, NotSupportedError, ProviderError


class MadeFromAResponse(Exception):  # noqa: N818 - an SDK's
    """As SDKs write them: what it is made from is not what it keeps."""

    def __init__(self, message: str, *, response: Any) -> None:
        super().__init__(message)
        self.response = response


def sent_elsewhere(error: Any) -> Any:
    """As a worker process hands it back."""
    return pickle.loads(pickle.dumps(error))  # noqa: S301 - what was written just now


def test_its_parts_and_its_message() -> None:
    cause = KeyError("x")
    error = ProviderError("redis", "add", cause)
    assert (error.provider, error.operation, error.cause) == ("redis", "add", cause)
    assert str(error) == "[redis] add failed: 'x'"
    assert isinstance(error, MemexLLMError)


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, sent_elsewhere],
    ids=["copy", "deepcopy", "pickle"],
)
@pytest.mark.parametrize(
    "error",
    [
        ProviderError("redis", "add", KeyError("x")),
        ProviderError("redis", "add", "nothing there"),
        NotSupportedError("redis", "reembed", "make it anew"),
        ProviderError("redis", "add", MadeFromAResponse("refused", response=open)),
        ProviderError("redis", "add", ProviderError("inner", "get", ValueError("y"))),
    ],
    ids=["cause", "text", "not supported", "cause that cannot be copied", "nested"],
)
def test_a_copy_says_the_same(error: ProviderError, copied: Any) -> None:
    again = copied(error)
    assert type(again) is type(error)
    assert (again.provider, again.operation, str(again)) == (error.provider, error.operation, str(error))
    assert str(again.cause) == str(error.cause)


def test_a_copy_keeps_what_was_added_to_it() -> None:
    error = NotSupportedError("redis", "reembed", "make it anew")
    error.add_note("seen twice")
    again = sent_elsewhere(error)
    assert (again.hint, again.__notes__) == ("make it anew", ["seen twice"])
