"""What was said and is not stored yet is stored before a thread is changed.

An integration keeps such turns (a stream that is being read, a turn whose storage was down) on a floor above the
managers, which so do not know it; it leaves word here.
"""

from __future__ import annotations

import weakref
from typing import Protocol

from memexllm.core.flow import Flow
from memexllm.storage.port import StoragePort


class Settler(Protocol):
    """`settle` stores what is known to have been said in a thread; a `StorageError` when it cannot be stored yet."""

    @property
    def has_unsettled(self) -> bool: ...
    def settle(self, thread_id: str) -> Flow[None]: ...


_settlers: weakref.WeakValueDictionary[int, Settler] = weakref.WeakValueDictionary()
"""By the id of the storage, which a settler keeps alive."""


def settled_by(port: StoragePort, settler: Settler) -> None:
    _settlers[id(port.storage)] = settler


def settle(port: StoragePort, thread_id: str) -> Flow[None]:
    settler = _settlers.get(id(port.storage))
    if settler is not None and settler.has_unsettled:
        yield from settler.settle(thread_id)
