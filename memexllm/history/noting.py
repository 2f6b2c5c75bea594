"""Keeping what an algorithm noted, unless it came true of other messages than there are by now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from memexllm.algorithms.notes import WINDOWS, rebased
from memexllm.algorithms.pipeline import STEPS
from memexllm.algorithms.summary import SUMMARY
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

    A summary, which may say what was taken back meanwhile, is written only to the version it was compared with, and the
    token counts by seq with it. The rest is a matter of places: it is written without a new version of the thread, for
    looking at a thread changes nothing of what was said.
    """
    for attempt in range(_ATTEMPTS):
        reader = yield from port.read(thread_id)
        if reader is None or not still_wanted(reader):
            return False
        now = rebased(change, before, reader.head.state)
        if not now:
            return False
        if not any(map(_summarises, (now.get(WINDOWS) or {}).values())):
            yield port.patch_thread(thread_id, state=now)
            return True
        changes = {"state": now, "expected_version": reader.head.version, **({"counts": counts} if counts else {})}
        try:
            yield port.append_messages(thread_id, [], changes)
        except ConcurrencyError:
            if attempt == _ATTEMPTS - 1:
                raise
        else:
            return True
    return False


def _summarises(note: Mapping[str, Any]) -> bool:
    return any(SUMMARY in each for each in (note, *(note.get(STEPS) or {}).values()))
