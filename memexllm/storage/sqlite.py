"""SQLiteStorage: the embedded default, on the standard library's `sqlite3`.

What is on disk is described in `_sqlite_schema.py`. A call is one transaction of three statements, whatever the
thread's length; a read of the newest messages walks the table backwards from the log's end.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

from memexllm.core import jsontext
from memexllm.core.errors import ConfigurationError, CorruptThreadError, ValidationError
from memexllm.core.models import Message, MessageRow, Thread, from_micros, to_micros, utc_now
from memexllm.storage._defaults import (
    UNSET,
    check_user,
    check_version,
    resolve_new,
    unknown_message,
    unknown_thread,
)
from memexllm.storage._rows import Encoded, decode_messages, decode_wire, encode, positions, with_seq
from memexllm.storage._sqlite_connections import Connections
from memexllm.storage._sqlite_schema import SEQ_BITS, SEQ_MASK
from memexllm.storage.base import BaseStorage, refuse_partial

_HEAD = "id, user_id, title, metadata, state, created_at, updated_at, version, message_count"
_WIRE = (
    "CASE WHEN superseded = 0 AND tokens_text IS NULL THEN wire_text ELSE '{'"
    " || CASE superseded WHEN 0 THEN '' ELSE '\"superseded\":true,' END"
    " || CASE WHEN tokens_text IS NULL THEN '' ELSE '\"tokens\":' || tokens_text || ',' END"
    " || substr(wire_text, 2) END"
)
_FULL = f"{_WIRE} || ',' || ifnull(extra_text, 'null')"


def _select(what: str, *, live: bool, newest: bool) -> str:
    """Joined texts of a thread's messages between two seqs (exclusive), in order of position, or newest first."""
    return f"""
        SELECT group_concat(text) FROM (
            SELECT {what} AS text FROM threads JOIN messages
            ON position > (log_id << {SEQ_BITS}) + :after AND position < (log_id << {SEQ_BITS}) + :before
            WHERE threads.id = :thread_id {"AND superseded = 0" if live else ""}
            ORDER BY position {"DESC" if newest else ""} LIMIT :limit)"""


_READ = {
    (wire, live, newest): _select(_WIRE if wire else _FULL, live=live, newest=newest)
    for wire in (True, False)
    for live in (True, False)
    for newest in (True, False)
}
_TOUCH = """
    UPDATE threads SET version = version + 1, next_seq = next_seq + ?, message_count = message_count + ?,
    updated_at = ? WHERE id = ? RETURNING log_id, next_seq, version, user_id, message_count"""
_INSERT = "INSERT INTO messages (position, superseded, wire_text, extra_text, tokens_text) VALUES (?, ?, ?, ?, ?)"


