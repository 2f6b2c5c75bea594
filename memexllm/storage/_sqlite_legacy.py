"""Files of memexllm 0.1.0: known by their tables, copied aside, then turned into format 1 inside one transaction.

What 0.1.0 writes: times in ISO 8601, with or without an offset (without one they are UTC); metadata as any JSON, NaN
included; content as text only, so a text that looks like JSON is what somebody said. A value that has no place in a
message or thread of today is kept word for word under the metadata key `memexllm_0_1`. A row that cannot be read at all
is kept whole in its place; reading its thread is then a `CorruptThreadError`, and the other threads are not affected.
"""

from __future__ import annotations

import contextlib
import filecmp
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from memexllm.core import jsontext
from memexllm.core.errors import IntegrityError, StorageError, ValidationError
from memexllm.core.moments import from_micros, to_micros
from memexllm.core.wire import checked_role
from memexllm.storage._rows import UNREADABLE

KEY = "memexllm_0_1"
"""Key of a metadata dict under which lies what had no place elsewhere."""
UNKNOWN_ENCODING = "unknown (memexllm 0.1)"
"""0.1.0 did not say how a `token_count` was counted; no counter has this name, so none takes it for its own."""

_THREAD_COLUMNS = ("id", "created_at", "updated_at", "metadata")
_MESSAGE_COLUMNS = (
    "id",
    "thread_id",
    "content",
    "role",
    "created_at",
    "metadata",
    "token_count",
    "message_index",
)
_COLUMNS = {"threads": _THREAD_COLUMNS, "messages": _MESSAGE_COLUMNS}
_SEQ_BITS = 32
_MINUTE = 60_000_000

_FORMAT_1 = """
CREATE TABLE logs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    next_seq INTEGER NOT NULL,
    message_count INTEGER NOT NULL,
    version INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    parent_id INTEGER REFERENCES logs (id),
    fork_seq INTEGER,
    hidden TEXT
);
CREATE INDEX logs_of_parent ON logs (parent_id) WHERE parent_id IS NOT NULL;
CREATE TABLE threads (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    log_id INTEGER NOT NULL REFERENCES logs (id),
    user_id TEXT,
    title TEXT,
    metadata TEXT NOT NULL,
    state TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_minute INTEGER NOT NULL
);
CREATE INDEX threads_by_update ON threads (updated_minute);
CREATE INDEX threads_of_user ON threads (user_id, updated_minute) WHERE user_id IS NOT NULL;
CREATE TABLE messages (
    position INTEGER PRIMARY KEY,
    superseded INTEGER NOT NULL DEFAULT 0,
    wire_text TEXT NOT NULL,
    extra_text TEXT,
    tokens_text TEXT
);
"""
"""A format does not change once it is released; steps from here to today's are in `_sqlite_migrations.py`."""

_NAMES = "SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND type <> 'index'"
# As bytes: the Python module would quote a text that is no UTF-8 in its error.
_THREADS = "SELECT " + ", ".join(f"CAST({name} AS BLOB)" for name in _THREAD_COLUMNS) + " FROM threads_0_1"
_MESSAGES = (
    "SELECT " + ", ".join(f"CAST({name} AS BLOB)" for name in _MESSAGE_COLUMNS) + ", typeof(content)"
    " FROM messages_0_1 WHERE thread_id = CAST(? AS TEXT) ORDER BY message_index, rowid"
)
_WITHOUT_THREAD = (
    "SELECT DISTINCT CAST(thread_id AS BLOB) FROM messages_0_1 WHERE thread_id NOT IN (SELECT id FROM threads_0_1)"
)

Raw = bytes | None


class UnreadableError(Exception):
    """Why a row cannot be read, without what it says."""


