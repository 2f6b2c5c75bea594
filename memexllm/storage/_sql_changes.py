"""What is asked of an append and of a read, as one value each."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple


class Changes(NamedTuple):
    """What an append changes beside its messages; see `BaseStorage.append_messages`."""

    expected_version: int | None
    supersede_from: int | None
    supersede: Collection[int]
    state: Mapping[str, Any] | None
    create: Mapping[str, Any] | None
    counts: Mapping[int, tuple[int, str]] | None


class Bounds(NamedTuple):
    """Which messages are read, and as what; see `BaseStorage.read_messages`."""

    limit: int | None
    before: int | None
    after: int | None
    include_superseded: bool
    wire: bool
