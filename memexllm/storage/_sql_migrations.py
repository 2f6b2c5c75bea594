"""How the tables of `_sql_schema.py` come to be, and how those of an older release become today's: numbered steps.

Whoever makes or changes tables holds a lock of the database's for this schema and prefix, so of two that start at once
one does it and the other finds it done. The number of the format is written last: where tables cannot be made in a
transaction (MySQL), a process that dies in between leaves them to the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from hashlib import sha256

import sqlalchemy as sa

from memexllm.core.errors import StorageError
from memexllm.storage._sql_schema import FORMAT
from memexllm.storage._sql_statements import Statements
from memexllm.storage._sql_transaction import wrong_format

MIGRATIONS: Mapping[int, Callable[[sa.Connection, Statements], None]] = {}
"""By the format they are for; each makes it one higher."""
_LOCK_S = 60


def prepare(connection: sa.Connection, statements: Statements) -> None:
    """Bring the tables to today's format, from whichever they have; refuse a newer one and another program's tables."""
    if _found_format(connection, statements) == FORMAT:
        return
    with _alone(connection, statements):
        found = _found_format(connection, statements)
        if found is None:
            _create(connection, statements)
            found = FORMAT
        while found < FORMAT:
            MIGRATIONS[found](connection, statements)
            found += 1
            meta = statements.tables.meta
            connection.execute(meta.update().where(meta.c.name == "format").values(value=str(found)))


def _found_format(connection: sa.Connection, statements: Statements) -> int | None:
    """None when there are no tables yet, or not all of them."""
    if not _has_table(connection, statements.tables.meta):
        return None
    found = connection.execute(statements.format).scalar_one_or_none()
    if found is not None and (not found.isdigit() or int(found) > FORMAT):
        raise wrong_format(found)
    return None if found is None else int(found)


def _has_table(connection: sa.Connection, table: sa.Table) -> bool:
    if connection.dialect.name != "postgresql":
        return sa.inspect(connection).has_table(table.name, schema=table.schema)
    # What an inspector asks of a new connection takes the server longer than all else that opens it.
    name = connection.dialect.identifier_preparer.format_table(table)
    return bool(connection.execute(sa.text("SELECT to_regclass(:name) IS NOT NULL"), {"name": name}).scalar_one())


def _create(connection: sa.Connection, statements: Statements) -> None:
    tables = statements.tables
    schema = tables.schema
    inspector = sa.inspect(connection)
    if schema is not None and not inspector.has_schema(schema):
        connection.execute(sa.schema.CreateSchema(schema, if_not_exists=True))
    if not inspector.has_table(tables.meta.name, schema=schema):
        others = [each.name for each in tables.metadata.sorted_tables if inspector.has_table(each.name, schema=schema)]
        if others:
            raise StorageError(
                f"the tables {', '.join(sorted(others))} are there and are another program's; give memexllm a "
                "table_prefix or a schema of its own. Nothing was changed"
            )
    # First, so that a process that dies in between is recognised by it.
    tables.meta.create(connection, checkfirst=True)
    tables.metadata.create_all(connection)
    connection.execute(tables.meta.insert(), {"name": "format", "value": str(FORMAT)})


@contextmanager
def _alone(connection: sa.Connection, statements: Statements) -> Generator[None]:
    """In a transaction, and while no other process does the same for these tables."""
    meta = statements.tables.meta
    named = sha256(f"memexllm {meta.schema}.{meta.name}".encode())
    match statements.dialect.name:
        case "postgresql":
            key = int.from_bytes(named.digest()[:8], signed=True)
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
            yield
        case "mysql" | "mariadb":
            # For the whole server: the database is part of the name.
            name = connection.execute(sa.text("SELECT DATABASE()")).scalar_one()
            lock = sha256(f"{name} {named.hexdigest()}".encode()).hexdigest()
            if not connection.execute(sa.text("SELECT GET_LOCK(:lock, :s)"), {"lock": lock, "s": _LOCK_S}).scalar_one():
                raise StorageError(f"another process has been making the tables for {_LOCK_S} s; try again")
            try:
                yield
            finally:
                connection.execute(sa.text("DO RELEASE_LOCK(:lock)"), {"lock": lock})
        case _:
            yield