def is_legacy(connection: sqlite3.Connection) -> bool:
    """Whether the file holds exactly the tables of 0.1.0. Indexes are nobody's data and are not looked at."""
    found = connection.execute(_NAMES).fetchall()
    if {(kind, name) for kind, name in found} != {("table", name) for name in _COLUMNS}:
        return False
    return all(
        tuple(name for _, name, *_ in connection.execute(f"PRAGMA table_xinfo({table})")) == columns
        for table, columns in _COLUMNS.items()
    )


def keep_copy(path: str) -> Path:
    """Copy the database beside itself, whole or not at all; the caller holds its write lock.

    An earlier copy is never overwritten; one that says the same is enough.
    """
    part = Path(f"{path}.0_1.bak.part")
    try:
        _copy(path, part)
        number = 1
        while True:
            copy = Path(f"{path}.0_1.bak" if number == 1 else f"{path}.0_1.bak.{number}")
            if not copy.exists():
                part.rename(copy)
                _sync(copy.parent)
                return copy
            if filecmp.cmp(part, copy, shallow=False):
                part.unlink()
                return copy
            number += 1
    except (OSError, sqlite3.Error) as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise StorageError(
            f"the database {path!r} was written by memexllm 0.1 and is upgraded only once a copy of it lies beside it, "
            f"which could not be made ({error}); nothing was changed. Make room and allow writing in its folder, or "
            "move the file to where that is so"
        ) from error


def _copy(path: str, part: Path) -> None:
    for left in (part, Path(f"{part}-journal")):
        left.unlink(missing_ok=True)
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(part)) as target:
        source.backup(target)
    _sync(part)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def convert(connection: sqlite3.Connection) -> None:
    """Copy the file aside, then make it one of format 1; inside the caller's transaction, which wrote nothing yet."""
    (path,) = (file for _, name, file in connection.execute("PRAGMA database_list") if name == "main")
    where = f"the database {path!r}"
    keep_copy(path)
    for name in _COLUMNS:
        connection.execute(f"ALTER TABLE {name} RENAME TO {name}_0_1")
    for statement in _FORMAT_1.split(";")[:-1]:
        connection.execute(statement)
    for head in sorted(_heads(connection, where), key=lambda head: head[1]):
        _convert_thread(connection, *head)
    converted, found = (
        connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("messages", "messages_0_1")
    )
    if converted != found:
        raise IntegrityError(
            f"{where} was written by memexllm 0.1; of its {found} messages only {converted} belong to a thread. "
            "Nothing was changed"
        )
    for name in reversed(_COLUMNS):  # messages refer to threads
        connection.execute(f"DROP TABLE {name}_0_1")


def _heads(connection: sqlite3.Connection, where: str) -> Iterator[tuple[str, int, int, str]]:
    """(id, created_at, updated_at, metadata as it will lie) of each thread, in the order of the old table."""
    for row in connection.execute(_THREADS):
        thread_id = _thread_id(row[0], where)
        try:
            created_at, updated_at = _moment(row[1]), _moment(row[2])
            metadata = jsontext.dumps(_metadata(row[3]), "metadata")
        except UnreadableError as error:
            # A list where a dict belongs is what a reader takes for damage.
            created_at = updated_at = 0
            metadata = jsontext.dumps([UNREADABLE, str(error), _verbatim(_THREAD_COLUMNS, row)])
        yield thread_id, created_at, updated_at, metadata
    for (raw,) in connection.execute(_WITHOUT_THREAD):
        thread_id = _thread_id(raw, where)
        times = [_moment_or_zero(row[4]) for row in connection.execute(_MESSAGES, (thread_id,))]
        lost = jsontext.dumps({KEY: {"thread": "its row was missing"}})
        yield thread_id, min(times), max(times), lost


def _thread_id(raw: Raw, where: str) -> str:
    try:
        return _text(raw, "id")
    except UnreadableError as error:
        raise IntegrityError(
            f"{where} was written by memexllm 0.1 and holds a thread without a name ({error}); nothing was changed"
        ) from None


