"""The PostgreSQL server of a vector database: statements in transactions, tried again when a connection is lost.

Engines, pools, URLs and retries are those of `SQLStorage`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc

from memexllm.core.errors import ConfigurationError, ConnectionError
from memexllm.core.flow import run
from memexllm.memory._postgres_tables import Tables, prepare
from memexllm.storage._sql_attempts import performed
from memexllm.storage._sql_dialects import checked_url
from memexllm.storage._sql_opening import opened
from memexllm.storage._sql_operation import Operation, Recovered
from memexllm.storage._sql_transaction import Transaction

R = TypeVar("R")
Row = Sequence[Any]
Work = Callable[["Db"], R]
_SETTLING_S, _PAUSE_S = 10.0, 0.02
_INSUFFICIENT_PRIVILEGE = "42501"


class Db:
    """A connection in a transaction. Values are named in the statements, `:name`, and always bound."""

    def __init__(self, connection: sa.Connection, tables: Tables) -> None:
        self._connection = connection
        self.tables = tables

    def all(self, sql: str, **values: Any) -> Sequence[Row]:
        return self._connection.execute(_text(sql), values).fetchall()

    def one(self, sql: str, **values: Any) -> Row:
        row: Row = self._connection.execute(_text(sql), values).one()
        return row

    def run(self, sql: str, **values: Any) -> None:
        self._connection.execute(_text(sql), values)

    def allowed(self, sql: str) -> bool:
        """Carry it out, unless this user may not."""
        self.run("SAVEPOINT allowed")
        try:
            self.run(sql)
        except exc.DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != _INSUFFICIENT_PRIVILEGE:
                raise
            self.run("ROLLBACK TO SAVEPOINT allowed")
            return False
        self.run("RELEASE SAVEPOINT allowed")
        return True


class Server:
    """`shown` is its URL without the password."""

    def __init__(self, by: str, url: Any, engine: Any, options: Mapping[str, Any], retry_s: float) -> None:
        backend = _backend(by, url, engine)
        if backend not in ("postgresql", "postgres"):
            raise ConfigurationError(f"{by} takes a postgresql:// URL or an engine of PostgreSQL, not {backend!r}")
        self._engines, self._statements = opened(by, url, engine, options, asynchronous=False)
        self._retry_s = retry_s
        self.tables = Tables(options["schema"], options["table_prefix"])
        self.shown: str = self._engines.url.render_as_string(hide_password=True)
        self._preparation = Operation("open the database", "write", self._in_transaction(prepare))

    def read(self, name: str, work: Work[R]) -> R:
        """One statement."""
        return self._performed(Operation(name, "read", self._in_transaction(work)))

    def snapshot(self, name: str, work: Work[R]) -> R:
        """Statements that see one state, which is the one at the first that is not LOCK."""
        return self._performed(Operation(name, "snapshot", self._in_transaction(work)))

    def write(self, name: str, work: Work[R]) -> R:
        """A transaction, committed once: of one whose answer was lost, the server is asked what became of it."""
        written: list[int] = []

        def noted(db: Db) -> R:
            result = work(db)
            written[:] = db.one("SELECT txid_current_if_assigned()")
            return result

        def recover(tx: Transaction, known: R | None) -> Recovered[R] | None:
            if written[:1] in ([], [None]) or not _is_committed(Db(tx.connection, self.tables), written[0], name):
                return None
            return Recovered(known)  # type: ignore[arg-type]  # a result that is None is None

        return self._performed(Operation(name, "write", self._in_transaction(noted), recover=recover))

    def close(self) -> None:
        self._engines.close()

    def _in_transaction(self, work: Work[R]) -> Callable[[Transaction], R]:
        return lambda tx: work(Db(tx.connection, self.tables))

    def _performed(self, operation: Operation[R]) -> R:
        return run(performed(self._engines, self._statements, operation, self._retry_s, self._preparation))


def _is_committed(db: Db, transaction_id: int, name: str) -> bool:
    """Whether it was, once the server has noticed that its client is gone."""
    # A server that took over from another may not have come to this number.
    sql = "SELECT CASE WHEN :id < txid_snapshot_xmax(txid_current_snapshot()) THEN txid_status(:id) END"
    waited_s = 0.0
    while waited_s < _SETTLING_S:
        (status,) = db.one(sql, id=transaction_id)
        if status != "in progress":
            return bool(status == "committed")
        db.one("SELECT pg_sleep(:pause)", pause=_PAUSE_S)
        waited_s += _PAUSE_S
    raise ConnectionError(
        f"Failed to {name}: the connection was lost while this was stored, and the server is not done with it: it may "
        "be there or not"
    )


def _backend(by: str, url: Any, engine: Any) -> str:
    if engine is not None and hasattr(engine, "url"):
        return str(engine.url.get_backend_name())
    return "postgresql" if url is None else checked_url(url, by).drivername.partition("+")[0]


@lru_cache(maxsize=512)
def _text(sql: str) -> sa.TextClause:
    return sa.text(sql)
