"""Where pydantic refuses a value, in our words."""

from __future__ import annotations

import pydantic

from memexllm.core.errors import ValidationError


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
