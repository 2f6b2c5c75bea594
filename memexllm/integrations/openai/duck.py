"""Clients that are not the SDK's: anything with `chat.completions.create` gets that method shadowed on the object."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from memexllm.core.errors import ConfigurationError
from memexllm.core.flow import arun, run
from memexllm.integrations.openai.call import Call
from memexllm.integrations.openai.client_history import ClientHistory, Scope, keep_tools, pop_header, taken_out
from memexllm.integrations.openai.performing import Received, conclude, perform
from memexllm.integrations.openai.surface import CHAT

_MARK = "_memexllm_history"


def shadowed(client: Any, history: ClientHistory) -> Any:
    """The client itself, its `create` replaced by one that takes `thread_id`."""
    completions: Any = getattr(getattr(client, "chat", None), "completions", None)
    create = getattr(completions, "create", None)
    if not callable(create):
        raise ConfigurationError(
            f"{type(client).__name__} has no chat.completions.create; with_history() wraps OpenAI clients and what is "
            "called like them"
        )
    if inspect.iscoroutinefunction(create) or inspect.iscoroutinefunction(getattr(create, "__call__", None)):  # noqa: B004
        shadow = _async_shadow(create, history)
    elif history.manager.port.asynchronous:
        raise ConfigurationError("a synchronous client needs a synchronous storage; its calls cannot await")
    else:
        shadow = _shadow(create, history)
    completions.create = shadow
    _set_mark(completions, history)
    return client


def history_on_duck(client: Any) -> ClientHistory | None:
    completions = getattr(getattr(client, "chat", None), "completions", None)
    found = getattr(completions, "__dict__", {}).get(_MARK)
    return found if isinstance(found, ClientHistory) else None


def _shadow(create: Callable[..., Any], history: ClientHistory) -> Callable[..., Any]:
    def create_with_history(**params: Any) -> Any:
        call = _begin(history, params)
        if call is None:
            return create(**params)
        received = Received(call, params)
        try:
            params["messages"] = run(call.prepare(call.surface.drafts(params.get("messages") or ()), params))
            result = create(**params)
        except BaseException:
            run(received.failed())
            raise
        if hasattr(type(result), "__await__"):
            received.asynchronous = True
            return _awaited(result, received)
        return run(conclude(received, result))

    return create_with_history


def _async_shadow(create: Callable[..., Any], history: ClientHistory) -> Callable[..., Any]:
    async def create_with_history(**params: Any) -> Any:
        call = _begin(history, params, asynchronous=True)
        if call is None:
            return await create(**params)
        incoming = call.surface.drafts(params.get("messages") or ())
        return await arun(
            perform(call, incoming, Received(call, params), lambda sent: create(**{**params, "messages": sent}))
        )

    return create_with_history


async def _awaited(awaitable: Any, received: Received) -> Any:
    try:
        result = await awaitable
    except BaseException:
        await arun(received.failed())
        raise
    return await arun(conclude(received, result))


def _begin(history: ClientHistory, params: dict[str, Any], *, asynchronous: bool = False) -> Call | None:
    ours = taken_out(params)
    resolved = history.resolve(ours.thread_id, pop_header(params), Scope())
    if resolved is None:
        return None
    keep_tools(params)
    return Call(history, resolved, Scope(), "", ours, CHAT, asynchronous=asynchronous)


def _set_mark(completions: Any, history: ClientHistory) -> None:
    getattr(completions, "__dict__", {})[_MARK] = history
