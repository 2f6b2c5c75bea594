"""Which records are meant: one filter language for every database.

    user_id="alice"                                    the value
    kind={"any": ["fact", "document"]}                 one of these
    created_at={"gte": "2025-01-01", "lt": "2026-01-01"}
    metadata={"lang": "en", "author": {"name": "Ada"}, "tags": {"all": ["tea", "green"]}}

All conditions hold together. Values are compared as JSON has them: `True` is not 1 and "1" is not 1, while 1 and 1.0
are the same number. What is compared with another type does not match, and neither does a key that is not there,
except by `ne`. A list matches `any` when it holds one of the values and `all` when it holds each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict

from memexllm.core import jsontext
from memexllm.core.errors import ValidationError
from memexllm.core.moments import to_micros, utc_aware
from memexllm.core.wire import plain
from memexllm.memory.records import MemoryRecord
from memexllm.storage._listing import same_json

OPERATORS = frozenset({"eq", "ne", "any", "all", "gt", "gte", "lt", "lte"})
RANGES = frozenset({"gt", "gte", "lt", "lte"})
TEXT_FIELDS = ("id", "user_id", "agent_id", "thread_id", "kind")
TIME_FIELDS = ("created_at", "updated_at")
MISSING: Any = object()
"""What `value_below` finds where there is no such key."""


class Filters(TypedDict, total=False):
    """The filters as keyword arguments; None is the same as not given."""

    id: str | Mapping[str, Any] | None
    user_id: str | Mapping[str, Any] | None
    agent_id: str | Mapping[str, Any] | None
    thread_id: str | Mapping[str, Any] | None
    kind: str | Mapping[str, Any] | None
    metadata: Mapping[str, Any] | None
    created_at: datetime | str | Mapping[str, Any] | None
    updated_at: datetime | str | Mapping[str, Any] | None


@dataclass(frozen=True)
class Condition:
    """`path` is a field's name, or "metadata" and the keys below it. Times are microseconds since 1970."""

    path: tuple[str, ...]
    operator: str
    operand: Any

    def holds(self, record: MemoryRecord) -> bool:
        return self.accepts(_value(record, self.path))

    def accepts(self, value: Any) -> bool:
        """Whether the value found at `path` is as wanted."""
        if self.operator == "ne":
            return value is MISSING or not same_json(value, self.operand)
        if value is MISSING:
            return False
        if self.operator in RANGES:
            return _in_range(self.operator, value, self.operand)
        if self.operator == "eq":
            return same_json(value, self.operand)
        held = value if isinstance(value, list) else [value]
        found = (any(same_json(each, wanted) for each in held) for wanted in self.operand)
        if self.operator == "any":
            return any(found)
        return all(found)

    def accepts_metadata(self, metadata: Mapping[str, Any]) -> bool:
        return self.accepts(value_below(metadata, self.path[1:]))


@dataclass(frozen=True)
class Filter:
    """Conditions that hold together; none of them means every record."""

    conditions: tuple[Condition, ...] = ()

    def matches(self, record: MemoryRecord) -> bool:
        return all(condition.holds(record) for condition in self.conditions)

    def value_of(self, field: str) -> Any:
        """The one value the field must have; None when the filter asks for something else, or nothing."""
        for condition in self.conditions:
            if condition.path == (field,) and condition.operator == "eq":
                return condition.operand
        return None

    def without(self, field: str) -> Filter:
        """The conditions but for the one `value_of` tells."""
        value = self.value_of(field)
        if value is None:
            return self
        spared = Condition((field,), "eq", value)
        return Filter(tuple(condition for condition in self.conditions if condition != spared))

    def scope(self) -> tuple[bool, str | None, Filter]:
        """Whether it asks for the records of one user, or of nobody (None); which; and what it asks besides."""
        for condition in self.conditions:
            if condition.path == ("user_id",) and condition.operator == "eq":
                rest = tuple(each for each in self.conditions if each != condition)
                return True, condition.operand, Filter(rest)
        return False, None, self


