"""What a database file of ours can hold: threads, or the records of long-term memory. Each is a file of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from memexllm.storage import _sqlite_migrations, _sqlite_schema


@dataclass(frozen=True)
class FileKind:
    """How a file of this kind is known, made, upgraded and refused. `format` is what `PRAGMA user_version` holds."""

    owner: str
    """The class that opens it, as errors name it."""
    format: int
    checked_format: Callable[[sqlite3.Connection, str], int]
    """The file's format; `StorageError` for a newer one and another program's file. Reads only."""
    prepare: Callable[[sqlite3.Connection, str], None]
    """Brings the file to today's format."""
    refuse_format: Callable[[sqlite3.Connection, str], NoReturn]


THREADS = FileKind(
    "SQLiteStorage",
    _sqlite_schema.FORMAT,
    _sqlite_schema.checked_format,
    _sqlite_migrations.prepare,
    _sqlite_schema.refuse_format,
)
