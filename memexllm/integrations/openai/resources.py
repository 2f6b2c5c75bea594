"""The SDK's resources with history: subclasses whose methods take `thread_id`.

History goes into the body after the SDK has transformed it, in a per-call shallow clone of the resource whose
`_post` is ours: the SDK spends about 107 µs of CPU on each message it transforms, and stored messages need none of
it. When somebody has patched `create` (a tracer on the class, a test's mock on the instance) history goes in before
it instead, so that theirs sees the real prompt and is not bypassed.

This module imports openai; it is loaded when an SDK client is wrapped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import FunctionType
from typing import Any

from openai import AsyncStream, Stream
from openai._compat import cached_property
from openai.resources.chat import AsyncChat, Chat
from openai.resources.chat.completions import AsyncCompletions, Completions

from memexllm.core.errors import ConfigurationError
from memexllm.core.flow import arun, run
from memexllm.integrations.openai.answers import answer_of
from memexllm.integrations.openai.call import Call, raise_if_asked
from memexllm.integrations.openai.client_history import NOT_GIVEN, pop_header
from memexllm.integrations.openai.duck import is_stream, listening
from memexllm.integrations.openai.info import attach
from memexllm.integrations.openai.merge import MERGE_MODES, MergeMode
from memexllm.integrations.openai.streams import listen

CHAT_PATH = "/chat/completions"


class HistoryCompletions(Completions):
    """`chat.completions` of a synchronous client."""

    def create(self, *, thread_id: Any = NOT_GIVEN, merge: MergeMode | None = None, **params: Any) -> Any:
        call = begin(self._client, thread_id, merge, params)
        if call is None:
            return super().create(**params)
        target = patched_create(self, Completions)
        if target is None:
            clone = _clone(self)
            clone._post = _late_post(self._post, call)
            return Completions.create(clone, **params)
        params["messages"] = run(call.prepare(params))
        received = Received(call, params)
        result = received.take(target(**params))
        run_save(received, result)
        return result


class AsyncHistoryCompletions(AsyncCompletions):
    """`chat.completions` of an asynchronous client."""

    async def create(self, *, thread_id: Any = NOT_GIVEN, merge: MergeMode | None = None, **params: Any) -> Any:
        call = begin(self._client, thread_id, merge, params)
        if call is None:
            return await super().create(**params)
        target = patched_create(self, AsyncCompletions)
        if target is None:
            clone = _clone(self)
            clone._post = _late_async_post(self._post, call)
            return await AsyncCompletions.create(clone, **params)
        params["messages"] = await arun(call.prepare(params))
        received = Received(call, params)
        result = target(**params)
        result = received.take(await result if hasattr(type(result), "__await__") else result)
        await arun_save(received, result)
        return result


class HistoryChat(Chat):
    @cached_property
    def completions(self) -> HistoryCompletions:
        return HistoryCompletions(self._client)


class AsyncHistoryChat(AsyncChat):
    @cached_property
    def completions(self) -> AsyncHistoryCompletions:
        return AsyncHistoryCompletions(self._client)


class Received:
    """What came back for a call: an answer to store, or a stream that is listened to and stores itself."""

    def __init__(self, call: Call, body: Mapping[str, Any]) -> None:
        self.call = call
        self._body = body
        self.completion: Any = None

    def take(self, result: Any) -> Any:
        if isinstance(result, Stream | AsyncStream):
            listen(result, self.call, self._body, asynchronous=isinstance(result, AsyncStream))
        elif hasattr(result, "http_response"):  # a raw response: parsing it calls our post_parser, or gives the answer
            parsed = result.parse()
            if self.completion is None and not isinstance(parsed, Stream | AsyncStream):
                self.completion = parsed
        elif is_stream(result, self._body):  # a patched `create` may return what only iterates
            return listening(result, self.call, self._body)
        else:
            self.completion = result
        attach(result, self.call.info)
        return result


def begin(client: Any, thread_id: Any, merge: MergeMode | None, params: dict[str, Any]) -> Call | None:
    """The call's history, or None when it has none. Takes what is ours out of `params`."""
    if merge is not None and merge not in MERGE_MODES:
        raise ConfigurationError(f"merge is one of {', '.join(MERGE_MODES)}, not {merge!r}")
    header = pop_header(params)
    extra_body = params.get("extra_body")
    if isinstance(extra_body, Mapping) and "thread_id" in extra_body:
        raise ConfigurationError("thread_id was given in extra_body, which is sent to the API; pass thread_id= itself")
    history = client._memexllm
    scope = client._memexllm_scope
    resolved = history.resolve(thread_id, header, scope)
    if resolved is None:
        return None
    return Call(history, resolved, scope, _server(client), merge)


