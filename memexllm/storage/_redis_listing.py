"""Lists of threads and searches: walks along a sorted set, each entry compared with its thread's head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from memexllm.core.cursors import Cursor
from memexllm.core.flow import Flow, Step, call
from memexllm.core.hits import MessageHit
from memexllm.core.models import Message, Thread
from memexllm.core.moments import micros_now, to_micros
from memexllm.storage import _redis_index as index
from memexllm.storage._listing import PREVIEW_LOOKS_BACK, ListQuery, checked_place, list_query, preview_of
from memexllm.storage._redis_flows import Operations
from memexllm.storage._redis_keys import owner_of
from memexllm.storage._redis_rows import HEAD_FIELDS, Arg, head_of, joined_head, text_of
from memexllm.storage._rows import decode_wire
from memexllm.storage._searching import SCANNED_MESSAGES, checked_query, ranked

_FILTERED_AT_ONCE = 200
_SEARCHED_AT_ONCE = 100
_MOST_AT_ONCE = 1000
"""Heads one script reads: others wait meanwhile."""
IN_FLIGHT_MICROS = 60_000_000
"""How long an entry that is ahead of its thread may be one of a write that has not come yet."""
_TRIES = 10
"""How often a list begins anew because an entry was put right; then what there is is shown."""


@dataclass(slots=True)
class _Entry:
    name: str
    place: int
    listed_at: str
    """The entry's time; empty when it has none."""
    head: str
    newest: str


