"""Whole threads: saved, restored in batches, or copied for a fork.

What is long is laid ready in parts, then put in place at once.

No script keeps other clients waiting for longer than a part takes. Who dies meanwhile leaves parts that expire.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from memexllm.core.errors import OperationError
from memexllm.core.flow import Flow
from memexllm.core.models import Message, Thread
from memexllm.core.moments import new_id, to_micros
from memexllm.core.wire import plain
from memexllm.storage import _redis_whole_scripts as scripts
from memexllm.storage._defaults import unknown_message, unknown_thread
from memexllm.storage._forking import fork_head, refuse_superseded, taken
from memexllm.storage._redis_flows import Operations
from memexllm.storage._redis_keys import name_of, owner_of
from memexllm.storage._redis_rows import (
    HIGHEST_SEQ,
    Arg,
    checked_seqs,
    head_fields,
    head_of,
    message_args,
    needle_of,
    state_args,
)
from memexllm.storage._restoring import refuse_seqs
from memexllm.storage._rows import Encoded, positions

PART = 500
"""How many messages one script takes."""
_TRIES = 5
"""How often a copy begins anew because its source was edited meanwhile; then it is made in one script."""
_FIELDS: tuple[Arg, ...] = ("owner", "id", "user", "title", "metadata", "created_at")


class _Ready:
    """Messages that are ready to be put in place: as arguments, or laid ready under `staging`."""

    def __init__(self, args: list[Arg], staging: str = "") -> None:
        self.args = args
        self.staging = staging


class Saving:
    """The flows of whole threads, over the operations."""

    def __init__(self, operations: Operations) -> None:
        self._do = operations

    def save(self, thread: Thread, max_messages: int | None) -> Flow[None]:
        doing = "save thread"
        seqs = checked_seqs(list(positions(thread.messages)))
        # Everything is encoded before anything is written: what cannot be stored is refused here.
        head_fields(thread)
        state_args(plain(thread.state), new=False)
        args = [[seq, *message_args(Encoded(message))] for seq, message in zip(seqs, thread.messages, strict=True)]
        ready = yield from self._ready(doing, name_of(thread.id), args)
        next_seq = seqs[-1] + 1 if seqs else 0
        reply = yield from self._put(doing, thread, next_seq, ready, max_messages, must_be_new=False)
        self._do.check(reply, thread.id)

    def restore(self, thread: Thread, messages: Sequence[Message], max_messages: int | None) -> Flow[None]:
        """One script, whatever there is: batches are the caller's."""
        doing = "restore messages"
        seqs = checked_seqs(refuse_seqs(thread.id, messages, -1))
        args = [[seq, *message_args(Encoded(message))] for seq, message in zip(seqs, messages, strict=True)]
        bounds: list[Arg] = [seqs[0], seqs[-1] + 1] if seqs else ["", ""]
        limit: Arg = "" if max_messages is None else max_messages
        named = _named(thread)
        stated = state_args(plain(thread.state), new=False)
        name, updated = name_of(thread.id), to_micros(thread.updated_at)
        touched = yield from self._do.touched(doing, name, updated, owner_of(thread.user_id), creating=True)
        head: list[Arg] = [updated, name, self._do.ttl, limit, thread.version, touched[0], *named]
        reply = yield from self._do.write(
            doing, scripts.RESTORE, name, [*head, len(seqs), *bounds, *_flat(args), *stated]
        )
        yield from self._do.settle_after(doing, name, reply, touched, surely=True)
        if reply[0] == "behind":
            refuse_seqs(thread.id, messages, int(reply[1]))
        self._do.check(reply, thread.id)

    def fork(
        self, thread_id: str, new_id: str, at: str | None, create: Mapping[str, Any] | None, max_messages: int | None
    ) -> Flow[Thread]:
        """By a copy; what is appended to the parent meanwhile is not in it."""
        doing = "fork thread"
        attempt = 0
        while True:
            edition, head, end = yield from self._forked_head(doing, thread_id, new_id, at, create)
            size = PART if attempt < _TRIES else HIGHEST_SEQ
            ready = yield from self._copied(doing, thread_id, name_of(new_id), end, size)
            if attempt == _TRIES or (yield from self._source(doing, thread_id, at))[2] == edition:
                break
            attempt += 1
        reply = yield from self._put(doing, head, end + 1, ready, max_messages, must_be_new=True)
        if reply[0] == "taken":
            raise taken(new_id)
        self._do.check(reply, new_id)
        found = yield from self._do.read_head(new_id)
        if found is None:
            raise unknown_thread(new_id)
        return found

    def _forked_head(
        self, doing: str, thread_id: str, new_id: str, at: str | None, create: Mapping[str, Any] | None
    ) -> Flow[tuple[str, Thread, int]]:
        """The parent's edition, the fork without its messages, and the seq of its last one."""
        _, text, edition, next_seq, seq, superseded, last = yield from self._source(doing, thread_id, at)
        refuse_superseded(thread_id, at or "", superseded=bool(superseded))
        last_seq = int(seq) if seq and not last else None
        head = fork_head(head_of(thread_id, text), new_id, last_seq, create)
        if (yield from self._do.read_head(new_id)) is not None:
            raise taken(new_id)
        return edition, head, int(next_seq) - 1 if last_seq is None else last_seq

    def _source(self, doing: str, thread_id: str, at: str | None) -> Flow[list[str]]:
        yield from self._do.see_format(doing)
        needle = "" if at is None else needle_of(at)
        keys = [self._do.keys.head(name_of(thread_id))]
        reply = yield from self._do.asked(doing, scripts.SOURCE, keys, [needle])
        if reply[0] == "absent":
            raise unknown_message(thread_id, str(at))
        self._do.check(reply, thread_id)
        return reply

    def _copied(self, doing: str, thread_id: str, name: str, end: int, size: int) -> Flow[_Ready]:
        """The messages up to the seq `end`, laid ready for the thread of this name, `size` in one script."""
        keys = [self._do.keys.head(name_of(thread_id))]
        staging = _Staging(self._do, doing, name)
        after = -1
        while True:
            lines = yield from self._do.asked(doing, scripts.PART, keys, [f"({after}", end, size])
            rows = list(zip(lines[1::3], lines[2::3], lines[3::3], strict=True))
            yield from staging.add([_args_of(*row) for row in rows])
            if len(rows) < size:
                return staging.ready()
            after = int(rows[-1][0])

    def _ready(self, doing: str, name: str, messages: Sequence[list[Arg]]) -> Flow[_Ready]:
        if len(messages) <= PART:
            return _Ready([len(messages), *_flat(messages)])
        staging = _Staging(self._do, doing, name)
        yield from staging.add(messages)
        return staging.ready()

    def _put(
        self, doing: str, thread: Thread, next_seq: int, ready: _Ready, max_messages: int | None, *, must_be_new: bool
    ) -> Flow[list[str]]:
        name = name_of(thread.id)
        updated = to_micros(thread.updated_at)
        named = _named(thread)
        stated = state_args(plain(thread.state), new=False)
        touched = yield from self._do.touched(doing, name, updated, owner_of(thread.user_id), creating=True)
        limit: Arg = "" if max_messages is None else max_messages
        head: list[Arg] = [int(must_be_new), thread.version, next_seq, touched[0], *named]
        args: list[Arg] = [updated, name, self._do.ttl, limit, ready.staging, *head]
        reply = yield from self._do.write(doing, scripts.SAVE, name, [*args, *ready.args, *stated])
        yield from self._do.settle_after(doing, name, reply, touched, surely=True)
        if reply[0] == "unstaged":
            raise OperationError(f"Failed to {doing} {thread.id!r}: what was laid ready expired; nothing was changed")
        return reply


