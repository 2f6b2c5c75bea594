"""From a thread to what may be sent: load what is needed, let the algorithm choose, repair.

Used by the managers for `context()` and by the integrations for every call. A thread's *block* (its leading system and
developer messages) never counts as history: it comes first, whole, whatever the window.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from memexllm.algorithms.base import BaseAlgorithm, ContextView, with_required
from memexllm.core.exchanges import exchanges
from memexllm.core.flow import Flow
from memexllm.core.models import Message, Thread
from memexllm.core.state import BLOCK as BLOCK
from memexllm.core.state import PINS as PINS
from memexllm.core.wire import BLOCK_ROLES, Draft, MessageRow, draft_of, row_of
from memexllm.storage.port import Reader

_HEAD_PAGE = 16
_OPENER_PAGE = 100
_RESULTS_PAGE = 16


@dataclass(slots=True)
class Block:
    """A thread's leading system and developer messages: by value, and where they lie in the log."""

    drafts: list[Draft] = field(default_factory=list[Draft])
    seqs: list[int] = field(default_factory=list[int])
    known: bool = False
    """Whether the thread's state names it; a block found by looking is noted by the next write."""

    def rows(self) -> list[MessageRow]:
        """The block as rows; they are sent, never stored again."""
        return [row_of(draft, f"block:{index}", 0) for index, draft in enumerate(self.drafts)]


@dataclass(slots=True)
class Loaded:
    """What was read of a thread: live rows in order, without the block, as far back as was asked."""

    head: Thread | None = None
    block: Block = field(default_factory=Block)
    rows: list[MessageRow] = field(default_factory=list[MessageRow])
    whole: bool = True
    """Whether the rows go back to the thread's beginning."""
    reader: Reader | None = None
    unbroken_from: int = 0
    """The seq from which on every row is there; further back are pinned ones."""
    unread: bool = False
    """The thread could not be read: there may be one, and a block of it."""
    noted: dict[str, Any] = field(default_factory=dict[str, Any])
    """What was found out about the thread and is not in its state yet; the next write adds it."""

    @property
    def state(self) -> Mapping[str, Any]:
        return {} if self.head is None else self.head.state


def load(
    reader: Reader | None,
    algorithm: BaseAlgorithm | None,
    at_least: int = 0,
    *,
    model: str | None = None,
    metadata: bool = False,
) -> Flow[Loaded]:
    """What `algorithm` wants to be shown for a call to `model`, and at least the newest `at_least` rows.

    Their metadata and `call` are among it when the algorithm looks at them, or the caller does.
    """
    if reader is None:
        return Loaded(noted={PINS: []})
    head = reader.head
    block = _named_block(head.state)
    rows: list[MessageRow]
    also: Sequence[int] = ()
    whole = algorithm is None
    reader.with_metadata = metadata
    if algorithm is None:
        rows = yield from _rows(reader)
    else:
        reads = algorithm.reads(head.state, model)
        also = reads.also
        reader.with_metadata = metadata or reads.metadata
        if reads.after_seq is not None:
            rows = yield from _rows(reader, after=reads.after_seq)
            if len(rows) < at_least:
                rows = yield from _rows(reader, limit=at_least + len(block.seqs))
        elif reads.newest is not None:
            limit = max(reads.newest, at_least) + len(block.seqs)
            rows, whole = yield from _newest(reader, limit)
        else:
            rows = yield from _rows(reader)
            whole = True
    if not whole:
        rows = yield from from_a_whole_exchange(reader, rows)
    if not block.known:
        block = _block_at_the_front(rows) if whole else (yield from leading_block(reader))
    noted = {} if PINS in head.state else {PINS: (yield from _pins(reader, rows if whole else None))}
    unbroken_from = 0 if whole else rows[0].get("seq", 0) if rows else sys.maxsize
    if not whole:
        pins: list[int] = {**head.state, **noted}[PINS]
        rows = yield from _with_exchanges_at(reader, rows, sorted({*pins, *also}))
    rows = _said(rows)
    if block.seqs:
        seqs = set(block.seqs)
        rows = [row for row in rows if row.get("seq") not in seqs]
    return Loaded(head, block, rows, whole, reader, unbroken_from=unbroken_from, noted=noted)


def _rows(reader: Reader, **bounds: Any) -> Flow[list[MessageRow]]:
    if not reader.with_metadata:
        rows: list[MessageRow] = yield reader.rows(**bounds)
        return rows
    messages: list[Message] = yield reader.messages(**bounds)
    return [message.row() for message in messages]


