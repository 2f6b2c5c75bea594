"""The SDK's resources with history: subclasses whose methods take `thread_id`.

History goes into the body after the SDK has transformed it, in a per-call shallow clone of the resource whose
`_post` is ours: the SDK spends about 107 µs of CPU on each message it transforms, and neither stored nor new messages
need any of it. When somebody has patched `create` (a tracer on the class, a test's mock on the instance) history goes
in before it instead, so that theirs sees the real prompt and is not bypassed.

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
from openai.types.chat import ChatCompletion

from memexllm.core.errors import ConfigurationError
from memexllm.core.flow import arun, run
from memexllm.integrations.openai.answers import answer_of
from memexllm.integrations.openai.call import Call, raise_if_asked
from memexllm.integrations.openai.client_history import NOT_GIVEN, pop_header
from memexllm.integrations.openai.duck import is_stream, listening
from memexllm.integrations.openai.info import attach
from memexllm.integrations.openai.merge import MERGE_MODES, MergeMode
from memexllm.integrations.openai.streams import listen
from memexllm.integrations.openai.wire import Wire, incoming_wires

CHAT_PATH = "/chat/completions"
_RAW_HEADER = "X-Stainless-Raw-Response"


class HistoryCompletions(Completions):
    """`chat.completions` of a synchronous client."""

    def create(self, *, thread_id: Any = NOT_GIVEN, merge: MergeMode | None = None, **params: Any) -> Any:
        call = begin(self._client, thread_id, merge, params)
        if call is None:
            return super().create(**params)
        target = patched_create(self, Completions)
        if target is None:
            return Completions.create(_late(self, _late_post(self._post, call, params)), **params)
        params["messages"] = run(call.prepare(incoming_wires(params.get("messages") or ()), params))
        received = Received(call, params)
        result = received.arrived(target(**params))
        if received.completion is not None:
            run(call.save(answer_of(received.completion)))
            raise_if_asked(call, result)
        return result

    def parse(self, *, thread_id: Any = NOT_GIVEN, merge: MergeMode | None = None, **params: Any) -> Any:
        call = begin(self._client, thread_id, merge, params)
        if call is None:
            return super().parse(**params)
        return Completions.parse(_late(self, _late_post(self._post, call, params)), **params)

    def stream(self, *, thread_id: Any = NOT_GIVEN, merge: MergeMode | None = None, **params: Any) -> Any:
        return Completions.stream(_bound(self, thread_id, merge), **params)


class AsyncHistoryCompletions(AsyncCompletions):
    """`chat.completions` of an asynchronous client."""

    async def create(self, *, thread_id: Any = NOT_GIVEN, merge: MergeMode | None = None, **params: Any) -> Any:
        call = begin(self._client, thread_id, merge, params)
        if call is None:
            return await super().create(**params)
        target = patched_create(self, AsyncCompletions)
        if target is None:
            return await AsyncCompletions.create(_late(self, _late_async_post(self._post, call, params)), **params)
        params["messages"] = await arun(call.prepare(incoming_wires(params.get("messages") or ()), params))
        received = Received(call, params)
        result = target(**params)
        result = await received.arrived_async(await result if hasattr(type(result), "__await__") else result)
        if received.completion is not None:
            await arun(call.save(answer_of(received.completion)))
            raise_if_asked(call, result)
        return result

    async def parse(self, *, thread_id: Any = NOT_GIVEN, merge: MergeMode | None = None, **params: Any) -> Any:
        call = begin(self._client, thread_id, merge, params)
        if call is None:
            return await super().parse(**params)
        return await AsyncCompletions.parse(_late(self, _late_async_post(self._post, call, params)), **params)

    def stream(self, *, thread_id: Any = NOT_GIVEN, merge: MergeMode | None = None, **params: Any) -> Any:
        return AsyncCompletions.stream(_bound(self, thread_id, merge), **params)


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

    __slots__ = ("_body", "_call", "_parsing", "_taken", "completion")

    def __init__(self, call: Call, body: Mapping[str, Any]) -> None:
        self._call = call
        self._body = body
        self._taken = False
        self._parsing: Any = None
        self.completion: Any = None

    def take(self, parsed: Any) -> None:
        """An answer, or a stream, as the SDK has parsed it."""
        self._taken = True
        if isinstance(parsed, Stream | AsyncStream):
            listen(parsed, self._call, self._body, asynchronous=isinstance(parsed, AsyncStream))
        else:
            self.completion = parsed
        attach(parsed, self._call.info)

    def arrived(self, result: Any) -> Any:
        """What the SDK returned. A raw response is parsed when asked to; its answer must be stored either way."""
        if self._taken:
            attach(result, self._call.info)
            return result
        if isinstance(result, ChatCompletion | Stream | AsyncStream):
            self.take(result)
            return result
        if not hasattr(result, "http_response"):
            if is_stream(result, self._body):  # a patched `create` may return what only iterates
                return listening(result, self._call, self._body)
            self.take(result)
            return result
        attach(result, self._call.info)
        if not self._body.get("stream"):
            parsed = result.parse()
            if hasattr(type(parsed), "__await__"):
                self._parsing = parsed
            elif not self._taken:
                self.take(parsed)
        return result

    async def arrived_async(self, result: Any) -> Any:
        """Async `arrived`: the response of an asynchronous `with_streaming_response` is parsed by awaiting it."""
        result = self.arrived(result)
        if self._parsing is not None:
            parsed = await self._parsing
            if not self._taken:
                self.take(parsed)
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
    if isinstance(extra_body, Mapping) and "messages" in extra_body:
        raise ConfigurationError(
            "messages in extra_body would be sent in the place of the thread; pass messages= itself"
        )
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


def _late_post(inner: Callable[..., Any], call: Call, params: dict[str, Any]) -> Callable[..., Any]:
    incoming = _take_messages(params)

    def post(path: str, **request: Any) -> Any:
        if path != CHAT_PATH:
            return inner(path, **request)
        body = request["body"]
        request["body"] = {**body, "messages": run(call.prepare(incoming, body))}
        received = Received(call, body) if _is_direct(request) else _listen_in(request, call)
        try:
            result = received.arrived(inner(path, **request))
        finally:  # also when the SDK's parser refuses the answer: it is paid for
            if received.completion is not None:
                run(call.save(answer_of(received.completion)))
        raise_if_asked(call, result)
        return result

    return post


def _late_async_post(inner: Callable[..., Any], call: Call, params: dict[str, Any]) -> Callable[..., Any]:
    incoming = _take_messages(params)

    async def post(path: str, **request: Any) -> Any:
        if path != CHAT_PATH:
            return await inner(path, **request)
        body = request["body"]
        request["body"] = {**body, "messages": await arun(call.prepare(incoming, body))}
        received = Received(call, body) if _is_direct(request) else _listen_in(request, call)
        try:
            result = await received.arrived_async(await inner(path, **request))
        finally:  # also when the SDK's parser refuses the answer: it is paid for
            if received.completion is not None:
                await arun(call.save(answer_of(received.completion)))
        raise_if_asked(call, result)
        return result

    return post


def _is_direct(request: Mapping[str, Any]) -> bool:
    """Whether `_post` returns the answer or stream itself: no raw response, and no parser that may raise before us."""
    options = request.get("options") or {}
    return not (options.get("post_parser") or _RAW_HEADER in (options.get("headers") or ()))


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


def _take_messages(params: dict[str, Any]) -> list[Wire]:
    """The call's messages. The SDK's transform is given none: it would spend 107 µs on each and change nothing."""
    if "messages" not in params:
        return []  # the SDK says so itself
    incoming = incoming_wires(params["messages"])
    params["messages"] = []
    return incoming


def _late(resource: Any, post: Callable[..., Any]) -> Any:
    """The resource for one call, with another `_post`."""
    clone = object.__new__(type(resource))
    clone.__dict__.update(resource.__dict__, _post=post)
    return clone


def _bound(resource: Any, thread_id: Any, merge: MergeMode | None) -> Any:
    """The resource with a `create` that knows the thread: for the SDK's `.stream()`, which takes no `thread_id`."""
    clone = object.__new__(type(resource))
    clone.__dict__.update(resource.__dict__, create=partial(resource.create, thread_id=thread_id, merge=merge))
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
