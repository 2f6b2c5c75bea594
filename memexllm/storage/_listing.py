"""What a list of threads is asked for, and its answer from threads that are at hand.

The meaning of filters, order and cursors is written here once, as pure functions. A storage that answers in its own
way (SQL) gives the same; one that only pages through all its threads is answered for by `listed`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from memexllm.core import jsontext
from memexllm.core.cursors import Cursor, mark_of
from memexllm.core.errors import ValidationError
from memexllm.core.flow import Flow, Step
from memexllm.core.models import Thread
from memexllm.core.moments import to_micros
from memexllm.core.refusals import checked_not_negative, checked_positive
from memexllm.core.wire import plain, text_of
from memexllm.storage._packing import unpack

OrderBy = Literal["created", "-created", "updated", "-updated"]
"""Oldest first by creation or by last write; with a minus, newest first. Equal times go by creation."""
CursorLike = str | Thread | None
"""`Thread.cursor`, or the thread itself."""

PREVIEW_CHARS = 100
PREVIEW_LOOKS_BACK = (1, 50)
"""How many of the newest messages are read for a preview: nearly always the last one says something."""
_PAGE = 1000
_MOST = 1 << 61
# Whole floats from here on may be written with an exponent.
_PLAIN = 1e15


@dataclass(frozen=True)
class ListQuery:
    """What `list_threads` was asked for, checked."""

    limit: int
    offset: int
    user_id: str | None = None
    metadata: Mapping[str, Any] | None = None
    order_by: OrderBy = "created"
    before: Cursor | None = None
    after: Cursor | None = None
    preview: bool = False

    @property
    def by_update(self) -> bool:
        return self.order_by.endswith("updated")

    @property
    def newest_first(self) -> bool:
        return self.order_by.startswith("-")

    @property
    def backwards(self) -> bool:
        """Whether the page ends where the cursor is: the `limit` threads next to it are wanted."""
        return self.before is not None and self.after is None

    def keywords(self) -> dict[str, Any]:
        """What the query asks of a storage beyond `limit` and `offset`."""
        given: dict[str, Any] = {
            "user_id": self.user_id,
            "metadata": self.metadata or None,
            "order_by": None if self.order_by == "created" else self.order_by,
            "before": self.before and self.before.encoded(),
            "after": self.after and self.after.encoded(),
            "preview": self.preview or None,
        }
        return {name: value for name, value in given.items() if value is not None}

    def wants(self, thread: Thread) -> bool:
        if self.user_id is not None and thread.user_id != self.user_id:
            return False
        return not self.metadata or matches(thread.metadata, self.metadata)

    def bounds(self) -> Iterator[tuple[Cursor, bool]]:
        """Each cursor, and whether the threads wanted are newer than it."""
        if self.after is not None:
            yield self.after, not self.newest_first
        if self.before is not None:
            yield self.before, self.newest_first


def list_query(
    limit: Any,
    offset: Any,
    user_id: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    order_by: OrderBy = "created",
    before: CursorLike = None,
    after: CursorLike = None,
    preview: bool = False,
) -> ListQuery:
    """The query, or a `ValidationError`."""
    checked_positive(limit, "Limit")
    checked_not_negative(offset, "Offset")
    if user_id is not None:
        _check_user_id(user_id)
    if order_by not in get_args(OrderBy):
        raise ValidationError(f"order_by is one of {', '.join(get_args(OrderBy))}, not {order_by!r}")
    wanted = None if metadata is None else _checked_metadata(metadata)
    # Databases count in 64 bits.
    limit, offset = min(limit, _MOST), min(offset, _MOST)
    return ListQuery(limit, offset, user_id, wanted, order_by, _cursor(before), _cursor(after), bool(preview))


def search_query(
    query: Any,
    limit: int,
    offset: int,
    user_id: str | None,
    order_by: OrderBy,
    before: CursorLike,
    after: CursorLike,
    preview: bool,
) -> ListQuery:
    """`list_query` by metadata, of which there must be some; `{"metadata": {…}}` is how 0.1 spelled it."""
    if isinstance(query, Mapping) and list(query) == ["metadata"] and isinstance(query["metadata"], Mapping):
        query = query["metadata"]
    if not query:
        raise ValidationError("Search query cannot be empty; list_threads() gives all threads")
    return list_query(limit, offset, user_id, query, order_by, before, after, preview)


def _checked_metadata(metadata: Any) -> dict[str, Any]:
    if not isinstance(metadata, Mapping):
        raise ValidationError(f"threads are looked for by a dict of metadata, not by a {type(metadata).__name__}")
    jsontext.dumps(metadata, "metadata")
    return dict(plain(metadata))


def matches(found: Any, wanted: Any) -> bool:
    """Whether `found` holds what is `wanted`: of a dict the keys given, of anything else the same JSON value.

    Numbers are equal when their values are (1 and 1.0); a boolean is no number.
    """
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(key in found and matches(found[key], wanted[key]) for key in wanted)
    return same_json(found, wanted)


def same_json(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_json, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_json(one[key], other[key]) for key in one)
    return bool(one == other)


def page_of(query: ListQuery, threads: Iterable[Thread]) -> list[Thread]:
    """The page that is asked for, of all the threads of a storage; each knows its `place`."""
    found = [(_key(query, thread), thread) for thread in threads if query.wants(thread)]
    for cursor, newer in query.bounds():
        bound = (cursor.updated_at if query.by_update else 0, checked_place(cursor))
        found = [each for each in found if (each[0] > bound if newer else each[0] < bound)]
    found.sort(key=lambda each: each[0], reverse=query.newest_first != query.backwards)
    page = [thread for _, thread in found[query.offset : query.offset + query.limit]]
    return page[::-1] if query.backwards else page


def _key(query: ListQuery, thread: Thread) -> tuple[int, float]:
    return to_micros(thread.updated_at) if query.by_update else 0, thread.place or 0


def checked_place(cursor: Cursor) -> float:
    if cursor.place is None:
        raise ValidationError(
            "this cursor is of a thread that was made, not read from the storage; get_thread() reads it"
        )
    return cursor.place


def preview_of(wires: Iterable[Mapping[str, Any]]) -> str | None:
    """The beginning of the first text that somebody said to somebody; `wires` come newest first."""
    for wire in wires:
        if wire.get("role") in ("user", "assistant"):
            said = (text_of(wire) or str(wire.get("refusal") or "")).strip()
            if said:
                # A text may be a megabyte long, and mostly spaces.
                text = " ".join(said[: 4 * PREVIEW_CHARS].split())
                whole = len(text) <= PREVIEW_CHARS and len(said) <= 4 * PREVIEW_CHARS
                return text if whole else f"{text[: PREVIEW_CHARS - 1].rstrip()}…"
    return None


def pieces_of(wanted: Mapping[str, Any]) -> Iterator[str]:
    """Texts that are in the JSON text of all metadata that match, as it was written by the same writer.

    A path would have to be put together from keys that hold quotes and dots, and SQLite's JSON functions end a text
    at NUL.
    """
    for key, value in wanted.items():
        name = f"{jsontext.dumps(key)}:"
        if isinstance(value, dict):
            yield f"{name}{{"
            yield from pieces_of(value)
        elif value is None or isinstance(value, bool | str):
            yield name + jsontext.dumps(value)
        elif isinstance(value, int | float):
            yield name + _number(value)
        else:
            yield f"{name}["


def _number(value: float) -> str:
    """What the texts of all equal numbers begin with: 1 and 1.0 are equal, 0 and -0.0, 10**16 and 1e16."""
    if value != int(value):
        return jsontext.dumps(value)
    return str(int(value)) if 0 < abs(value) < _PLAIN else ""


# Storages that cannot answer themselves.


def list_keywords(storage_type: type) -> frozenset[str]:
    """The keywords that the class names in its `list_threads`; a `**kwargs` promises nothing."""
    try:
        parameters = inspect.signature(storage_type.list_threads).parameters  # type: ignore[attr-defined]
    except (AttributeError, TypeError, ValueError):
        return frozenset()
    return frozenset(name for name, each in parameters.items() if each.kind is not each.VAR_KEYWORD)


Door = Callable[[str, tuple[Any, ...], Mapping[str, Any]], Step]
"""A call of a storage's method by name, as a step."""


