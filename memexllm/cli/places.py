"""Which storage a command works on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memexllm.core.errors import ConfigurationError
from memexllm.storage.opening import SETTING, place_in_environment, refuse_missing

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
        refuse_missing(manager.storage, "; `memexllm chat` and `memexllm import` make one")
    return manager
