"""Merge: what the caller passed against what the thread holds.

A caller may send only the new messages, the whole conversation, or a window of it. The result says which stored rows
are history for this call, which rows are new, and what has to be superseded.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from memexllm.algorithms.notes import without_notes_after
from memexllm.core.exchanges import call_ids
from memexllm.core.flow import Flow
from memexllm.core.wire import BLOCK_ROLES, Draft, MessageRow
from memexllm.history.context import BLOCK, Block, Loaded, load_beginning, load_turn

MergeMode = Literal["auto", "append", "replace"]
MERGE_MODES = ("auto", "append", "replace")
DIVERGED = "diverged"

Wire = dict[str, Any]
RowsOf = Callable[[Sequence[Draft]], list[MessageRow]]


class RepeatedDivergenceWarning(UserWarning):
    """Calls on a thread begin with the same messages again and again and differ afterwards."""


@dataclass(slots=True)
class Merged:
    """What one call sends and changes. `stored` is the batch to append before the answer: block rows, then new ones."""

    history: list[MessageRow]
    new: list[MessageRow]
    block: list[MessageRow]
    block_to_store: list[MessageRow] = field(default_factory=list[MessageRow])
    supersede_from: int | None = None
    supersede: tuple[int, ...] = ()
    state: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def stored(self) -> list[MessageRow]:
        return [*self.block_to_store, *self.new]


@dataclass(slots=True)
class _Continuation:
    """How the messages after the block go on from the thread."""

    history: list[MessageRow]
    new: list[Draft]
    supersede_from: int | None = None
    supersede: tuple[int, ...] = ()
    diverged_at: int | None = None


def merge(
    loaded: Loaded, incoming: Sequence[Draft], mode: MergeMode, rows_of: RowsOf, turn_id: str | None = None
) -> Flow[Merged]:
    """`incoming` against `loaded`; `rows_of` makes rows of messages that are stored for the first time.

    A call of a turn that is stored, which begins with the turn's first message again, supersedes the turn.
    """
    lead = _leading_block(incoming)
    if mode == "replace":
        continuation = _Continuation([], list(incoming[lead:]), None if loaded.head is None else 0)
    elif mode == "append":
        again = yield from _said_again(loaded, incoming[lead:], turn_id)
        continuation = again or _Continuation(loaded.rows, list(incoming[lead:]))
    else:
        overlap = _overlap(loaded.rows, incoming) if lead else 0
        if overlap:
            # A run of system messages inside the conversation, repeated: not a new block.
            lead = 0
            continuation = _Continuation(loaded.rows, list(incoming[overlap:]))
        else:
            continuation = yield from _continue(loaded, incoming[lead:], turn_id)
    return _changes(loaded, list(incoming[:lead]), continuation, rows_of)


def _continue(loaded: Loaded, rest: Sequence[Draft], turn_id: str | None) -> Flow[_Continuation]:
    stored = loaded.rows
    overlap = _overlap(stored, rest)
    if overlap or not rest:
        return _Continuation(stored, list(rest[overlap:]))
    again = yield from _said_again(loaded, rest, turn_id)
    if again is not None:
        return again
    if stored and stored[-1].get("status") == "incomplete":
        asked = next((i for i in range(len(stored) - 1, -1, -1) if stored[i]["wire"].get("role") == "user"), None)
        if asked is not None and fingerprint(stored[asked]["wire"]) == fingerprint(rest[0]["wire"]):
            return _Continuation(stored[:asked], list(rest), stored[asked].get("seq"))
    if len(rest) > 1:
        beginning = yield from load_beginning(loaded, len(rest) + 1)
        shared = _shared_prefix(beginning, rest)
        whole_list = shared >= 2 or (shared == 1 and any(each["wire"].get("role") == "assistant" for each in rest[1:]))
        if whole_list and shared < len(beginning):
            seq = beginning[shared].get("seq")
            return _Continuation(beginning[:shared], list(rest[shared:]), seq, diverged_at=shared)
    return _Continuation(stored, list(rest))


def _said_again(loaded: Loaded, rest: Sequence[Draft], turn_id: str | None) -> Flow[_Continuation | None]:
    """How a call goes on that begins a stored turn again; None for any other.

    What was said after the turn by others stays: the turn is then at the end.
    """
    if turn_id is None or not rest:
        return None
    rows = yield from load_turn(loaded, turn_id)
    turn = [index for index, row in enumerate(rows) if row.get("turn_id") == turn_id]
    if not turn or fingerprint(rows[turn[0]]["wire"]) != fingerprint(rest[0]["wire"]):
        return None
    if turn[-1] - turn[0] == len(turn) - 1 and turn[-1] == len(rows) - 1:
        return _Continuation(rows[: turn[0]], list(rest), rows[turn[0]].get("seq"))
    others = [row for row in loaded.rows if row.get("turn_id") != turn_id]
    return _Continuation(others, list(rest), supersede=tuple(rows[index].get("seq", 0) for index in turn))


def _changes(loaded: Loaded, lead: list[Draft], continuation: _Continuation, rows_of: RowsOf) -> Merged:
    state: dict[str, Any] = {}
    cut_from = continuation.supersede_from
    block = loaded.block
    changed = bool(lead) and _fingerprints(lead) != _fingerprints(block.drafts)
    if changed:
        block = Block(lead)
    # Superseding the tail would take a block with it that was stored later than the messages it stands before.
    elif cut_from is not None and any(seq >= cut_from for seq in block.seqs):
        changed = True
    if loaded.unread:  # sent, and not stored: the block it would replace is not known
        changed = False
    to_store = rows_of(block.drafts) if changed else []
    if not loaded.unread and (changed or not block.known):
        seqs: list[Any] = [{"$new": index} for index in range(len(to_store))] if changed else block.seqs
        state[BLOCK] = _named(block, seqs)
    changed_from = min((*continuation.supersede, *(() if cut_from is None else (cut_from,))), default=None)
    if changed_from is not None:
        state.update(without_notes_after(loaded.state, changed_from))
    if continuation.diverged_at is not None:
        state[DIVERGED] = _noted_divergence(loaded, continuation.diverged_at)
    return Merged(
        history=continuation.history,
        new=rows_of(continuation.new),
        block=to_store or block.rows(),
        block_to_store=to_store,
        supersede_from=cut_from,
        supersede=(*continuation.supersede, *(loaded.block.seqs if changed else ())),
        state=state,
    )


def fingerprint(wire: Wire) -> Hashable:
    """What makes two messages the same. Null and empty are absent; re-serialised arguments do not matter."""
    content = wire.get("content")
    if isinstance(content, list):
        texts = [str(part.get("text")) for part in content if isinstance(part, dict) and part.get("type") == "text"]
        content = "".join(texts) if len(texts) == len(content) else json.dumps(content, sort_keys=True, default=str)
    audio, function_call = wire.get("audio"), wire.get("function_call")
    return (
        wire.get("role"),
        content or None,
        wire.get("name") or None,
        wire.get("refusal") or None,
        tuple(call_ids(wire)),
        function_call.get("name") if isinstance(function_call, dict) else None,
        wire.get("tool_call_id") or None,
        audio.get("id") if isinstance(audio, dict) else None,
    )


def _named(block: Block, seqs: Sequence[Any]) -> dict[str, Any]:
    """What the thread's state keeps of its block: by value, for it is sent with every call."""
    wires = [draft["wire"] for draft in block.drafts]
    named: dict[str, Any] = {"messages": wires, "seqs": seqs, "hash": _hash(wires) if wires else None}
    items = {str(index): draft["items"] for index, draft in enumerate(block.drafts) if "items" in draft}
    return {**named, "items": items} if items else named


