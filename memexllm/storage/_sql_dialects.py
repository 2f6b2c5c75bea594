"""What differs between SQL servers: how they are reached, how a transaction begins, and what their errors mean."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.pool import StaticPool

from memexllm._extras import required
from memexllm.core.errors import ConfigurationError

Mode = Literal["read", "snapshot", "write"]
"""`read` is a single statement, `snapshot` several that see one state, `write` a transaction."""
Meaning = Literal["again", "dropped", "integrity", "failed"]
"""`again`: nothing is wrong with the statement but its moment; `dropped`: the connection is gone."""

_DRIVERS = {
    ("postgresql", False): ("postgresql+psycopg", "psycopg", "postgres"),
    ("postgresql", True): ("postgresql+psycopg_async", "psycopg", "postgres"),
    ("mysql", False): ("mysql+pymysql", "pymysql", "mysql"),
    ("mysql", True): ("mysql+aiomysql", "aiomysql", "mysql"),
    ("mariadb", False): ("mariadb+pymysql", "pymysql", "mysql"),
    ("mariadb", True): ("mariadb+aiomysql", "aiomysql", "mysql"),
}
# https://www.postgresql.org/docs/current/errcodes-appendix.html: serialization failure, deadlock; connection
# exceptions, and a server that shuts down, crashed, or is starting.
_PG_AGAIN = frozenset({"40001", "40P01"})
_PG_DROPPED = frozenset({"57P01", "57P02", "57P03", "57P05"})
# https://mariadb.com/kb/en/mariadb-error-codes/: deadlock, changed since it was read; shutting down, too many
# connections, killed, and the client's own for a server that is gone or not there.
_MYSQL_AGAIN = frozenset({1020, 1213})
_MYSQL_DROPPED = frozenset({1040, 1053, 1152, 1158, 1159, 1160, 1161, 1927, 2002, 2003, 2006, 2013, 2014, 2055})
_MYSQL_TOO_LARGE = 1153
_SQLITE_BUSY, _SQLITE_LOCKED = 5, 6


@dataclass(frozen=True)
class Dialect:
    """`begin` holds the statements that begin a transaction; without any, SQLAlchemy begins and ends it.

    `exact_names`: whether the tables compare names character by character. `locks`: whether a row is locked by
    `SELECT … FOR UPDATE`.
    """

    name: str
    begin: dict[Mode, tuple[str, ...]] = field(default_factory=dict)
    exact_names: bool = False
    locks: bool = False

    @property
    def has_instr(self) -> bool:
        return self.name == "sqlite" or self.is_mysql

    @property
    def is_mysql(self) -> bool:
        return self.name in ("mysql", "mariadb")


_ON_MYSQL: dict[Mode, tuple[str, ...]] = {
    "write": ("START TRANSACTION",),
    "snapshot": ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION WITH CONSISTENT SNAPSHOT"),
}
_KNOWN = {
    "postgresql": Dialect(
        "postgresql",
        {
            "write": ("BEGIN ISOLATION LEVEL READ COMMITTED",),
            "snapshot": ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",),
        },
        exact_names=True,
        locks=True,
    ),
    "mysql": Dialect("mysql", _ON_MYSQL, exact_names=True, locks=True),
    "mariadb": Dialect("mariadb", _ON_MYSQL, exact_names=True, locks=True),
    "sqlite": Dialect("sqlite", {"write": ("BEGIN IMMEDIATE",), "snapshot": ("BEGIN",)}, exact_names=True),
}


def dialect_of(name: str) -> Dialect:
    return _KNOWN.get(name, Dialect(name))


def checked_url(url: Any, by: str) -> sa.URL:
    try:
        return sa.make_url(url)
    except (exc.ArgumentError, ValueError, TypeError, AttributeError):
        # The text may hold a password.
        raise ConfigurationError(
            f'{by} takes a URL of a database, like "postgresql://user:password@host/name"; what it was given is none'
        ) from None


def driver_url(url: sa.URL, by: str, *, asynchronous: bool) -> sa.URL:
    """The URL with the driver that is used for it; one that names a driver keeps it."""
    name = "postgresql" if url.drivername == "postgres" else url.drivername
    if (found := _DRIVERS.get((name, asynchronous))) is not None:
        name, package, extra = found
        required(package, extra=extra, by=f"{by} for {url.drivername}://")
        url = url.set(drivername=name)
    elif name == "postgresql+psycopg":
        url = url.set(drivername="postgresql+psycopg_async" if asynchronous else name)
    elif asynchronous and name.endswith("+pymysql"):
        return driver_url(url.set(drivername=name.removesuffix("+pymysql")), by, asynchronous=True)
    return url


def is_async(url: sa.URL, by: str) -> bool:
    """Whether the URL's driver is asynchronous."""
    try:
        return bool(url.get_dialect().is_async)
    except exc.NoSuchModuleError:
        raise ConfigurationError(
            f"{by} knows no database {url.drivername!r}: give postgresql://, mysql://, mariadb://, sqlite:// or "
            "another that SQLAlchemy has a dialect for"
        ) from None


