"""SQLiteStorage: the embedded default, on the standard library's `sqlite3`.

What is on disk is described in `_sqlite_schema.py`. A call is one transaction of three statements, whatever the
thread's length; a read of the newest messages walks the table backwards from the log's end.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from memexllm.core import jsontext
from memexllm.core.errors import ConfigurationError, MemexLLMError, StorageError
from memexllm.core.errors import ConnectionError as DatabaseConnectionError
from memexllm.core.errors import IntegrityError as DatabaseIntegrityError
from memexllm.core.errors import OperationError as DatabaseOperationError
from memexllm.core.hits import MessageHit
from memexllm.core.models import Message, Thread
from memexllm.core.moments import utc_now
from memexllm.storage import _sqlite_search as index
from memexllm.storage import _sqlite_statements as sql
from memexllm.storage._defaults import (
    UNSET,
    check_patch,
    check_user,
    check_version,
    resolve_new,
    unknown_message,
    unknown_thread,
)
from memexllm.storage._listing import CursorLike, OrderBy, list_query
from memexllm.storage._rows import Encoded, decode_messages, decode_wire, positions
from memexllm.storage._searching import checked_query, hit
from memexllm.storage._sqlite_chains import is_shared, release
from memexllm.storage._sqlite_connections import Connections, checked_path
from memexllm.storage._sqlite_forking import fork
from memexllm.storage._sqlite_listing import read_page
from memexllm.storage._sqlite_restoring import restore
from memexllm.storage._sqlite_search_tables import forget, index_failed
from memexllm.storage.base import BaseStorage, checked_message_limit, refuse_partial

__all__ = [
    "SQLiteStorage",
    "SQLiteStorageError",
    "DatabaseConnectionError",
    "DatabaseOperationError",
    "DatabaseIntegrityError",
]

SQLiteStorageError = StorageError

_log = logging.getLogger("memexllm.storage.sqlite")


class SQLiteStorage(BaseStorage):
    """Threads in one SQLite file, made readable for its owner only; `":memory:"` keeps them in this object.

    Safe from any thread, from several processes at once and across `os.fork()`. `synchronous="NORMAL"` loses nothing
    when the process dies; `"FULL"` costs one fsync a call and loses nothing when the power fails either.
    `busy_timeout_s` is how long a writer waits for another process. `db_path` is the 0.1 name of `path`.
    """

    takes_rows = True

    def __init__(
        self,
        path: str | os.PathLike[str] = "memexllm.db",
        max_messages: int | None = None,
        *,
        synchronous: Literal["NORMAL", "FULL"] = "NORMAL",
        busy_timeout_s: float = 30.0,
        db_path: str | os.PathLike[str] = UNSET,
    ) -> None:
        super().__init__(max_messages=max_messages)
        checked = checked_path(path if db_path is UNSET else db_path)
        if synchronous not in ("NORMAL", "FULL"):
            raise ConfigurationError(f'synchronous is "NORMAL" or "FULL", not {synchronous!r}')
        self.path = checked
        self._connections = Connections(self.path, synchronous, busy_timeout_s)

    def __repr__(self) -> str:
        return f"SQLiteStorage({self.path!r})"

    @property
    def db_path(self) -> str:
        return self.path

    def save_thread(self, thread: Thread) -> None:
        refuse_partial(thread)
        encoded = [Encoded(message) for message in thread.messages]
        seqs = list(positions(thread.messages))
        jsontext.dumps([thread.metadata, thread.state], "metadata")

        def save(db: sql.Executor) -> None:
            live = sum(not each.superseded for each in encoded)
            kept = live if self.max_messages is None else min(live, self.max_messages)
            next_seq = seqs[-1] + 1 if seqs else 0
            old = sql.find_log(db, thread.id)
            if old is None:
                log = sql.insert_thread(db, thread, next_seq, kept)
            else:
                replacing = thread.changed(version=max(thread.version, old.version + 1))
                log = sql.replace_thread(db, replacing, old, max(next_seq, old.next_seq), kept)
            sql.insert_messages(db, log, seqs, encoded)
            if kept < live:
                sql.drop_oldest(db, log, kept)
            if old is not None:
                index.settle(db)

        self._connections.write("save thread", save)

    def get_thread(self, thread_id: str, message_limit: int | None = None) -> Thread | None:
        """The whole thread; with `message_limit` its newest live messages, as a partial thread."""
        checked_message_limit(message_limit)

        def read(db: sql.Executor) -> tuple[Thread | None, str | None]:
            head = sql.read_head(db, thread_id)
            if head is None:
                return None, None
            live = message_limit is not None
            return head, sql.read_texts(db, thread_id, message_limit, None, None, wire=False, live=live)

        thread, texts = self._connections.snapshot("get thread", read)
        if thread is None:
            return None
        messages = decode_messages(thread_id, texts or "")
        if message_limit is not None:
            messages.reverse()
        return thread.changed(messages=messages, partial=message_limit is not None)

    def list_threads(
        self,
        limit: int = 100,
        offset: int = 0,
        *,
        user_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        order_by: OrderBy = "created",
        before: CursorLike = None,
        after: CursorLike = None,
        preview: bool = False,
    ) -> list[Thread]:
        """As `HistoryManager.list_threads`: without messages (`partial`), each order along an index of its own.

        A `metadata` filter looks at every thread (of the user, if one is given) until the page is full.
        """
        query = list_query(limit, offset, user_id, metadata, order_by, before, after, preview)
        return self._connections.snapshot("list threads", lambda db: read_page(db, query))

    def delete_thread(self, thread_id: str) -> bool:
        def delete(db: sql.Executor) -> bool:
            found = db.execute("DELETE FROM threads WHERE id = ? RETURNING log_id", (thread_id,)).fetchall()
            for (log_id,) in found:
                release(db, log_id)
            index.settle(db)
            return bool(found)

        return self._connections.write("delete thread", delete)

    def append_messages(
        self,
        thread_id: str,
        messages: Sequence[Message],
        *,
        expected_version: int | None = None,
        supersede_from: int | None = None,
        supersede: Collection[int] = (),
        state: Mapping[str, Any] | None = None,
        create: Mapping[str, Any] | None = None,
        counts: Mapping[int, tuple[int, str]] | None = None,
    ) -> int:
        encoded = [Encoded(message) for message in messages]
        n_live = len([each for each in encoded if not each.superseded])

        def append(db: sql.Executor) -> int:
            log = sql.find_log(db, thread_id)
            if log is None:
                if create is None:
                    raise unknown_thread(thread_id)
                log = sql.insert_thread(db, Thread(thread_id, **create).changed(updated_at=utc_now()))
            elif create is not None:
                check_user(thread_id, log.user_id, create)
            check_version(thread_id, log.version, expected_version)
            live = log.message_count + n_live
            if supersede_from is not None or supersede:
                live -= sql.supersede(db, log, supersede_from, supersede)
            if counts:
                sql.note_counts(db, log, counts)
            sql.insert_messages(db, log, range(log.next_seq, log.next_seq + len(encoded)), encoded)
            if state:
                sql.patch_state(db, thread_id, resolve_new(state, log.next_seq))
            if self.max_messages is not None and live > self.max_messages:
                sql.drop_oldest(db, log, self.max_messages)
                index.settle(db, often=True)
                live = self.max_messages
            sql.note_write(db, log, len(encoded), live)
            return log.version + 1

        return self._connections.write("add message to thread", append)

    def replace_message(
        self,
        thread_id: str,
        message_id: str,
        message: Message,
        *,
        expected_version: int | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        encoded = Encoded(message)

        def replace(db: sql.Executor) -> None:
            log = sql.find_log(db, thread_id)
            if log is None:
                raise unknown_thread(thread_id)
            check_version(thread_id, log.version, expected_version)
            found = sql.find_message(db, thread_id, log, message_id)
            if found is None:
                raise unknown_message(thread_id, message_id)
            seq, superseded = found
            sql.replace_row(db, log, seq, encoded)
            index.settle(db)
            if state:
                sql.patch_state(db, thread_id, state)
            sql.note_write(db, log, 0, log.message_count + superseded - encoded.superseded)

        self._connections.write("replace message", replace)

    def fork_thread(
        self, thread_id: str, new_id: str, *, at: str | None = None, create: Mapping[str, Any] | None = None
    ) -> Thread:
        """`BaseStorage.fork_thread` in one small write, whatever the thread's length."""

        def make(db: sql.Executor) -> Thread | None:
            fork(db, thread_id, new_id, at, create, self.max_messages)
            return sql.read_head(db, new_id)

        made = self._connections.write("fork thread", make)
        if made is None:
            raise unknown_thread(new_id)
        return made

    def restore_messages(self, thread: Thread, messages: Sequence[Message]) -> None:
        encoded = [Encoded(message) for message in messages]

        def put_back(db: sql.Executor) -> None:
            if restore(db, thread, messages, encoded, self.max_messages):
                index.settle(db)

        self._connections.write("restore messages", put_back)

    def read_head(self, thread_id: str) -> Thread | None:
        return self._connections.read("get thread", lambda db: sql.read_head(db, thread_id))

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
            lambda db: sql.read_texts(db, thread_id, limit, before, after, wire=wire, live=not include_superseded),
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
        check_patch(thread_id, title=title, metadata=metadata, user_id=user_id)
        given: dict[str, str | None] = {}
        if title is not UNSET:
            given["title"] = title
        if user_id is not UNSET:
            given["user_id"] = user_id
        if metadata is not UNSET:
            given["metadata"] = jsontext.dumps(dict(metadata), "metadata")

        def patch(db: sql.Executor) -> None:
            log = sql.find_log(db, thread_id)
            if log is None:
                raise unknown_thread(thread_id)
            if "user_id" in given and given["user_id"] != log.user_id and is_shared(db, log.id, log.parent_id):
                # What two users have said never lies in one place: erasing one of them leaves the other whole.
                sql.move_out(db, log)
                index.settle(db)
            if given:
                sql.note_write(db, log, 0, log.message_count)
            for key, value in given.items():
                db.execute(f"UPDATE threads SET {key} = ? WHERE id = ?", (value, thread_id))
            if state is not UNSET:
                sql.patch_state(db, thread_id, state)

        self._connections.write("update thread", patch)

    def search_messages(
        self, text: str, *, thread_id: str | None = None, user_id: str | None = None, limit: int = 10
    ) -> list[MessageHit]:
        """`BaseStorage.search_messages` by a full-text index in the file.

        The index is brought up to date by searching: the first search of 100,000 messages takes some seconds, and
        appending costs nothing. Where there can be no index (a read-only file, a SQLite without FTS5) or it is damaged
        (`reindex()` mends it), the bounded scan of `BaseStorage` takes its place.
        """
        query = checked_query(text, thread_id, user_id, limit)
        scope = index.Scope(thread_id, user_id)

        def look(db: sql.Executor) -> list[index.Found] | None:
            return None if index.is_behind(db, scope) else index.find(db, scope, query)

        def catch_up(db: sql.Executor) -> list[index.Found] | None:
            return index.find(db, scope, query) if index.catch_up(db, scope) else None

        try:
            found = self._connections.snapshot("search messages", look)
            while found is None:
                found = self._connections.write("search messages", catch_up)
        except MemexLLMError as error:
            if not index_failed(error):
                raise
            _log.debug("searching %r without an index: %s", self, error)
            return super().search_messages(text, thread_id=thread_id, user_id=user_id, limit=limit)
        return [
            hit(each.thread_id, decode_messages(each.thread_id, each.texts)[0], each.score, query) for each in found
        ]

    def reindex(self) -> None:
        """Make the full-text index anew: mends one that is damaged, and spares the next search the work.

        Other writers take their turn in between. A SQLite without FTS5 is an `OperationError`.
        """
        everything = index.Scope(None, None)
        self._connections.write("reindex", forget)
        while not self._connections.write("reindex", lambda db: index.catch_up(db, everything)):
            pass

    def close(self) -> None:
        self._connections.close()
