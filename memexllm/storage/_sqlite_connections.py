"""Connections to one SQLite file: opened when needed, kept when idle, never carried across a fork.

A connection is used by one thread at a time and by any thread in turn. `:memory:` has exactly one.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from memexllm.core.errors import ConnectionError, IntegrityError, MemexLLMError, OperationError, ValidationError
from memexllm.storage import _sqlite_readonly, _sqlite_schema
from memexllm.storage._locks import held_across_fork
from memexllm.storage._sqlite_kinds import THREADS, FileKind

# A look costs a tenth of an append; a file is not deleted under a running program often enough for one each time.
_LOOK_EVERY_S = 0.05
_SMALLEST_PAGE_BYTES = 512

R = TypeVar("R")
Work = Callable[[sqlite3.Connection | sqlite3.Cursor], R]

# Connections a forked child inherited. Closing them there would run SQLite's clean-up on the parent's file.
_inherited: list[list[sqlite3.Connection]] = []


class Connections:
    """`read` and `write` run one piece of work on a connection and turn the driver's errors into ours."""

    def __init__(self, path: str, synchronous: str, busy_timeout_s: float, kind: FileKind = THREADS) -> None:
        self.path = path
        self._kind = kind
        self._in_memory = path == ":memory:"
        # Of the folder the process is in now: a later chdir() does not move the database.
        self._file = path if self._in_memory else os.path.abspath(path)
        self._synchronous = synchronous
        self._busy_timeout_s = busy_timeout_s
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._idle: list[sqlite3.Connection] = []
        self._generation = 0
        self._identity: tuple[int, int] | None = None
        self._next_look = 0.0
        # In memory there is one connection, for one thread at a time. On a file there is one writer at a time within
        # the process: waiting here is fair, waiting in SQLite is polling.
        self._writing = held_across_fork() if self._in_memory else threading.RLock()
        self._reading = self._writing if self._in_memory else contextlib.nullcontext()

    def read(self, operation: str, work: Work[R]) -> R:
        """`work` on a connection outside a transaction."""
        with self._reading:
            return self._perform(operation, work)

    def snapshot(self, operation: str, work: Work[R]) -> R:
        """`work` that sees one state of the file, however many statements it runs."""

        def in_transaction(db: sqlite3.Connection | sqlite3.Cursor) -> R:
            db.execute("BEGIN")
            try:
                return work(db)
            finally:
                db.execute("ROLLBACK")

        return self.read(operation, in_transaction)

    def write(self, operation: str, work: Work[R]) -> R:
        """`work` as one transaction: committed whole, or not at all when it raises."""
        if self._pid != os.getpid():
            self._leave_inherited()
        with self._writing:
            self._refuse_another_file()
            return self._perform(operation, work, in_transaction=True)

    def close(self) -> None:
        """Close idle connections; those in use are closed when they come back."""
        if self._pid != os.getpid():
            self._leave_inherited()
            return
        with self._reading:
            self._generation += 1
            self._identity = None
            self._close_idle()

    def _close_idle(self) -> None:
        with contextlib.suppress(IndexError):  # another thread may take the last one
            while True:
                self._idle.pop().close()

    def _perform(self, operation: str, work: Work[R], *, in_transaction: bool = False) -> R:
        if self._pid != os.getpid():
            self._leave_inherited()
        generation = self._generation
        connection: sqlite3.Connection | None = None
        try:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._open()
            if in_transaction:
                return _transacted(connection, work, self._where(), self._kind)
            if isinstance(connection, _sqlite_readonly.UnsharedConnection):
                return _sqlite_readonly.undisturbed(self._open, os.path.realpath(self._file), self._where(), work)
            return work(connection)
        except UnicodeEncodeError:
            raise ValidationError(
                f"Failed to {operation}: an id or text holds a lone surrogate, which no database can store"
            ) from None
        except OverflowError:
            raise ValidationError(f"Failed to {operation}: a number has more than 64 bits") from None
        except UnicodeDecodeError:
            raise self._holds_no_text(operation) from None
        except sqlite3.Error as error:
            if _quotes_text(error):
                raise self._holds_no_text(operation) from None
            if connection is not None:
                self._look_for_the_cause(connection, error)
            raise self._translated(operation, error) from error
        finally:
            if connection is not None:
                unshared = isinstance(connection, _sqlite_readonly.UnsharedConnection)
                if generation == self._generation and not unshared:
                    self._idle.append(connection)
                else:
                    connection.close()

    def _look_for_the_cause(self, connection: sqlite3.Connection, error: sqlite3.Error) -> None:
        if _code(error) == sqlite3.SQLITE_ERROR and not connection.in_transaction:
            # A statement that fits no more: a newer release may have changed the tables.
            with contextlib.suppress(sqlite3.Error, UnicodeDecodeError):
                self._kind.checked_format(connection, self._where())
        if _code(error) == sqlite3.SQLITE_READONLY and not self._in_memory:
            # Connections that only read do not learn that they may write by now.
            self._generation += 1
            self._close_idle()

    def _leave_inherited(self) -> None:
        if self._in_memory:
            # A forked copy of a database in memory is a database of its own; its connection is whole.
            idle = self._idle
            self._begin()
            self._idle = idle
            return
        _inherited.append(self._idle)
        self._begin()

    def _open(self) -> sqlite3.Connection:
        if not self._in_memory:
            self._make_private_file()
            self._refuse_no_file()
        deadline = time.monotonic() + self._busy_timeout_s
        pause_s = 0.001
        while True:
            try:
                return self._connect()
            except sqlite3.OperationalError as error:
                if _code(error) in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
                    return self._connect_to_read(error)
                # Turning a new file to WAL, or recovering it, needs it alone, and SQLite does not wait for that.
                if not _is_busy(error) or time.monotonic() > deadline:
                    raise
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, 0.1)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._file, timeout=self._busy_timeout_s, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA secure_delete = ON").fetchone()
            if not self._in_memory:
                # The journal mode is written into the file, so this comes before: another program's stays as it is,
                # and so does one of 0.1 that cannot be upgraded.
                if self._kind.checked_format(connection, self._where()) == _sqlite_schema.LEGACY:
                    self._kind.prepare(connection, self._where())
                connection.execute("PRAGMA journal_mode = WAL").fetchone()
                connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            self._kind.prepare(connection, self._where())
            self._note_identity()
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect_to_read(self, refusal: sqlite3.OperationalError) -> sqlite3.Connection:
        try:
            return _sqlite_readonly.connect(
                os.path.realpath(self._file), self._where(), self._busy_timeout_s, self._kind
            )
        except sqlite3.OperationalError:
            raise refusal from None

    def _note_identity(self) -> None:
        if self._identity is None and not self._in_memory:
            found = os.stat(self._file)
            self._identity = (found.st_dev, found.st_ino)

    def _refuse_another_file(self) -> None:
        """An open connection goes on writing to a file that was deleted, where nobody will find what it says."""
        now = time.monotonic()
        if self._identity is None or now < self._next_look:
            return
        self._next_look = now + _LOOK_EVERY_S
        try:
            found = os.stat(self._file)
        except FileNotFoundError:
            found = None
        if found is None or (found.st_dev, found.st_ino) != self._identity:
            self._next_look = 0.0
            raise ConnectionError(
                f"{self._where()} was deleted or replaced while it was open; nothing was written. "
                "close() the storage to go on with the file that is there now"
            )

    def _make_private_file(self) -> None:
        """SQLite would make the file as readable as the umask allows; a conversation is its owner's alone."""
        try:
            # Of the file itself: a link is never replaced, and one to nothing yet leads to the new file.
            os.close(os.open(os.path.realpath(self._file), os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError:
            return
        except OSError as error:
            raise ConnectionError(
                f"the database {self.path!r} cannot be made: {error.strerror}; its folder must exist and be writable"
            ) from error

    def _refuse_no_file(self) -> None:
        """A pipe would be waited for, and what is written to a device is gone."""
        try:
            found = os.stat(self._file)
        except OSError as error:
            raise ConnectionError(f"the database {self.path!r} cannot be opened: {error.strerror}") from error
        if not stat.S_ISREG(found.st_mode):
            kind = "a directory" if stat.S_ISDIR(found.st_mode) else "no file"
            raise ConnectionError(f"{self.path!r} is {kind}; give {self._kind.owner} the path of a file")
        # SQLite reads zeros where the end of a file is missing, and takes a file of one byte for an empty one.
        # Pages are whole, unless a log beside the file tells what is on its way.
        file = os.path.realpath(self._file)
        if found.st_size % _SMALLEST_PAGE_BYTES and not any(
            os.path.exists(f"{file}-{log}") for log in ("wal", "journal")
        ):
            raise IntegrityError(
                f"{self._where()} is damaged or no SQLite database: its {found.st_size} bytes are no whole pages"
            )

    def _where(self) -> str:
        return f"the database {self.path!r}"

    def _holds_no_text(self, operation: str) -> IntegrityError:
        return IntegrityError(f"Failed to {operation}: {self._where()} is damaged: it holds bytes that are no text")

    def _translated(self, operation: str, error: sqlite3.Error) -> MemexLLMError:
        if _is_busy(error):
            return OperationError(
                f"Failed to {operation}: {self._where()} was kept busy by another writer for {self._busy_timeout_s:g} s"
            )
        code = _code(error)
        if code is None and "binding parameter" in str(error):
            return ValidationError(f"Failed to {operation}: an id or text is none: {error}")
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return IntegrityError(f"Failed to {operation}: {self._where()} is damaged or no SQLite database: {error}")
        if code == sqlite3.SQLITE_CANTOPEN:
            return ConnectionError(f"Failed to {operation}: {self._where()} cannot be opened: {error}")
        if code == sqlite3.SQLITE_READONLY:
            return OperationError(
                f"Failed to {operation}: {self._where()} can only be read by this process; writing needs a file and a "
                "folder that it may write to. Nothing was written"
            )
        if code == sqlite3.SQLITE_FULL:
            return OperationError(f"Failed to {operation}: the disk of {self._where()} is full; nothing was written")
        kind = IntegrityError if isinstance(error, sqlite3.IntegrityError) else OperationError
        return kind(f"Failed to {operation} in {self._where()}: {error}")


def checked_path(path: Any) -> str:
    """`path` as a string that can name a file."""
    if path is None:
        raise ValidationError("Database path cannot be empty; got None")
    try:
        found: Any = os.fspath(path)
    except TypeError:
        raise ValidationError(f"Database path must be a string or a path, not {type(path).__name__}") from None
    if not found:
        raise ValidationError("Database path cannot be empty")
    if not isinstance(found, str):
        raise ValidationError(
            f"Database path must be a string or a path, not {type(found).__name__}; use os.fsdecode()"
        )
    try:
        encoded = os.fsencode(found)
    except UnicodeEncodeError:
        raise ValidationError(f"Database path {found!r} holds a lone surrogate, which no file's name can") from None
    if b"\x00" in encoded:
        raise ValidationError(f"Database path {found!r} holds NUL, which no file's name can")
    return found


def _code(error: sqlite3.Error) -> int | None:
    """SQLite's primary code; None for an error of the Python module's own."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _is_busy(error: sqlite3.Error) -> bool:
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _quotes_text(error: sqlite3.Error) -> bool:
    """Whether this is the Python module's complaint of bytes that are not UTF-8, which shows them."""
    return _code(error) is None and str(error).startswith("Could not decode to UTF-8")


def _transacted(connection: sqlite3.Connection, work: Work[R], where: str, kind: FileKind) -> R:
    cursor = connection.cursor()
    cursor.execute("BEGIN IMMEDIATE")
    try:
        # Since this connection was opened, a newer release may have upgraded the file. Asking takes 0.7 µs.
        if cursor.execute("PRAGMA user_version").fetchone()[0] != kind.format:
            kind.refuse_format(connection, where)
        result = work(cursor)
        cursor.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result
