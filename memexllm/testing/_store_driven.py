"""Any store, called synchronously, and whom the kits' laws are about."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

from memexllm.core.errors import ProviderError

UNKNOWN = (LookupError, ProviderError)
"""How a store says that something is not there: as a mapping does, which a manager tells as a `ProviderError`."""
REFUSED = (ValueError, ProviderError)
HOSTILE = ("alice", "Alice", "alice ", "ali%", "al_ce", "a' OR '1'='1", "*", "a:b", "你", '{"$ne": 1}')


class DrivenStore:
    """A store with an event loop; a context manager that closes both. Its methods may be `def` or `async def`."""

    def __init__(self, store: Any) -> None:
        self._runner = asyncio.Runner()
        self.store: Any = self._runner.run(_result(lambda: store))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if callable(getattr(self.store, "close", None)):
            self.call("close")
        self._runner.close()

    def call(self, method: str, **arguments: Any) -> Any:
        return self._runner.run(_result(lambda: getattr(self.store, method)(**arguments)))

    def at_once(self, method: str, calls: Sequence[dict[str, Any]]) -> list[Any]:
        method_of_store = getattr(self.store, method)

        async def together() -> list[Any]:
            return await asyncio.gather(*(_result(partial(method_of_store, **each)) for each in calls))

        return self._runner.run(together())

    def add(self, **arguments: Any) -> Any:
        return self.call("add", **arguments)

    def get(self, **arguments: Any) -> Any:
        return self.call("get", **arguments)

    def get_all(self, **arguments: Any) -> Any:
        return self.call("get_all", **arguments)

    def search(self, **arguments: Any) -> Any:
        return self.call("search", **arguments)

    def update(self, **arguments: Any) -> Any:
        return self.call("update", **arguments)

    def delete(self, **arguments: Any) -> Any:
        return self.call("delete", **arguments)

    def delete_all(self, **arguments: Any) -> Any:
        return self.call("delete_all", **arguments)


async def _result(call: Callable[[], Any]) -> Any:
    result = call()
    return await result if inspect.isawaitable(result) else result
