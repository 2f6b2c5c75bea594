"""One call at a time on a thread, within this process: `serialize=True`.

Threads and tasks wait in one queue, in the order they came. A task waits without holding a worker thread, so that any
number of them may.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import Any


class Ticket:
    """A place in the queue of a thread; `leave` gives it up, whether it was reached or not."""

    def __init__(self, turnstile: Turnstile, thread_id: str, *, asynchronous: bool) -> None:
        self.thread_id = thread_id
        self.owner = _owner()
        self._turnstile = turnstile
        self._reached = threading.Event()
        self._loop = asyncio.get_running_loop() if asynchronous else None
        self._future: asyncio.Future[None] | None = None if self._loop is None else self._loop.create_future()

    def wait(self) -> Any:
        """Until the place is reached; of an asynchronous ticket, what is to be awaited."""
        if self._future is not None:
            return self._future
        self._reached.wait()
        return None

    def reach(self) -> None:
        self._reached.set()
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._settle)

    def leave(self) -> None:
        self._turnstile.leave(self)

    def _settle(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)


class Turnstile:
    """Of one storage."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: dict[str, deque[Ticket]] = {}

    def held_by_caller(self, thread_id: str) -> bool:
        """Whether this very thread or task is at the front: it would wait for itself."""
        with self._lock:
            queue = self._queues.get(thread_id)
            return bool(queue) and queue[0].owner == _owner()  # type: ignore[index]  # not None when it is true

    def enter(self, thread_id: str, *, asynchronous: bool) -> Ticket:
        """A place at the end of the queue, which may be the front."""
        ticket = Ticket(self, thread_id, asynchronous=asynchronous)
        with self._lock:
            queue = self._queues.setdefault(thread_id, deque())
            queue.append(ticket)
            if queue[0] is ticket:
                ticket.reach()
        return ticket

    def leave(self, ticket: Ticket) -> None:
        with self._lock:
            queue = self._queues.get(ticket.thread_id)
            if queue is None or ticket not in queue:
                return
            was_first = queue[0] is ticket
            queue.remove(ticket)
            if not queue:
                del self._queues[ticket.thread_id]
            elif was_first:
                queue[0].reach()


def _owner() -> tuple[int, int]:
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return threading.get_ident(), id(task)
