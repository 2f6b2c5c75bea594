"""A store of somebody else's in the hands of a manager: the same methods, and what they raise is a `ProviderError`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from memexllm.memory.doors import told_as_provider_error
from memexllm.memory.stores.checking import methods_of


class GuardedStore:
    """`store` is the object itself. Attributes that are not of the contract are the store's own."""

    store: Any

    def __init__(self, store: Any) -> None:
        self.store = store

    def __getattr__(self, name: str) -> Any:
        if name == "store":  # not made yet, as when it is unpickled
            raise AttributeError(name)
        return getattr(self.store, name)

    def __repr__(self) -> str:
        return repr(self.store)


def guarded(store: Any, protocol: type, *, asynchronous: bool) -> Any:
    """An object with the protocol's methods; `isinstance` knows it by the protocol."""
    return _guard_for(protocol, asynchronous)(store)


@cache
def _guard_for(protocol: type, asynchronous: bool) -> type[GuardedStore]:
    make = _awaited if asynchronous else _called
    methods: dict[str, Any] = {name: make(name) for name in methods_of(protocol)}
    return type(f"Guarded{protocol.__name__}", (GuardedStore,), methods)


def _awaited(name: str) -> Callable[..., Any]:
    async def method(self: GuardedStore, **arguments: Any) -> Any:
        with told_as_provider_error(self.store, name):
            return await getattr(self.store, name)(**arguments)

    method.__name__ = name
    return method


def _called(name: str) -> Callable[..., Any]:
    def method(self: GuardedStore, **arguments: Any) -> Any:
        with told_as_provider_error(self.store, name):
            return getattr(self.store, name)(**arguments)

    method.__name__ = name
    return method
