"""Whether an object is a store: looked at once, when it is given to a manager.

`isinstance` on a runtime-checkable protocol compares names alone. Here the parameters and the kind of each method are
looked at, so that what is missing is told before the first call needs it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from memexllm.core.errors import StoreProtocolError

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def methods_of(protocol: type) -> dict[str, Callable[..., Any]]:
    """The protocol's methods by name, in the order in which they are written."""
    return {name: value for name, value in vars(protocol).items() if inspect.iscoroutinefunction(value)}


def check_store(store: Any, protocol: type, slot: str, *, asynchronous: bool = True) -> None:
    """A `StoreProtocolError`, which is a `TypeError`, lists all that the store lacks.

    With `asynchronous=False` the methods are plain functions, as `MemoryManager` calls them.
    """
    if isinstance(store, type):
        raise _refused(slot, protocol, f"{store.__name__} is a class; give an object of it")
    contract = methods_of(protocol)
    missing = [name for name in contract if not callable(getattr(store, name, None))]
    found = [f"missing {', '.join(missing)}"] if missing else []
    for name, promised in contract.items():
        if name not in missing:
            found.extend(_faults(name, getattr(store, name), promised, asynchronous=asynchronous))
    if found:
        raise _refused(slot, protocol, "; ".join(found))


def _faults(name: str, method: Any, promised: Callable[..., Any], *, asynchronous: bool) -> list[str]:
    found: list[str] = []
    parameters = _parameters(method)
    if parameters is not None:
        asked = dict(list(inspect.signature(promised).parameters.items())[1:])
        open_ended = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
        lacking = [each for each in asked if not _takes(parameters, each, open_ended=open_ended)]
        if lacking:
            found.append(f"{name}() lacks {', '.join(lacking)}")
        required = [each for each, given in parameters.items() if _is_required(given) and _may_be_left_out(asked, each)]
        if required:
            found.append(f"{name}() requires {', '.join(required)}")
    if asynchronous and not _is_coroutine_function(method):
        found.append(f"{name}() is not async def")
    if not asynchronous and _is_coroutine_function(method):
        found.append(f"{name}() is async def, which MemoryManager cannot call (AsyncMemoryManager can)")
    return found


def _parameters(method: Any) -> Mapping[str, inspect.Parameter] | None:
    """None for what tells nothing of its parameters."""
    try:
        return inspect.signature(method).parameters
    except (TypeError, ValueError):
        return None


def _takes(parameters: Mapping[str, inspect.Parameter], name: str, *, open_ended: bool) -> bool:
    return parameters[name].kind in _BY_NAME if name in parameters else open_ended


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind not in (
        parameter.VAR_KEYWORD,
        parameter.VAR_POSITIONAL,
    )


def _may_be_left_out(asked: Mapping[str, inspect.Parameter], name: str) -> bool:
    return name not in asked or asked[name].default is not inspect.Parameter.empty


def _is_coroutine_function(method: Any) -> bool:
    return inspect.iscoroutinefunction(method) or inspect.iscoroutinefunction(type(method).__call__)


def _refused(slot: str, protocol: type, what: str) -> StoreProtocolError:
    return StoreProtocolError(f"{slot} must implement {protocol.__name__} protocol: {what}")
