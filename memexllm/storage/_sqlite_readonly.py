"""Reading a SQLite file that this process may not write to, or whose folder it may not write to.

A file in WAL mode needs two files beside it even for reading. Where they cannot be made, SQLite reads a file only when
told that nobody changes it; so every piece of work gets a connection of its own and is done again when somebody did.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import quote

from memexllm.core.errors import ConnectionError, OperationError, StorageError
from memexllm.storage._sqlite_kinds import THREADS, FileKind
from memexllm.storage._sqlite_schema import EMPTY

R = TypeVar("R")
_TRIES = 10


class UnsharedConnection(sqlite3.Connection):
    """A connection that knows nothing of what others write after it was opened."""


def connect(file: str, where: str, timeout_s: float, kind: FileKind = THREADS) -> sqlite3.Connection:
    """A connection that reads only; the driver's error when there is no way to one."""
    try:
        return _opened(file, "mode=ro", where, timeout_s, sqlite3.Connection, kind)
    except sqlite3.OperationalError as error:
        if _has_log(file):
            raise ConnectionError(
                f"{where} cannot be read here: the newest writes lie in {file + '-wal'!r}, and reading those needs a "
                "folder that this process may write to. Copy both files to one, or let a process that may write open "
                "and close it"
            ) from error
    return _opened(file, "mode=ro&immutable=1", where, timeout_s, UnsharedConnection, kind)


def _opened(
    file: str, how: str, where: str, timeout_s: float, factory: type[sqlite3.Connection], kind: FileKind
) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(file)}?{how}",
        uri=True,
        timeout=timeout_s,
        isolation_level=None,
        check_same_thread=False,
        factory=factory,
    )
    try:
        found = kind.checked_format(connection, where)
        if found == EMPTY:
            raise StorageError(f"{where} is empty and cannot be written by this process. Nothing was changed")
        if found != kind.format:
            raise StorageError(
                f"{where} must be upgraded to be read, and it cannot be written: allow writing to it and to its "
                "folder, or open a copy of it elsewhere. Nothing was changed"
            )
    except BaseException:
        connection.close()
        raise
    return connection


def undisturbed(connect_again: Callable[[], sqlite3.Connection], file: str, where: str, work: Callable[..., R]) -> R:
    """`work` on a connection of its own, again when the file changed meanwhile."""
    for _ in range(_TRIES):
        before = _looks(file)
        connection = connect_again()
        try:
            result = work(connection)
        except sqlite3.Error:
            if _looks(file) == before:
                raise
        else:
            if _looks(file) == before:
                return result
        finally:
            connection.close()
    raise OperationError(
        f"{where} cannot be written by this process and was being written by another all the time it was read; "
        "allow writing to its folder, which lets SQLite keep them apart"
    )


def _has_log(file: str) -> bool:
    try:
        return os.stat(f"{file}-wal").st_size > 0
    except OSError:
        return False


def _looks(file: str) -> tuple[int, int, int, bool]:
    found = os.stat(file)
    return found.st_ino, found.st_mtime_ns, found.st_size, _has_log(file)
