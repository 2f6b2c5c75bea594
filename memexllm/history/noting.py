"""Keeping what an algorithm noted, unless it came true of other messages than there are by now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from memexllm.algorithms.notes import WINDOWS, rebased
from memexllm.core.errors import ConcurrencyError
from memexllm.core.flow import Flow
from memexllm.storage.port import Reader, StoragePort

_ATTEMPTS = 20


def keep_state(
    port: StoragePort,
    thread_id: str,
    before: Mapping[str, Any],
    change: Mapping[str, Any],
    counts: Mapping[int, tuple[int, str]] | None = None,
    still_wanted: Callable[[Reader], bool] = lambda reader: True,
) -> Flow[bool]:
    """Write `change`, which was made to the state `before`, over whatever the thread's state is now.

    With it the token counts that were made for it, by seq.
    """
    noted = {"counts": counts} if counts else {}
    for attempt in range(_ATTEMPTS):
        reader = yield from port.read(thread_id)
        if reader is None or not still_wanted(reader):
            return False
        now = rebased(change, before, reader.head.state)
        if WINDOWS not in now:
            return False
        try:
            changes = {"state": now, "expected_version": reader.head.version, **noted}
            yield port.append_messages(thread_id, [], changes)
        except ConcurrencyError:
            if attempt == _ATTEMPTS - 1:
                raise
        else:
            return True
    return False
