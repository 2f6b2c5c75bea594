"""Talking to the server: clients of ours or of the user's, scripts, retries, and the driver's errors as ours.

`Calls` and `AsyncCalls` have the same two methods, `script` and `pipeline`; the operations are flows over either. A
write carries a token, so it can be sent again when its answer was lost without being done twice.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
import weakref
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from memexllm._extras import required
from memexllm.core.errors import (
    ConfigurationError,
    ConnectionError,
    IntegrityError,
    MemexLLMError,
    OperationError,
)
from memexllm.core.refusals import checked_positive
from memexllm.storage._locks import held_across_fork
from memexllm.storage._redis_index import Script
from memexllm.storage._redis_urls import Place

Command = tuple[Any, ...]
_RAW = {"NEVER_DECODE": True}
"""Answers as bytes, whatever the client was told to do with them."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 0.5
_UNKNOWN_S = 1.0
"""For how long a server is looked for that never answered: most likely it is not where it is looked for."""


class Driver:
    """redis-py's errors, told apart, and how long an operation is repeated."""

    def __init__(self, by: str, place: Place, retry_timeout_s: float) -> None:
        self.by = by
        self.place = place
        self.retry_timeout_s = retry_timeout_s
        self.reached = False
        self.module = required("redis", extra="redis", by=by)
        errors = self.module.exceptions
        self.no_script: type[Exception] = errors.NoScriptError
        self.refused = (errors.AuthenticationError, errors.AuthorizationError)
        self.away = (errors.ConnectionError, errors.TimeoutError, errors.ClusterError, OSError)
        self.not_yet = (
            errors.BusyLoadingError,
            errors.ReadOnlyError,
            errors.TryAgainError,
            errors.ClusterDownError,
            errors.MovedError,
            errors.AskError,
        )
        self.all = (errors.RedisError, OSError, UnicodeError)

    def pauses(self) -> Pauses:
        return Pauses(self)

    def error(self, operation: str, error: Exception) -> MemexLLMError:
        """Ours for the driver's; what the server quotes of a command is left out."""
        said = self.place.without_password(str(error)).split(", with args beginning with")[0]
        if isinstance(error, UnicodeDecodeError):
            return IntegrityError(f"Failed to {operation}: {self.place} holds bytes that are no text")
        if isinstance(error, self.refused):
            return ConnectionError(f"Failed to {operation}: {self.place} refuses the user or the password: {said}")
        if isinstance(error, (*self.away, *self.not_yet)):
            return ConnectionError(f"Failed to {operation}: {self.place} cannot be reached: {said}")
        return OperationError(f"Failed to {operation} in {self.place}: {said}")


