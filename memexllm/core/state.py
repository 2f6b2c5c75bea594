"""What the library keeps in a thread's `state`, as far as it names seqs of the thread's log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from memexllm.core.wire import plain

BLOCK = "block"
"""The thread's instructions, by value (`messages`), and where they lie (`seqs`)."""
WINDOWS = "windows"
"""What algorithms note of their windows: for each its `CUT` and what it made of the messages before."""
CUT = "cut"
"""In a note: the seq of the window's first message; the note is dropped when messages before it go."""
PINS = "pins"
"""The seqs of pinned messages, which are sent however far back they lie."""
RECALLED = "recalled"
"""What was recalled for the newest turn: `wire`, sent before the user message `before`; a fork does without."""


def state_until(state: Mapping[str, Any], last_seq: int) -> dict[str, Any]:
    """The part of a state that is true for a thread which ends with `last_seq`; it shares nothing with `state`.

    The instructions are those in force now: they are there by value, wherever they lie. A window that has moved past
    the end came about by what was said later, and is found anew from what is stored.
    """
    kept: dict[str, Any] = {}
    block = state.get(BLOCK)
    if isinstance(block, Mapping):
        kept[BLOCK] = {**plain(block), "seqs": _until(block.get("seqs"), last_seq)}
    elif BLOCK in state:
        kept[BLOCK] = plain(block)
    if PINS in state:
        kept[PINS] = _until(state[PINS], last_seq)
    if state.get(WINDOWS):
        kept[WINDOWS] = {key: plain(note) for key, note in state[WINDOWS].items() if (note.get(CUT) or 0) <= last_seq}
    return kept


def _until(seqs: Any, last_seq: int) -> list[int]:
    return [seq for seq in seqs if seq <= last_seq] if isinstance(seqs, list | tuple) else []
