"""Work in lanes: what is in one lane is done in order, one piece at a time, and several lanes are done at once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any

from memexllm.core.flow import Flow

Work = Callable[[], Flow[None]]
Taken = tuple[Hashable, Work]


class Lanes:
    """`start(runner)` begins a runner in a thread or a task, which takes work until there is none.

    A runner takes, does, says `done`, and takes again; one that ends in another way says `left`, as often as it likes.
    At most `at_once` of them are there, and at most `max_waiting` pieces of work, those being done included. A runner
    in a thread may linger: to wake one holds the caller up a tenth as long as to begin one.
    """

    def __init__(self, at_once: int, max_waiting: int, start: Callable[[Any], None]) -> None:
        self._at_once = at_once
        self._max_waiting = max_waiting
        self._start = start
        self._lock = threading.Condition()
        # A lane that is here and not ready is being worked in.
        self._lanes: dict[Hashable, deque[Work]] = {}
        self._ready: deque[Hashable] = deque()
        self._runners: set[Any] = set()
        self._when_idle: list[Callable[[], None]] = []
        self._waiting = 0
        self._lingering = 0
        self._ending = False

    @property
    def waiting(self) -> int:
        """Pieces of work that are not done."""
        return self._waiting

    def put(self, lane: Hashable, work: Work) -> bool:
        """Whether there was room for it."""
        with self._lock:
            if self._waiting >= self._max_waiting:
                return False
            self._append(lane, work)
        self.resume()
        return True

    def put_on(self, lane: Hashable, work: Work) -> None:
        """More of the work that is being done: there is room for that, and its runner goes on with it."""
        with self._lock:
            self._append(lane, work)

    def _append(self, lane: Hashable, work: Work) -> None:
        self._waiting += 1
        if lane not in self._lanes:
            self._lanes[lane] = deque()
            self._ready.append(lane)
        self._lanes[lane].append(work)

    def resume(self, besides: int = 0) -> None:
        """Wake or begin a runner if work waits for one, `besides` so many lanes that have theirs."""
        with self._lock:
            wanted = len(self._ready) - besides
            if wanted <= 0:
                return
            self._lock.notify(wanted)
            if wanted <= self._lingering or len(self._runners) >= self._at_once:
                return
            runner = object()
            self._runners.add(runner)
        self._start(runner)

    def take(self, runner: Any, linger_s: float = 0.0) -> Taken | None:
        """The next piece of work with its lane, waited for so long; without any, the runner counts no more."""
        with self._lock:
            if linger_s and not self._ready:
                self._lingering += 1
                self._lock.wait_for(lambda: self._ready or self._ending, linger_s)
                self._lingering -= 1
            if self._ready:
                lane = self._ready.popleft()
                return lane, self._lanes[lane].popleft()
            self._runners.discard(runner)
            return None

    def end(self) -> None:
        """Nobody lingers from now on."""
        with self._lock:
            self._ending = True
            self._lock.notify_all()

    def done(self, lane: Hashable, *, resume: bool = True) -> None:
        told: list[Callable[[], None]] = []
        with self._lock:
            self._waiting -= 1
            if self._lanes[lane]:
                self._ready.append(lane)
            else:
                del self._lanes[lane]
            if not self._waiting:
                told, self._when_idle = self._when_idle, []
        if resume:
            self.resume(besides=1)
        for tell in told:
            tell()

    def left(self, runner: Any) -> None:
        with self._lock:
            self._runners.discard(runner)

    def when_idle(self, tell: Callable[[], None]) -> None:
        """Call `tell` once, as soon as all work is done: perhaps at once, perhaps in a runner."""
        with self._lock:
            if self._waiting:
                self._when_idle.append(tell)
                return
        tell()

    def forget(self, tell: Callable[[], None]) -> None:
        with self._lock:
            if tell in self._when_idle:
                self._when_idle.remove(tell)
