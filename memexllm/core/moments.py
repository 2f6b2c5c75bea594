"""Times and ids: where they come from, and the one form in which times are stored (microseconds since 1970, UTC)."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator

Clock = Callable[[], datetime]
IdSource = Callable[[], str]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_EXACT_AS_FLOAT = 1 << 52


def utc_now() -> datetime:
    return datetime.now(UTC)


class _Ids:
    """32 hexadecimal digits: the time, so that ids made later sort later, then a random number a process counts on."""

    def __init__(self) -> None:
        self._next = itertools.count(int.from_bytes(os.urandom(8)) >> 1).__next__

    def __call__(self) -> str:
        return f"{time.time_ns():016x}{self._next():016x}"

    reseed = __init__


new_id = _Ids()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=new_id.reseed)


def micros_now() -> int:
    return time.time_ns() // 1000


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970, exact (a float timestamp is not)."""
    return (moment - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    # Exact: until 2112 a float's error is below a tenth of a microsecond, and fromtimestamp rounds to whole ones.
    if 0 <= micros < _EXACT_AS_FLOAT:
        return datetime.fromtimestamp(micros / 1e6, UTC)
    return _EPOCH + timedelta(microseconds=micros)


def utc_aware(value: Any) -> Any:
    """ISO strings and naive datetimes (taken as UTC) become aware UTC; everything else is left to pydantic."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return value


Moment = Annotated[datetime, BeforeValidator(utc_aware)]
