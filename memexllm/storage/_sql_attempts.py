"""How an operation is carried out: tried, tried again when only its moment was wrong, and told from one that was lost.

The flow `performed` is driven by both kinds of storage. It holds the one place where errors of drivers become ours.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc

from memexllm.core.errors import (
    ConnectionError,
    IntegrityError,
    MemexLLMError,
    OperationError,
    ValidationError,
)
from memexllm.core.flow import Flow, Step
from memexllm.storage._sql_dialects import Mode, explained, meaning_of
from memexllm.storage._sql_migrations import prepare
from memexllm.storage._sql_operation import Operation, Recovered
from memexllm.storage._sql_statements import Statements
from memexllm.storage._sql_transaction import Transaction

if TYPE_CHECKING:
    from memexllm.storage._sql_engines import AsyncEngines, SyncEngines

R = TypeVar("R")
# What an asynchronous driver may let through of its socket, beside SQLAlchemy's errors for everything else.
DRIVER_ERRORS = (exc.SQLAlchemyError, OSError, EOFError)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.002, 0.5
_CONFLICTS = 5
"""How often a write that met another one's row is tried: the row is there by then, and is found."""
_jitter = random.SystemRandom()


class Attempt(Generic[R]):
    """One operation, over all its tries."""

    def __init__(self, operation: Operation[R], statements: Statements) -> None:
        self.operation = operation
        self._statements = statements
        self.connected = False
        """Whether the last try had a connection."""
        self.in_doubt = False
        """Whether a commit was sent whose answer did not arrive."""
        self._known: R | None = None
        self._tried = False

    def on(self, connection: sa.Connection) -> R:
        self.connected = True
        operation = self.operation
        transaction = Transaction(connection, self._statements, operation.write_id)
        if operation.mode == "read":
            return operation.work(transaction)
        if operation.quick is not None and not self._tried:
            self._tried = self.in_doubt = True
            found = operation.quick(transaction)
            self.in_doubt = False
            if found is not None:
                return found
        begin(connection, self._statements, operation.mode)
        try:
            recovered = self._recovered(transaction)
            result = operation.work(transaction) if recovered is None else recovered.result
            if operation.mode == "write":
                self.in_doubt, self._known = True, result
            commit(connection, self._statements)
            self.in_doubt = False
        except BaseException as error:
            rollback(connection, self._statements, error)
            raise
        return result

    def _recovered(self, transaction: Transaction) -> Recovered[R] | None:
        if not self.in_doubt or self.operation.recover is None:
            return None
        return self.operation.recover(transaction, self._known)


def performed(
    engines: SyncEngines | AsyncEngines,
    statements: Statements,
    operation: Operation[R],
    retry_s: float,
    preparation: Operation[None] | None = None,
) -> Flow[R]:
    """The operation's result; what a driver raises becomes an error of ours.

    `preparation` makes the tables, which are those of threads if nothing is said.
    """
    if not engines.prepared:
        yield from _tried(engines, Attempt(preparation or _preparation(statements), statements), retry_s)
        engines.prepared = engines.reached = True
    return (yield from _tried(engines, Attempt(operation, statements), retry_s))


def _preparation(statements: Statements) -> Operation[None]:
    return Operation("open the database", "write", lambda tx: prepare(tx.connection, statements))


def _tried(engines: SyncEngines | AsyncEngines, attempt: Attempt[R], retry_s: float) -> Flow[R]:
    until = time.monotonic() + retry_s
    pause_s, conflicts = _FIRST_PAUSE_S, 0
    while True:
        attempt.connected = False
        writes = attempt.operation.mode == "write"
        try:
            result: R = yield Step(engines.perform, (attempt,), engines.blocking, writes)
        except MemexLLMError:
            raise
        except DRIVER_ERRORS as error:
            meaning = meaning_of(error) if attempt.connected else "dropped"
            if meaning != "dropped":
                attempt.in_doubt = False
            conflicts += meaning == "integrity" and writes
            # A server that never was there is nothing to wait for.
            engines.reached = engines.reached or attempt.connected
            again = meaning == "again" or (meaning == "dropped" and engines.reached) or 0 < conflicts < _CONFLICTS
            if isinstance(error, exc.TimeoutError) or not again or time.monotonic() + pause_s > until:
                if isinstance(error, exc.ProgrammingError):
                    engines.prepared = False  # the tables may be others by now
                raise translated(attempt, error, meaning, engines.url) from _driver_error(error)
        else:
            return result
        yield Step(engines.pause, (pause_s * (0.5 + _jitter.random()),), engines.blocking)
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)


def begin(connection: sa.Connection, statements: Statements, mode: Mode) -> None:
    for statement in statements.dialect.begin.get(mode, ()):
        connection.exec_driver_sql(statement)


def commit(connection: sa.Connection, statements: Statements) -> None:
    if statements.dialect.begin:
        connection.exec_driver_sql("COMMIT")
    else:
        connection.commit()


def rollback(connection: sa.Connection, statements: Statements, error: BaseException) -> None:
    """Undo what was begun; a connection that cannot be told to is not used again."""
    if connection.invalidated or connection.closed:
        return
    if not isinstance(error, Exception):
        connection.invalidate()
        return
    try:
        if statements.dialect.begin:
            connection.exec_driver_sql("ROLLBACK")
        else:
            connection.rollback()
    except DRIVER_ERRORS:
        if not connection.invalidated:
            connection.invalidate()


def translated(attempt: Attempt[Any], error: BaseException, meaning: str, url: sa.URL) -> MemexLLMError:
    where = url.render_as_string(hide_password=True)
    said = f"Failed to {attempt.operation.name} in {where}: {explained(error)}"
    if isinstance(error, exc.TimeoutError):
        return OperationError(said)
    if attempt.in_doubt:
        return ConnectionError(f"{said}. The connection was lost while this was stored: it may be there or not")
    if meaning == "dropped":
        return ConnectionError(f"{said}. Nothing was changed" if attempt.operation.mode == "write" else said)
    if isinstance(error, exc.DataError | exc.StatementError) and not isinstance(error, exc.DBAPIError):
        return ValidationError(said)
    return (IntegrityError if meaning == "integrity" else OperationError)(said)


def _driver_error(error: BaseException) -> BaseException:
    """The driver's own: SQLAlchemy's shows the parameters of the statement, which are somebody's conversation."""
    original: BaseException | None = error.orig if isinstance(error, exc.DBAPIError) else None
    return error if original is None else original
