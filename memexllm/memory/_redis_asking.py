"""Asking a Redis server that keeps memories: scripts with what they take, and their refusals as errors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from memexllm.core.errors import (
    ConcurrencyError,
    DimensionMismatchError,
    IntegrityError,
    NotSupportedError,
    OperationError,
    StorageError,
)
from memexllm.core.flow import Flow, Step
from memexllm.core.moments import new_id
from memexllm.memory import _redis_reads as reads
from memexllm.memory import _redis_writes as writes
from memexllm.memory.refusals import check_dimensions
from memexllm.storage._redis_index import Script

_DONE_FOR_S = 60
"""Beside the time we send a write again: a client handed in may do so by itself."""
Row = list[Any]
"""Number, write it was changed by, and the values of the fields asked for; as bytes, or None."""


class Asking:
    """Over `Calls` or `AsyncCalls`. `dimensions` is the length vectors must have, where that was said beforehand."""

    def __init__(self, calls: Any, place: object, prefix: str, dimensions: int | None, retry_timeout_s: float) -> None:
        self.calls = calls
        self.place = place
        self.prefix = prefix
        self.dimensions = dimensions
        self._state = f"{{{prefix}:records}}:state".encode()
        self._done_for_ms = int(1000 * (_DONE_FOR_S + 2 * retry_timeout_s))
        self._has_vector_sets = False

    def look(
        self, doing: str, ids: Sequence[str], fields: Sequence[str], identities: Sequence[str]
    ) -> Flow[tuple[list[Row | None], list[str | None]]]:
        """Of each id its row, and of each identity the id of the record that has it."""
        args = [len(ids), *ids, len(fields), *fields, len(identities), *identities]
        _, rows, said = yield from self.asked(doing, writes.LOOK, args)
        return rows, [None if each is None else each.decode() for each in said]

    def write(self, doing: str, script: Script, args: Sequence[Any], dimensions: int | None = None) -> Flow[list[Any]]:
        return (yield from self.asked(doing, script, [new_id(), self._done_for_ms, *args], dimensions, write=True))

    def asked(
        self, doing: str, script: Script, args: Sequence[Any], dimensions: int | None = None, *, write: bool = False
    ) -> Flow[list[Any]]:
        if not self._has_vector_sets:
            self._check_sets(doing, (yield Step(self.calls.script, (doing, reads.SEE, [self._state], []), False)))
            self._has_vector_sets = True
        encoded = [each if isinstance(each, bytes) else str(each).encode() for each in args]
        step = Step(self.calls.script, (doing, script, [self._state], encoded), blocking=False, write=write)
        reply: list[Any] = yield step
        self._check(doing, reply, dimensions)
        return reply

    def _check(self, doing: str, reply: list[Any], dimensions: int | None) -> None:
        if reply[0] == b"dimensions" and dimensions is not None:
            check_dimensions(int(reply[1]), dimensions, str(self.place))
        if reply[0] == b"format":
            raise StorageError(
                f"{self.place} holds memories of format {reply[1].decode()!r} under the prefix {self.prefix!r}; this "
                f"release of memexllm reads and writes format {writes.FORMAT}: upgrade memexllm, or use another "
                "prefix. Nothing was changed"
            )
        if reply[0] == b"torn":
            raise IntegrityError(
                f"Failed to {doing}: record {reply[1].decode()} under the prefix {self.prefix!r} in {self.place} is "
                "gone, and was not deleted through memexllm; was it evicted (maxmemory-policy), or a backup in part?"
            )
        if reply[0] == b"overtaken":
            raise ConcurrencyError(
                f"Failed to {doing}: somebody else began to embed the memories in {self.place} again; the vectors in "
                "use were not changed"
            )

    def _check_sets(self, doing: str, reply: list[Any]) -> None:
        if reply[0] != b"without":
            return self._check(doing, reply, None)
        said, info = reply[1].decode(), reply[2].decode()
        if "unknown" not in said.lower():
            raise OperationError(f"Failed to {doing} in {self.place}: {said}")
        raise NotSupportedError(
            "redis",
            doing,
            f"memories are kept in vector sets, which Redis has from version 8 on; {self.place} is {_server(info)}. "
            "Use a Redis 8, or keep memories elsewhere, such as in SQLiteVectorDatabase",
        )

    def one_length(self, vectors: Sequence[Any]) -> int:
        """The dimensions of the vectors, which are those that were said beforehand."""
        length = self.dimensions or len(vectors[0])
        for vector in vectors:
            if self.dimensions is not None and len(vector) != self.dimensions:
                raise DimensionMismatchError(
                    f"the database was opened with dimensions={self.dimensions} and the embedding provider gives "
                    f"{len(vector)}; open it with dimensions={len(vector)} or None. Nothing was changed"
                )
            check_dimensions(length, len(vector), str(self.place))
        return length


def blob_of(vector: Any) -> bytes:
    blob: bytes = vector.astype("<f4").tobytes()
    return blob


def _server(info: str) -> str:
    """What the server's INFO says it is."""
    found = dict(re.findall(r"^(redis_version|valkey_version):(\S+)", info, re.MULTILINE))
    for field, name in (("valkey_version", "Valkey"), ("redis_version", "Redis")):
        if field in found:
            return f"{name} {found[field]}"
    return "a server that has none"
