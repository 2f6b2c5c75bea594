"""What others have put in the place of the SDK's methods: mocks, and tracers that stand around them."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

from memexllm.integrations.openai.client_history import callers_level
from memexllm.integrations.openai.info import PatchedClientWarning
from memexllm.integrations.openai.surface import CHAT, RESPONSES, Surface


def patch_on_original(client: Any, surface: Surface, name: str) -> Callable[..., Any] | None:
    """Somebody else's method on the client that was wrapped; it has to be called in the place of the SDK's."""
    resource, replaced = _resource(client._memexllm_original, surface)
    if replaced:
        stand_in: Callable[..., Any] = getattr(resource, name)
        return stand_in
    patch: Callable[..., Any] | None = None if resource is None else resource.__dict__.get(name)
    return patch


def is_sdk_function(function: Any) -> bool:
    """Whether a method of the SDK's class is its own; a tracer's may say of itself that it is a function."""
    return type(function) is FunctionType and str(function.__globals__.get("__name__", "")).startswith("openai.")


def is_sdk_client(client: Any) -> bool:
    """By its type: a `MagicMock(spec=OpenAI)` passes isinstance() and is no client of the SDK's."""
    openai = sys.modules.get("openai")
    return openai is not None and issubclass(type(client), openai.OpenAI | openai.AsyncOpenAI)


def warn_if_instrumented(client: Any) -> None:
    """Say in which order to wrap, of a client around which somebody stands already.

    A function around another is told by `__wrapped__`; a mock in the place of a method is as it should be.
    """
    if is_sdk_client(client):
        instrumented = any(hasattr(patch, "__wrapped__") for patch in _patches(client))
    else:
        instrumented = is_sdk_client(getattr(client, "client", None))
    if instrumented:
        warnings.warn(
            f"this {type(client).__name__} was instrumented before it was wrapped: the calls of its copies and of beta "
            "are not seen by what was put around it. Wrap with_history first, then instrument",
            PatchedClientWarning,
            stacklevel=callers_level(),
        )


def _patches(client: Any) -> Iterator[Any]:
    for surface in (CHAT, RESPONSES):
        resource, replaced = _resource(client, surface)
        if resource is not None and not replaced:
            yield from (patch for name in ("create", "parse", "stream") if (patch := resource.__dict__.get(name)))


def _resource(client: Any, surface: Surface) -> tuple[Any, bool]:
    """The client's own resource, None if it was not looked at yet, and whether somebody has replaced it."""
    found = client
    for place, step in enumerate(surface.resource) if client is not None else ():
        found = found.__dict__.get(step)
        if found is None:
            return None, False
        if not _is_sdk_resource(found):
            for rest in surface.resource[place + 1 :]:
                found = getattr(found, rest)
            return found, True
    return found, False


def _is_sdk_resource(value: Any) -> bool:
    return any(cls.__module__.startswith("openai.resources") for cls in type(value).__mro__)
