"""The two drivers: what a flow sees of results, errors and cancellations, and where its steps run."""

from __future__ import annotations

import asyncio
import gc
import inspect
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from memexllm.core.errors import ConfigurationError
from memexllm.core.flow import Flow, Step, arun, call, run

Driver = Callable[[Flow[Any]], Any]


def run_async(flow: Flow[Any]) -> Any:
    return asyncio.run(arun(flow))


@pytest.fixture(params=[run, run_async], ids=["run", "arun"])
def drive(request: pytest.FixtureRequest) -> Driver:
    driver: Driver = request.param
    return driver


class RefusedError(Exception):
    """An error of foreign code."""


def refuse(*_: object) -> None:
    raise RefusedError("no")


def test_a_step_gets_its_arguments_and_the_flow_its_result(drive: Driver) -> None:
    def flow() -> Flow[list[int]]:
        quotient = yield from call(divmod, 17, 5)
        more = yield Step(max, (3, 4), blocking=False)
        return [*quotient, more]

    assert drive(flow()) == [3, 2, 4]


def test_a_flow_without_steps_returns_its_value(drive: Driver) -> None:
    def flow() -> Flow[str]:
        yield from ()
        return "done"

    assert drive(flow()) == "done"


@pytest.mark.parametrize("write", [False, True])
def test_an_error_of_a_step_is_raised_where_the_flow_waits(drive: Driver, write: bool) -> None:
    def flow() -> Flow[str]:
        try:
            yield from call(refuse, write=write)
        except RefusedError as error:
            return f"caught {error}"
        return "nothing raised"

    assert drive(flow()) == "caught no"


def test_after_an_error_the_flow_can_go_on(drive: Driver) -> None:
    def flow() -> Flow[list[str]]:
        seen = []
        for attempt in range(3):
            try:
                yield from call(refuse)
            except RefusedError:
                seen.append(f"attempt {attempt}")
                yield from call(str)
        return seen

    assert drive(flow()) == ["attempt 0", "attempt 1", "attempt 2"]


def test_an_error_the_flow_does_not_catch_reaches_the_caller(drive: Driver) -> None:
    closed = []

    def flow() -> Flow[None]:
        try:
            yield from call(refuse)
        finally:
            closed.append(True)

    with pytest.raises(RefusedError, match="no"):
        drive(flow())
    assert closed == [True]


def test_an_error_of_the_flow_itself_reaches_the_caller(drive: Driver) -> None:
    def flow() -> Flow[None]:
        yield from call(str)
        raise RefusedError("by the flow")

    with pytest.raises(RefusedError, match="by the flow"):
        drive(flow())


def test_run_refuses_a_coroutine_function_and_closes_the_coroutine() -> None:
    async def read() -> str:
        return "never awaited"

    def flow() -> Flow[Any]:
        return (yield from call(read))

    with pytest.raises(ConfigurationError, match=r"read is asynchronous .*AsyncHistoryManager"):
        run(flow())
    gc.collect()  # a coroutine that was not closed would warn here, which is an error


def test_run_refuses_an_awaitable_of_a_plain_function() -> None:
    class Pending:
        def __await__(self) -> Any:
            yield

    def flow() -> Flow[Any]:
        return (yield from call(Pending))

    with pytest.raises(ConfigurationError, match="Pending is asynchronous"):
        run(flow())


def test_a_flow_sees_the_refusal_of_an_asynchronous_step() -> None:
    async def read() -> None: ...

    def flow() -> Flow[str]:
        try:
            yield from call(read)
        except ConfigurationError:
            return "seen"
        return "unseen"

    assert run(flow()) == "seen"


def test_arun_awaits_what_is_awaitable_however_it_is_defined() -> None:
    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    def looks_synchronous() -> Awaitable[int]:
        return answer()

    def flow() -> Flow[list[int]]:
        first = yield from call(answer, blocking=False)
        second = yield from call(looks_synchronous, blocking=False)
        third = yield from call(looks_synchronous, blocking=True)
        fourth = yield from call(answer, blocking=False, write=True)
        return [first, second, third, fourth]

    assert run_async(flow()) == [42, 42, 42, 42]


@pytest.mark.parametrize("write", [False, True])
def test_arun_sends_blocking_steps_to_another_thread_and_keeps_the_others(write: bool) -> None:
    def flow() -> Flow[tuple[int, int]]:
        away = yield from call(threading.get_ident, blocking=True, write=write)
        here = yield from call(threading.get_ident, blocking=False, write=write)
        return away, here

    away, here = run_async(flow())
    assert here == threading.get_ident()
    assert away != here


def test_run_stays_in_the_calling_thread() -> None:
    assert run(call(threading.get_ident)) == threading.get_ident()


def test_arun_leaves_the_loop_free_while_a_step_blocks() -> None:
    released = threading.Event()

    async def both() -> bool:
        blocked = asyncio.ensure_future(arun(call(released.wait, 30)))
        await asyncio.sleep(0)
        released.set()
        result: bool = await blocked
        return result

    assert asyncio.run(both())


