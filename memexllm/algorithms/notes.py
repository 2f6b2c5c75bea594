"""What an algorithm keeps of a thread between calls: a note in the thread's state, one for each window on it.

The one that moved last stands at the end. A note's `cut` is the seq of the window's first message. It stays true as
long as the messages before it do; when some of them are superseded, the library drops it, and the algorithm finds its
place again from the stored calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from memexllm.core.state import CUT as CUT
from memexllm.core.state import WINDOWS as WINDOWS

HELD = "held"
"""Seqs before the cut that were sent when it was made; they stay until it moves, so that the prefix does not change."""
CHANGED = "changed"
"""Key of the thread's state: how often messages were changed or superseded, which notes under way rest on."""
_MOST = 4

Note = Mapping[str, Any]
_NONE: Note = {}


def note_of(state: Mapping[str, Any], key: str) -> Note | None:
    """The note of the window of that key; None when the thread has none."""
    notes = state.get(WINDOWS)
    return notes.get(key) if isinstance(notes, Mapping) else None


def with_note(state: Mapping[str, Any], key: str, note: Note) -> dict[str, Any]:
    """The change to `state` that keeps `note`; a thread that was seen through many windows forgets the oldest."""
    others = {other: kept for other, kept in (state.get(WINDOWS) or _NONE).items() if other != key}
    newest = dict(list(others.items())[-(_MOST - 1) :])
    return {WINDOWS: {**newest, key: dict(note)}}


def without_notes_after(state: Mapping[str, Any], seq: int) -> dict[str, Any]:
    """The change to `state` when what lies at `seq` is no longer what it was: notes that rest on it are dropped."""
    notes: Mapping[str, Note] = state.get(WINDOWS) or {}
    kept = {key: note for key, note in notes.items() if (note.get(CUT) or 0) <= seq}
    dropped = {} if len(kept) == len(notes) else {WINDOWS: kept}
    return {**dropped, CHANGED: (state.get(CHANGED) or 0) + 1}


def rebased(change: Mapping[str, Any], before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """`change`, made to the state `before`, as a change to the state `now`.

    Notes that others made meanwhile stay. When messages were changed meanwhile, what was noted is dropped: it may say
    what was taken back.
    """
    if WINDOWS not in change:
        return dict(change)
    rest = {key: value for key, value in change.items() if key != WINDOWS}
    had: Mapping[str, Note] = before.get(WINDOWS) or {}
    has: Mapping[str, Note] = now.get(WINDOWS) or {}
    noted = {key: note for key, note in change[WINDOWS].items() if note != had.get(key)}
    if before.get(CHANGED) != now.get(CHANGED):
        noted = {}
    gone = had.keys() - change[WINDOWS].keys() | noted.keys()
    kept = {key: note for key, note in has.items() if key not in gone}
    merged = {**dict(list(kept.items())[-(_MOST - len(noted)) :]), **noted}
    return rest if merged == has else {**rest, WINDOWS: merged}
