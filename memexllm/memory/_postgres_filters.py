"""Filters as PostgreSQL's SQL, exactly: nothing is left to be decided afterwards.

Metadata is compared as JSONB, which tells True from 1 and "1" from 1, and knows 1 and 1.0 as one number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from memexllm.memory._postgres_texts import key_of, lookup_of, stored
from memexllm.memory.filters import RANGES, TIME_FIELDS, Condition, Filter

_SIGNS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_KEYS = {"id": "r.id_key", "user_id": "r.user_key", "kind": "r.kind_key"}
"""What stands for a name of any length in an index."""
_ELEMENTS = "SELECT 1 FROM jsonb_array_elements({value}) AS held (e) WHERE held.e = {wanted}"


@dataclass
class Where:
    """What follows WHERE. `user` and `rest` are apart, because vectors know whose they are and nothing else."""

    user: bool = False
    rest: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    """What the names in the texts stand for."""

    @property
    def records(self) -> str:
        """Over the records as `r`."""
        return " AND ".join([*(["r.user_key = :user_key"] if self.user else []), *self.rest]) or "true"

    @property
    def vectors(self) -> str:
        """Over the vectors as `v`, as far as it goes."""
        return "v.user_key = :user_key" if self.user else "true"

    def bind(self, value: Any, kind: str) -> str:
        name = f"f{len(self.values)}"
        self.values[name] = value
        return f"CAST(:{name} AS {kind})"


def where(wanted: Filter) -> Where:
    found = Where()
    user_id = wanted.value_of("user_id")
    if user_id is not None:
        found.user, found.values["user_key"] = True, key_of(user_id)
    for condition in wanted.without("user_id").conditions:
        write = _of_metadata if condition.path[0] == "metadata" else _of_column
        found.rest.extend(write(condition, found.bind))
    return found


def _of_column(condition: Condition, bind: Callable[[Any, str], str]) -> Iterator[str]:
    name, operator = condition.path[0], condition.operator
    column, kind = f"r.{name}", "bigint" if name in TIME_FIELDS else "text"
    listed = operator in ("any", "all")
    given = list(condition.operand) if listed else [condition.operand]
    values = [stored(value) if isinstance(value, str) else value for value in given]
    if name in _KEYS and operator in ("eq", "any") and None not in given:
        yield f"{_KEYS[name]} = ANY ({bind([key_of(value) for value in given], 'bytea[]')})"
    elif operator == "any":
        yield f"{column} = ANY ({bind(values, f'{kind}[]')})"
    elif operator == "all" and len(set(values)) > 1:
        yield "false"
    elif operator in RANGES:
        yield f"{column} {_SIGNS[operator]} {bind(values[0], kind)}"
    elif values[0] is None:
        yield f"{column} IS {'NOT ' if operator == 'ne' else ''}NULL"
    else:
        yield f"{column} {'IS DISTINCT FROM' if operator == 'ne' else '='} {bind(values[0], kind)}"


def _of_metadata(condition: Condition, bind: Callable[[Any, str], str]) -> Iterator[str]:
    operator, operand = condition.operator, condition.operand
    # By text and one after another: "->" with a text finds nothing in a list, where "#>" counts its elements.
    keys = [stored(key) for key in condition.path[1:]]
    value = "(" + " -> ".join(["r.lookup", *(bind(key, "text") for key in keys)]) + ")"
    if operator in RANGES:
        yield _in_range(operator, operand, value, bind)
    elif operator == "ne":
        yield f"{value} IS DISTINCT FROM {bind(lookup_of(operand), 'jsonb')}"
    elif operator == "eq":
        nested = operand
        for key in reversed(condition.path[1:]):
            nested = {key: nested}
        # The first finds by the index more than is wanted, such as lists that hold more.
        yield f"r.lookup @> {bind(lookup_of(nested), 'jsonb')}"
        yield f"{value} = {bind(lookup_of(operand), 'jsonb')}"
    else:
        wanted = f"unnest({bind([lookup_of(each) for each in operand], 'jsonb[]')}) AS wanted (w)"
        held = _ELEMENTS.format(value=value, wanted="wanted.w")
        is_so = f"CASE WHEN jsonb_typeof({value}) = 'array' THEN EXISTS ({held}) ELSE {value} = wanted.w END"
        together = "bool_or" if operator == "any" else "bool_and"
        yield f"(SELECT {together}(coalesce({is_so}, false)) FROM {wanted})"


def _in_range(operator: str, bound: Any, value: str, bind: Callable[[Any, str], str]) -> str:
    """CASE, because AND may look at the number of what is none."""
    if isinstance(bound, str):
        compared = f"({value} #>> '{{}}') COLLATE \"C\" {_SIGNS[operator]} {bind(stored(bound), 'text')}"
    else:
        compared = f"CAST({value} AS numeric) {_SIGNS[operator]} CAST({bind(lookup_of(bound), 'text')} AS numeric)"
    of_type = "string" if isinstance(bound, str) else "number"
    return f"CASE WHEN jsonb_typeof({value}) = '{of_type}' THEN {compared} ELSE false END"