def engine_options(url: sa.URL, pool_size: int, wait_s: float) -> dict[str, Any]:
    """For an engine of our own. Connections are in AUTOCOMMIT: a read is one round trip, a write begins by itself."""
    # hide_parameters: they are somebody's conversation.
    options: dict[str, Any] = {"hide_parameters": True, "pool_reset_on_return": None}
    backend = url.get_backend_name()
    if dialect_of(backend).begin:
        options |= {"isolation_level": "AUTOCOMMIT", "skip_autocommit_rollback": True}
    if backend == "sqlite":
        options["connect_args"] = {"timeout": wait_s, "check_same_thread": False}
        if in_memory(url):
            return options | {"poolclass": StaticPool}
    elif backend == "postgresql" and "psycopg" in url.drivername:
        options["use_native_hstore"] = False  # spares a query for each new engine
    elif backend in ("mysql", "mariadb"):
        options["connect_args"] = {"charset": "utf8mb4"}
        over_socket = "unix_socket" in url.query and not any(name.startswith("ssl") for name in url.query)
        if over_socket and url.get_driver_name() == "pymysql":
            # It would read all certificates of the system for every connection, which takes 25 ms.
            options["connect_args"] |= {"ssl_disabled": True}
    return options | {"pool_size": pool_size, "max_overflow": 0, "pool_timeout": wait_s, "pool_use_lifo": True}


def prepare_connection(backend: str, dbapi_connection: Any) -> None:
    """Set up a new connection of an engine of our own."""
    statement = {
        # A gap that two writers lock to insert into is a deadlock; at this level only rows are locked.
        "mysql": "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "sqlite": "PRAGMA journal_mode = WAL",
    }.get("mysql" if backend == "mariadb" else backend)
    if statement is not None:
        cursor = dbapi_connection.cursor()
        cursor.execute(statement)
        cursor.close()


def in_memory(url: sa.URL) -> bool:
    return url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:")


def meaning_of(error: BaseException) -> Meaning:
    """What a driver's error asks for."""
    if isinstance(error, exc.DBAPIError) and error.connection_invalidated:
        return "dropped"
    original: Any = error.orig if isinstance(error, exc.DBAPIError) else error
    code = str(getattr(original, "sqlstate", None) or "")
    number = _number(original)
    if code in _PG_AGAIN or number in _MYSQL_AGAIN:
        return "again"
    if getattr(original, "sqlite_errorcode", 0) & 0xFF in (_SQLITE_BUSY, _SQLITE_LOCKED):
        return "again"
    if code.startswith("08") or code in _PG_DROPPED or number in _MYSQL_DROPPED:
        return "dropped"
    if isinstance(error, OSError | EOFError) or (isinstance(error, exc.InterfaceError) and number == 0):
        return "dropped"
    return "integrity" if isinstance(error, exc.IntegrityError) else "failed"


def explained(error: BaseException) -> str:
    """What a driver's error says, without what was stored: values stand in some texts of servers."""
    original: Any = error.orig if isinstance(error, exc.DBAPIError) else error
    number = _number(original)
    if number == _MYSQL_TOO_LARGE:
        return "a message is larger than the server's max_allowed_packet; raise that setting"
    if isinstance(error, exc.TimeoutError):
        return "every connection of the pool was in use; raise pool_size"
    diagnosis = getattr(original, "diag", None)
    code = getattr(original, "sqlstate", None)
    if code is not None:
        said = diagnosis.message_primary if diagnosis is not None and not str(code).startswith("2") else ""
        return f"{type(original).__name__} {code}{f': {said}' if said else ''}"
    if number is not None and (number >= 2000 or number in _MYSQL_DROPPED | _MYSQL_AGAIN | {1044, 1045, 1049, 1142}):
        return f"{type(original).__name__} {number}: {original.args[-1]}"
    if number is not None:
        return f"{type(original).__name__} {number}"
    return f"{type(original).__name__}: {original}"


def _number(original: Any) -> int | None:
    """MySQL's number of an error."""
    arguments = getattr(original, "args", ())
    return arguments[0] if arguments and type(arguments[0]) is int and not isinstance(original, OSError) else None
