"""Filters on a Redis server: a user's keys, marks for the rest it decides, and what Python decides.

The server knows the user, kind, agent and thread of a record; all else of the one filter language is decided here, by
the fields of the records that are left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from memexllm.core import jsontext
from memexllm.core.moments import to_micros
from memexllm.memory._metadata_text import pieces_of
from memexllm.memory.filters import TIME_FIELDS, Condition, Filter
from memexllm.memory.records import MemoryRecord
from memexllm.storage._redis_keys import owner_of

EVERYONE = "*"
"""No user's name in keys begins so."""
_MARKED = {"kind": "kind", "agent_id": "agent", "thread_id": "thread"}
"""Fields by which records are listed, and their names in the vector sets."""


@dataclass(frozen=True)
class Sieve:
    """A filter, by who is to decide what.

    `scope` is a user's name in keys, or `EVERYONE`. The server knows the `marks`, and looks whether metadata holds one
    of each group of `pieces`. `left` is for Python, by the values of `fields`.
    """

    scope: str
    equal: tuple[tuple[str, str | None], ...]
    pieces: tuple[tuple[str, ...], ...]
    left: tuple[Condition, ...]

    @property
    def scope_args(self) -> list[Any]:
        return [self.scope, len(self.equal), *(_mark(field, value) for field, value in self.equal)]

    @property
    def args(self) -> list[Any]:
        args: list[Any] = [*self.scope_args, len(self.pieces)]
        for group in self.pieces:
            args += [len(group), *group]
        fields = fields_of(self.left)
        return [*args, len(fields), *fields]

    @property
    def expression(self) -> str:
        """The marks as a filter expression of VSIM."""
        return " && ".join(f'.{_MARKED[field]} == "{_mark(field, value)}"' for field, value in self.equal)


def sieve_of(wanted: Filter) -> Sieve:
    scope: str | None = None
    equal: list[tuple[str, str | None]] = []
    left: list[Condition] = []
    for condition in wanted.conditions:
        field, value = condition.path[0], condition.operand
        if condition.operator == "eq" and field == "user_id" and scope is None:
            scope = owner_of(value)
        elif condition.operator == "eq" and field in _MARKED:
            equal.append((field, value))
        else:
            left.append(condition)
    pieces = (tuple(pieces_of(condition)) for condition in left if condition.path[0] == "metadata")
    return Sieve(EVERYONE if scope is None else scope, tuple(equal), tuple(filter(None, pieces)), tuple(left))


def marks_of(record: MemoryRecord) -> list[str]:
    return [_mark(field, getattr(record, field)) for field in _MARKED]


def fields_of(conditions: Iterable[Condition]) -> list[str]:
    return list(dict.fromkeys(condition.path[0] for condition in conditions))


def decider(conditions: Sequence[Condition]) -> Callable[[Sequence[Any]], bool]:
    """Whether a record is meant, told by the stored values of `fields_of(conditions)`."""
    fields = fields_of(conditions)

    def accepts(values: Sequence[Any]) -> bool:
        read = {field: _read(field, value) for field, value in zip(fields, values, strict=True)}
        return all(
            condition.accepts_metadata(read["metadata"])
            if condition.path[0] == "metadata"
            else condition.accepts(read[condition.path[0]])
            for condition in conditions
        )

    return accepts


def _read(field: str, value: bytes | None) -> Any:
    if value is None:
        return None
    text = value.decode()
    if field == "metadata":
        return jsontext.loads(text)
    return to_micros(datetime.fromisoformat(text)) if field in TIME_FIELDS else text


@lru_cache(maxsize=1024)
def _mark(field: str, value: str | None) -> str:
    """A word of letters and digits, which means nothing in a key or an expression."""
    return f"x{blake2b(jsontext.dumps([field, value], 'filter').encode(), digest_size=16).hexdigest()}"