def _convert_thread(
    connection: sqlite3.Connection, thread_id: str, created_at: int, updated_at: int, metadata: str
) -> None:
    rows = connection.execute(_MESSAGES, (thread_id,)).fetchall()
    inserted = connection.execute(
        "INSERT INTO logs (next_seq, message_count, version, updated_at) VALUES (?, ?, 0, ?)",
        (len(rows), len(rows), updated_at),
    )
    log_id = inserted.lastrowid or 0
    connection.execute(
        "INSERT INTO threads (id, log_id, metadata, state, created_at, updated_minute) VALUES (?, ?, ?, '{}', ?, ?)",
        (thread_id, log_id, metadata, created_at, updated_at // _MINUTE),
    )
    connection.executemany(
        "INSERT INTO messages (position, wire_text, extra_text, tokens_text) VALUES (?, ?, ?, ?)",
        [((log_id << _SEQ_BITS) | seq, *_texts(seq, row)) for seq, row in enumerate(rows)],
    )


def _texts(seq: int, row: tuple[Any, ...]) -> tuple[str, str | None, str | None]:
    """`wire_text`, `extra_text` and `tokens_text` of a message."""
    message_id, _, content, role, created_at, metadata, token_count, _, kind = row
    try:
        if kind != "text":
            raise UnreadableError(f"its content is no text but {kind}")
        wire = {"role": _role(role), "content": _text(content, "content", empty=True)}
        head = {"seq": seq, "id": _text(message_id, "id"), "created_at": _moment(created_at), "wire": wire}
        kept = _metadata(metadata)
        count = None if token_count is None else int(token_count)
    except (UnreadableError, ValueError) as error:
        reason = str(error) if isinstance(error, UnreadableError) else "its token_count is no number"
        damaged = {
            "seq": seq,
            "id": "",
            "created_at": 0,
            "wire": None,
            UNREADABLE: reason,
            "row": _verbatim(_MESSAGE_COLUMNS, row),
        }
        return jsontext.dumps(damaged), None, None
    extra = jsontext.dumps({"metadata": kept}, "metadata") if kept else None
    return jsontext.dumps(head), extra, None if count is None else jsontext.dumps([count, UNKNOWN_ENCODING])


def _role(raw: Raw) -> str:
    try:
        return checked_role(_text(raw, "role"))
    except ValidationError as error:
        raise UnreadableError(str(error)) from None


def _text(raw: Raw, name: str, *, empty: bool = False) -> str:
    if raw is None or not (raw or empty):
        raise UnreadableError(f"its {name} is empty")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise UnreadableError(f"its {name} is no text") from None


def _moment(raw: Raw) -> int:
    try:
        moment = datetime.fromisoformat(_text(raw, "time"))
        micros = to_micros(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
        from_micros(micros)
    except (ValueError, OverflowError):
        raise UnreadableError("one of its times is no time") from None
    return micros


def _moment_or_zero(raw: Raw) -> int:
    try:
        return _moment(raw)
    except UnreadableError:
        return 0


def _metadata(raw: Raw) -> dict[str, Any]:
    text = _text(raw, "metadata")
    try:
        found = json.loads(text)
        if found is None:
            return {}
        if isinstance(found, dict):
            jsontext.dumps(found, "metadata")
            return found
    except (ValidationError, RecursionError):
        pass  # JSON to Python, and more than can be stored today: NaN, deep nesting, half a character
    except ValueError:
        raise UnreadableError("its metadata is no JSON") from None
    return {KEY: {"metadata": text}}


def _verbatim(names: tuple[str, ...], row: tuple[Any, ...]) -> dict[str, Any]:
    """Each value as text, or in hexadecimal digits when it is none."""
    return {name: _shown(raw) for name, raw in zip(names, row, strict=False)}


def _shown(raw: Raw) -> str | dict[str, str] | None:
    if raw is None:
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"hex": raw.hex()}
