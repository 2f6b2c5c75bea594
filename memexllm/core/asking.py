"""Asking a function of the user's, or a model, that may hang: an answer within a time limit, or none."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from memexllm.core.errors import ConfigurationError


class TimeLimitError(Exception):
    """What was asked did not answer in time."""


def completions_client(given: Any, model: str | None, role: str, writes: str) -> Any:
    """`given` as a client that answers chat completions, without retries of its own; None when it is no client.

    `role` is what it is to be ("summariser"), `writes` what the model writes; both for the errors.
    """
    completions = getattr(getattr(given, "chat", None), "completions", None)
    if not callable(getattr(completions, "create", None)):
        return None
    if hasattr(given, "_memexllm"):
        raise ConfigurationError(
            f"the {role} is a client that has a history itself; give the OpenAI client as it was before with_history()"
        )
    if model is None:
        raise ConfigurationError(f"a client as {role} needs model=, the model that writes {writes}")
    return given.with_options(max_retries=0) if callable(getattr(given, "with_options", None)) else given


def in_time(fn: Callable[..., Any], args: tuple[Any, ...], timeout_s: float, unawaited: list[Any]) -> Any:
    """What the function returns within the limit; one that hangs is left behind in a thread of its own.

    Of what must be awaited, a coroutine that has the limit too; the awaitable itself is put into `unawaited`, for those
    who cannot await.
    """
    returned: list[Any] = []
    raised: list[BaseException] = []
    context = contextvars.copy_context()

    def work() -> None:
        try:
            returned.append(context.run(fn, *args))
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
            raised.append(error)

    thread = threading.Thread(target=work, name="memexllm-asking", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if raised:
        raise raised[0]
    if not returned:
        raise TimeLimitError
    if hasattr(type(returned[0]), "__await__"):
        unawaited.append(returned[0])
        return _awaited_in_time(returned[0], timeout_s)
    return returned[0]


async def _awaited_in_time(awaitable: Awaitable[Any], timeout_s: float) -> Any:
    task = asyncio.ensure_future(awaitable)
    try:
        # Not wait_for(): it waits for as long as a task takes to be cancelled.
        await asyncio.wait([task], timeout=timeout_s)
    finally:
        if not task.done():
            task.cancel()
    if not task.done():
        task.add_done_callback(_look_at)
        raise TimeLimitError
    return task.result()


def _look_at(task: asyncio.Future[Any]) -> None:
    """What a task raises when nobody waits for it any more is reported by the loop, unless it was looked at."""
    if not task.cancelled():
        task.exception()
