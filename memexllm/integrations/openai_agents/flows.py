"""What a session does, step by step: items read, added, taken back and cleared. Each function is a flow.

A change that depends on what is there is written under the version that was read; whoever comes second reads again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from memexllm.algorithms.notes import WINDOWS, without_notes_after
from memexllm.core.errors import ConcurrencyError, ThreadNotFoundError, WindowError
from memexllm.core.exchanges import exchanges, repair
from memexllm.core.flow import Flow
from memexllm.core.models import Message
from memexllm.core.wire import BLOCK_ROLES, Draft, MessageRow, row_of
from memexllm.history.async_manager import AsyncHistoryManager
from memexllm.history.context import BLOCK, PINS, load
from memexllm.history.flows import settled_window
from memexllm.history.observing import show_new
from memexllm.integrations.openai.items_read import Item
from memexllm.integrations.openai_agents.grouping import (
    continues,
    drafts,
    items_in,
    items_in_all,
    items_to_send,
    newest_whole,
    open_run_of,
)
from memexllm.storage._telling import tell_stored
from memexllm.storage.port import Reader

# Of those who write at the same time, one gets through each time.
_ATTEMPTS = 100
# A result lies close behind its call.
_RESULTS_PAGE = 32
# Databases count in 64 bits.
_MOST = 1 << 61
_NEVER_CONTINUE = frozenset({"user", *BLOCK_ROLES})


@dataclass(frozen=True)
class Place:
    """The thread of a session, of a user when one is named."""

    manager: AsyncHistoryManager
    thread_id: str
    user_id: str | None

    def reader(self) -> Flow[Reader | None]:
        reader = yield from self.manager.port.read(self.thread_id)
        if reader is not None and self.user_id is not None and reader.head.user_id != self.user_id:
            raise ThreadNotFoundError(f"Thread not found: {self.thread_id}; no such thread of this user")
        return reader

    def rows(self, new: Sequence[Draft]) -> list[MessageRow]:
        """Rows for messages that are stored for the first time."""
        now = self.manager.micros()
        return [row_of(draft, self.manager.id_source(), now) for draft in new]

    def append(self, rows: Sequence[MessageRow], changes: dict[str, Any]) -> Flow[None]:
        port = self.manager.port
        version = yield port.append_messages(self.thread_id, rows, changes)
        if port.plugins is not None:
            yield from tell_stored(
                port.plugins, port, self.thread_id, rows, created="create" in changes and version == 1
            )


def window(place: Place) -> Flow[list[Item]]:
    """What the manager's algorithm chooses, as whole exchanges and repaired; without one, every item as added."""
    reader = yield from place.reader()
    if reader is None:
        return []
    chooser = place.manager.chooser
    if chooser is None:
        stored: list[MessageRow] = yield reader.rows()
        return [item for items in items_in_all(stored) for item in items]
    loaded = yield from load(reader, chooser)
    settle = partial(settled_window, place.manager.port, chooser, loaded, place.thread_id, place.manager.micros())
    try:
        chosen = yield from settle()
    except WindowError:
        # The last turn broke off and is too long to be gone on with. The next run begins another one.
        waiting = _waiting(loaded.rows)
        loaded.rows = [row for row in loaded.rows if row["id"] not in waiting]
        chosen = yield from settle(place.rows([{"wire": {"role": "user", "content": ""}}]))
    rows = [*loaded.block.rows(), *chosen.head, *_sendable(chosen.rows)]
    return [item for row in rows for item in items_to_send(row, rows)]


def _sendable(rows: Sequence[MessageRow]) -> list[MessageRow]:
    """`rows` repaired, but for calls at the end: what the run brings may be their results."""
    waiting = _waiting(rows)
    settled = repair([row for row in rows if row["id"] not in waiting]).rows
    return [*settled, *(row for row in rows if row["id"] in waiting)]


def _waiting(rows: Sequence[MessageRow]) -> set[str]:
    """The ids of the last messages, if they are calls with the results that are there and some are missing."""
    last = exchanges(rows)[-1] if rows else None
    if last is None or not last.unanswered or last.rows[-1] is not rows[-1]:
        return set()
    return {row["id"] for row in last.rows}


