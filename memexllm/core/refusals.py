"""How a value is refused: numbers out of bounds, and what pydantic refuses, in our words."""

from __future__ import annotations

from typing import Any

import pydantic

from memexllm.core.errors import ValidationError


def checked_positive(value: Any, name: str, otherwise: str = "") -> None:
    """`otherwise` tells what may be given in its place."""
    if not isinstance(value, int) or value < 1:
        raise ValidationError(f"{name} must be a positive integer{otherwise}; got {value!r:.20}")


def checked_not_negative(value: Any, name: str) -> None:
    if not isinstance(value, int) or value < 0:
        raise ValidationError(f"{name} must be a non-negative integer; got {value!r:.20}")


class refusals:  # noqa: N801 - reads as a clause: with refusals("message")
    """Turns pydantic's error into ours, without the values it quotes: they are someone's conversation."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, pydantic.ValidationError):
            problems = error.errors(include_input=False, include_url=False, include_context=False)
            told = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in problems[:3])
            raise ValidationError(f"{self.what} refused: {told}") from None