class SQLiteStorage(BaseStorage):
    """Threads in one SQLite file, made readable for its owner only; `":memory:"` keeps them in this object.

    Safe from any thread, from several processes at once and across `os.fork()`. `synchronous="NORMAL"` loses nothing
    when the process dies; `"FULL"` costs one fsync a call and loses nothing when the power fails either.
    `busy_timeout_s` is how long a writer waits for another process.
    """

    takes_rows = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: Literal["NORMAL", "FULL"] = "NORMAL",
        max_messages: int | None = None,
        busy_timeout_s: float = 30.0,
    ) -> None:
        super().__init__(max_messages=max_messages)
        if not os.fspath(path):
            raise ValidationError("Database path cannot be empty")
        if synchronous not in ("NORMAL", "FULL"):
            raise ConfigurationError(f'synchronous is "NORMAL" or "FULL", not {synchronous!r}')
        self.path = os.fspath(path)
        self._connections = Connections(self.path, synchronous, busy_timeout_s)

    def __repr__(self) -> str:
        return f"SQLiteStorage({self.path!r})"

    def save_thread(self, thread: Thread) -> None:
        refuse_partial(thread)
        encoded = [encode(message) for message in thread.messages]
        seqs = list(positions(thread.messages))
        metadata = jsontext.dumps(thread.metadata, "metadata")
        state = jsontext.dumps(thread.state, "state")

        def save(connection: sqlite3.Connection) -> None:
            old = connection.execute(
                "SELECT n, log_id, next_seq, version FROM threads WHERE id = ?", (thread.id,)
            ).fetchone()
            log_id = connection.execute("INSERT INTO logs DEFAULT VALUES").lastrowid or 0
            next_seq = max((seqs[-1] + 1) if seqs else 0, old[2] if old else 0)
            live = sum(not each.superseded for each in encoded)
            fields = {
                "n": old[0] if old else None,
                "id": thread.id,
                "log_id": log_id,
                "next_seq": next_seq,
                "message_count": live,
                "version": max(thread.version, old[3] + 1) if old else thread.version,
                "user_id": thread.user_id,
                "title": thread.title,
                "metadata": metadata,
                "state": state,
                "created_at": to_micros(thread.created_at),
                "updated_at": to_micros(thread.updated_at),
            }
            connection.execute(
                f"INSERT OR REPLACE INTO threads ({', '.join(fields)}) VALUES ({', '.join(f':{k}' for k in fields)})",
                fields,
            )
            connection.executemany(_INSERT, _message_rows(log_id, seqs, encoded))
            if old:
                _drop_log(connection, old[1])
            self._drop_oldest(connection, thread.id, log_id, live)

        self._connections.write("save thread", save)

    def get_thread(self, thread_id: str, message_limit: int | None = None) -> Thread | None:
        """The whole thread; with `message_limit` its newest live messages, as a partial thread."""

        def read(connection: sqlite3.Connection) -> tuple[Thread | None, str | None]:
            head = _read_head(connection, thread_id)
            if head is None:
                return None, None
            live = message_limit is not None
            return head, _read_texts(connection, thread_id, message_limit, None, None, wire=False, live=live)

        thread, texts = self._connections.snapshot("get thread", read)
        if thread is None:
            return None
        messages = decode_messages(thread_id, texts or "")
        if message_limit is not None:
            messages.reverse()
        return thread.changed(messages=messages, partial=message_limit is not None)

    def list_threads(self, limit: int = 100, offset: int = 0) -> list[Thread]:
        """Threads in creation order, without their messages (`partial`)."""
        rows = self._connections.read(
            "list threads",
            lambda c: c.execute(f"SELECT {_HEAD} FROM threads ORDER BY n LIMIT ? OFFSET ?", (limit, offset)).fetchall(),
        )
        return [_head(row) for row in rows]

    def delete_thread(self, thread_id: str) -> bool:
        def delete(connection: sqlite3.Connection) -> bool:
            found = connection.execute("DELETE FROM threads WHERE id = ? RETURNING log_id", (thread_id,)).fetchall()
            for (log_id,) in found:
                _drop_log(connection, log_id)
            return bool(found)

        return self._connections.write("delete thread", delete)

    def append_messages(
        self,
        thread_id: str,
        messages: Sequence[Message | MessageRow],
        *,
        expected_version: int | None = None,
        supersede_from: int | None = None,
        supersede: Collection[int] = (),
        state: Mapping[str, Any] | None = None,
        create: Mapping[str, Any] | None = None,
        counts: Mapping[int, tuple[int, str]] | None = None,
    ) -> int:
        encoded = [encode(message) for message in messages]
        live = sum(not each.superseded for each in encoded)

        def append(connection: sqlite3.Connection) -> int:
            row = _touch(connection, thread_id, len(encoded), live)
            if row is None:
                if create is None:
                    raise unknown_thread(thread_id)
                _insert_thread(connection, Thread(thread_id, **create))
                row = _touch(connection, thread_id, len(encoded), live)
            log_id, next_seq, version, user_id, count = row
            if create is not None:
                check_user(thread_id, user_id, create)
            check_version(thread_id, version - 1, expected_version)
            first = next_seq - len(encoded)
            if supersede_from is not None or supersede:
                count -= _supersede(connection, thread_id, log_id, supersede_from, supersede)
            for seq in _inside(counts or ()):
                connection.execute(
                    "UPDATE messages SET tokens_text = ? WHERE position = ?",
                    (jsontext.dumps(list((counts or {})[seq])), (log_id << SEQ_BITS) | seq),
                )
            connection.executemany(_INSERT, _message_rows(log_id, range(first, next_seq), encoded))
            if state:
                _patch_state(connection, thread_id, resolve_new(state, first))
            self._drop_oldest(connection, thread_id, log_id, count)
            return int(version)

        return self._connections.write("add message to thread", append)

    def replace_message(self, thread_id: str, message_id: str, message: Message) -> None:
        encoded = encode(message)

        def replace(connection: sqlite3.Connection) -> None:
            row = _touch(connection, thread_id, 0, 0)
            if row is None:
                raise unknown_thread(thread_id)
            found = _find_message(connection, thread_id, row[0], message_id)
            if found is None:
                raise unknown_message(thread_id, message_id)
            position, superseded = found
            connection.execute("DELETE FROM messages WHERE position = ?", (position,))
            connection.executemany(_INSERT, _message_rows(row[0], [position & SEQ_MASK], [encoded]))
            change = superseded - encoded.superseded
            connection.execute("UPDATE threads SET message_count = message_count + ? WHERE id = ?", (change, thread_id))

        self._connections.write("replace message", replace)

    def read_head(self, thread_id: str) -> Thread | None:
        return self._connections.read("get thread", lambda connection: _read_head(connection, thread_id))

    def read_messages(
        self,
        thread_id: str,
        *,
        limit: int | None = None,
        before: int | None = None,
        after: int | None = None,
        include_superseded: bool = False,
        wire: bool = False,
    ) -> Any:
        texts = self._connections.read(
            "get messages",
            lambda connection: _read_texts(
                connection, thread_id, limit, before, after, wire=wire, live=not include_superseded
            ),
        )
        found: list[Any] = (decode_wire if wire else decode_messages)(thread_id, texts or "")
        if limit is not None and after is None:
            found.reverse()
        return found

    def patch_thread(
        self,
        thread_id: str,
        *,
        title: str | None = UNSET,
        metadata: Mapping[str, Any] = UNSET,
        user_id: str | None = UNSET,
        state: Mapping[str, Any] = UNSET,
    ) -> None:
        given: dict[str, str | None] = {}
        if title is not UNSET:
            given["title"] = title
        if user_id is not UNSET:
            given["user_id"] = user_id
        if metadata is not UNSET:
            given["metadata"] = jsontext.dumps(dict(metadata), "metadata")

        def patch(connection: sqlite3.Connection) -> None:
            if connection.execute("SELECT 1 FROM threads WHERE id = ?", (thread_id,)).fetchone() is None:
                raise unknown_thread(thread_id)
            if given:
                _touch(connection, thread_id, 0, 0)
            for key, value in given.items():
                connection.execute(f"UPDATE threads SET {key} = ? WHERE id = ?", (value, thread_id))
            if state is not UNSET:
                _patch_state(connection, thread_id, state)

        self._connections.write("update thread", patch)

    def close(self) -> None:
        self._connections.close()

    def _drop_oldest(self, connection: sqlite3.Connection, thread_id: str, log_id: int, live: int) -> None:
        if self.max_messages is None or live <= self.max_messages:
            return
        low = log_id << SEQ_BITS
        connection.execute(
            "DELETE FROM messages WHERE position >= ? AND position < (SELECT position FROM messages"
            " WHERE position BETWEEN ? AND ? AND superseded = 0 ORDER BY position DESC LIMIT 1 OFFSET ?)",
            (low, low, low | SEQ_MASK, self.max_messages - 1),
        )
        connection.execute("UPDATE threads SET message_count = ? WHERE id = ?", (self.max_messages, thread_id))


