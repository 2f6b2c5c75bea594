"""One server for the folder; clients over a memory storage; `talk` speaks each law four ways."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from memexllm import HistoryManager, MemoryStorage, with_history
from memexllm.testing.server import OpenAIServer
from tests.openai.responding import Respond
from tests.openai.talking import WAYS, Talk, async_sdk_client, sdk_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from openai import AsyncOpenAI, OpenAI


@pytest.fixture(scope="session")
def _running() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture
def server(_running: OpenAIServer) -> OpenAIServer:
    _running.clear()
    return _running


@pytest.fixture
def manager() -> HistoryManager:
    return HistoryManager(MemoryStorage())


@pytest.fixture
def client(
    server: OpenAIServer, manager: HistoryManager, _originals: tuple[OpenAI, AsyncOpenAI, asyncio.Runner]
) -> Any:
    return with_history(_originals[0], history_manager=manager)


@pytest.fixture
async def async_client(server: OpenAIServer, manager: HistoryManager) -> AsyncIterator[Any]:
    async with async_sdk_client(server) as original:
        yield with_history(original, history_manager=manager)


@pytest.fixture(scope="session")
def _originals(_running: OpenAIServer) -> Iterator[tuple[OpenAI, AsyncOpenAI, asyncio.Runner]]:
    """Clients to wrap: wrapping leaves them as they are, so one of each serves all laws."""
    with asyncio.Runner() as runner, sdk_client(_running) as original:
        async_original = async_sdk_client(_running)
        yield original, async_original, runner
        runner.run(async_original.close())


@pytest.fixture(params=WAYS)
def talking(
    server: OpenAIServer, _originals: tuple[OpenAI, AsyncOpenAI, asyncio.Runner], request: pytest.FixtureRequest
) -> Callable[..., Talk]:
    """Makes a `Talk` with options of `with_history`."""
    original, async_original, runner = _originals

    def make(**options: Any) -> Talk:
        if "history_manager" not in options:
            options.setdefault("storage", MemoryStorage())
        if request.param.startswith("async"):
            return Talk(request.param, async_original, runner, **options)
        return Talk(request.param, original, None, **options)

    return make


@pytest.fixture
def talk(talking: Callable[..., Talk]) -> Talk:
    return talking()


@pytest.fixture(params=WAYS)
def responding(
    server: OpenAIServer, _originals: tuple[OpenAI, AsyncOpenAI, asyncio.Runner], request: pytest.FixtureRequest
) -> Callable[..., Respond]:
    """Makes a `Respond` with options of `with_history`."""
    original, async_original, runner = _originals

    def make(**options: Any) -> Respond:
        if "history_manager" not in options:
            options.setdefault("storage", MemoryStorage())
        if request.param.startswith("async"):
            return Respond(request.param, async_original, runner, **options)
        return Respond(request.param, original, None, **options)

    return make


@pytest.fixture
def respond(responding: Callable[..., Respond]) -> Respond:
    return responding()
