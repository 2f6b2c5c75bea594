"""SQLStorage and AsyncSQLStorage: PostgreSQL, MySQL, MariaDB and other SQL databases, through SQLAlchemy Core.

What is in the database is described in `_sql_schema.py`, what each operation does in `_sql_operations.py`: written
once, and run by both classes (`_sql_attempts.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from memexllm._extras import required
from memexllm.core.flow import Flow, arun, call, run
from memexllm.core.hits import MessageHit
from memexllm.core.models import Message, Thread
from memexllm.storage._defaults import UNSET
from memexllm.storage._listing import CursorLike, OrderBy, list_query
from memexllm.storage._searching import Query, checked_query
from memexllm.storage._sql_changes import Bounds, Changes
from memexllm.storage.base import AsyncBaseStorage, BaseStorage

if TYPE_CHECKING:
    from sqlalchemy import URL, Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

    from memexllm.storage._sql_operation import Operation

__all__ = ["SQLStorage", "AsyncSQLStorage"]


class _Database:
    """What both storages are over: engines, statements and the flow that performs an operation."""

    def __init__(self, by: str, url: Any, engine: Any, options: Mapping[str, Any], *, asynchronous: bool) -> None:
        required("sqlalchemy", extra="sql", by=by)
        opening = import_module("memexllm.storage._sql_opening")
        self._engines, self._statements = opening.opened(by, url, engine, options, asynchronous=asynchronous)
        self.operations = import_module("memexllm.storage._sql_operations")
        self._attempts = import_module("memexllm.storage._sql_attempts")
        self._retry_s = options["retry_s"]
        self.shown: str = self._engines.url.render_as_string(hide_password=True)
        self.has_index: bool = self._statements.tables.words is not None

    def perform(self, operation: Operation[Any]) -> Flow[Any]:
        flow: Flow[Any] = self._attempts.performed(self._engines, self._statements, operation, self._retry_s)
        return flow

    def search(self, query: Query, thread_id: str | None, user_id: str | None) -> Flow[list[MessageHit]]:
        searching = import_module("memexllm.storage._sql_search")
        flow: Flow[list[MessageHit]] = searching.search(self.perform, query, thread_id, user_id)
        return flow

    def close(self) -> Flow[None]:
        return call(self._engines.close, blocking=self._engines.blocking, write=True)


class SQLStorage(BaseStorage):
    """Threads in a PostgreSQL, MySQL or MariaDB database, or in another that SQLAlchemy knows.

    `url` is SQLAlchemy's: `postgresql://user:password@host/name` (psycopg), `mysql://…` and `mariadb://…` (PyMySQL),
    with `?host=/run/postgresql` or `?unix_socket=/run/mysqld/mysqld.sock` for a socket. Tables are made when they are
    not there: in `schema` (made as well), with names that begin with `table_prefix`; two prefixes or schemas share
    nothing. `engine`, in place of a URL, is one of yours: it is used as it is, and `close()` leaves it open.

    `pool_size` connections are opened as they are needed, for each process; who finds all of them in use waits, up to
    `wait_s`. A call whose connection is lost, or that lost a conflict with another one, is tried again for `retry_s`;
    it is never stored twice. Safe from any thread, from many processes and machines, and across `os.fork()`.
    """

    takes_rows = True

    def __init__(
        self,
        url: str | URL | None = None,
        max_messages: int | None = None,
        *,
        schema: str | None = None,
        table_prefix: str = "memexllm_",
        pool_size: int = 10,
        wait_s: float = 30.0,
        retry_s: float = 10.0,
        engine: Engine | None = None,
    ) -> None:
        super().__init__(max_messages=max_messages)
        options = {
            "schema": schema,
            "table_prefix": table_prefix,
            "pool_size": pool_size,
            "wait_s": wait_s,
            "retry_s": retry_s,
        }
        self._database = _Database(type(self).__name__, url, engine, options, asynchronous=False)
        self._operations = self._database.operations

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._database.shown!r})"

    def _run(self, operation: Operation[Any]) -> Any:
        return run(self._database.perform(operation))

    def save_thread(self, thread: Thread) -> None:
        self._run(self._operations.save_thread(thread, self.max_messages))

    def get_thread(self, thread_id: str, message_limit: int | None = None) -> Thread | None:
        """The whole thread; with `message_limit` its newest live messages, as a partial thread."""
        found: Thread | None = self._run(self._operations.get_thread(thread_id, message_limit))
        return found

    def list_threads(
        self,
        limit: int = 100,
        offset: int = 0,
        *,
        user_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        order_by: OrderBy = "created",
        before: CursorLike = None,
        after: CursorLike = None,
        preview: bool = False,
    ) -> list[Thread]:
        """As `HistoryManager.list_threads`: without messages (`partial`), each order along an index of its own.

        A `metadata` filter has an index on PostgreSQL; elsewhere it looks at every thread until the page is full.
        """
        query = list_query(limit, offset, user_id, metadata, order_by, before, after, preview)
        found: list[Thread] = self._run(self._operations.list_threads(query))
        return found

    def delete_thread(self, thread_id: str) -> bool:
        found: bool = self._run(self._operations.delete_thread(thread_id))
        return found

    def append_messages(
        self,
        thread_id: str,
        messages: Sequence[Message],
        *,
        expected_version: int | None = None,
        supersede_from: int | None = None,
        supersede: Collection[int] = (),
        state: Mapping[str, Any] | None = None,
        create: Mapping[str, Any] | None = None,
        counts: Mapping[int, tuple[int, str]] | None = None,
    ) -> int:
        changes = Changes(expected_version, supersede_from, supersede, state, create, counts)
        version: int = self._run(self._operations.append_messages(thread_id, messages, self.max_messages, changes))
        return version

    def replace_message(
        self,
        thread_id: str,
        message_id: str,
        message: Message,
        *,
        expected_version: int | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self._run(self._operations.replace_message(thread_id, message_id, message, expected_version, state))

    def fork_thread(
        self, thread_id: str, new_id: str, *, at: str | None = None, create: Mapping[str, Any] | None = None
    ) -> Thread:
        """`BaseStorage.fork_thread` by a pointer: one small write, whatever the thread's length."""
        made: Thread = self._run(self._operations.fork_thread(thread_id, new_id, at, create, self.max_messages))
        return made

    def restore_messages(self, thread: Thread, messages: Sequence[Message]) -> None:
        self._run(self._operations.restore_messages(thread, messages, self.max_messages))

    def read_head(self, thread_id: str) -> Thread | None:
        found: Thread | None = self._run(self._operations.read_head(thread_id))
        return found

    def read_messages(
        self,
        thread_id: str,
        *,
        limit: int | None = None,
        before: int | None = None,
        after: int | None = None,
        include_superseded: bool = False,
        wire: bool = False,
    ) -> Any:
        bounds = Bounds(limit, before, after, include_superseded, wire)
        return self._run(self._operations.read_messages(thread_id, bounds))

    def patch_thread(
        self,
        thread_id: str,
        *,
        title: str | None = UNSET,
        metadata: Mapping[str, Any] = UNSET,
        user_id: str | None = UNSET,
        state: Mapping[str, Any] = UNSET,
    ) -> None:
        self._run(self._operations.patch_thread(thread_id, title, metadata, user_id, state))

    def search_messages(
        self, text: str, *, thread_id: str | None = None, user_id: str | None = None, limit: int = 10
    ) -> list[MessageHit]:
        """`BaseStorage.search_messages` by a full-text index, on PostgreSQL, MySQL and MariaDB.

        The index is brought up to date by searching: appends do not pay for it. Other databases are scanned.
        """
        if not self._database.has_index:
            return super().search_messages(text, thread_id=thread_id, user_id=user_id, limit=limit)
        return run(self._database.search(checked_query(text, thread_id, user_id, limit), thread_id, user_id))

    def close(self) -> None:
        """Close what this storage opened; it may be used again afterwards."""
        run(self._database.close())