class _Staging:
    """Keys beside those of a thread, in which its messages are laid ready."""

    def __init__(self, operations: Operations, doing: str, name: str) -> None:
        self._do = operations
        self._doing = doing
        self._place = f"{operations.keys.tag(name)}staged:{new_id()}:"
        self._keys = [f"{self._place}{part}".encode() for part in ("live", "dead", "extra")]
        self._sizes: str | None = None

    def add(self, messages: Sequence[list[Arg]]) -> Flow[None]:
        for first in range(0, len(messages), PART):
            part = messages[first : first + PART]
            args: list[Arg] = [len(part), *_flat(part)]
            (self._sizes,) = yield from self._do.asked(self._doing, scripts.STAGE, self._keys, args, write=True)

    def ready(self) -> _Ready:
        return _Ready([0]) if self._sizes is None else _Ready([self._sizes], self._place)


def _named(thread: Thread) -> list[Arg]:
    """The fields of a head, each after its name."""
    return [each for pair in zip(_FIELDS, head_fields(thread), strict=True) for each in pair]


def _flat(messages: Iterable[list[Arg]]) -> list[Arg]:
    return [each for message in messages for each in message]


def _args_of(seq: str, text: str, extra: str) -> list[Arg]:
    """A stored message as `message_args` would have given it."""
    marks, _, rest = text[1:].partition('"seq":')
    return [seq, rest.partition(",")[2], extra, marks]
