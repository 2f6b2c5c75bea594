"""Clients that are not the SDK's: anything with `chat.completions.create` gets that method shadowed on the object."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

from memexllm.core.errors import ConfigurationError
from memexllm.core.flow import arun, run
from memexllm.integrations.openai.answers import answer_of
from memexllm.integrations.openai.call import Call, raise_if_asked
from memexllm.integrations.openai.client_history import NOT_GIVEN, ClientHistory, Scope, pop_header
from memexllm.integrations.openai.info import attach
from memexllm.integrations.openai.streams import AsyncListeningIterator, ListeningIterator, StreamRecorder
from memexllm.integrations.openai.wire import incoming_wires

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
    def create_with_history(*, thread_id: Any = NOT_GIVEN, merge: Any = None, **params: Any) -> Any:
        call = _begin(history, thread_id, merge, params)
        if call is None:
            return create(**params)
        params["messages"] = run(call.prepare(incoming_wires(params.get("messages") or ()), params))
        result = create(**params)
        if hasattr(type(result), "__await__"):
            return _awaited(result, call, params)
        if is_stream(result, params):
            return listening(result, call, params)
        attach(result, call.info)
        run(call.save(answer_of(result)))
        raise_if_asked(call, result)
        return result

    return create_with_history


def _async_shadow(create: Callable[..., Any], history: ClientHistory) -> Callable[..., Any]:
    async def create_with_history(*, thread_id: Any = NOT_GIVEN, merge: Any = None, **params: Any) -> Any:
        call = _begin(history, thread_id, merge, params)
        if call is None:
            return await create(**params)
        params["messages"] = await arun(call.prepare(incoming_wires(params.get("messages") or ()), params))
        return await _awaited(create(**params), call, params)

    return create_with_history


async def _awaited(awaitable: Any, call: Call, params: Mapping[str, Any]) -> Any:
    result = await awaitable
    if is_stream(result, params):
        return listening(result, call, params)
    attach(result, call.info)
    await arun(call.save(answer_of(result)))
    raise_if_asked(call, result)
    return result


def is_stream(result: Any, params: Mapping[str, Any]) -> bool:
    return bool(params.get("stream")) and (hasattr(type(result), "__iter__") or hasattr(type(result), "__aiter__"))


def listening(stream: Any, call: Call, params: Mapping[str, Any]) -> ListeningStream | AsyncListeningStream:
    """What the caller gets in the place of a foreign stream."""
    kind = AsyncListeningStream if hasattr(type(stream), "__aiter__") else ListeningStream
    return kind(stream, call, params)


class ListeningStream:
    """A foreign stream, listened to; its other attributes are the stream's own."""

    def __init__(self, stream: Any, call: Call, request: Mapping[str, Any]) -> None:
        self._stream = stream
        self._listening = ListeningIterator(iter(stream), StreamRecorder(call, request))
        attach(self, call.info)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._listening)

    def __next__(self) -> Any:
        return next(self._listening)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._listening.close()


class AsyncListeningStream:
    """Async `ListeningStream`."""

    def __init__(self, stream: Any, call: Call, request: Mapping[str, Any]) -> None:
        self._stream = stream
        self._listening = AsyncListeningIterator(aiter(stream), StreamRecorder(call, request))
        attach(self, call.info)

    def __aiter__(self) -> AsyncListeningIterator:
        return aiter(self._listening)

    async def __anext__(self) -> Any:
        return await anext(self._listening)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._listening.aclose()


def _begin(history: ClientHistory, thread_id: Any, merge: Any, params: dict[str, Any]) -> Call | None:
    resolved = history.resolve(thread_id, pop_header(params), Scope())
    if resolved is None:
        return None
    return Call(history, resolved, Scope(), "", merge)


def _set_mark(completions: Any, history: ClientHistory) -> None:
    getattr(completions, "__dict__", {})[_MARK] = history
