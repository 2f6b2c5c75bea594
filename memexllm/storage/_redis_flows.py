"""What RedisStorage does, as flows of calls: one on a single server, two for a write on a cluster.

On a cluster the lists are written before the thread (see `_redis_index.py`); a write that is refused leaves its mark in
them, which is taken back (`settle`).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from memexllm.core import jsontext
from memexllm.core.flow import Flow, Step
from memexllm.core.models import Message, Thread
from memexllm.core.moments import micros_now, new_id
from memexllm.core.wire import plain
from memexllm.storage import _redis_index as index
from memexllm.storage import _redis_scripts as scripts
from memexllm.storage._defaults import UNSET, check_patch, check_version, unknown_message, unknown_thread
from memexllm.storage._redis_index import Script
from memexllm.storage._redis_keys import Keys, name_of, owner_of
from memexllm.storage._redis_rows import (
    Arg,
    bounds_of,
    encoded_rows,
    fields_of,
    from_seq,
    head_of,
    json_text,
    message_args,
    needle_of,
    newer_format,
    seqs_inside,
    state_args,
    torn,
)
from memexllm.storage._rows import Encoded, decode_messages, decode_wire

_LOOK_EVERY_S = 1.0
_DONE_FOR_S = 60
"""Beside the time we send a write again: a client handed in may do so by itself."""
_AT_ONCE = 500
"""How many messages a plain append has at most: what one command of Redis is given by Lua is limited."""
Reply = list[str]
"""The lines of an answer."""
_UNTOUCHED: Reply = ["", "", ""]


class Operations:
    """The flows, over `Calls` or `AsyncCalls`."""

    def __init__(self, calls: Any, place: object, prefix: str, ttl_ms: int | None, retry_timeout_s: float) -> None:
        self.calls = calls
        self.place = place
        self.keys = Keys(prefix)
        self.ttl: Arg = "" if ttl_ms is None else ttl_ms
        self.done_for_ms = int(1000 * (_DONE_FOR_S + 2 * retry_timeout_s))
        self._next_look = 0.0

    # Writes.

    def append(
        self,
        thread_id: str,
        messages: Sequence[Any],
        expected_version: int | None,
        supersede_from: int | None,
        supersede: Collection[int],
        state: Mapping[str, Any] | None,
        create: Mapping[str, Any] | None,
        counts: Mapping[int, tuple[int, str]] | None,
        max_messages: int | None,
    ) -> Flow[int]:
        doing = "add message to thread"
        name = name_of(thread_id)
        user, owner, made = "", "", list[Arg]()
        if create is not None:
            fields = fields_of(thread_id, create)
            user, owner, made = str(fields[0]), str(fields[1]), fields[2:]
        plain = self.ttl == "" and max_messages is None and len(messages) <= _AT_ONCE
        changes: list[Arg] = [0]
        if supersede_from is not None or supersede or counts:
            plain = plain and supersede_from is None and not supersede
            noted = {seq: jsontext.dumps(list(counts[seq])) for seq in seqs_inside(counts)} if counts else {}
            changes = [1, from_seq(supersede_from), *_counted(seqs_inside(supersede))]
            changes += [len(noted), *(each for pair in noted.items() for each in pair)]
        changes.append(len(messages))
        for each in encoded_rows(messages):
            plain = plain and not each.superseded
            changes += message_args(each)
        now = micros_now()
        touched = _UNTOUCHED
        if self.calls.spread:
            touched = yield from self.touched(doing, name, now, owner, creating=create is not None)
        limits: list[Arg] = ["" if each is None else each for each in (max_messages, expected_version)]
        kind = "plain" if plain else ""
        args: list[Arg] = [now, name, self.ttl, *limits, user, kind, *changes, *state_args(state)]
        more: list[Arg] = [owner, touched[0], *made] if create is not None else []
        reply = yield from self.write(doing, scripts.APPEND, name, args, more)
        if self.calls.spread:
            yield from self.settle_after(doing, name, reply, touched)
        self.check(reply, thread_id, expected_version)
        return int(reply[1])

    def replace(
        self,
        thread_id: str,
        message_id: str,
        message: Message,
        expected_version: int | None,
        state: Mapping[str, Any] | None,
    ) -> Flow[None]:
        doing = "replace message"
        name = name_of(thread_id)
        parts = message_args(Encoded(message))
        stated = state_args(plain(state) if state else None, new=False)
        needle = needle_of(message_id)
        now = micros_now()
        touched = yield from self.touched(doing, name, now)
        expected: Arg = "" if expected_version is None else expected_version
        args: list[Arg] = [now, name, self.ttl, expected, needle, *parts, *stated]
        reply = yield from self.write(doing, scripts.REPLACE, name, args)
        yield from self.settle_after(doing, name, reply, touched)
        if reply[0] == "absent":
            raise unknown_message(thread_id, message_id)
        self.check(reply, thread_id, expected_version)

    def patch(self, thread_id: str, title: Any, metadata: Any, user_id: Any, state: Any) -> Flow[None]:
        doing = "update thread"
        check_patch(thread_id, title=title, metadata=metadata, user_id=user_id)
        name = name_of(thread_id)
        fields: list[Arg] = []
        if title is not UNSET:
            fields += ["title", json_text(title, "title")]
        if metadata is not UNSET:
            fields += ["metadata", json_text(dict(metadata), "metadata")]
        if user_id is not UNSET:
            fields += ["user", json_text(user_id, "user id"), "owner", owner_of(user_id)]
        stated = state_args(plain(state) if state is not UNSET else None, new=False)
        now = micros_now()
        touched = _UNTOUCHED
        if fields:
            touched = yield from self.touched(doing, name, now)
        args: list[Arg] = [now, name, self.ttl, len(fields) // 2, *fields, *stated]
        reply = yield from self.write(doing, scripts.PATCH, name, args)
        yield from self.settle_after(doing, name, reply, touched, surely=user_id is not UNSET)
        self.check(reply, thread_id)

    def delete(self, thread_id: str) -> Flow[bool]:
        doing = "delete thread"
        name = name_of(thread_id)
        reply = yield from self.write(doing, scripts.DELETE, name, [name])
        self.check(reply, thread_id)
        if self.calls.spread:
            yield from self.asked(doing, index.SETTLE, [self.keys.index], [name, "", "", "", "", ""], write=True)
        return bool(int(reply[1]))

    # Reads.

    def read_head(self, thread_id: str) -> Flow[Thread | None]:
        head, _ = yield from self._read("get thread", thread_id, "head", "", "-inf", "+inf", None, newest=False)
        return None if not head else head_of(thread_id, head)

    def whole(self, thread_id: str, message_limit: int | None) -> Flow[Thread | None]:
        what = "all" if message_limit is None else "live"
        newest = message_limit is not None
        head, texts = yield from self._read(
            "get thread", thread_id, "both", what, "-inf", "+inf", message_limit, newest=newest
        )
        if not head:
            return None
        messages = decode_messages(thread_id, texts)
        if newest:
            messages.reverse()
        return head_of(thread_id, head).changed(messages=messages, partial=newest)

    def read_messages(
        self,
        thread_id: str,
        limit: int | None,
        before: int | None,
        after: int | None,
        include_superseded: bool,
        wire: bool,
    ) -> Flow[list[Any]]:
        if wire and limit and before is None and after is None and not include_superseded:
            tail = yield from self._tail(thread_id, limit)
            if tail is not None:
                return tail
        newest = limit is not None and after is None
        low, high = bounds_of(before, after)
        what = ("every wire" if include_superseded else "wire") if wire else "all" if include_superseded else "live"
        _, texts = yield from self._read("get messages", thread_id, "messages", what, low, high, limit, newest=newest)
        found: list[Any] = (decode_wire if wire else decode_messages)(thread_id, texts)
        if newest:
            found.reverse()
        return found

    def _tail(self, thread_id: str, limit: int) -> Flow[list[Any] | None]:
        """The newest rows; None when something stands in the way, of which `_read` speaks."""
        doing = "get messages"
        yield from self.see_format(doing)
        keys = [self.keys.head(name_of(thread_id))]
        lines = yield from self.asked(doing, scripts.TAIL, keys, [min(limit, 1 << 61) - 1])
        if lines[0] == "no":
            return None
        found = decode_wire(thread_id, lines[0])
        found.reverse()
        return found

    def _read(
        self,
        doing: str,
        thread_id: str,
        wanted: str,
        what: str,
        low: str,
        high: str,
        limit: int | None,
        *,
        newest: bool,
    ) -> Flow[tuple[str, str]]:
        name = name_of(thread_id)
        yield from self.see_format(doing)
        most: Arg = "" if limit is None else min(limit, 1 << 61)
        args: list[Arg] = [wanted, what, low, high, most, "newest" if newest else "oldest"]
        reply = yield from self.asked(doing, scripts.READ, [self.keys.head(name)], args)
        self.check(reply, thread_id)
        return reply[1], reply[2]

    # What every operation does.

    def asked(
        self,
        doing: str,
        script: Script,
        keys: list[bytes],
        args: list[Arg],
        more: list[Arg] | None = None,
        *,
        write: bool = False,
    ) -> Flow[Reply]:
        lines = [_lines_of(args), _lines_of(more)] if more else [_lines_of(args)]
        answer = yield Step(self.calls.script, (doing, script, keys, lines), blocking=False, write=write)
        # Of a client that decodes, or of one that does not.
        text: str = answer.decode() if isinstance(answer, bytes) else answer
        return text.split("\n")

    def write(
        self, doing: str, script: Script, name: str, args: list[Arg], more: list[Arg] | None = None
    ) -> Flow[Reply]:
        """One script in the thread's slot, which writes the lists as well where they are on the same server."""
        yield from self.see_format(doing)
        head = self.keys.head(name)
        keys = [head] if self.calls.spread else [head, self.keys.index]
        return (yield from self.asked(doing, script, keys, [new_id(), self.done_for_ms, *args], more, write=True))

    def touched(self, doing: str, name: str, now: int, owner: str = "", *, creating: bool = False) -> Flow[Reply]:
        """On a cluster, the lists are written first: the thread's place, and whether its entry was made."""
        if not self.calls.spread:
            return _UNTOUCHED
        args: list[Arg] = [name, now, int(creating), owner, self.ttl]
        reply = yield from self.asked(doing, index.TOUCH, [self.keys.index], args, write=True)
        self.check(reply)
        return reply[1:]

    def settle_after(self, doing: str, name: str, reply: Reply, touched: Reply, *, surely: bool = False) -> Flow[None]:
        """On a cluster, put the entry right when the write was refused or the entry did not expect it."""
        if not self.calls.spread:
            return
        place, made, seen = touched
        if reply[0] == "ok" and not surely:
            created, went_back = reply[2], reply[3]
            if not went_back and place and bool(created) == bool(made):
                return
        yield from self.settle(doing, name, seen)

    def settle(self, doing: str, name: str, seen: str) -> Flow[None]:
        """Make the entry say what the head says, unless its time is no longer the one that was `seen`."""
        truth = yield from self.asked(doing, scripts.TRUTH, [self.keys.head(name)], [])
        args: list[Arg] = [name, seen, *truth]
        yield from self.asked(doing, index.SETTLE, [self.keys.index], args, write=True)

    def see_format(self, doing: str) -> Flow[None]:
        """Whether another release has changed the format of the prefix: looked at from time to time.

        What makes a thread or lists threads looks each time, and every script looks at the format of its thread.
        """
        now = time.monotonic()
        if now >= self._next_look:
            (found,) = yield from self.asked(doing, index.CHECK, [self.keys.index], [])
            if found and found != str(index.FORMAT):
                raise newer_format(self.place, ["format", found])
            self._next_look = now + _LOOK_EVERY_S

    def check(self, reply: Reply, thread_id: str = "", expected_version: int | None = None) -> None:
        """Raise what a script refused with."""
        status = reply[0]
        if status == "unknown":
            raise unknown_thread(thread_id)
        if status == "version":
            check_version(thread_id, int(reply[1]), expected_version)
        if status == "format":
            raise newer_format(self.place, reply)
        if status == "torn":
            raise torn(thread_id, reply)


def _lines_of(args: list[Arg]) -> bytes:
    return "\n".join(map(str, args)).encode()


def _counted(values: Sequence[int]) -> list[Arg]:
    return [len(values), *values]
