"""Filters as SQL: exact for the columns; for metadata a first sieve of its text, after which Python decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from memexllm.core import jsontext
from memexllm.memory._metadata_text import pieces_of
from memexllm.memory.filters import Condition, Filter

_COLUMNS = {
    "id": "r.id",
    "user_id": "o.user_id",
    "agent_id": "r.agent_id",
    "thread_id": "r.thread_id",
    "kind": "r.kind",
    "created_at": "r.created_at",
    "updated_at": "r.updated_at",
}
_SIGNS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_MOST_BOUND = 500


@dataclass(frozen=True)
class Where:
    """The text after WHERE, what is bound in it, and what is left to decide by the metadata of each row found."""

    sql: str
    bound: Sequence[Any]
    left: tuple[Condition, ...]

    def accepts(self, metadata_text: str) -> bool:
        metadata = jsontext.loads(metadata_text)
        return all(condition.accepts_metadata(metadata) for condition in self.left)


def where(wanted: Filter, owner: int | None = None) -> Where:
    """Over `memory_records AS r JOIN memory_owners AS o ON o.n = r.owner`.

    `owner` is the row of the one user the filter asks for, which is found by it and not by his name.
    """
    texts: list[str] = [] if owner is None else ["r.owner = ?"]
    bound: list[Any] = [] if owner is None else [owner]
    for condition in (wanted if owner is None else wanted.without("user_id")).conditions:
        sql, values = _of_metadata(condition) if condition.path[0] == "metadata" else _of_column(condition)
        if sql:
            texts.append(sql)
            bound.extend(values)
    left = tuple(condition for condition in wanted.conditions if condition.path[0] == "metadata")
    return Where(" AND ".join(texts) or "1", bound, left)


def _of_column(condition: Condition) -> tuple[str, list[Any]]:
    column, operand = _COLUMNS[condition.path[0]], condition.operand
    if condition.operator == "eq":
        return f"{column} IS ?", [operand]
    if condition.operator == "ne":
        return f"{column} IS NOT ?", [operand]
    if condition.operator == "any":
        lists = [operand[start : start + _MOST_BOUND] for start in range(0, len(operand), _MOST_BOUND)]
        return f"({' OR '.join(f'{column} IN ({_marks(each)})' for each in lists)})", list(operand)
    if condition.operator == "all":
        # One value is each of them only when they are all the same.
        return (f"{column} IS ?", [operand[0]]) if len(set(operand)) == 1 else ("0", [])
    return f"{column} {_SIGNS[condition.operator]} ?", [operand]


def _of_metadata(condition: Condition) -> tuple[str, list[Any]]:
    pieces = pieces_of(condition)
    return (f"({' OR '.join(['instr(r.metadata, ?)'] * len(pieces))})", list(pieces)) if pieces else ("", [])


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))
