"""What the JSON text of metadata holds wherever a condition holds: a first sieve, after which values are compared."""

from __future__ import annotations

from typing import Any

from memexllm.core import jsontext
from memexllm.memory.filters import Condition

_MOST_PIECES = 500
_EXACT_AS_FLOAT = 1 << 53


def pieces_of(condition: Condition) -> list[str]:
    """Texts of which all metadata that matches holds one, as `jsontext.dumps` writes it; none when that is unknown."""
    wanted = condition.operand if condition.operator == "any" else [condition.operand]
    if condition.operator not in ("eq", "any") or len(wanted) > _MOST_PIECES:
        return []
    if not all(map(_is_written_one_way, wanted)):
        return []
    key = condition.path[-1]
    pieces = [jsontext.dumps({key: _whole(value)})[1:-1] for value in wanted]
    if condition.operator == "any":
        pieces.append(f"{jsontext.dumps(key)}:[")
    return pieces


def _is_written_one_way(value: Any) -> bool:
    """Whether JSON values that equal it begin with the same signs: 1 and 1.0 do, 0 and -0.0 do not."""
    if value is None or isinstance(value, str | bool):
        return True
    return isinstance(value, int | float) and 0 < abs(value) < _EXACT_AS_FLOAT


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
