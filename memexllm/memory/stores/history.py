"""`ThreadHistoryStore`: sessions are threads, the same that wrapped clients and history managers write.

Over a storage, and not over a manager: long-term memory and history stand on one floor, and both on the storages.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from memexllm.core.errors import ConcurrencyError, ConfigurationError, ThreadNotFoundError, ValidationError
from memexllm.core.flow import Flow, arun, run
from memexllm.core.models import Message
from memexllm.core.refusals import checked_positive
from memexllm.core.wire import MessageRow
from memexllm.memory import flows
from memexllm.memory.base_database import checked_query
from memexllm.memory.doors import told_as_provider_error
from memexllm.storage._listing import list_query
from memexllm.storage._telling import tell_stored
from memexllm.storage.opening import storage_from_url
from memexllm.storage.port import Reader, StoragePort

_ATTEMPTS = 20
_PAGE = 500


class MessagePage(list[Message]):
    """Messages, oldest first; `next_cursor` asks for those before them, None when there are none."""

    def __init__(self, messages: Iterable[Message] = (), next_cursor: str | None = None) -> None:
        super().__init__(messages)
        self.next_cursor = next_cursor


class _Threads:
    """`storage` is a storage, a path, a URL, or a history manager, whose storage and plugins are then used."""

    _asynchronous = True

    def __init__(self, storage: Any, *, allow_delete_all: bool = False) -> None:
        port = getattr(storage, "port", None)
        self._opened = isinstance(storage, str | os.PathLike)
        if isinstance(storage, str | os.PathLike):
            storage = storage_from_url(storage, asynchronous=self._asynchronous)
        self._port = port if isinstance(port, StoragePort) else StoragePort(storage)
        if self._port.asynchronous and not self._asynchronous:
            raise ConfigurationError(
                f"{type(self._port.storage).__name__} is asynchronous, which MemoryManager cannot call; "
                "use AsyncMemoryManager"
            )
        self._allow_delete_all = allow_delete_all

    @classmethod
    def _over(cls, port: StoragePort, *, allow_delete_all: bool) -> Self:
        store = cls(port.storage, allow_delete_all=allow_delete_all)
        store._port = port
        return store

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._port.storage!r})"

    def closing(self) -> Flow[None]:
        """Close the storage when it was opened here."""
        if self._opened:
            yield from self._port.close()


class ThreadHistoryStore(_Threads):
    """`HistoryStore` over threads: `ThreadHistoryStore("chat.db")`.

    `storage` is a storage, a path, a URL, or a history manager. With `user_id`, another user's session counts as
    unknown. A session that is not there has no messages. `delete_all` without a user is refused unless
    `allow_delete_all`.
    """

    def sync(self) -> SyncThreadHistoryStore:
        """The same sessions for callers who cannot await."""
        return SyncThreadHistoryStore._over(self._port, allow_delete_all=self._allow_delete_all)

    async def add(
        self, *, session_id: str, messages: Sequence[Message | Mapping[str, Any]], user_id: str | None = None
    ) -> list[Message]:
        """Append messages, all or none; dicts such as `{"role": "user", "content": "hi"}` are messages as well.

        Another user's session is a `ThreadNotFoundError`.
        """
        return await arun(_add(self._port, session_id, messages, user_id))

    async def get(
        self, *, session_id: str, limit: int = 50, cursor: str | None = None, user_id: str | None = None
    ) -> MessagePage:
        """The newest `limit` messages, oldest first; with the page's `next_cursor`, those before them."""
        return await arun(_get(self._port, session_id, limit, cursor, user_id))

    async def get_all(self, *, user_id: str | None = None, limit: int = 100) -> list[str]:
        """Ids of sessions, those last begun first."""
        return await arun(_get_all(self._port, user_id, limit))

    async def search(
        self, *, session_id: str, query: str, limit: int = 10, user_id: str | None = None
    ) -> list[Message]:
        """Messages of the session that hold words of the query, the best first."""
        return await arun(_search(self._port, session_id, query, limit, user_id))

    async def delete(self, *, session_id: str, user_id: str | None = None) -> None:
        """Delete a session for good; one that is not there is none too many."""
        await arun(_delete(self._port, session_id, user_id))

    async def delete_all(self, *, user_id: str | None = None) -> None:
        await arun(_delete_all(self._port, user_id, unscoped=self._allow_delete_all))

    async def close(self) -> None:
        """Close the storage when a path or URL was given."""
        await arun(self.closing())


class SyncThreadHistoryStore(_Threads):
    """`ThreadHistoryStore` without waiting."""

    _asynchronous = False

    def add(
        self, *, session_id: str, messages: Sequence[Message | Mapping[str, Any]], user_id: str | None = None
    ) -> list[Message]:
        return run(_add(self._port, session_id, messages, user_id))

    def get(
        self, *, session_id: str, limit: int = 50, cursor: str | None = None, user_id: str | None = None
    ) -> MessagePage:
        return run(_get(self._port, session_id, limit, cursor, user_id))

    def get_all(self, *, user_id: str | None = None, limit: int = 100) -> list[str]:
        return run(_get_all(self._port, user_id, limit))

    def search(self, *, session_id: str, query: str, limit: int = 10, user_id: str | None = None) -> list[Message]:
        return run(_search(self._port, session_id, query, limit, user_id))

    def delete(self, *, session_id: str, user_id: str | None = None) -> None:
        run(_delete(self._port, session_id, user_id))

    def delete_all(self, *, user_id: str | None = None) -> None:
        run(_delete_all(self._port, user_id, unscoped=self._allow_delete_all))

    def close(self) -> None:
        run(self.closing())


