"""Which storage a command works on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from memexllm.core.errors import ConfigurationError, ConnectionError
from memexllm.storage.opening import SETTING, place_in_environment

if TYPE_CHECKING:
    from memexllm.history.manager import HistoryManager


def opened_manager(place: str | None, *, may_create: bool = False) -> HistoryManager:
    """A manager of the storage at `place`, else at `MEMEXLLM_STORAGE`.

    A database that is not there is made only if `may_create`: who lists the threads of a mistyped path wants to know.
    """
    named = place or place_in_environment()
    if not named:
        raise ConfigurationError(
            f"which storage? Give --storage chat.db (a path, or a URL such as sqlite:///chat.db), or set {SETTING}"
        )
    from memexllm.history.manager import HistoryManager

    manager = HistoryManager(named)
    if not may_create:
        _refuse_missing(manager.storage)
    return manager


def _refuse_missing(storage: Any) -> None:
    from memexllm.storage.sqlite import SQLiteStorage

    if isinstance(storage, SQLiteStorage) and storage.path != ":memory:":
        path = os.fspath(storage.path)
        if not os.path.exists(path):
            raise ConnectionError(f"there is no database {path!r}; `memexllm chat` and `memexllm import` make one")
