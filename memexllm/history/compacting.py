"""Planning the next call before it comes: a summary is made when there is time, and nobody waits for it."""

from __future__ import annotations

import asyncio
import logging
import threading
from functools import partial
from typing import Any

from memexllm.algorithms._noted import NotedAlgorithm
from memexllm.algorithms.base import BaseAlgorithm, ContextView
from memexllm.algorithms.notes import WINDOWS, note_of
from memexllm.core.errors import MemexLLMError
from memexllm.core.flow import Flow, Step, arun, run
from memexllm.core.wire import MessageRow
from memexllm.history.context import choose_of_thread, load
from memexllm.history.explaining import answering_model
from memexllm.history.flows import found
from memexllm.history.noting import keep_state
from memexllm.storage.port import StoragePort

logger = logging.getLogger("memexllm.history")
_PAGE = 20


def compact(
    port: StoragePort, algorithm: BaseAlgorithm | None, thread_id: str, model: str | None, now: int
) -> Flow[bool]:
    """Whether the window's note changed. A note that another call has moved meanwhile is left as it is."""
    reader = yield from found(port, thread_id, "compact thread")
    if not isinstance(algorithm, NotedAlgorithm):
        return False
    if model is None:
        newest: list[MessageRow] = yield reader.rows(limit=_PAGE)
        model = answering_model(newest)
    key = algorithm.key(model)
    loaded = yield from load(reader, algorithm, model=model)
    view = ContextView((), block=loaded.block.rows(), state=loaded.state, model=model, now=now, occasion="ahead")
    window = yield from choose_of_thread(algorithm, view, loaded, loaded.rows)
    if WINDOWS not in window.state:
        return False
    change = {**loaded.noted, WINDOWS: window.state[WINDOWS]}
    moved = note_of(loaded.state, key)
    return (
        yield from keep_state(
            port, thread_id, loaded.state, change, window.counts, lambda after: note_of(after.head.state, key) == moved
        )
    )


class Ahead:
    """Compacts threads of one storage in the background, each by one worker at a time.

    After an asynchronous call that is a task of its loop, else a thread that does not keep the process alive.
    """

    def __init__(self, port: StoragePort) -> None:
        self._port = port
        self._lock = threading.Lock()
        self._under_way: dict[str, Any] = {}

    def start(self, algorithm: BaseAlgorithm, thread_id: str, model: str | None, now: int, *, in_task: bool) -> None:
        """Return at once; a thread that is being compacted is left to whoever does it."""
        flow = partial(self._compact, algorithm, thread_id, model, now)
        with self._lock:
            if thread_id in self._under_way:
                return
            if in_task:
                self._under_way[thread_id] = asyncio.get_running_loop().create_task(arun(flow()))
                return
            worker = threading.Thread(target=lambda: run(flow()), name="memexllm-ahead", daemon=True)
            self._under_way[thread_id] = worker
            worker.start()

    def finish(self) -> Flow[None]:
        """Wait until what was started is done."""
        for work in list(self._under_way.values()):
            if isinstance(work, threading.Thread):
                yield Step(work.join, ())
            else:
                yield Step(partial(asyncio.wait, [work]), (), blocking=False)

    def _compact(self, algorithm: BaseAlgorithm, thread_id: str, model: str | None, now: int) -> Flow[None]:
        try:
            yield from compact(self._port, algorithm, thread_id, model, now)
        except MemexLLMError as error:
            logger.warning("thread %r could not be compacted; the next call does it: %s", thread_id, error)
        finally:
            with self._lock:
                self._under_way.pop(thread_id, None)
