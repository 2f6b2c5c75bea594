"""Engines of SQLAlchemy: one for a process, or one for each event loop of it; never carried across a fork."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import StaticPool

from memexllm.core.errors import ConfigurationError
from memexllm.storage._locks import held_across_fork
from memexllm.storage._sql_attempts import Attempt
from memexllm.storage._sql_dialects import dialect_of, engine_options, in_memory, prepare_connection

# Engines a forked child inherited. What collects them there would say goodbye on the parent's connections.
_inherited: list[Any] = []


class SyncEngines:
    """The engine of a synchronous driver. Its calls block."""

    blocking = True

    def __init__(self, url: sa.URL, pool_size: int, wait_s: float, given: sa.Engine | None) -> None:
        self.url = url
        self.reached = False
        """Whether there has been a connection."""
        self._options = engine_options(url, pool_size, wait_s)
        self._given = given
        # A database in memory has one connection, and is used by one thread at a time.
        in_one_place = given is not None and isinstance(given.pool, StaticPool)
        self._turn = held_across_fork() if in_memory(url) or in_one_place else contextlib.nullcontext()
        self._kept_across_fork = in_memory(url) or in_one_place
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._engine: sa.Engine | None = None
        self._making = threading.Lock()
        self.prepared = False

    def perform(self, attempt: Attempt[Any]) -> Any:
        with self._turn, self.engine().connect() as connection:
            return attempt.on(connection)

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def close(self) -> None:
        """Close connections; those in use are closed when they come back."""
        self._leave_inherited()
        with self._turn, self._making:
            engine, self._engine = self._engine, None
            self.prepared = False
        if engine is not None and self._given is None:
            engine.dispose()

    def engine(self) -> sa.Engine:
        self._leave_inherited()
        engine = self._engine
        if engine is None:
            with self._making:
                engine = self._engine
                if engine is None:
                    engine = self._engine = self._made()
        return engine

    def _made(self) -> sa.Engine:
        backend = self.url.get_backend_name()
        if self._given is not None:
            given: sa.Engine = in_autocommit(self._given, backend)
            return given
        engine = sa.create_engine(self.url, **self._options)
        event.listen(engine, "connect", _preparing(backend))
        return engine

    def _leave_inherited(self) -> None:
        if self._pid == os.getpid() or self._kept_across_fork:
            return
        if self._given is not None:
            self._given.dispose(close=False)
        _inherited.append(self._engine)
        self._begin()


class AsyncEngines:
    """An engine of an asynchronous driver for each event loop: its connections belong to the loop they were made in."""

    blocking = False

    def __init__(self, url: sa.URL, pool_size: int, wait_s: float, given: AsyncEngine | None) -> None:
        self.url = url
        self.reached = False
        """Whether there has been a connection."""
        self._options = engine_options(url, pool_size, wait_s)
        self._given = given
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._of_loops: dict[asyncio.AbstractEventLoop, tuple[AsyncEngine, AsyncGenerator[None]]] = {}
        self.prepared = False

    async def perform(self, attempt: Attempt[Any]) -> Any:
        engine = await self._engine()
        async with engine.connect() as connection:
            return await connection.run_sync(attempt.on)

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        """Close the connections of this event loop; those of another are closed when it ends, if not before."""
        self._leave_inherited()
        self.prepared = False
        for loop, (_, until_the_end) in list(self._of_loops.items()):
            if loop is asyncio.get_running_loop():
                await until_the_end.aclose()
            elif loop.is_running():
                asyncio.run_coroutine_threadsafe(until_the_end.aclose(), loop)

    async def _engine(self) -> AsyncEngine:
        self._leave_inherited()
        loop = asyncio.get_running_loop()
        found = self._of_loops.get(loop)
        if found is None:
            engine = self._made()
            found = self._of_loops[loop] = (engine, self._until_the_end(loop, engine))
            # A loop closes the asynchronous generators that were begun in it before it ends, and those nobody holds.
            await anext(found[1])
        return found[0]

    async def _until_the_end(self, loop: asyncio.AbstractEventLoop, engine: AsyncEngine) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            self._of_loops.pop(loop, None)
            if self._given is None:
                await engine.dispose()

    def _made(self) -> AsyncEngine:
        backend = self.url.get_backend_name()
        if self._given is not None:
            made: AsyncEngine = in_autocommit(self._given, backend)
            return made
        engine = create_async_engine(self.url, **self._options)
        event.listen(engine.sync_engine, "connect", _preparing(backend))
        return engine

    def _leave_inherited(self) -> None:
        if self._pid == os.getpid():
            return
        if self._given is not None:
            self._given.sync_engine.dispose(close=False)
        _inherited.append(self._of_loops)
        self._begin()


def _preparing(backend: str) -> Callable[[Any, Any], None]:
    def prepare(dbapi_connection: Any, _: Any) -> None:
        prepare_connection(backend, dbapi_connection)

    return prepare


def in_autocommit(engine: Any, backend: str) -> Any:
    """A view of somebody's engine, with the same pool, in which transactions begin by our own statements."""
    return engine.execution_options(isolation_level="AUTOCOMMIT") if dialect_of(backend).begin else engine


def checked_engine(engine: Any, by: str, *, asynchronous: bool) -> Any:
    if isinstance(engine, AsyncEngine if asynchronous else sa.Engine):
        return engine
    wanted = "an AsyncEngine (create_async_engine())" if asynchronous else "an Engine (create_engine())"
    raise ConfigurationError(f"{by}(engine=) takes {wanted}, not a {type(engine).__name__}")
