"""How the database file of an older release becomes one of today's format: numbered steps, in place.

A step is one transaction, the format's number included: a process that dies within it leaves the file as it was, and
of two that open the file at once, one takes the step and the other finds it taken. A new format adds its step here, a
golden file of the format to the tests, and leaves the older steps as they are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from memexllm.storage._sqlite_schema import EMPTY, FORMAT, TABLES, checked_format, format_of


@dataclass(frozen=True)
class Migration:
    """Makes a file of another format one of format `to`; `apply` runs inside the transaction and neither begins one
    nor ends it."""

    to: int
    apply: Callable[[sqlite3.Connection], None]


def prepare(connection: sqlite3.Connection, where: str) -> None:
    """Bring the file to today's format, from whichever it has; refuse another program's file unchanged."""
    while (found := checked_format(connection, where)) != FORMAT:
        _take(connection, where, found)


def _take(connection: sqlite3.Connection, where: str, found: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        if format_of(connection, where) == found:  # another process may have been first
            migration = MIGRATIONS[found]
            migration.apply(connection)
            connection.execute(f"PRAGMA user_version = {migration.to}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> Callable[[sqlite3.Connection], None]:
    """Runs the statements one by one; `executescript` would commit the transaction first."""

    def apply(connection: sqlite3.Connection) -> None:
        for statement in script.split(";"):
            if statement.strip():
                connection.execute(statement)

    return apply


_EXACT_ORDER = """
    ALTER TABLE threads RENAME COLUMN updated_minute TO listed_at;
    UPDATE threads SET listed_at = (SELECT updated_at FROM logs WHERE logs.id = log_id);
    CREATE INDEX threads_of_user_by_creation ON threads (user_id) WHERE user_id IS NOT NULL;
"""

MIGRATIONS: Mapping[int, Migration] = {
    EMPTY: Migration(FORMAT, _statements(TABLES)),
    1: Migration(2, _statements(_EXACT_ORDER)),
}
"""By the format a file has, as `format_of` tells it."""