class Pauses:
    """Between the attempts of one operation."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._until: float | None = None
        self._pause_s = _FIRST_PAUSE_S

    def after(self, error: Exception) -> float | None:
        """How long to wait before the next attempt; None when there is to be none."""
        driver = self._driver
        if not isinstance(error, (*driver.away, *driver.not_yet)) or isinstance(error, driver.refused):
            return None
        now = time.monotonic()
        if self._until is None:
            patience_s = driver.retry_timeout_s
            self._until = now + (patience_s if driver.reached else min(patience_s, _UNKNOWN_S))
        if now >= self._until:
            return None
        # Those who lost the same server do not all come back at once.
        pause_s = self._pause_s * (0.5 + random.random() / 2)  # noqa: S311 - no secret
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        return min(pause_s, self._until - now)


class Calls:
    """For synchronous flows. Safe from any thread; a forked child opens connections of its own."""

    def __init__(self, driver: Driver, client: Any) -> None:
        self._driver = driver
        self._given = client
        self._own: tuple[int, Any] | None = None
        self._lock = held_across_fork()
        self.spread = driver.place.is_cluster if client is None else _is_cluster(driver, client)

    def script(self, operation: str, script: Script, keys: Sequence[bytes], args: Sequence[bytes]) -> Any:
        """What the script answers; `args` are the lines it takes."""

        def evaluate(client: Any) -> Any:
            try:
                return client.execute_command("EVALSHA", script.sha, len(keys), *keys, *args, **_RAW)
            except self._driver.no_script:
                return client.execute_command("EVAL", script.text, len(keys), *keys, *args, **_RAW)

        return self._repeated(operation, evaluate)

    def pipeline(self, operation: str, commands: Sequence[Command]) -> list[Any]:
        """The answers of commands that may go to several servers."""

        def execute(client: Any) -> Any:
            with client.pipeline(transaction=False) as pipe:
                for command in commands:
                    pipe.execute_command(*command)
                return pipe.execute()

        return self._repeated(operation, execute)  # type: ignore[no-any-return]  # execute() gives a list

    def close(self) -> None:
        with self._lock:
            own, self._own = self._own, None
        if own is not None and own[0] == os.getpid():
            if self._driver.place.is_cluster:  # whose close() leaves the connections open
                own[1].disconnect_connection_pools()
            own[1].close()

    def _repeated(self, operation: str, work: Any) -> Any:
        driver = self._driver
        pauses = driver.pauses()
        while True:
            try:
                result = work(self._client())
            except driver.all as error:
                pause_s = pauses.after(error)
                if pause_s is None:
                    raise driver.error(operation, error) from error
            else:
                driver.reached = True
                return result
            time.sleep(pause_s)

    def _client(self) -> Any:
        if self._given is not None:
            return self._given
        own = self._own
        if own is None or own[0] != os.getpid():
            with self._lock:
                own = self._own
                if own is None or own[0] != os.getpid():
                    self._own = own = (os.getpid(), self._driver.place.client(self._driver.module))
        return own[1]


class AsyncCalls:
    """For asynchronous flows: a client per event loop, closed with it."""

    def __init__(self, driver: Driver, client: Any) -> None:
        self._driver = driver
        self._given = client
        self._own: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _OnLoop] = weakref.WeakKeyDictionary()
        self._asyncio: Any = required("redis.asyncio", extra="redis", by=driver.by)
        self.spread = driver.place.is_cluster if client is None else _is_cluster(driver, client)

    async def script(self, operation: str, script: Script, keys: Sequence[bytes], args: Sequence[bytes]) -> Any:
        async def evaluate(client: Any) -> Any:
            try:
                return await client.execute_command("EVALSHA", script.sha, len(keys), *keys, *args, **_RAW)
            except self._driver.no_script:
                return await client.execute_command("EVAL", script.text, len(keys), *keys, *args, **_RAW)

        return await self._repeated(operation, evaluate)

    async def pipeline(self, operation: str, commands: Sequence[Command]) -> list[Any]:
        async def execute(client: Any) -> Any:
            pipe = client.pipeline(transaction=False)
            for command in commands:
                pipe.execute_command(*command)
            return await pipe.execute()

        return await self._repeated(operation, execute)  # type: ignore[no-any-return]  # execute() gives a list

    async def close(self) -> None:
        """Of this loop; what other loops opened is closed with them."""
        own = self._own.pop(asyncio.get_running_loop(), None)
        if own is not None:
            await own.close()

    async def _repeated(self, operation: str, work: Any) -> Any:
        driver = self._driver
        pauses = driver.pauses()
        while True:
            try:
                if self._given is not None:
                    result = await work(self._given)
                else:
                    own = await self._on_loop()
                    async with own.turns:
                        result = await work(own.client)
            except driver.all as error:
                pause_s = pauses.after(error)
                if pause_s is None:
                    raise driver.error(operation, error) from error
            else:
                driver.reached = True
                return result
            await asyncio.sleep(pause_s)

    async def _on_loop(self) -> _OnLoop:
        loop = asyncio.get_running_loop()
        own = self._own.get(loop)
        if own is None or own.pid != os.getpid():
            own = self._own[loop] = _OnLoop(self._driver.place, self._asyncio)
        if not own.begun:
            await own.begin()
        return own


class _OnLoop:
    """The client of one event loop.

    The loop closes its asynchronous generators when it ends (`asyncio.run` sees to that): one that is waiting here
    closes the connections while they can still be closed.
    """

    def __init__(self, place: Place, module: Any) -> None:
        self.pid = os.getpid()
        self.client = place.async_client(module)
        self._is_cluster = place.is_cluster
        self.turns = asyncio.Semaphore(place.max_connections)
        """A cluster's client has no pool that waits, and one that does wait wakes its waiters in any order."""
        self.begun = False
        self._beginning = asyncio.Lock()
        self._until_closed = self._opened()
        self._watched = False

    async def begin(self) -> None:
        """Once, however many come first at once: redis-py's client of a cluster breaks off connections of theirs."""
        async with self._beginning:
            if not self._watched:
                await anext(self._until_closed)
                self._watched = True
            if self._is_cluster and not self.begun:
                await self.client.initialize()
            self.begun = True

    async def close(self) -> None:
        await self._until_closed.aclose()

    async def _opened(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            # `aclose` is `close` in redis-py 5.0; both exist since 5.0.1.
            await self.client.aclose()


def _is_cluster(driver: Driver, client: Any) -> bool:
    kinds = (driver.module.cluster.RedisCluster, driver.module.asyncio.cluster.RedisCluster)
    return isinstance(client, kinds)


def driver_for(
    by: str, url: str | None, client: Any, max_connections: int, timeout_s: float, retry_timeout_s: float
) -> Driver:
    """Of the class named `by`, which is asynchronous when its name begins so; nothing is opened."""
    if url is not None and client is not None:
        raise ConfigurationError(f"{by} is given a url or a client, not both")
    checked_positive(max_connections, "max_connections")
    place = Place(url, max_connections, timeout_s, given=client is not None)
    driver = Driver(by, place, retry_timeout_s)
    if client is None:
        place.check(driver.module)
    else:
        checked_client(driver, client, asynchronous=by.startswith("Async"))
    return driver


def checked_client(driver: Driver, client: Any, *, asynchronous: bool) -> None:
    """Refuse a client of the other kind: its answers would be coroutines nobody awaits, or never be."""
    modules = driver.module
    kinds = (modules.asyncio.Redis, modules.asyncio.cluster.RedisCluster)
    sync_kinds = (modules.Redis, modules.cluster.RedisCluster)
    if isinstance(client, kinds) and not asynchronous:
        raise ConfigurationError(
            f"{driver.by} needs a synchronous client, not {type(client).__module__}.Redis; "
            f"Async{driver.by} takes this one"
        )
    if isinstance(client, sync_kinds) and asynchronous:
        other = driver.by.removeprefix("Async")
        raise ConfigurationError(f"{driver.by} needs a client of redis.asyncio; {other} takes this one")
    if not callable(getattr(client, "execute_command", None)):
        raise ConfigurationError(f"client is a client of redis-py, or None; got a {type(client).__name__}")