class AsyncSQLStorage(AsyncBaseStorage):
    """Async `SQLStorage`: psycopg and aiomysql, or worker threads where a database has no asynchronous driver.

    Each event loop has its own pool, which is closed before the loop ends. `engine` is an `AsyncEngine`.
    """

    takes_rows = True

    def __init__(
        self,
        url: str | URL | None = None,
        max_messages: int | None = None,
        *,
        schema: str | None = None,
        table_prefix: str = "memexllm_",
        pool_size: int = 10,
        wait_s: float = 30.0,
        retry_s: float = 10.0,
        engine: AsyncEngine | None = None,
    ) -> None:
        super().__init__(max_messages=max_messages)
        options = {
            "schema": schema,
            "table_prefix": table_prefix,
            "pool_size": pool_size,
            "wait_s": wait_s,
            "retry_s": retry_s,
        }
        self._database = _Database(type(self).__name__, url, engine, options, asynchronous=True)
        self._operations = self._database.operations

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._database.shown!r})"

    async def _run(self, operation: Operation[Any]) -> Any:
        return await arun(self._database.perform(operation))

    async def save_thread(self, thread: Thread) -> None:
        await self._run(self._operations.save_thread(thread, self.max_messages))

    async def get_thread(self, thread_id: str, message_limit: int | None = None) -> Thread | None:
        """Async `SQLStorage.get_thread`."""
        found: Thread | None = await self._run(self._operations.get_thread(thread_id, message_limit))
        return found

    async def list_threads(
        self,
        limit: int = 100,
        offset: int = 0,
        *,
        user_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        order_by: OrderBy = "created",
        before: CursorLike = None,
        after: CursorLike = None,
        preview: bool = False,
    ) -> list[Thread]:
        """Async `SQLStorage.list_threads`."""
        query = list_query(limit, offset, user_id, metadata, order_by, before, after, preview)
        found: list[Thread] = await self._run(self._operations.list_threads(query))
        return found

    async def delete_thread(self, thread_id: str) -> bool:
        found: bool = await self._run(self._operations.delete_thread(thread_id))
        return found

    async def append_messages(
        self,
        thread_id: str,
        messages: Sequence[Message],
        *,
        expected_version: int | None = None,
        supersede_from: int | None = None,
        supersede: Collection[int] = (),
        state: Mapping[str, Any] | None = None,
        create: Mapping[str, Any] | None = None,
        counts: Mapping[int, tuple[int, str]] | None = None,
    ) -> int:
        changes = Changes(expected_version, supersede_from, supersede, state, create, counts)
        version: int = await self._run(
            self._operations.append_messages(thread_id, messages, self.max_messages, changes)
        )
        return version

    async def replace_message(
        self,
        thread_id: str,
        message_id: str,
        message: Message,
        *,
        expected_version: int | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        await self._run(self._operations.replace_message(thread_id, message_id, message, expected_version, state))

    async def fork_thread(
        self, thread_id: str, new_id: str, *, at: str | None = None, create: Mapping[str, Any] | None = None
    ) -> Thread:
        """Async `SQLStorage.fork_thread`."""
        made: Thread = await self._run(self._operations.fork_thread(thread_id, new_id, at, create, self.max_messages))
        return made

    async def restore_messages(self, thread: Thread, messages: Sequence[Message]) -> None:
        """Async `SQLStorage.restore_messages`."""
        await self._run(self._operations.restore_messages(thread, messages, self.max_messages))

    async def read_head(self, thread_id: str) -> Thread | None:
        found: Thread | None = await self._run(self._operations.read_head(thread_id))
        return found

    async def read_messages(
        self,
        thread_id: str,
        *,
        limit: int | None = None,
        before: int | None = None,
        after: int | None = None,
        include_superseded: bool = False,
        wire: bool = False,
    ) -> Any:
        bounds = Bounds(limit, before, after, include_superseded, wire)
        return await self._run(self._operations.read_messages(thread_id, bounds))

    async def patch_thread(
        self,
        thread_id: str,
        *,
        title: str | None = UNSET,
        metadata: Mapping[str, Any] = UNSET,
        user_id: str | None = UNSET,
        state: Mapping[str, Any] = UNSET,
    ) -> None:
        await self._run(self._operations.patch_thread(thread_id, title, metadata, user_id, state))

    async def search_messages(
        self, text: str, *, thread_id: str | None = None, user_id: str | None = None, limit: int = 10
    ) -> list[MessageHit]:
        """Async `SQLStorage.search_messages`."""
        if not self._database.has_index:
            return await super().search_messages(text, thread_id=thread_id, user_id=user_id, limit=limit)
        return await arun(self._database.search(checked_query(text, thread_id, user_id, limit), thread_id, user_id))

    async def close(self) -> None:
        """Async `SQLStorage.close`."""
        await arun(self._database.close())
