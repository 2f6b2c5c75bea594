"""What operations do inside a transaction on a SQL database, statement by statement."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import bindparam, exc

from memexllm.core import jsontext
from memexllm.core.errors import OperationError, StorageError
from memexllm.core.models import Thread
from memexllm.core.moments import micros_now, to_micros
from memexllm.storage import _sql_names as names
from memexllm.storage._rows import Encoded, decode_wire, head_of, parsed, with_marks, with_seq
from memexllm.storage._sql_chains import Level, Log, chain_of, claim, detach, locked_chain, release, rows_of, runs_of
from memexllm.storage._sql_schema import BEYOND, FORMAT, lookup_of
from memexllm.storage._sql_statements import Statement, Statements

if TYPE_CHECKING:
    Result = sa.CursorResult[*tuple[Any, ...]]

_AT_ONCE = 1000
"""How many messages one statement inserts."""
_NEVER_TOO_LARGE, _STATEMENT_BYTES = 500_000, 10_000
"""Characters of a text that no server refuses; room for the rest of the statement."""
_LOOK_BACK = (20, 500)
"""How many of the newest messages are looked at for one of a given id, at first and then again and again."""


class Transaction:
    """A connection and our statements. `now` is the time of what it writes, `write_id` its mark."""

    def __init__(self, connection: sa.Connection, statements: Statements, write_id: int) -> None:
        self.connection = connection
        self.sql = statements
        self.tables = statements.tables
        self.now = micros_now()
        self.write_id = write_id
        self.on_psycopg = connection.dialect.driver in ("psycopg", "psycopg_async")

    def execute(self, statement: Any, parameters: Any = None) -> Result:
        return self.connection.execute(statement, parameters)

    # Logs and threads.

    def find_log(self, thread_id: str) -> Log | None:
        """The thread's log, which nobody else writes to until this transaction ends."""
        named = {"thread": self.sql.name(thread_id).key}
        if not self.sql.dialect.locks:
            self.execute(self.sql.lock_log, named)
        row = self.execute(self.sql.find_log, named).fetchone()
        if row is None:
            return None
        *fields, found_format = row
        if found_format != str(FORMAT):
            raise wrong_format(found_format)
        return Log(*fields)

    def insert_thread(self, thread: Thread, next_seq: int, message_count: int, read: Level | None = None) -> Log:
        """The thread's row with a log that is empty, or reads another one."""
        fields = self.fields_of(thread)
        parent_id, fork_seq = (None, None) if read is None else (read.log_id, read.high)
        log_id = self.insert_log(
            user_id=fields["user_id"],
            next_seq=next_seq,
            message_count=message_count,
            version=thread.version,
            updated_at=to_micros(thread.updated_at),
            parent_id=parent_id,
            fork_seq=fork_seq,
        )
        named = self.sql.name(thread.id)
        self.execute(self.sql.insert_thread, {**fields, "n": log_id, "id": named.key, "whole_id": named.whole})
        log = Log(log_id, next_seq, message_count, thread.version, self.write_id, 0, fields["user_id"])
        log.parent_id, log.fork_seq = parent_id, fork_seq
        return log

    def insert_log(self, **values: Any) -> int:
        given = {"write_id": self.write_id, "updated_at": self.now, "searchable": 0, **values}
        inserted = self.execute(self.sql.insert_log, given).inserted_primary_key
        log_id: Any = inserted and inserted[0]
        return int(log_id)

    def fields_of(self, thread: Thread) -> dict[str, Any]:
        """Columns of a thread's row, without its id."""
        fields: dict[str, Any] = self.user_fields(thread.user_id)
        fields["title"] = None if thread.title is None else names.escaped(thread.title, "title")
        fields["state"] = jsontext.dumps(thread.state, "state")
        fields["created_at"] = to_micros(thread.created_at)
        return fields | self.metadata_fields(thread.metadata)

    def user_fields(self, user_id: str | None) -> dict[str, Any]:
        key, whole = (None, None) if user_id is None else self.sql.name(user_id, "user_id")
        return {"user_id": key, "whole_user_id": whole}

    def metadata_fields(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        text = jsontext.dumps(metadata, "metadata")
        if self.sql.dialect.name != "postgresql":
            return {"metadata": text}
        return {"metadata": text, "metadata_lookup": lookup_of(jsontext.loads(text))}

    def set_thread(self, log: Log, fields: Mapping[str, Any]) -> None:
        self.execute(self.sql.set_thread.values(**fields), {"log": log.id})

    def replace_thread(self, log: Log, thread: Thread, next_seq: int, message_count: int) -> None:
        """The thread's fields anew, and none of its messages."""
        if log.is_shared:
            detach(self, log, BEYOND)
        self.delete_messages(log)
        fields = self.fields_of(thread)
        self.set_thread(log, fields)
        self.note(
            log,
            user_id=fields["user_id"],
            next_seq=max(next_seq, log.next_seq),
            message_count=message_count,
            version=max(thread.version, log.version + 1),
            write_id=self.write_id,
            updated_at=to_micros(thread.updated_at),
            searchable=0,
        )

    def patch_thread(self, log: Log, given: Mapping[str, Any]) -> None:
        """Set `title`, `metadata` or `user_id`."""
        fields: dict[str, Any] = {}
        changed: dict[str, Any] = {}
        if "title" in given:
            title = given["title"]
            fields["title"] = None if title is None else names.escaped(title, "title")
        if "metadata" in given:
            fields |= self.metadata_fields(given["metadata"])
        if "user_id" in given:
            if log.is_shared:
                # Another user's thread must not depend on what becomes of this one's.
                detach(self, log)
            fields |= self.user_fields(given["user_id"])
            changed = {"user_id": fields["user_id"], "searchable": 0}
            self._forget_words(log, lambda _: sa.true())
        self.set_thread(log, fields)
        self.note_write(log, 0, log.message_count, **changed)

    def note(self, log: Log, **fields: Any) -> None:
        self.execute(self.sql.note.values(**fields), {"log": log.id})

    def note_write(self, log: Log, added: int, message_count: int, **fields: Any) -> None:
        """Note that this write added so many messages and left so many live ones."""
        values = {
            "log": log.id,
            "next_seq": log.next_seq + added,
            "message_count": message_count,
            "version": log.version + 1,
            "write_id": self.write_id,
            "updated_at": self.now,
        }
        self.execute(self.sql.note_write, values)
        if fields:
            self.note(log, **fields)

    def patch_state(self, thread_id: str, log: Log, patch: Mapping[str, Any]) -> None:
        text = self.execute(self.sql.state, {"log": log.id}).scalar_one()
        state = {**parsed(thread_id, text), **patch}
        self.execute(self.sql.set_state, {"log": log.id, "state": jsontext.dumps(state, "state")})

    def delete_thread(self, log: Log) -> None:
        threads, logs = self.tables.threads, self.tables.logs
        self.execute(threads.delete().where(threads.c.n == log.id))
        if log.is_shared:
            locked_chain(self, log)
            self._forget_words(log, lambda _: sa.true())
            self.note(log, next_seq=0, message_count=0, searchable=0, user_id=None)
            release(self, log.id)
            return
        self.delete_messages(log)
        self.execute(logs.delete().where(logs.c.id == log.id))

    # Messages.

    def insert_messages(self, log: Log, seqs: Iterable[int], encoded: Sequence[Encoded]) -> None:
        rows = [
            {
                "log_id": log.rows,
                "seq": seq,
                "superseded": int(each.superseded),
                "wire_text": with_seq(each.wire_text, seq),
                "extra_text": each.extra_text,
                "tokens_text": each.tokens_text,
            }
            for seq, each in zip(seqs, encoded, strict=True)
        ]
        if self.sql.dialect.is_mysql:
            self._refuse_large(rows)
        for start in range(0, len(rows), _AT_ONCE):
            self.execute(self.sql.insert_messages, rows[start : start + _AT_ONCE])

    def _refuse_large(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """MySQL hangs up on who sends more than it takes, without a word."""
        largest = max((each["wire_text"] for each in rows), key=len, default="")
        if len(largest) < _NEVER_TOO_LARGE:
            return
        size_bytes = len(largest.encode()) + sum(map(largest.count, "\\\"'"))
        most_bytes = self.execute(sa.text("SELECT @@max_allowed_packet")).scalar_one()
        if size_bytes >= most_bytes - _STATEMENT_BYTES:
            raise OperationError(
                f"a message takes {size_bytes:,} bytes and the server's max_allowed_packet is {most_bytes:,}: raise "
                "that setting. Nothing was stored"
            )

    def supersede(self, log: Log, supersede_from: int | None, supersede: Collection[int]) -> int:
        """How many live messages were superseded."""
        c = self.tables.messages.c
        tail = supersede_from if supersede_from is not None and supersede_from < BEYOND else None
        single = inside(supersede)

        def wanted(seq: sa.ColumnElement[int]) -> Any:
            return sa.or_(sa.false() if tail is None else seq >= max(tail, 0), seq.in_(single))

        claim(self, log, runs_of(single))
        if tail is not None:
            claim(self, log, [(max(tail, 0), BEYOND)])
        changed = self.tables.messages.update().where(c.log_id == log.rows, c.superseded == 0, wanted(c.seq))
        self._forget_words(log, wanted)
        return self.execute(changed.values(superseded=1)).rowcount

    def note_counts(self, log: Log, counts: Mapping[int, tuple[int, str]]) -> None:
        c = self.tables.messages.c
        claim(self, log, runs_of(inside(counts)))
        noted = self.tables.messages.update().where(c.log_id == log.rows, c.seq == bindparam("at"))
        values = [{"at": seq, "tokens_text": jsontext.dumps(list(counts[seq]))} for seq in inside(counts)]
        if values:
            self.execute(noted.values(tokens_text=bindparam("tokens_text")), values)

    def drop_oldest(self, log: Log, keep: int) -> None:
        """Delete what lies before the newest `keep` live messages."""
        c = self.tables.messages.c
        chain = locked_chain(self, log)
        oldest = rows_of(self, chain, [], live=True, newest=True, limit=1, offset=keep - 1)
        if oldest:
            seq = oldest[0][0]
            if log.is_shared:
                detach(self, log, seq)
            self.execute(self.tables.messages.delete().where(c.log_id == log.rows, c.seq < seq))
            self._forget_words(log, lambda each: each < seq)

    def delete_messages(self, log: Log, seq: int | None = None) -> None:
        """One of a log, or all."""
        c = self.tables.messages.c

        def wanted(each: Any) -> Any:
            return sa.true() if seq is None else each == seq

        self.execute(self.tables.messages.delete().where(c.log_id == log.rows, wanted(c.seq)))
        self._forget_words(log, wanted)

    def find_message(self, thread_id: str, log: Log, message_id: str, within: int = BEYOND) -> tuple[int, bool] | None:
        """(seq, superseded), `within` so many of the newest messages.

        Newest first: what is replaced is nearly always the thread's last message.
        """
        chain = locked_chain(self, log)
        at_once, high = _LOOK_BACK[0], BEYOND
        while True:
            rows = rows_of(self, chain, ["superseded", "wire_text"], high=high, newest=True, limit=at_once)
            texts = ",".join([wire_text for _, wire_text, _ in rows])
            for (superseded, _, seq), wire in zip(rows, decode_wire(thread_id, texts), strict=True):
                if wire["id"] == message_id:
                    return seq, bool(superseded)
            within -= len(rows)
            if len(rows) < at_once or within <= 0:
                return None
            at_once, high = _LOOK_BACK[1], rows[-1][-1]

    # Reads.

    def read_head(self, thread_id: str) -> Thread | None:
        row = self.execute(self.sql.head, {"thread": self.sql.name(thread_id).key}).fetchone()
        return None if row is None else head_from(row)

    def read_texts(
        self,
        thread_id: str,
        limit: int | None,
        before: int | None,
        after: int | None,
        *,
        wire: bool,
        live: bool,
    ) -> str:
        """Texts for `decode_wire` or `decode_messages`; newest first when `limit` keeps the newest."""
        newest = limit is not None and after is None
        bounds: dict[str, Any] = {
            "thread": self.sql.name(thread_id).key,
            "low": -1 if after is None else max(-1, min(after, BEYOND)),
            "high": BEYOND if before is None else max(-1, min(before, BEYOND)),
        }
        read = partial(self._read_rows, bounds, limit, wire=wire, live=live, newest=newest)
        rows = read() or self._rows_of_fork(thread_id, bounds, limit, wire=wire, live=live, newest=newest)
        return joined(read() if rows is None else rows, wire=wire)

    def _read_rows(self, bounds: Mapping[str, Any], limit: int | None, *, wire: bool, live: bool, newest: bool) -> Any:
        if self.on_psycopg:
            return self.fetched(self.sql.read_text(wire, live, newest, limit), bounds)
        statement = self.sql.read(wire=wire, live=live, newest=newest, limited=limit is not None)
        return self.execute(statement, bounds if limit is None else {**bounds, "limit": limit}).fetchall()

    def _rows_of_fork(
        self, thread_id: str, bounds: Mapping[str, Any], limit: int | None, *, wire: bool, live: bool, newest: bool
    ) -> list[Any] | None:
        """None when the thread was a fork and is none any more."""
        what = ["superseded", "tokens_text", "wire_text", *([] if wire else ["extra_text"])]
        chain = chain_of(self, thread_id)
        while chain is not None and len(chain) > 1:
            low, high = bounds["low"], bounds["high"]
            rows = rows_of(self, chain, what, low, high, live=live, newest=newest, limit=limit)
            # A read is not in a transaction: what the logs of the chain hold moves when they change.
            before, chain = chain, chain_of(self, thread_id)
            if chain == before:
                return [row[:-1] for row in rows]
        return [] if chain is None else None

    def fetch(self, statement: Statement, values: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        if self.on_psycopg:
            return self.fetched(statement.text, values)
        return self.execute(statement.query, values).fetchall()

    def fetched(self, statement: str, values: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """Rows by the driver itself: what SQLAlchemy does beside it takes as long as PostgreSQL's part."""
        connection = self.connection
        driver = connection.dialect.loaded_dbapi
        cursor = connection.connection.cursor()
        try:
            cursor.execute(statement, values)
            return cursor.fetchall()
        except driver.Error as error:
            lost = connection.dialect.is_disconnect(error, connection.connection.dbapi_connection, cursor)
            if lost:
                connection.invalidate(error)
            raise exc.DBAPIError.instance(
                statement, None, error, driver.Error, hide_parameters=True, connection_invalidated=lost
            ) from error
        except BaseException:
            connection.invalidate()
            raise
        finally:
            cursor.close()

    def _forget_words(self, log: Log, wanted: Callable[[Any], Any]) -> None:
        """Takes messages out of the full-text index, in the transaction that changes them."""
        words = self.tables.words
        if words is not None and log.searchable:
            self.execute(words.delete().where(words.c.log_id == log.id, wanted(words.c.seq)))


def joined(rows: Sequence[Sequence[Any]], *, wire: bool) -> str:
    """Texts of the rows of `Statements.read`."""
    if wire:
        # Most messages have no marks, and twenty calls that do nothing are a tenth of what reading takes here.
        return ",".join([with_marks(text, old, mark) if old or mark else text for old, mark, text in rows])
    return ",".join([f"{with_marks(text, old, counted)},{extra or 'null'}" for old, counted, text, extra in rows])


def head_from(row: Sequence[Any]) -> Thread:
    n, key, whole, user_key, whole_user, title, metadata, state, created_at, updated_at, version, count = row
    user_id = None if user_key is None else names.read(user_key, whole_user)
    title = None if title is None else names.unescaped(title)
    thread_id = names.read(key, whole)
    return head_of((n, thread_id, user_id, title, metadata, state, created_at, updated_at, version, count))


def wrong_format(found: Any) -> StorageError:
    return StorageError(
        f"the tables have format {found}; this release of memexllm reads and writes format {FORMAT}: upgrade memexllm. "
        "Nothing was changed"
    )


def inside(seqs: Iterable[int]) -> list[int]:
    """The seqs a database can hold."""
    return [seq for seq in seqs if 0 <= seq < BEYOND]