def _add(port: StoragePort, session_id: str, messages: Any, user_id: str | None) -> Flow[list[Message]]:
    batch = _messages(messages)
    rows = [message.row() for message in batch]
    with told_as_provider_error(port.storage, "add"):
        created = yield from _append(port, session_id, rows, user_id)
    if port.plugins is not None:
        yield from tell_stored(port.plugins, port, session_id, rows, created=created)
    return batch


def _append(port: StoragePort, session_id: str, rows: Sequence[MessageRow], user_id: str | None) -> Flow[bool]:
    """Whether this began the session."""
    attempts_left = _ATTEMPTS
    while True:
        reader = yield from port.read(_checked_id("session_id", session_id))
        if reader is not None and _is_another_users(reader, user_id):
            raise ThreadNotFoundError(f"Thread not found: {session_id}; no such thread of this user")
        changes: dict[str, Any] = {}
        if reader is None:
            # Under the condition that nobody else begins it meanwhile: it might be another user.
            create = {} if user_id is None else {"user_id": _checked_id("user_id", user_id)}
            changes = {"create": create, "expected_version": 0}
        attempts_left -= 1
        try:
            yield port.append_messages(session_id, rows, changes)
        except ConcurrencyError:
            if not attempts_left:
                raise
        else:
            return reader is None


def _get(port: StoragePort, session_id: str, limit: int, cursor: str | None, user_id: str | None) -> Flow[MessagePage]:
    checked_positive(limit, "limit")
    bounds: dict[str, int] = {} if cursor is None else {"before": _place_of(cursor)}
    with told_as_provider_error(port.storage, "get"):
        reader = yield from _reader(port, session_id, user_id)
        if reader is None:
            return MessagePage()
        found: list[Message] = yield reader.messages(limit=limit + 1, **bounds)
    more, page = len(found) > limit, found[-limit:]
    return MessagePage(page, str(page[0].seq) if more else None)


def _get_all(port: StoragePort, user_id: str | None, limit: int) -> Flow[list[str]]:
    query = list_query(limit, 0, user_id, None, "created", None, None, False)
    with told_as_provider_error(port.storage, "get_all"):
        return [thread.id for thread in (yield from port.list_threads(query))]


def _search(port: StoragePort, session_id: str, query: str, limit: int, user_id: str | None) -> Flow[list[Message]]:
    checked_positive(limit, "limit")
    checked_query(query)
    with told_as_provider_error(port.storage, "search"):
        if (yield from _reader(port, session_id, user_id)) is None:
            return []
        hits = yield port.search_messages(query, session_id, None, limit)
    return [hit.message for hit in hits]


def _delete(port: StoragePort, session_id: str, user_id: str | None) -> Flow[None]:
    with told_as_provider_error(port.storage, "delete"):
        if (yield from _reader(port, session_id, user_id)) is not None:
            yield port.delete_thread(session_id)


def _delete_all(port: StoragePort, user_id: str | None, *, unscoped: bool) -> Flow[None]:
    flows.refuse_unscoped([user_id], unscoped=unscoped)
    query = list_query(_PAGE, 0, user_id, None, "created", None, None, False)
    with told_as_provider_error(port.storage, "delete_all"):
        while threads := (yield from port.list_threads(query)):
            for thread in threads:
                yield port.delete_thread(thread.id)


def _reader(port: StoragePort, session_id: str, user_id: str | None) -> Flow[Reader | None]:
    """None for a session that is not there, or is another user's."""
    reader = yield from port.read(_checked_id("session_id", session_id))
    return None if reader is None or _is_another_users(reader, user_id) else reader


def _is_another_users(reader: Reader, user_id: str | None) -> bool:
    return user_id is not None and reader.head.user_id != user_id


def _messages(messages: Any) -> list[Message]:
    if isinstance(messages, Message | str | Mapping) or not isinstance(messages, Iterable):
        raise ValidationError(f"messages are given as a list of Message, not as a {type(messages).__name__}")
    return [_message(each) for each in messages]


def _message(said: Any) -> Message:
    if isinstance(said, Message):
        return said
    if not isinstance(said, Mapping):
        raise ValidationError(f"a thread holds messages, not {type(said).__name__}; make one with Message(...)")
    return Message(wire=dict(said))


def _checked_id(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValidationError(f"{name} is a text that is not empty, not {value!r:.40}")
    return value


def _place_of(cursor: Any) -> int:
    if not isinstance(cursor, str) or not cursor.isdecimal():
        raise ValidationError(f"a cursor is the next_cursor of a page, not {cursor!r:.40}")
    return int(cursor)