def listed(door: Door, keywords: frozenset[str], whole: bool, query: ListQuery) -> Flow[list[Thread]]:
    """The page, from the storage itself if it knows all that is asked for, else found among all its threads.

    `whole` says that it hands out whole threads, with fields of ours packed into their metadata.
    """
    asked = query.keywords()
    if asked.keys() <= keywords:
        answer: list[Thread] = yield door("list_threads", (query.limit, query.offset), asked)
        return [_unpacked(thread) for thread in answer] if whole else answer
    found: list[Thread] = []
    known: list[tuple[bytes, int]] = []
    seen: set[str] = set()
    offset = 0
    while True:
        page: list[Thread] = yield door("list_threads", (_PAGE, offset), {})
        offset += len(page)
        threads = [_unpacked(thread) for thread in page] if whole else page
        # A storage that knows no offset gives the same threads for ever.
        new = [thread for thread in threads if thread.id not in seen]
        if not new:
            break
        for thread in new:
            if query.wants(thread):
                found.append(thread.changed(place=len(seen)))
            known.append((mark_of(thread.id), to_micros(thread.created_at)))
            seen.add(thread.id)
    chosen = page_of(_placed(query, known), found)
    return (yield from _previewed(door, whole, chosen)) if query.preview else chosen


def _unpacked(stored: Thread) -> Thread:
    thread = unpack(stored)
    return thread.changed(stored_messages=thread.message_count)


def _placed(query: ListQuery, known: Sequence[tuple[bytes, int]]) -> ListQuery:
    """The query with its cursors placed among the threads there are now."""
    return replace(
        query,
        before=query.before and replace(query.before, place=_place(query.before, known)),
        after=query.after and replace(query.after, place=_place(query.after, known)),
    )


def _place(cursor: Cursor, known: Sequence[tuple[bytes, int]]) -> float:
    """Where the cursor's thread is, or where it was by the time it was made at."""
    last_before = -1
    for place, (mark, created_at) in enumerate(known):
        if mark == cursor.mark:
            return place
        if created_at <= cursor.created_at:
            last_before = place
    return last_before + 0.5


def _previewed(door: Door, whole: bool, threads: Sequence[Thread]) -> Flow[list[Thread]]:
    previewed: list[Thread] = []
    for thread in threads:
        preview: str | None = None
        if whole:
            preview = preview_of(message.wire for message in reversed(thread.messages) if not message.superseded)
        else:
            for limit in PREVIEW_LOOKS_BACK:
                rows = yield door("read_messages", (thread.id,), {"limit": limit, "wire": True})
                preview = preview_of(row["wire"] for row in reversed(rows))
                if preview is not None:
                    break
        previewed.append(thread.changed(preview=preview))
    return previewed


def _check_user_id(user_id: Any) -> None:
    if not isinstance(user_id, str):
        raise ValidationError(f"user_id must be a string, or None for every user's threads; got {user_id!r}")
    jsontext.dumps(user_id, "user_id")


def _cursor(given: Any) -> Cursor | None:
    if given is None:
        return None
    return Cursor.decoded(given.cursor if isinstance(given, Thread) else given)