def _touch(connection: sqlite3.Connection, thread_id: str, added: int, live: int) -> Any:
    """Note a write of `added` messages; the row `_TOUCH` returns, or None when there is no such thread."""
    return connection.execute(_TOUCH, (added, live, to_micros(utc_now()), thread_id)).fetchone()


def _find_message(
    connection: sqlite3.Connection, thread_id: str, log_id: int, message_id: str
) -> tuple[int, int] | None:
    """(position, superseded). Newest first: what is replaced is nearly always the thread's last message."""
    low = log_id << SEQ_BITS
    # SQLite's JSON functions end a text at NUL, so what they find is looked at again.
    candidates = connection.execute(
        "SELECT position, superseded, wire_text FROM messages WHERE position BETWEEN ? AND ?"
        " AND wire_text ->> '$.id' = ? ORDER BY position DESC",
        (low, low | SEQ_MASK, message_id.partition("\x00")[0]),
    )
    for position, superseded, wire_text in candidates:
        if decode_wire(thread_id, wire_text)[0]["id"] == message_id:
            return position, superseded
    return None


def _message_rows(
    log_id: int, seqs: Iterable[int], encoded: Sequence[Encoded]
) -> Iterable[tuple[int, bool, str, str | None, str | None]]:
    base = log_id << SEQ_BITS
    for seq, each in zip(seqs, encoded, strict=True):
        text = with_seq(each.wire_text, seq)
        yield base | seq, each.superseded, text, each.extra_text, each.tokens_text


