"""How a call of the SDK gets its history, whichever resource makes it.

History goes into the body after the SDK has transformed it, in a per-call shallow clone of the resource whose
`_post` is ours: the SDK spends about 107 µs of CPU on each message it transforms (400 on an item of Responses), and
neither stored nor new messages need any of it. When somebody has patched the method (a tracer on the class, a test's
mock on the instance) history goes in before it instead, so that theirs sees the real prompt and is not bypassed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from memexllm.core.errors import ConfigurationError
from memexllm.core.flow import Flow, arun, run
from memexllm.core.wire import Draft
from memexllm.integrations.openai.call import Call
from memexllm.integrations.openai.client_history import OURS, keep_tools, pop_header, taken_out
from memexllm.integrations.openai.patches import is_sdk_function, patch_on_original
from memexllm.integrations.openai.performing import Received, perform
from memexllm.integrations.openai.surface import Surface

_RAW_HEADER = "X-Stainless-Raw-Response"


def create(resource: Any, sdk_class: Any, surface: Surface, params: dict[str, Any]) -> Any:
    """`create` of a synchronous resource; `sdk_class` is the SDK's own."""
    return _through(resource, sdk_class, surface, "create", params)


def parse(resource: Any, sdk_class: Any, surface: Surface, params: dict[str, Any]) -> Any:
    return _through(resource, sdk_class, surface, "parse", params)


async def create_async(resource: Any, sdk_class: Any, surface: Surface, params: dict[str, Any]) -> Any:
    """Async `create`."""
    return await _through_async(resource, sdk_class, surface, "create", params)


async def parse_async(resource: Any, sdk_class: Any, surface: Surface, params: dict[str, Any]) -> Any:
    """Async `parse`."""
    return await _through_async(resource, sdk_class, surface, "parse", params)


def _through(resource: Any, sdk_class: Any, surface: Surface, name: str, params: dict[str, Any]) -> Any:
    """The SDK's method of that name, with history."""
    method = getattr(sdk_class, name)
    call = begin(resource._client, surface, params)
    if call is None:
        return method(resource, **params)
    early = _early(resource, sdk_class, call, name, params)
    if early is None:
        return method(_late(resource, call, params, run), **params)
    return run(early)


async def _through_async(resource: Any, sdk_class: Any, surface: Surface, name: str, params: dict[str, Any]) -> Any:
    """Async `_through`."""
    method = getattr(sdk_class, name)
    call = begin(resource._client, surface, params)
    if call is None:
        return await method(resource, **params)
    early = _early(resource, sdk_class, call, name, params)
    if early is None:
        return await method(_late(resource, call, params, arun), **params)
    return await arun(early)


def bound(resource: Any, params: dict[str, Any]) -> Any:
    """The resource with a `create` that knows what is ours in `params`: the SDK's `.stream()` passes only its own."""
    ours = {name: params.pop(name) for name in OURS if name in params}
    clone = object.__new__(type(resource))
    clone.__dict__.update(resource.__dict__, create=partial(resource.create, **ours))
    return clone


def begin(client: Any, surface: Surface, params: dict[str, Any]) -> Call | None:
    """The call's history, or None when it has none. Takes what is ours out of `params`."""
    ours = taken_out(params)
    header = pop_header(params)
    extra_body = params.get("extra_body")
    in_body: Mapping[str, Any] = extra_body if isinstance(extra_body, Mapping) else {}
    if "thread_id" in in_body:
        raise ConfigurationError("thread_id was given in extra_body, which is sent to the API; pass thread_id= itself")
    history = client._memexllm
    scope = client._memexllm_scope
    resolved = history.resolve(ours.thread_id, header, scope)
    if resolved is None:
        return None
    if surface.body_key in in_body:
        raise ConfigurationError(
            f"{surface.body_key} in extra_body would take the place of the thread; pass {surface.body_key}= itself"
        )
    for name, why in surface.refused.items():
        if params.get(name) or in_body.get(name):
            raise ConfigurationError(f"{name} and thread_id cannot go together: {why}")
    return Call(history, resolved, scope, _server(client), ours, surface, asynchronous=client._memexllm_async)


def _early(resource: Any, sdk_class: Any, call: Call, name: str, params: dict[str, Any]) -> Flow[Any] | None:
    """The call with its history given to the method that somebody has patched; None when nobody has."""
    keep_tools(params)
    received = Received(call, params)
    target = patch_on_original(resource._client, call.surface, name)
    if target is None:
        method = getattr(sdk_class, name)
        inject = call.history.options.inject
        if inject == "late" or (inject == "auto" and is_sdk_function(method)):
            return None
        target = partial(method, _heard(resource, received))
    incoming = call.surface.drafts(params.get(call.surface.body_key) or ())
    return perform(call, incoming, received, lambda sent: target(**call.extended(params, sent)))


def _heard(resource: Any, received: Received) -> Any:
    """The resource for one call whose request is complete already; what comes back is listened to."""
    inner = resource._post
    path_of_call = received.call.surface.path

    def post(path: str, **request: Any) -> Any:
        if path == path_of_call and not _is_direct(request):
            _listen_in(request, received)
        return inner(path, **request)

    clone = object.__new__(type(resource))
    clone.__dict__.update(resource.__dict__, _post=post)
    return clone


def _late(resource: Any, call: Call, params: dict[str, Any], drive: Callable[[Flow[Any]], Any]) -> Any:
    """The resource for one call, with a `_post` of ours. What the call brings is taken out of `params`."""
    surface = call.surface
    inner = resource._post
    incoming: list[Draft] = []
    if surface.body_key in params:  # else the SDK says so itself, where it must be given
        incoming = surface.drafts(params[surface.body_key] or ())
        if surface.sdk_requires_body_key:
            params[surface.body_key] = []
        else:
            del params[surface.body_key]

    def post(path: str, **request: Any) -> Any:
        if path != surface.path:
            return inner(path, **request)
        body = request["body"]
        received = Received(call, body)
        if not _is_direct(request):
            _listen_in(request, received)

        def send(sent: list[dict[str, Any]]) -> Any:
            request["body"] = call.extended(body, sent)
            return inner(path, **request)

        return drive(perform(call, incoming, received, send))

    clone = object.__new__(type(resource))
    clone.__dict__.update(resource.__dict__, _post=post)
    return clone


def _is_direct(request: Mapping[str, Any]) -> bool:
    """Whether `_post` returns the answer or stream itself: no raw response, and no parser that may raise before us."""
    options = request.get("options") or {}
    return not (options.get("post_parser") or _RAW_HEADER in (options.get("headers") or ()))


def _listen_in(request: dict[str, Any], received: Received) -> None:
    """Take what the SDK parses, before a parser of its own that may raise."""
    options = dict(request.get("options") or {})
    parser = options.get("post_parser")

    def take(parsed: Any) -> Any:
        received.take(parsed)
        return received.given_to(parser, parsed) if callable(parser) else parsed

    options["post_parser"] = take
    request["options"] = options


def _server(client: Any) -> str:
    """The base URL as text, as it is stored with answers; remembered while it stays the same object."""
    url = client.base_url
    known = client.__dict__.get("_memexllm_server")
    if known is None or known[0] is not url:
        known = client.__dict__["_memexllm_server"] = (url, _without_credentials(str(url)))
    server: str = known[1]
    return server


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