class SlowWrite:
    """A write that goes on until it is told to end."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.finished = False

    async def __call__(self) -> str:
        self.begun.set()
        await self.may_end.wait()
        self.finished = True
        return "stored"


async def cancelled_while_writing(write: SlowWrite, flow: Flow[Any], times: int = 1) -> asyncio.Task[Any]:
    """The task of `flow`, cancelled so many times while the write goes on, and done."""
    task = asyncio.ensure_future(arun(flow))
    await write.begun.wait()
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
    write.may_end.set()
    await asyncio.wait([task])
    return task


@pytest.mark.parametrize("times", [1, 3])
async def test_a_write_that_has_begun_is_finished_before_a_cancellation_is_delivered(times: int) -> None:
    write = SlowWrite()
    seen: list[str] = []

    def flow() -> Flow[None]:
        seen.append((yield from call(write, blocking=False, write=True)))

    task = await cancelled_while_writing(write, flow(), times)
    assert task.cancelled()
    assert write.finished
    assert seen == ["stored"]


async def test_cancelled_again_and_again_a_write_keeps_one_cancellation() -> None:
    write = SlowWrite()

    def flow() -> Flow[None]:
        yield from call(write, blocking=False, write=True)

    task = await cancelled_while_writing(write, flow(), times=50)
    gc.collect()
    kept = [each for each in gc.get_objects() if isinstance(each, asyncio.CancelledError)]
    assert task.cancelled()
    assert len(kept) < 5


async def test_after_a_deferred_cancellation_no_further_read_begins() -> None:
    write = SlowWrite()
    seen: list[str] = []

    def flow() -> Flow[None]:
        yield from call(write, blocking=False, write=True)
        try:
            yield from call(seen.append, "read", blocking=False)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    task = await cancelled_while_writing(write, flow())
    assert task.cancelled()
    assert seen == ["cancelled"]


async def test_after_a_deferred_cancellation_further_writes_are_still_made() -> None:
    write = SlowWrite()
    seen: list[str] = []

    def flow() -> Flow[None]:
        yield from call(write, blocking=False, write=True)
        yield from call(seen.append, "second write", blocking=False, write=True)

    task = await cancelled_while_writing(write, flow())
    assert task.cancelled()
    assert seen == ["second write"]


async def test_the_error_of_a_write_is_seen_before_the_cancellation() -> None:
    write = SlowWrite()
    seen: list[str] = []

    async def fail() -> None:
        await write()
        raise RefusedError("full")

    def flow() -> Flow[None]:
        try:
            yield from call(fail, blocking=False, write=True)
        except RefusedError as error:
            seen.append(str(error))

    task = await cancelled_while_writing(write, flow())
    assert task.cancelled()
    assert seen == ["full"]


async def test_a_blocking_write_is_finished_too() -> None:
    begun, may_end = threading.Event(), threading.Event()
    seen: list[str] = []

    def write() -> str:
        begun.set()
        assert may_end.wait(30)
        return "stored"

    def flow() -> Flow[None]:
        seen.append((yield from call(write, write=True)))

    task = asyncio.ensure_future(arun(flow()))
    await asyncio.to_thread(begun.wait, 30)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["stored"]


async def test_a_read_is_cancelled_at_once_and_the_flow_sees_it() -> None:
    forever = asyncio.Event()
    seen: list[str] = []

    def flow() -> Flow[None]:
        try:
            yield from call(forever.wait, blocking=False)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    task = asyncio.ensure_future(arun(flow()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cancelled"]


async def test_a_write_is_finished_when_its_time_is_up() -> None:
    write = SlowWrite()
    seen: list[str] = []

    def flow() -> Flow[None]:
        seen.append((yield from call(write, blocking=False, write=True)))

    async def with_a_limit() -> None:
        async with asyncio.timeout(0.001):
            await arun(flow())

    task = asyncio.ensure_future(with_a_limit())
    await write.begun.wait()
    done, _ = await asyncio.wait([task], timeout=0.05)
    assert not done
    write.may_end.set()
    with pytest.raises(TimeoutError):
        await task
    assert seen == ["stored"]


async def test_a_write_cancelled_from_within_is_over() -> None:
    async def cancels_itself() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(arun(call(cancels_itself, blocking=False, write=True)), 30)


@pytest.mark.parametrize("when", ["before the worker has made it", "after the worker has made it"])
async def test_a_coroutine_made_in_a_worker_for_a_cancelled_step_is_closed(when: str) -> None:
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()
    made: list[Any] = []

    async def read() -> None: ...

    def make() -> Any:
        begun.set()
        assert may_end.wait(30)
        made.append(read())
        ended.set()
        return made[0]

    task = asyncio.ensure_future(arun(call(make)))
    await asyncio.to_thread(begun.wait, 30)
    if when.startswith("before"):
        task.cancel()
        await asyncio.wait([task])
        may_end.set()
    else:
        may_end.set()
        assert ended.wait(30)
        task.cancel()
        await asyncio.wait([task])
    await asyncio.get_running_loop().shutdown_default_executor()
    assert task.cancelled()
    assert inspect.getcoroutinestate(made[0]) == inspect.CORO_CLOSED