def _insert_thread(connection: sqlite3.Connection, thread: Thread) -> None:
    log_id = connection.execute("INSERT INTO logs DEFAULT VALUES").lastrowid
    metadata = jsontext.dumps(thread.metadata, "metadata")
    created_at = to_micros(thread.created_at)
    connection.execute(
        "INSERT INTO threads (id, log_id, next_seq, message_count, version, user_id, title, metadata, state,"
        " created_at, updated_at) VALUES (?, ?, 0, 0, 0, ?, ?, ?, '{}', ?, ?)",
        (thread.id, log_id, thread.user_id, thread.title, metadata, created_at, created_at),
    )


def _supersede(
    connection: sqlite3.Connection,
    thread_id: str,
    log_id: int,
    supersede_from: int | None,
    supersede: Collection[int],
) -> int:
    """How many live messages were superseded."""
    low = log_id << SEQ_BITS
    ranges = [(low | seq, low | seq) for seq in _inside(supersede)]
    if supersede_from is not None and supersede_from <= SEQ_MASK:
        ranges.append((low | max(supersede_from, 0), low | SEQ_MASK))
    changed = 0
    for bounds in ranges:
        changed += connection.execute(
            "UPDATE messages SET superseded = 1 WHERE position BETWEEN ? AND ? AND superseded = 0", bounds
        ).rowcount
    connection.execute("UPDATE threads SET message_count = message_count - ? WHERE id = ?", (changed, thread_id))
    return changed


def _inside(seqs: Iterable[int]) -> list[int]:
    """The seqs a log can hold; a position of any other would be one of another log."""
    return [seq for seq in seqs if 0 <= seq <= SEQ_MASK]


def _patch_state(connection: sqlite3.Connection, thread_id: str, patch: Mapping[str, Any]) -> None:
    (text,) = connection.execute("SELECT state FROM threads WHERE id = ?", (thread_id,)).fetchone()
    state = {**_parsed(thread_id, text), **patch}
    connection.execute("UPDATE threads SET state = ? WHERE id = ?", (jsontext.dumps(state, "state"), thread_id))


def _drop_log(connection: sqlite3.Connection, log_id: int) -> None:
    """A log goes with its last reader; a fork's log reads its parent."""
    low = log_id << SEQ_BITS
    readers = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM threads WHERE log_id = ?) OR EXISTS (SELECT 1 FROM logs WHERE parent_id = ?)",
        (log_id, log_id),
    ).fetchone()
    if not readers[0]:
        connection.execute("DELETE FROM messages WHERE position BETWEEN ? AND ?", (low, low | SEQ_MASK))
        connection.execute("DELETE FROM logs WHERE id = ?", (log_id,))


def _read_head(connection: sqlite3.Connection, thread_id: str) -> Thread | None:
    row = connection.execute(f"SELECT {_HEAD} FROM threads WHERE id = ?", (thread_id,)).fetchone()
    return None if row is None else _head(row)


def _read_texts(
    connection: sqlite3.Connection,
    thread_id: str,
    limit: int | None,
    before: int | None,
    after: int | None,
    *,
    wire: bool,
    live: bool,
) -> str | None:
    arguments = {
        "thread_id": thread_id,
        # A seq outside of these would be a position in another log.
        "after": -1 if after is None else max(-1, min(after, SEQ_MASK)),
        "before": SEQ_MASK + 1 if before is None else max(0, min(before, SEQ_MASK + 1)),
        "limit": -1 if limit is None else limit,
    }
    newest_first = limit is not None and after is None
    (texts,) = connection.execute(_READ[wire, live, newest_first], arguments).fetchone()
    return texts  # type: ignore[no-any-return]  # group_concat gives a string, or None for no rows


def _head(row: tuple[Any, ...]) -> Thread:
    thread_id, user_id, title, metadata, state, created_at, updated_at, version, count = row
    return Thread.from_storage(
        id=thread_id,
        messages=[],
        metadata=_parsed(thread_id, metadata),
        user_id=user_id,
        title=title,
        created_at=from_micros(created_at),
        updated_at=from_micros(updated_at),
        state=_parsed(thread_id, state),
        version=version,
        partial=True,
        stored_messages=count,
    )


def _parsed(thread_id: str, text: str) -> dict[str, Any]:
    if text == "{}":
        return {}
    try:
        value = jsontext.loads(text)
    except ValueError as error:
        raise _unreadable(thread_id, error) from error
    if not isinstance(value, dict):
        raise _unreadable(thread_id, f"a {type(value).__name__} where a dict was written")
    return value


def _unreadable(thread_id: str, reason: object) -> CorruptThreadError:
    return CorruptThreadError(f"thread {thread_id!r} is there and cannot be read ({reason}); nothing was changed")