def _newest(reader: Reader, limit: int) -> Flow[tuple[list[MessageRow], bool]]:
    """The newest rows, `limit` of them said, and whether those are all."""
    asked = limit
    while True:
        rows = yield from _rows(reader, limit=asked)
        n_pending = len(rows) - len(_said(rows))
        if len(rows) < asked or asked - n_pending >= limit:
            return rows, len(rows) < asked
        asked = limit + n_pending


def load_beginning(loaded: Loaded, count: int) -> Flow[list[MessageRow]]:
    """The first `count` rows of the thread's history."""
    if loaded.whole or loaded.reader is None:
        return loaded.rows[:count]
    seqs = set(loaded.block.seqs)
    limit = count + len(seqs)
    found: list[MessageRow] = []
    last = -1
    while len(found) < count:
        page: list[MessageRow] = yield from _rows(loaded.reader, after=last, limit=limit)
        found += (row for row in _said(page) if row.get("seq") not in seqs)
        if len(page) < limit:
            break
        last = page[-1].get("seq", 0)
    return found[:count]


def load_turn(loaded: Loaded, turn_id: str) -> Flow[list[MessageRow]]:
    """The thread's newest rows, as far back as a turn begins.

    When none of what was loaded is the turn's, one page further back is looked at: most turns are new, and a thread is
    not read to its beginning to learn that.
    """
    rows = loaded.rows
    if loaded.whole or loaded.reader is None:
        return rows
    newest = [row for row in rows if row.get("seq", 0) >= loaded.unbroken_from]
    before = newest[0].get("seq") if newest else None
    seqs = set(loaded.block.seqs)
    unseen = all(row.get("turn_id") != turn_id for row in newest)
    while unseen or (newest and newest[0].get("turn_id") == turn_id):
        page: list[MessageRow] = yield from _rows(loaded.reader, before=before, limit=_OPENER_PAGE)
        newest = [*(row for row in _said(page) if row.get("seq") not in seqs), *newest]
        if len(page) < _OPENER_PAGE:
            break
        before = page[0].get("seq")
        unseen = False
    return newest


def _with_opener(
    loaded: Loaded, rows: Sequence[MessageRow], incoming: Sequence[MessageRow], end: int | None
) -> Flow[list[MessageRow]]:
    """`rows` with the user message that opened the current turn, when it lies further back than the newest do."""
    # Pinned rows further back say nothing of what lies between them and the newest.
    newest = [row for row in rows if row.get("seq", 0) >= loaded.unbroken_from]
    if loaded.whole or loaded.reader is None or any(_is_user(row) for row in (*newest, *incoming)):
        return list(rows)
    before = newest[0].get("seq") if newest else end
    while True:
        page: list[MessageRow] = yield from _rows(loaded.reader, before=before, limit=_OPENER_PAGE)
        for row in reversed(_said(page)):
            if _is_user(row):
                return sorted({each.get("seq", 0): each for each in (row, *rows)}.values(), key=_seq_of)
        if len(page) < _OPENER_PAGE:
            return list(rows)
        before = page[0].get("seq")


@dataclass(slots=True)
class Window:
    """The rows an algorithm chose, with the state it wants kept and why the others were left out; as in `Plan`."""

    rows: list[MessageRow]
    state: Mapping[str, Any] = field(default_factory=dict[str, Any])
    excluded: Mapping[str, str] = field(default_factory=dict[str, str])
    shortened: Mapping[str, str] = field(default_factory=dict[str, str])
    head: Sequence[MessageRow] = ()
    cut: int | None = None
    tokens: int | None = None
    counts: Mapping[int, tuple[int, str]] = field(default_factory=dict[int, "tuple[int, str]"])
    """Token counts of stored messages, by seq, for the next write to note."""


def choose_of_thread(
    algorithm: BaseAlgorithm | None,
    view: ContextView,
    loaded: Loaded,
    history: list[MessageRow],
    end: int | None = None,
) -> Flow[Window]:
    """The window of a thread's `history`, which ends before the seq `end` when the call supersedes what follows."""
    if algorithm is None or (loaded.whole and algorithm.takes_all(view, history)):
        return Window(history)
    rows = yield from _with_opener(loaded, history, view.incoming, end)
    view = replace(view, earlier=partial(_earlier, loaded))
    return (yield from choose(algorithm, view, rows))


def _earlier(loaded: Loaded, seq: int) -> Flow[list[MessageRow]]:
    """The history from a seq on that was not read."""
    if loaded.whole or loaded.reader is None:
        return []
    end = {} if loaded.unbroken_from == sys.maxsize else {"before": loaded.unbroken_from}
    rows: list[MessageRow] = yield from _rows(loaded.reader, after=seq - 1, **end)
    seqs = set(loaded.block.seqs)
    return [row for row in _said(rows) if row.get("seq") not in seqs]


