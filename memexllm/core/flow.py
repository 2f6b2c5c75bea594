"""Flows: an operation is written once, as a generator that yields the I/O it wants done.

`run` drives a flow for synchronous callers, `arun` for asynchronous ones; this is the only place where the two
meet. The pattern is httpx's `Auth.auth_flow` and psycopg's `generators.py`.

Rules the drivers settle once:

1. A write that has begun is finished before a cancellation is delivered; the flow sees the write's own outcome first.
2. Whether a function is asynchronous is never guessed from its definition: it is called, and what it returns is
   awaited if it is awaitable (`iscoroutinefunction` is False for `AsyncOpenAI().chat.completions.create`).
3. Under `arun` a blocking function runs in a worker thread; one that does not block runs in place.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from memexllm.core.errors import ConfigurationError

R = TypeVar("R")


@dataclass(slots=True, eq=False)
class Step:
    """One piece of I/O a flow wants done.

    `blocking` sends it to a worker thread under `arun`; a `write` is never left half done by a cancellation.
    """

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    blocking: bool = True
    write: bool = False


class _Running(threading.local):
    steps = 0


_running = _Running()


def in_step() -> bool:
    """Whether this thread is inside a step: code that runs now (a finaliser) must not start I/O of its own."""
    return _running.steps > 0


Flow = Generator[Step, Any, R]
"""A generator that yields `Step`s, is sent their results, and returns an `R`."""


def call(fn: Callable[..., Any], *args: Any, blocking: bool = True, write: bool = False) -> Flow[Any]:
    """The flow of one step."""
    return (yield Step(fn, args, blocking, write))


def to_the_end(flow: Flow[R]) -> Flow[R]:
    """`flow` with steps that a cancellation does not interrupt, as it does not interrupt a write."""
    try:
        step = next(flow)
        while True:
            try:
                result = yield replace(step, write=True)
            except BaseException as error:  # noqa: BLE001 - re-delivered where the flow waits, never judged here
                step = flow.throw(error)
            else:
                step = flow.send(result)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # StopIteration is not generic; a Flow[R] returns R


def run(flow: Flow[R]) -> R:
    """Drive `flow` in the calling thread. A step that turns out to be asynchronous is a `ConfigurationError`."""
    try:
        step = next(flow)
        while True:
            try:
                result = _take(step)
                if hasattr(type(result), "__await__"):
                    _refuse_awaitable(step, result)
            except BaseException as error:  # noqa: BLE001 - re-delivered where the flow waits, never judged here
                step = flow.throw(error)
            else:
                step = flow.send(result)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # StopIteration is not generic; a Flow[R] returns R


async def arun(flow: Flow[R]) -> R:
    """Drive `flow` from a coroutine."""
    deferred: list[asyncio.CancelledError] = []
    try:
        step = next(flow)
        while True:
            try:
                if step.write:
                    result = await _finish(step, deferred)
                elif deferred:
                    raise deferred[0]
                elif step.blocking:
                    result = await _perform(step)
                else:
                    # As `_perform` does it, without another coroutine for what every call goes through.
                    result = _take(step)
                    if hasattr(type(result), "__await__"):
                        result = await result
            except BaseException as error:  # noqa: BLE001 - re-delivered where the flow waits, never judged here
                step = flow.throw(error)
            else:
                step = flow.send(result)
    except StopIteration as stop:
        if deferred:
            raise deferred[0] from None
        return stop.value  # type: ignore[no-any-return]  # StopIteration is not generic; a Flow[R] returns R


def _take(step: Step) -> Any:
    _running.steps += 1
    try:
        return step.fn(*step.args)
    finally:
        _running.steps -= 1


async def _perform(step: Step) -> Any:
    result = await _in_worker(step) if step.blocking else _take(step)
    return await result if hasattr(type(result), "__await__") else result


async def _in_worker(step: Step) -> Any:
    """What the step's function returns; a coroutine that nobody is left to await is closed."""
    results: list[Any] = []
    abandoned = False

    def perform() -> None:
        results.append(_take(step))
        if abandoned:
            _close_coroutines(results)

    try:
        await asyncio.to_thread(perform)
    except asyncio.CancelledError:
        # The thread cannot be stopped; whichever of the two comes last finds what there is to close.
        abandoned = True
        _close_coroutines(results)
        raise
    return results[0]


def _close_coroutines(results: list[Any]) -> None:
    for result in results:
        if inspect.iscoroutine(result):
            result.close()


async def _finish(step: Step, deferred: list[asyncio.CancelledError]) -> Any:
    """The outcome of a write; the first cancellation that arrives meanwhile is kept in `deferred`."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(_perform(step))
    while not task.done():
        # As asyncio.wait() does it, which takes three times as long for one task.
        waiter = loop.create_future()
        wake = functools.partial(_wake, waiter)
        task.add_done_callback(wake)
        try:
            await waiter
        except asyncio.CancelledError as error:
            # One is delivered, and one is kept: anyio cancels again at every turn of the loop while a scope is left.
            if not deferred:
                deferred.append(error)
        finally:
            task.remove_done_callback(wake)
    return task.result()


def _wake(waiter: asyncio.Future[None], _done: asyncio.Future[Any]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _refuse_awaitable(step: Step, awaitable: Any) -> None:
    if inspect.iscoroutine(awaitable):
        awaitable.close()
    name = getattr(step.fn, "__qualname__", repr(step.fn))
    raise ConfigurationError(
        f"{name} is asynchronous and its caller is not: use AsyncHistoryManager, or a client made from AsyncOpenAI"
    )