def newest(place: Place, limit: int) -> Flow[list[Item]]:
    """The newest items of the thread, whatever the algorithm; at most `limit`."""
    reader = yield from place.reader()
    if reader is None or limit == 0:
        return []
    limit = min(limit, _MOST)
    # A message holds at least one item.
    rows: list[MessageRow] = yield reader.rows(limit=limit)
    return newest_whole(items_in_all(rows), limit, from_the_beginning=len(rows) < limit)


def add(place: Place, items: Sequence[Item]) -> Flow[None]:
    """Append; the thread is created when there is none."""
    if not items:
        return
    rows: list[MessageRow] = yield from _repeated(lambda: _add(place, items))
    yield from show_new(place.manager.port, place.manager.chooser, place.thread_id, [row["id"] for row in rows])


def pop(place: Place) -> Flow[Item | None]:
    """The newest item, which is superseded in the thread's log."""
    popped: Item | None = yield from _repeated(lambda: _pop(place))
    return popped


def clear(place: Place) -> Flow[None]:
    """Supersede everything; the thread stays."""
    reader = yield from place.reader()
    if reader is not None:
        emptied: dict[str, Any] = {BLOCK: None, WINDOWS: {}, PINS: []}
        changes: dict[str, Any] = {"supersede_from": 0}
        if state := {key: value for key, value in emptied.items() if key in reader.head.state}:
            changes["state"] = state
        yield from place.append([], changes)


def _add(place: Place, items: Sequence[Item]) -> Flow[list[MessageRow]]:
    changes: dict[str, Any] = {"create": {} if place.user_id is None else {"user_id": place.user_id}}
    run: list[Item] = []
    if items[0].get("role") not in _NEVER_CONTINUE:
        reader = yield from place.reader()
        changes["expected_version"] = 0 if reader is None else reader.head.version
        last: list[MessageRow] = [] if reader is None else (yield reader.rows(limit=1))
        open_run = open_run_of(last[0]) if last else []
        if open_run and continues(open_run, items[0]):
            run = open_run
            changes["supersede"] = (last[0].get("seq"),)
    rows = place.rows(drafts(items, run))
    yield from place.append(rows, changes)
    return rows


def _pop(place: Place) -> Flow[Item | None]:
    reader = yield from place.reader()
    if reader is None:
        return None
    messages: list[Message] = yield reader.messages(limit=_RESULTS_PAGE)
    if not messages:
        return None
    rows = [message.row() for message in messages]
    last = rows[-1]
    items = items_in(last, rows[:-1])
    left = _without_last(place, last, items)
    changes: dict[str, Any] = {"expected_version": reader.head.version, "supersede": (last.get("seq"),)}
    if state := _state_without(last, left, reader.head.state):
        changes["state"] = state
    yield from place.append(left, changes)
    return items[-1]


def _without_last(place: Place, row: MessageRow, items: Sequence[Item]) -> list[MessageRow]:
    """The message that takes the place of `row` when its last item is taken out, if any of it is left."""
    if len(items) == 1:
        return []
    # All but what a message is and where it lies: its id is taken, by the one that stays in the log.
    kept = {key: value for key, value in row.items() if key not in ("id", "seq", "wire", "items", "tokens")}
    return [{**new, **kept} for new in place.rows(drafts(items[:-1]))]  # type: ignore[typeddict-item]  # as in `row`


def _state_without(row: MessageRow, left: Sequence[MessageRow], state: Any) -> dict[str, Any]:
    """What the thread's state says of `row`, said of what is left of it."""
    seq = row.get("seq", 0)
    changed = without_notes_after(state, seq)
    if seq in (state.get(BLOCK) or {}).get("seqs", ()):
        # It is found again by looking at the beginning of the thread.
        changed[BLOCK] = None
    if seq in (state.get(PINS) or ()):
        others = [each for each in state[PINS] if each != seq]
        changed[PINS] = [*others, *({"$new": index} for index in range(len(left)))]
    return changed


def _repeated(attempt: Callable[[], Flow[Any]]) -> Flow[Any]:
    for _ in range(_ATTEMPTS - 1):
        try:
            return (yield from attempt())
        except ConcurrencyError:
            continue
    return (yield from attempt())