def choose(algorithm: BaseAlgorithm, view: ContextView, rows: Sequence[MessageRow]) -> Flow[Window]:
    """The window of `rows`; `view` carries everything else an algorithm looks at."""
    view = replace(view, exchanges=exchanges(rows))
    plan = yield from algorithm.plan(view)
    chosen = with_required(view, plan.exchanges)
    counts: dict[int, tuple[int, str]] = {}
    for row in (*rows, *view.incoming) if plan.counts else ():
        count = plan.counts.get(row["id"])
        if count is not None and "seq" in row:
            counts[row["seq"]] = count
        elif count is not None:
            row["tokens"] = list(count)  # not stored yet: it is stored with its count
    kept = [row for exchange in chosen for row in exchange.rows]
    return Window(kept, plan.state, plan.excluded, plan.shortened, plan.head, plan.cut, plan.tokens, counts)


def split_block(rows: Sequence[MessageRow]) -> int:
    """How many leading rows are system or developer messages."""
    count = 0
    while count < len(rows) and rows[count]["wire"].get("role") in BLOCK_ROLES:
        count += 1
    return count


def _named_block(state: Mapping[str, Any]) -> Block:
    named = state.get(BLOCK)
    if named is None:
        return Block()
    drafts: list[Draft] = [{"wire": wire} for wire in named["messages"]]
    for index, items in named.get("items", {}).items():
        drafts[int(index)]["items"] = items
    return Block(drafts, list(named["seqs"]), known=True)


def leading_block(reader: Reader) -> Flow[Block]:
    """The system and developer messages a thread begins with: its block, until the state names one."""
    return _block_at_the_front((yield from _leading(reader)))


def _block_at_the_front(rows: Sequence[MessageRow]) -> Block:
    leading = rows[: split_block(rows)]
    return Block(list(map(draft_of, leading)), [row["seq"] for row in leading if "seq" in row])


def from_a_whole_exchange(reader: Reader, rows: list[MessageRow]) -> Flow[list[MessageRow]]:
    """`rows` with the call in front, when a bounded read began among its results."""
    while rows and _is_result(rows[0]):
        page: list[MessageRow] = yield from _rows(reader, before=rows[0].get("seq"), limit=_RESULTS_PAGE)
        if not page:
            break
        start = len(page) - 1
        while start > 0 and _is_result(page[start]):
            start -= 1
        rows = [*page[start:], *rows]
    return rows


def _pins(reader: Reader, rows: Sequence[MessageRow] | None) -> Flow[list[int]]:
    """The seqs of the pinned messages among `rows`; by default of the whole thread, which is looked at once."""
    looked_at: Sequence[MessageRow] = (yield from _rows(reader)) if rows is None else rows
    return [row["seq"] for row in looked_at if row.get("pinned") and "seq" in row]


def _with_exchanges_at(reader: Reader, rows: list[MessageRow], seqs: Sequence[int]) -> Flow[list[MessageRow]]:
    """`rows` with the exchanges at these seqs in front, in order, as far as they lie further back than `rows` do."""
    first = rows[0].get("seq", 0) if rows else None
    before: list[MessageRow] = []
    for seq in seqs:
        if (first is not None and seq >= first) or (before and seq <= before[-1].get("seq", -1)):
            continue
        page: list[MessageRow] = yield from _rows(reader, after=seq - 1, limit=_RESULTS_PAGE)
        page = yield from from_a_whole_exchange(reader, page)
        there = [each for each in exchanges(page) if any(row.get("seq") == seq for row in each.rows)]
        before.extend(row for each in there for row in each.rows if first is None or row.get("seq", 0) < first)
    return [*before, *rows] if before else rows


def _leading(reader: Reader) -> Flow[list[MessageRow]]:
    """The beginning of a thread, as far as its block can reach."""
    found: list[MessageRow] = []
    while True:
        last = found[-1].get("seq", -1) if found else -1
        page: list[MessageRow] = yield from _rows(reader, after=last, limit=_HEAD_PAGE)
        found.extend(page)
        if len(page) < _HEAD_PAGE or split_block(page) < len(page):
            return found


def _said(rows: Sequence[MessageRow]) -> list[MessageRow]:
    """What a call has written down before its answer is no history until it has one (`journal`)."""
    return [row for row in rows if row.get("status") != "pending"]


def _is_result(row: MessageRow) -> bool:
    return row["wire"].get("role") in ("tool", "function")


def _seq_of(row: MessageRow) -> int:
    return row.get("seq", 0)


def _is_user(row: MessageRow) -> bool:
    return row["wire"].get("role") == "user"
