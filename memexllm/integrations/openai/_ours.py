"""What a call takes that is ours, for type checkers: the SDK's parameters come besides."""

from __future__ import annotations

from typing import Literal, TypedDict

from openai import NotGiven
from openai._types import Omit

LeftOut = NotGiven | Omit
"""What stands for a parameter that is not given."""


class Ours(TypedDict, total=False):
    """Those of every call that carries history, whichever API it goes to."""

    thread_id: str | LeftOut | None
    merge: Literal["auto", "append", "replace"] | None
    turn_id: str | None
    expected_version: int | None
