"""Where a storm's thread is kept: a storage of one of five kinds, which can be down, and what is found in it."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memexllm import AsyncHistoryManager, HistoryManager, MemoryStorage, Message, SQLiteStorage
from memexllm.storage.port import overrides
from tests.openai.storages import AsyncMemoryStorage
from tests.openai.surfaces import got
from tests.storage.custom import AsyncDictStorage, LiveDictStorage

THREAD_ID = "storm"
KINDS: dict[str, type] = {
    "memory": MemoryStorage,
    "sqlite": SQLiteStorage,
    "four methods": LiveDictStorage,
    "four asynchronous methods": AsyncDictStorage,
    "asynchronous": AsyncMemoryStorage,
}
_READS = ("get_thread", "read_head", "read_messages")
_WRITES = ("save_thread", "append_messages", "replace_message", "patch_thread")


@dataclass(frozen=True)
class Down:
    """How a storage fails. A count is of what still goes through; None is everything."""

    n_reads: int | None = None
    n_writes: int | None = None
    n_arriving: int = 0
    """So many writes fail after they have reached the storage."""


class Outage:
    def __init__(self) -> None:
        self.begin(Down())

    def begin(self, down: Down) -> None:
        self.n_reads, self.n_writes, self.n_arriving = down.n_reads, down.n_writes, down.n_arriving

    def end(self) -> None:
        self.begin(Down())

    def reading(self) -> None:
        if self.n_reads == 0:
            raise OSError("the disk is gone")
        if self.n_reads is not None:
            self.n_reads -= 1

    def writing(self) -> None:
        if self.n_writes == 0:
            raise OSError("no space left on device")
        if self.n_writes is not None:
            self.n_writes -= 1

    def written(self) -> None:
        if self.n_arriving:
            self.n_arriving -= 1
            raise OSError("the line dropped")


class Place:
    def __init__(self, kind: str, path: Path) -> None:
        self.outage = Outage()
        cls = _breakable(KINDS[kind], self.outage)
        self.storage: Any = cls(path) if kind == "sqlite" else cls()
        self.asynchronous = "asynchronous" in kind
        self._manager: Any = (AsyncHistoryManager if self.asynchronous else HistoryManager)(self.storage)

    async def messages(self) -> list[Message]:
        """All of them, superseded ones too; none when there is no thread."""
        if not await got(self._manager.list_threads()):
            return []
        return list(await got(self._manager.get_messages(THREAD_ID, include_superseded=True)))

    async def version(self) -> int:
        if not await got(self._manager.list_threads()):
            return 0
        version: int = (await got(self._manager.get_thread(THREAD_ID))).version
        return version

    async def close(self) -> None:
        await got(self._manager.close())


def _breakable(cls: type, outage: Outage) -> type:
    """The same storage, which is down when `outage` says so. What it leaves to the contract's defaults stays so."""
    guards = dict.fromkeys(_READS, (outage.reading, _nothing))
    guards |= dict.fromkeys(_WRITES, (outage.writing, outage.written))
    methods = {name: _guarded(getattr(cls, name), *both) for name, both in guards.items() if overrides(cls, name)}
    return type(cls.__name__, (cls,), {**methods, "takes_rows": getattr(cls, "takes_rows", False)})


def _guarded(method: Any, before: Callable[[], None], after: Callable[[], None]) -> Any:
    if not inspect.iscoroutinefunction(method):

        @functools.wraps(method)
        def guarded(*args: Any, **keywords: Any) -> Any:
            before()
            result = method(*args, **keywords)
            after()
            return result

        return guarded

    @functools.wraps(method)
    async def guarded_async(*args: Any, **keywords: Any) -> Any:
        await asyncio.sleep(0)  # gives way to other tasks, as what waits for a network does
        before()
        result = await method(*args, **keywords)
        await asyncio.sleep(0)
        after()
        return result

    return guarded_async


def _nothing() -> None:
    pass
