"""Any vector database, called synchronously, and the words that the kit's laws say and search."""

from __future__ import annotations

import asyncio
import inspect
import re
import zlib
from collections.abc import Awaitable, Sequence
from types import TracebackType
from typing import Any, Self

from memexllm._extras import required
from memexllm.memory.embeddings.base import EmbeddingProvider
from memexllm.memory.records import MemoryRecord, MemoryRecordResults


class KitEmbeddings(EmbeddingProvider):
    """One dimension a word, as good as: texts are near that share words. It can be told to answer short.

    Words in `blind_to` mean nothing to it, as names mean nothing to a model. `embedded` counts texts. Words lie where
    the CRC of their bytes says, the same in every process.
    """

    def __init__(self, dimensions: int = 256) -> None:
        self._numpy = required("numpy", extra="memory", by="VectorDatabaseConformance")
        self._dimensions = dimensions
        self.embedded = 0
        self.answers_short = False
        self.blind_to: set[str] = set()

    @property
    def dimensions(self) -> int:
        return self._dimensions

    def embed(self, text: str) -> Any:
        return self._rows([text])[0]

    def embed_batch(self, texts: Sequence[str]) -> Any:
        self.embedded += len(texts)
        return self._rows(texts[:-1] if self.answers_short else texts)

    def _rows(self, texts: Sequence[str]) -> Any:
        rows = self._numpy.zeros((len(texts), self._dimensions), dtype="float32")
        for row, text in zip(rows, texts, strict=True):
            for word in [each for each in re.findall(r"\w+", text.lower()) if each not in self.blind_to]:
                row[zlib.crc32(word.encode()) % self._dimensions] += 1
        return rows


class DrivenDatabase:
    """A database with an event loop; a context manager that closes both."""

    def __init__(self, database: Any) -> None:
        self._runner = asyncio.Runner()
        self.database: Any = self._runner.run(_awaited(database)) if inspect.isawaitable(database) else database
        self.name = type(self.database).__name__

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if hasattr(self.database, "close"):
            self.call("close")
        self._runner.close()

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        result = getattr(self.database, method)(*args, **kwargs)
        return self._runner.run(_awaited(result)) if inspect.isawaitable(result) else result

    def at_once(self, method: str, calls: Sequence[Sequence[Any]]) -> list[Any]:
        """The method with each list of arguments, all at once; what they return."""

        async def together() -> list[Any]:
            return await asyncio.gather(*(getattr(self.database, method)(*args) for args in calls))

        return self._runner.run(together())

    # The contract by name.

    def add(self, *memories: MemoryRecord) -> list[str]:
        ids: list[str] = self.call("add_memories", list(memories))
        return ids

    def search(self, query: str, **asked: Any) -> MemoryRecordResults:
        found: MemoryRecordResults = self.call("search_memories", query, **asked)
        return found

    def found(self, query: str, **asked: Any) -> list[str]:
        """The texts found, the best first."""
        return [record.text for record in self.search(query, **asked)]

    def page(self, **asked: Any) -> MemoryRecordResults:
        found: MemoryRecordResults = self.call("list_memories", **asked)
        return found

    def texts(self, **filters: Any) -> list[str]:
        return [record.text for record in self.page(limit=1000, **filters)]

    def count(self, **filters: Any) -> int:
        count: int = self.call("count_memories", **filters)
        return count


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
