"""Storages with their managers, synchronous and asynchronous, all called in the same way."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from memexllm import AsyncHistoryManager, HistoryManager
from memexllm.algorithms import BaseAlgorithm
from memexllm.storage import AsyncBaseStorage, BaseStorage, MemoryStorage, SQLiteStorage
from tests.storage.custom import AsyncDictStorage, LiveDictStorage, PlainAsyncStorage, PlainStorage

START = datetime(2026, 1, 1, tzinfo=UTC)
MakeStorage = Callable[[Path, int | None], Any]


class Side:
    """One storage under one manager. Ids and times of the manager depend on the step alone, not on the side."""

    def __init__(
        self, name: str, storage: Any, runner: asyncio.Runner, algorithm: BaseAlgorithm | None, *, asynchronous: bool
    ) -> None:
        self.name = name
        self.storage = storage
        self.asynchronous = asynchronous
        self.four_methods = not hasattr(storage, "append_messages") or (
            type(storage).append_messages in (BaseStorage.append_messages, AsyncBaseStorage.append_messages)
        )
        self._runner = runner
        self._algorithm = algorithm
        self._step = 0
        self._n_ids = 0
        self.manager: Any = self.another_manager()

    def __repr__(self) -> str:
        return self.name

    def another_manager(self, algorithm: BaseAlgorithm | None = None) -> Any:
        kind: Any = AsyncHistoryManager if self.asynchronous else HistoryManager
        return kind(self.storage, algorithm or self._algorithm, clock=self._now, id_source=self._new_id)

    def begin(self, step: int) -> None:
        self._step = step
        self._n_ids = 0

    def manage(self, method: str, *args: Any, **keywords: Any) -> Any:
        """A method of the manager."""
        return self.wait(getattr(self.manager, method)(*args, **keywords))

    def store(self, method: str, *args: Any, **keywords: Any) -> Any:
        """A method of the storage; the contract's default for a storage that lacks it."""
        found = getattr(self.storage, method, None)
        if found is None:
            base = AsyncBaseStorage if self.asynchronous else BaseStorage
            found = getattr(base, method).__get__(self.storage)
        return self.wait(found(*args, **keywords))

    def wait(self, value: Any) -> Any:
        return self._runner.run(_awaited(value)) if inspect.isawaitable(value) else value

    def together(self, calls: list[tuple[str, tuple[Any, ...]]]) -> list[Any]:
        """Methods of the manager: as tasks of one loop when it is asynchronous, else one after another."""
        if not self.asynchronous:
            return [self.manage(method, *args) for method, args in calls]

        async def gathered() -> list[Any]:
            return list(await asyncio.gather(*(getattr(self.manager, method)(*args) for method, args in calls)))

        return self._runner.run(gathered())

    def _now(self) -> datetime:
        return time_of(self._step)

    def _new_id(self) -> str:
        self._n_ids += 1
        return id_of(self._step, self._n_ids - 1)


def time_of(step: int) -> datetime:
    return START + timedelta(seconds=step, microseconds=step)


def id_of(step: int, number: int) -> str:
    return f"s{step}-{number}"


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _sqlite(folder: Path, max_messages: int | None) -> SQLiteStorage:
    return SQLiteStorage(folder / "chat.db", max_messages=max_messages)


def _sqlite_of_tasks(folder: Path, max_messages: int | None) -> SQLiteStorage:
    return SQLiteStorage(folder / "tasks.db", max_messages=max_messages)


def _sqlite_in_memory(folder: Path, max_messages: int | None) -> SQLiteStorage:
    return SQLiteStorage(":memory:", max_messages=max_messages)


def _memory(folder: Path, max_messages: int | None) -> MemoryStorage:
    return MemoryStorage(max_messages)


Kind = tuple[str, MakeStorage, bool]
"""A name, how the storage is made, and whether its manager is the asynchronous one."""

BUILT_IN: tuple[Kind, ...] = (
    ("memory", _memory, False),
    ("sqlite", _sqlite, False),
    ("sqlite :memory:", _sqlite_in_memory, False),
    ("memory, async", _memory, True),
    ("sqlite, async", _sqlite_of_tasks, True),
)
FOUR_METHODS: tuple[Kind, ...] = (
    ("memory", _memory, False),
    ("live dict", lambda folder, limit: LiveDictStorage(), False),
    ("plain", lambda folder, limit: PlainStorage(), False),
    ("live dict, async manager", lambda folder, limit: LiveDictStorage(), True),
    ("async dict", lambda folder, limit: AsyncDictStorage(), True),
    ("plain async", lambda folder, limit: PlainAsyncStorage(), True),
)


def sides_of(
    kinds: tuple[Kind, ...],
    folder: Path,
    runner: asyncio.Runner,
    max_messages: int | None = None,
    algorithm: Callable[[], BaseAlgorithm | None] = lambda: None,
) -> list[Side]:
    return [
        Side(name, make(folder, max_messages), runner, algorithm(), asynchronous=asynchronous)
        for name, make, asynchronous in kinds
    ]
