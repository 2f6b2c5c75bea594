"""Locks for storages whose append is get + extend + save, and locks that survive a fork.

The first are a fixed number per storage, by thread id. They order the appends of one process; across processes only a
storage that overrides `append_messages` is safe.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from typing import Any

_STRIPES = 64
_guard = threading.Lock()
_thread_locks: dict[int, list[threading.RLock]] = {}
_async_locks: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[int, list[asyncio.Lock]]] = (
    weakref.WeakKeyDictionary()
)
_whole_at_fork: weakref.WeakSet[threading.RLock] = weakref.WeakSet()
_forking = threading.Lock()
_held: list[threading.RLock] = []


def thread_lock(storage: Any, thread_id: str) -> threading.RLock:
    """Re-entrant, because a storage may be a shell around another one."""
    locks = _thread_locks.get(id(storage))
    if locks is None:
        with _guard:
            locks = _thread_locks.setdefault(id(storage), [threading.RLock() for _ in range(_STRIPES)])
            _forget_with(storage, _thread_locks)
    return locks[hash(thread_id) % _STRIPES]


def async_lock(storage: Any, thread_id: str) -> asyncio.Lock:
    """Of the running loop: an asyncio.Lock cannot be shared between loops."""
    of_loop = _async_locks.setdefault(asyncio.get_running_loop(), {})
    locks = of_loop.get(id(storage))
    if locks is None:
        locks = of_loop[id(storage)] = [asyncio.Lock() for _ in range(_STRIPES)]
        _forget_with(storage, of_loop)
    return locks[hash(thread_id) % _STRIPES]


def held_across_fork() -> threading.RLock:
    """A lock nobody else holds while this process forks, so what it guards is whole in the child, and the lock free."""
    lock = threading.RLock()
    with _guard:
        _whole_at_fork.add(lock)
    return lock


def _forget_with(storage: Any, table: dict[int, Any]) -> None:
    """Drop the entry when the storage goes, so that its id can be used again."""
    weakref.finalize(storage, table.pop, id(storage), None)


def _hold_for_fork() -> None:
    _forking.acquire()
    with _guard:
        locks = list(_whole_at_fork)
    for lock in locks:
        lock.acquire()
        _held.append(lock)
    # Last, because it is asked for by those who hold one of the others.
    _guard.acquire()


def _let_go_after_fork() -> None:
    _guard.release()
    while _held:
        _held.pop().release()
    _forking.release()


def _reset_after_fork() -> None:
    """A lock another thread of the parent held would never be released in the child."""
    _let_go_after_fork()
    _thread_locks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold_for_fork, after_in_parent=_let_go_after_fork, after_in_child=_reset_after_fork)