class Lists:
    """The flows of lists, over the operations."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._keys = operations.keys
        self._calls = operations.calls

    def page(self, query: ListQuery) -> Flow[list[Thread]]:
        doing = "list threads"
        for attempt in range(_TRIES):
            found = yield from self._walk(doing, query, mend=attempt + 1 < _TRIES)
            if found is not None:
                break
        else:
            found = []
        if query.by_update and self._calls.spread:
            found.sort(key=_by_update, reverse=query.newest_first != query.backwards)
        if query.preview:
            found = yield from self._previewed(found)
        page = [thread for thread, _ in found]
        return page[::-1] if query.backwards else page

    def _walk(self, doing: str, query: ListQuery, *, mend: bool) -> Flow[list[tuple[Thread, str]] | None]:
        """The page with each thread's newest message; None when an entry was put right on the way."""
        found: list[tuple[Thread, str]] = []
        at = 0 if query.metadata else query.offset
        to_skip = query.offset if query.metadata else 0
        while len(found) < query.limit:
            wanted = _FILTERED_AT_ONCE if query.metadata else min(query.limit - len(found), _MOST_AT_ONCE)
            entries = yield from self._entries(doing, query, at, wanted)
            if mend and (yield from self._mended(doing, query, entries)):
                return None
            for entry in entries:
                if not entry.head:
                    continue
                thread = head_of(None, entry.head)
                if not query.wants(thread):
                    continue
                if to_skip:
                    to_skip -= 1
                elif len(found) < query.limit:
                    found.append((thread, entry.newest))
            if len(entries) < wanted:
                break
            at += len(entries)
        return found

    def _entries(self, doing: str, query: ListQuery, offset: int, count: int) -> Flow[list[_Entry]]:
        spread = self._calls.spread
        above, below = _bounds(query)
        args: list[Arg] = [
            _set_of(query),
            int(query.newest_first != query.backwards),
            above,
            below,
            offset,
            count,
            "" if spread else self._keys.heads,
            int(query.preview),
        ]
        while True:
            reply = yield from self._operations.asked(doing, index.PAGE, [self._keys.index], args)
            self._operations.check(reply)
            if reply[0] == "expired":
                for name in reply[1:]:
                    yield from self._operations.settle(doing, name, "")
            elif reply[0] != "again":
                break
        rows = reply[1:]
        entries = [
            _Entry(member[16:], int(member[:15]), listed_at, head, newest)
            for member, listed_at, head, newest in zip(rows[::4], rows[1::4], rows[2::4], rows[3::4], strict=True)
        ]
        if spread and entries:
            yield from self._read_heads(doing, entries, query.preview)
        return entries

    def _read_heads(self, doing: str, entries: Sequence[_Entry], preview: bool) -> Flow[None]:
        commands: list[tuple[Any, ...]] = []
        for entry in entries:
            head, state, live = self._keys.listed(entry.name)
            commands += [("HMGET", head, *HEAD_FIELDS), ("HGETALL", state)]
            if preview:
                commands.append(("ZRANGE", live, -1, -1))
        answers: list[Any] = yield Step(self._calls.pipeline, (doing, commands), blocking=False)
        step = 3 if preview else 2
        for place, entry in enumerate(entries):
            fields, state, *newest = answers[step * place : step * (place + 1)]
            entry.head = joined_head(fields, state)
            entry.newest = text_of(newest[0][0]) if newest and newest[0] else ""

    def _mended(self, doing: str, query: ListQuery, entries: Sequence[_Entry]) -> Flow[bool]:
        """Put right what no write in flight explains; whether there was something."""
        mended = False
        for entry in entries:
            if self._is_true(query, entry):
                continue
            recent = entry.listed_at and micros_now() - int(entry.listed_at) < IN_FLIGHT_MICROS
            # On one server nothing is in flight: such an entry's keys were deleted or evicted.
            if recent and self._calls.spread:
                continue
            yield from self._operations.settle(doing, entry.name, entry.listed_at)
            mended = True
        return mended

    def _is_true(self, query: ListQuery, entry: _Entry) -> bool:
        if not entry.head:
            return False
        if not self._calls.spread:
            return True
        thread = head_of(None, entry.head)
        if query.user_id is not None and thread.user_id != query.user_id:
            return False
        return thread.place == entry.place and str(to_micros(thread.updated_at)) == entry.listed_at

    def _previewed(self, found: Sequence[tuple[Thread, str]]) -> Flow[list[tuple[Thread, str]]]:
        previewed: list[tuple[Thread, str]] = []
        for thread, newest in found:
            preview = preview_of(row["wire"] for row in decode_wire(thread.id, newest))
            if preview is None and thread.message_count > 1:
                rows = yield from self._operations.read_messages(
                    thread.id, max(PREVIEW_LOOKS_BACK), None, None, include_superseded=False, wire=True
                )
                preview = preview_of(row["wire"] for row in reversed(rows))
            previewed.append((thread.changed(preview=preview), newest))
        return previewed

    def search_messages(
        self, text: str, thread_id: str | None, user_id: str | None, limit: int
    ) -> Flow[list[MessageHit]]:
        """A scan of at most `SCANNED_MESSAGES`: the newest of each thread, threads created last first."""
        query = checked_query(text, thread_id, user_id, limit)
        found: list[tuple[str, list[Message]]] = []
        left = SCANNED_MESSAGES
        offset = 0
        while left > 0:
            if thread_id is not None:
                head = yield from self._operations.read_head(thread_id)
                page = [] if head is None or user_id not in (None, head.user_id) else [head]
            else:
                asked = list_query(_SEARCHED_AT_ONCE, offset, user_id, order_by="-created")
                page = yield from self.page(asked)
            for thread in page:
                if thread.message_count and left > 0:
                    messages = yield from self._operations.read_messages(
                        thread.id, left, None, None, include_superseded=False, wire=False
                    )
                    found.append((thread.id, messages))
                    left -= len(messages)
            offset += len(page)
            if len(page) < _SEARCHED_AT_ONCE or offset >= SCANNED_MESSAGES:
                break
        # A worker thread under asyncio: this is all computation.
        hits: list[MessageHit] = yield from call(ranked, query, found)
        return hits


def _by_update(found: tuple[Thread, str]) -> tuple[int, int]:
    thread = found[0]
    return to_micros(thread.updated_at), thread.place or 0


def _set_of(query: ListQuery) -> str:
    order = ":updated" if query.by_update else ":created"
    return order if query.user_id is None else f":user:{owner_of(query.user_id)}{order}"


def _bounds(query: ListQuery) -> tuple[str, str]:
    """The bounds `score:place` that the page lies above and below of; empty where it has none."""
    above = below = ""
    for cursor, newer in query.bounds():
        if newer:
            above = _bound(query, cursor)
        else:
            below = _bound(query, cursor)
    return above, below


def _bound(query: ListQuery, cursor: Cursor) -> str:
    place = checked_place(cursor)
    return f"{cursor.updated_at if query.by_update else int(place)}:{int(place)}"
