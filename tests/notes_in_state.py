"""What a thread's state says of the windows on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from memexllm.algorithms.notes import CUT, WINDOWS


def cut_in(state: Mapping[str, Any]) -> int:
    """Where the window of a thread with one window begins; 0 while nothing was cut."""
    notes: Mapping[str, Mapping[str, Any]] = state.get(WINDOWS) or {}
    return max((note.get(CUT) or 0 for note in notes.values()), default=0)


def without_notes(state: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in state.items() if key != WINDOWS}