def patched_create(resource: Any, sdk_class: Any) -> Callable[..., Any] | None:
    """Somebody else's `create` that has to be called: on the wrapped client's original, or on the SDK's class."""
    client = resource._client
    original = client._memexllm_original
    chat: Any = None if original is None else original.__dict__.get("chat")
    if chat is not None:
        if not isinstance(chat, Chat | AsyncChat):
            stand_in: Callable[..., Any] = chat.completions.create
            return stand_in
        completions: Any = chat.__dict__.get("completions")
        ours = isinstance(completions, Completions | AsyncCompletions)
        if completions is not None and not (ours and "create" not in completions.__dict__):
            patch: Callable[..., Any] = completions.create
            return patch
    inject = client._memexllm.options.inject
    if inject == "early" or (inject == "auto" and not _is_sdk_function(sdk_class.create)):
        return partial(sdk_class.create, resource)  # the SDK's own, as patched
    return None


def run_save(received: Received, result: Any) -> None:
    if received.completion is not None:
        run(received.call.save(answer_of(received.completion)))
        raise_if_asked(received.call, result)


async def arun_save(received: Received, result: Any) -> None:
    if received.completion is not None:
        await arun(received.call.save(answer_of(received.completion)))
        raise_if_asked(received.call, result)


def _late_post(inner: Callable[..., Any], call: Call) -> Callable[..., Any]:
    def post(path: str, **request: Any) -> Any:
        if path != CHAT_PATH:
            return inner(path, **request)
        body = request["body"]
        request["body"] = {**body, "messages": run(call.prepare(body))}
        received = _listen_in(request, call)
        result = inner(path, **request)
        _parse_raw(result, request)
        attach(result, call.info)
        run_save(received, result)
        return result

    return post


def _late_async_post(inner: Callable[..., Any], call: Call) -> Callable[..., Any]:
    async def post(path: str, **request: Any) -> Any:
        if path != CHAT_PATH:
            return await inner(path, **request)
        body = request["body"]
        request["body"] = {**body, "messages": await arun(call.prepare(body))}
        received = _listen_in(request, call)
        result = await inner(path, **request)
        _parse_raw(result, request)
        attach(result, call.info)
        await arun_save(received, result)
        return result

    return post


def _listen_in(request: dict[str, Any], call: Call) -> Received:
    """Take what the SDK parses, before a parser of its own that may raise."""
    received = Received(call, request["body"])
    options = dict(request.get("options") or {})
    parser = options.get("post_parser")

    def take(parsed: Any) -> Any:
        received.take(parsed)
        return parser(parsed) if callable(parser) else parsed

    options["post_parser"] = take
    request["options"] = options
    return received


def _parse_raw(result: Any, request: Mapping[str, Any]) -> None:
    """A raw response is parsed when asked to; its answer must be stored either way."""
    if hasattr(result, "http_response") and not request.get("stream"):
        result.parse()


def _clone(resource: Any) -> Any:
    clone = object.__new__(type(resource))
    clone.__dict__.update(resource.__dict__)
    return clone


def _server(client: Any) -> str:
    """The base URL as text, remembered while it stays the same object."""
    url = client.base_url
    known = client.__dict__.get("_memexllm_server")
    if known is None or known[0] is not url:
        known = client.__dict__["_memexllm_server"] = (url, str(url))
    server: str = known[1]
    return server


def _is_sdk_function(function: Any) -> bool:
    return isinstance(function, FunctionType) and str(function.__globals__.get("__name__", "")).startswith("openai.")
