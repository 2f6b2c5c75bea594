"""What both managers are made of, and how a storage, a path or a URL becomes the storage they use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

from memexllm.algorithms.base import BaseAlgorithm
from memexllm.algorithms.foreign import as_algorithm
from memexllm.core.errors import ConfigurationError, NoStorageError
from memexllm.core.models import Message
from memexllm.core.moments import Clock, IdSource, micros_now, new_id, to_micros, utc_now
from memexllm.core.plugins import Plugins
from memexllm.history import flows
from memexllm.history.binding import bind_thread
from memexllm.storage.base import AsyncBaseStorage, BaseStorage
from memexllm.storage.opening import SETTING, is_server, place_in_environment, storage_from_url
from memexllm.storage.port import StoragePort, asynchronous_methods

StorageLike = BaseStorage | AsyncBaseStorage | str | os.PathLike[str]


class ManagerBase:
    """What both managers are made of. `storage` may be left out where `MEMEXLLM_STORAGE` is set.

    `plugins` are told what happens. `clock` and `id_source` give times and ids; tests hand in their own.
    """

    _asynchronous = True

    def __init__(
        self,
        storage: StorageLike | None = None,
        algorithm: BaseAlgorithm | None = None,
        *,
        plugins: Iterable[Any] = (),
        clock: Clock = utc_now,
        id_source: IdSource = new_id,
    ) -> None:
        as_algorithm(algorithm)  # refused here, not by the first call
        self.port = StoragePort(opened(storage, asynchronous=self._asynchronous))
        if self.port.asynchronous and not self._asynchronous:
            raise ConfigurationError(
                f"{type(self.storage).__name__}.{asynchronous_methods(self.storage)[0]} is async def, which "
                "HistoryManager cannot call; use AsyncHistoryManager"
            )
        self._keep_plugins(Plugins(plugins, asynchronous=self._asynchronous, owner=self))
        self.algorithm = algorithm
        self.clock = clock
        self.micros: Callable[[], int] = micros_now if clock is utc_now else lambda: to_micros(clock())
        self.id_source = id_source

    @property
    def storage(self) -> Any:
        return self.port.storage

    @property
    def chooser(self) -> BaseAlgorithm | None:
        """`algorithm` with every method of the contract, also when it is an object that has those of 0.1 only."""
        return as_algorithm(self.algorithm)

    @property
    def plugins(self) -> tuple[Any, ...]:
        return tuple(self._plugins)

    def load_plugin(self, plugin: Any) -> Any:
        """Tell a plugin what happens from now on: an object, a class, or the name of an installed one. Returns it."""
        loaded = self._plugins.load(plugin)
        self._keep_plugins(self._plugins)
        return loaded

    def unload_plugin(self, plugin: Any) -> None:
        """Tell it nothing more."""
        self._plugins.unload(plugin)
        self._keep_plugins(self._plugins)

    def _keep_plugins(self, plugins: Plugins) -> None:
        self._plugins = plugins
        # Where nobody listens, nothing more than this is looked at.
        self.port.plugins = plugins if tuple(plugins) else None

    @property
    def _making(self) -> flows.Making:
        return flows.Making(self.port, self.clock, self.id_source)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.storage!r}, algorithm={self.algorithm!r})"

    def thread(self, thread_id: str) -> AbstractContextManager[str]:
        """`with manager.thread("alice-1"):` makes it the thread of every wrapped client over this storage.

        Bound for the current task or thread only. A `thread_id` given to a call wins.
        """
        return bind_thread(self.storage, flows.checked_thread_id(thread_id))

    def _said_anew(self, message: Message, wire: Mapping[str, Any]) -> Message:
        """Another message, said now, with what was ours of `message`."""
        return Message(
            wire=wire,
            id=self.id_source(),
            created_at=self.clock(),
            metadata=message.metadata,
            pinned=message.pinned,
            turn_id=message.turn_id,
        )

    def _message(
        self,
        content: str | Sequence[Mapping[str, Any]] | None,
        role: str,
        metadata: Mapping[str, Any] | None,
        tool_calls: Sequence[Mapping[str, Any]] | None,
        tool_call_id: str | None,
        function_call: Mapping[str, Any] | None,
        name: str | None,
    ) -> Message:
        return Message(
            content,
            role,
            metadata=metadata,
            tool_calls=tool_calls,
            tool_call_id=tool_call_id,
            function_call=function_call,
            name=name,
            id=self.id_source(),
            created_at=self.clock(),
        )


def opened(storage: Any, *, asynchronous: bool = False) -> Any:
    """A storage object as it is; a path or URL made into one; for None what `MEMEXLLM_STORAGE` names.

    `asynchronous` prefers a storage with `async def` methods, where there is one for the URL.
    """
    place = _found(storage)
    return storage_from_url(place, asynchronous=asynchronous) if is_place(place) else place


def opened_for_clients(storage: Any) -> Callable[[bool], Any]:
    """`opened`, for synchronous or asynchronous clients: one storage for both, unless there is a class for each."""
    place = _found(storage)
    if is_place(place) and is_server(place):

        @cache
        def for_kind(asynchronous: bool) -> Any:
            return opened(place, asynchronous=asynchronous)

        return for_kind
    made = opened(place)
    return lambda _: made


def _found(storage: Any) -> Any:
    place = place_in_environment() if storage is None else storage
    if place is None:
        raise NoStorageError(f"Storage can not be None; give a storage, or a path such as 'chat.db', or set {SETTING}")
    return place


def is_place(storage: Any) -> bool:
    """Whether this is a path or a URL."""
    # A MagicMock in the place of a storage has __fspath__ as well.
    return isinstance(storage, str | os.PathLike) and not hasattr(storage, "save_thread")
