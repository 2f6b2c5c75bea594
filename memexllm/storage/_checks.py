"""What every storage checks before it does anything."""

from __future__ import annotations

from typing import Any

from memexllm.core.errors import ValidationError
from memexllm.core.models import Thread
from memexllm.core.refusals import checked_positive


def checked_max_messages(max_messages: int | None) -> int | None:
    if max_messages is not None:
        checked_positive(max_messages, "max_messages", ", or None for no limit")
    return max_messages


def checked_message_limit(message_limit: int | None) -> None:
    if message_limit is not None:
        checked_positive(message_limit, "message_limit", ", or None for all")


def refuse_partial(thread: Any) -> None:
    """Saving what was only partly read would delete the rest."""
    if thread is None:
        raise ValidationError("Thread cannot be None; save_thread() is given a Thread")
    if not isinstance(thread, Thread):
        raise ValidationError(f"save_thread() is given a Thread, not a {type(thread).__name__}")
    if thread.partial:
        raise ValidationError(
            f"thread {thread.id!r} was read in part (a limit, a window, or without superseded messages) and cannot be "
            "saved; append_messages() adds to it, get_thread() without a limit reads it whole"
        )