def parsed_filters(filters: Mapping[str, Any]) -> Filter:
    """The filter of these keyword arguments. What cannot be understood is a `ValidationError`, never ignored."""
    conditions: list[Condition] = []
    for name, given in filters.items():
        if name in TEXT_FIELDS or name in TIME_FIELDS:
            if given is not None:
                conditions.extend(_of_field(name, given))
        elif name == "metadata":
            if given is not None:
                conditions.extend(_of_metadata(given))
        else:
            known = ", ".join((*TEXT_FIELDS, *TIME_FIELDS, "metadata"))
            raise ValidationError(f"unknown filter {name!r}; records are filtered by {known}")
    return Filter(tuple(conditions))


def _of_field(name: str, given: Any) -> Iterator[Condition]:
    wanted = given if isinstance(given, Mapping) else {"eq": given}
    if not wanted or not OPERATORS.issuperset(wanted):
        raise ValidationError(f"the filter {name} takes a value or {_operators()}; got the keys {sorted(wanted)!r:.80}")
    checked = _micros if name in TIME_FIELDS else _text
    for operator, operand in wanted.items():
        values = _values((name,), operator, operand)
        operands = [checked(name, value, operator) for value in values]
        yield Condition((name,), operator, operands if operator in ("any", "all") else operands[0])


def _of_metadata(given: Any) -> Iterator[Condition]:
    if not isinstance(given, Mapping):
        raise ValidationError(f"records are filtered by a dict of metadata, not by a {type(given).__name__}")
    jsontext.dumps(given, "metadata filter")
    for key, wanted in plain(given).items():
        yield from _below_key(("metadata", key), wanted)


def _below_key(path: tuple[str, ...], wanted: Any) -> Iterator[Condition]:
    """A dict is a condition when its keys are operators, and the way to deeper keys when none is."""
    if not isinstance(wanted, dict):
        yield Condition(path, "eq", wanted)
        return
    named = OPERATORS.intersection(wanted)
    if not wanted or (named and len(named) < len(wanted)):
        raise ValidationError(
            f"the filter {'.'.join(path)} takes a value, {_operators()}, or deeper keys; got {sorted(wanted)!r:.80}"
        )
    for key, operand in wanted.items():
        if not named:
            yield from _below_key((*path, key), operand)
            continue
        values = _values(path, key, operand)
        if key in RANGES and not (_is_number(operand) or isinstance(operand, str)):
            raise ValidationError(f"the filter {'.'.join(path)} {key} takes a number or a text")
        yield Condition(path, key, values if key in ("any", "all") else operand)


def _values(path: tuple[str, ...], operator: str, operand: Any) -> list[Any]:
    if operator not in ("any", "all"):
        return [operand]
    if not isinstance(operand, list | tuple | set | frozenset) or not operand:
        raise ValidationError(f"the filter {'.'.join(path)} {operator} takes a list of values, at least one")
    return list(operand)


def _text(name: str, value: Any, operator: str) -> Any:
    if isinstance(value, str) or (value is None and operator in ("eq", "ne")):
        return value
    raise ValidationError(f"the filter {name} is compared with texts, not with a value of type {type(value).__name__}")


def _micros(name: str, value: Any, operator: str) -> int:
    try:
        moment = utc_aware(value)
    except ValueError:
        moment = None
    if isinstance(moment, datetime):
        return to_micros(moment)
    raise ValidationError(f"the filter {name} {operator} is compared with a datetime or its ISO text")


def _value(record: MemoryRecord, path: tuple[str, ...]) -> Any:
    if path[0] == "metadata":
        return value_below(record.metadata, path[1:])
    value = getattr(record, path[0])
    return to_micros(value) if isinstance(value, datetime) else value


def value_below(value: Any, keys: tuple[str, ...]) -> Any:
    """What the JSON object holds at these keys, one below the other."""
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            return MISSING
        value = value[key]
    return value


def _in_range(operator: str, value: Any, bound: Any) -> bool:
    comparable = (_is_number(value) and _is_number(bound)) or (isinstance(value, str) and isinstance(bound, str))
    if not comparable:
        return False
    if operator == "gt":
        return bool(value > bound)
    if operator == "gte":
        return bool(value >= bound)
    return bool(value < bound) if operator == "lt" else bool(value <= bound)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _operators() -> str:
    return "a dict of " + "/".join(sorted(OPERATORS))
