"""Objects named in a setting by a dotted path: `my_backends.create_my_backend`, `my_backends.Database.create`.

Everything that can go wrong has an error of its own: the module cannot be imported, it has no such name, what is named
makes another thing, or it raises. The last keeps the factory's own error as its cause.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any

from memexllm.core.errors import FactoryImportError, FactoryNotFoundError, FactoryReturnTypeError, FactoryRuntimeError


def load_factory(dotted: str, setting: str) -> Callable[..., Any]:
    """The function, class or classmethod at `dotted`; `setting` is the name an error gives to where it stood."""
    parts = dotted.replace(":", ".").split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise FactoryImportError(f"{setting} is a dotted path such as 'my_backends.create_my_backend', not {dotted!r}")
    found: Any = _imported(parts[0], dotted, setting)
    if found is None:
        raise FactoryImportError(f"{setting}={dotted!r}: no module named {parts[0]!r} can be imported")
    for place, part in enumerate(parts[1:], start=1):
        found = _next(found, part, dotted, setting, last=place == len(parts) - 1)
    if not callable(found):
        raise FactoryReturnTypeError(
            f"{setting}={dotted!r} is of type {type(found).__name__}; a function, class or classmethod is needed"
        )
    return found  # type: ignore[no-any-return]  # it was looked up by name, and can be called


def call_factory(factory: Callable[..., Any], dotted: str, setting: str, *args: Any, **kwargs: Any) -> Any:
    """What the factory returns, which is awaitable when it is asynchronous."""
    try:
        return factory(*args, **kwargs)
    except Exception as error:
        raise _raised_inside(error, dotted, setting) from error


async def awaited_product(product: Awaitable[Any], dotted: str, setting: str) -> Any:
    """What an asynchronous factory returns in the end."""
    try:
        return await product
    except Exception as error:
        raise _raised_inside(error, dotted, setting) from error


def _raised_inside(error: Exception, dotted: str, setting: str) -> FactoryRuntimeError:
    return FactoryRuntimeError(f"{setting}={dotted!r} raised {type(error).__name__}; the cause has its traceback")


def checked_product(product: Any, expected: type, dotted: str, setting: str) -> Any:
    """`product`, when it is an instance of `expected`."""
    if not isinstance(product, expected):
        raise FactoryReturnTypeError(
            f"{setting}={dotted!r} returned an object of type {type(product).__name__}; "
            f"an instance of {expected.__name__} is needed"
        )
    return product


def _next(found: Any, part: str, dotted: str, setting: str, *, last: bool) -> Any:
    if isinstance(found, ModuleType):
        submodule = _imported(f"{found.__name__}.{part}", dotted, setting) if hasattr(found, "__path__") else None
        if submodule is not None and (not last or not hasattr(found, part)):
            return submodule
    try:
        return getattr(found, part)
    except AttributeError:
        pass
    if isinstance(found, ModuleType) and not last:
        raise FactoryImportError(f"{setting}={dotted!r}: no module named '{found.__name__}.{part}' can be imported")
    raise FactoryNotFoundError(f"{setting}={dotted!r}: {_name(found)} has no {part!r}")


def _imported(module: str, dotted: str, setting: str) -> ModuleType | None:
    """The module, or None when there is none of this name; an error while it is imported is told as such."""
    try:
        return importlib.import_module(module)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == module:
            return None
        raise FactoryImportError(
            f"{setting}={dotted!r}: importing {module!r} raised {type(error).__name__}; the cause has its traceback"
        ) from error


def _name(found: Any) -> str:
    kind = "module" if isinstance(found, ModuleType) else "class" if isinstance(found, type) else "object"
    return f"{kind} {getattr(found, '__name__', type(found).__name__)!r}"