def _fingerprints(drafts: Sequence[Draft]) -> list[Hashable]:
    return [fingerprint(draft["wire"]) for draft in drafts]


def _leading_block(incoming: Sequence[Draft]) -> int:
    count = 0
    while count < len(incoming) and incoming[count]["wire"].get("role") in BLOCK_ROLES:
        count += 1
    return count


def _overlap(stored: Sequence[MessageRow], incoming: Sequence[Draft]) -> int:
    """The largest k for which the last k stored messages are the first k incoming ones."""
    size = min(len(stored), len(incoming))
    if size == 0:
        return 0
    pattern = _fingerprints(incoming[:size])
    # The prefix function of Knuth, Morris and Pratt: one pass, however much the messages repeat.
    borders = [0] * size
    matched = 0
    for index in range(1, size):
        while matched and pattern[index] != pattern[matched]:
            matched = borders[matched - 1]
        matched += pattern[index] == pattern[matched]
        borders[index] = matched
    matched = 0
    for row in stored[-size:]:
        print_ = fingerprint(row["wire"])
        while matched and (matched == size or print_ != pattern[matched]):
            matched = borders[matched - 1]
        matched += print_ == pattern[matched]
    return matched


def _shared_prefix(beginning: Sequence[MessageRow], rest: Sequence[Draft]) -> int:
    shared = 0
    for row, draft in zip(beginning, rest, strict=False):
        if fingerprint(row["wire"]) != fingerprint(draft["wire"]):
            break
        shared += 1
    return shared


def _noted_divergence(loaded: Loaded, shared: int) -> dict[str, Any]:
    """What the thread's state keeps of a divergence; the second one at the same prefix warns, once."""
    before = loaded.state.get(DIVERGED) or {}
    again = before.get("shared") == shared
    if again and not before.get("warned"):
        warnings.warn(
            f"calls on this thread begin with the same {shared} messages again and differ afterwards, so each "
            'supersedes the one before. If they are examples sent with every call, use merge="append"',
            RepeatedDivergenceWarning,
            stacklevel=2,
        )
    return {"shared": shared, "warned": again}


def _hash(wires: list[Wire]) -> str:
    return hashlib.blake2b(json.dumps(wires, sort_keys=True, default=str).encode(), digest_size=8).hexdigest()
