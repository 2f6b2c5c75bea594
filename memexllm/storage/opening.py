"""From a path, a URL or the environment to a storage.

`MEMEXLLM_STORAGE` holds a URL, a path, or a dotted path to a function or class of yours that makes a storage:
`my_backends.create_storage`, `my_backends:create_storage`.
"""

from __future__ import annotations

import inspect
import os
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, overload

from memexllm.core.errors import ConfigurationError, ConnectionError, FactoryReturnTypeError, ValidationError
from memexllm.core.factories import call_factory, load_factory
from memexllm.storage.port import REQUIRED

if TYPE_CHECKING:
    from memexllm.storage.base import AsyncBaseStorage, BaseStorage

SETTING = "MEMEXLLM_STORAGE"

_REDIS = frozenset({"redis", "rediss", "unix", "redis+cluster", "rediss+cluster"})
_SQL = frozenset({"postgresql", "mysql", "mariadb", "mssql", "oracle", "cockroachdb"})
# Names others use for the same server and protocol.
_ALIASES = {"postgres": "postgresql", "valkey": "redis", "valkeys": "rediss", "valkey+cluster": "redis+cluster"}
_KNOWN = "a path, memory:, sqlite:///chat.db, postgresql://, mysql://, mariadb:// or redis://"
_DOTTED = re.compile(r"[^\W\d]\w*([.:][^\W\d]\w*)+")
_FILES = (".db", ".db3", ".sqlite", ".sqlite3")


@overload
def storage_from_url(url: str | os.PathLike[str], *, asynchronous: Literal[False] = False) -> BaseStorage: ...
@overload
def storage_from_url(url: str | os.PathLike[str], *, asynchronous: bool) -> BaseStorage | AsyncBaseStorage: ...
def storage_from_url(url: str | os.PathLike[str], *, asynchronous: bool = False) -> BaseStorage | AsyncBaseStorage:
    """The storage at a URL or path; nothing is opened before it is used.

    `memory:`, `sqlite:///relative.db`, `sqlite:////absolute.db`, `postgresql://…`, `mysql://…`, `mariadb://…`,
    `redis://…` (also `rediss://`, `unix://`, `redis+cluster://`, `valkey://`) and whatever else begins with the name
    of a database SQLAlchemy knows, `mysql+mysqldb://` say. What has no `://` is the path of a SQLite file.
    `asynchronous` prefers a storage with `async def` methods, where there is one for the URL.
    """
    place: Any = os.fspath(url)
    if not isinstance(place, str):
        raise ValidationError(f"a storage is named by a string or a path, not {type(place).__name__}")
    scheme = scheme_of(place)
    _, _, rest = place.partition("://")
    if scheme is None:
        return _sqlite(place)
    if scheme == "memory":
        from memexllm.storage.memory import MemoryStorage

        return MemoryStorage()
    if scheme == "sqlite":
        # sqlite:///relative and sqlite:////absolute, as SQLAlchemy reads them; sqlite:// alone is in memory.
        return _sqlite(rest.removeprefix("/") or ":memory:")
    module, name = server_class(scheme, asynchronous=asynchronous)
    made: BaseStorage = getattr(import_module(module), name)(f"{scheme}://{rest}")
    return made


def refuse_missing(storage: Any, otherwise: str = "") -> None:
    """For who only reads: opening a SQLite file that is not there would make an empty one."""
    from memexllm.storage.sqlite import SQLiteStorage

    if isinstance(storage, SQLiteStorage) and storage.path != ":memory:" and not os.path.exists(storage.path):
        raise ConnectionError(f"there is no database {os.fspath(storage.path)!r}{otherwise}")


def scheme_of(place: str) -> str | None:
    """What a URL begins with, under the name its driver knows; None of a path. An unknown one is refused."""
    if place.startswith("memory:"):
        return "memory"
    scheme, separator, _ = place.partition("://")
    if not separator:
        return None
    scheme = _ALIASES.get(scheme.lower(), scheme.lower())
    dialect = scheme.partition("+")[0]
    if scheme == "sqlite" or scheme in _REDIS or dialect in _SQL or (dialect == "sqlite" and dialect != scheme):
        return scheme
    raise ConfigurationError(f"no storage is known for {scheme[:40]!r} URLs; use {_KNOWN}, or an object")


def server_class(scheme: str, *, asynchronous: bool) -> tuple[str, str]:
    """Module and name of the class for a server's URLs."""
    kind = "redis" if scheme in _REDIS else "sql"
    name = "RedisStorage" if kind == "redis" else "SQLStorage"
    return f"memexllm.storage.{kind}", f"Async{name}" if asynchronous else name


def place_in_environment() -> Any:
    """The path or URL in `MEMEXLLM_STORAGE`, or what the factory named there makes; None when it is not set or blank.

    What looks like a dotted path is one, unless it ends like a database file (`chat.db`) or is a file that exists. A
    wrong module, a missing name, a result that is no storage and an error raised inside the factory are four errors:
    `FactoryImportError`, `FactoryNotFoundError`, `FactoryReturnTypeError` and `FactoryRuntimeError`.
    """
    named = os.environ.get(SETTING, "").strip()
    return (_made_by(named) if is_dotted(named) else named) if named else None


def is_server(place: str | os.PathLike[str]) -> bool:
    """Whether there are two classes for a place, one of which is asynchronous."""
    return scheme_of(os.fspath(place)) not in (None, "memory", "sqlite")


def is_dotted(named: str) -> bool:
    if not _DOTTED.fullmatch(named) or named.startswith("memory:"):
        return False
    return ":" in named or not (named.lower().endswith(_FILES) or os.path.exists(named))


def _made_by(dotted: str) -> Any:
    product = call_factory(load_factory(dotted, SETTING), dotted, SETTING)
    if inspect.iscoroutine(product):
        product.close()
        raise FactoryReturnTypeError(
            f"{SETTING}={dotted!r} is asynchronous; a function is needed that returns the storage at once, "
            "which may have async def methods"
        )
    missing = [name for name in REQUIRED if not callable(getattr(product, name, None))]
    if missing or isinstance(product, type):
        raise FactoryReturnTypeError(
            f"{SETTING}={dotted!r} returned {_described(product)}, which is no storage: "
            f"an object with {', '.join(REQUIRED)} is needed"
        )
    return product


def _described(product: Any) -> str:
    return f"the class {product.__name__}" if isinstance(product, type) else f"a {type(product).__name__}"


def _sqlite(path: str) -> BaseStorage:
    from memexllm.storage.sqlite import SQLiteStorage

    return SQLiteStorage(path)
