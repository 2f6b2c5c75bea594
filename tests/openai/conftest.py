"""One server for the folder; clients over a memory storage; `talk` speaks each law four ways."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from talking import WAYS, Talk, async_sdk_client, sdk_client

from memexllm import HistoryManager, MemoryStorage, with_history
from memexllm.testing.server import OpenAIServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator


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
def client(server: OpenAIServer, manager: HistoryManager) -> Iterator[Any]:
    with sdk_client(server) as original:
        yield with_history(original, history_manager=manager)


@pytest.fixture
async def async_client(server: OpenAIServer, manager: HistoryManager) -> AsyncIterator[Any]:
    async with async_sdk_client(server) as original:
        yield with_history(original, history_manager=manager)


@pytest.fixture(params=WAYS)
def talking(server: OpenAIServer, request: pytest.FixtureRequest) -> Iterator[Callable[..., Talk]]:
    """Makes a `Talk` with options of `with_history`."""
    made: list[Talk] = []

    def make(**options: Any) -> Talk:
        if "history_manager" not in options:
            options.setdefault("storage", MemoryStorage())
        made.append(Talk(server, request.param, **options))
        return made[-1]

    yield make
    for talk in made:
        talk.close()


@pytest.fixture
def talk(talking: Callable[..., Talk]) -> Talk:
    return talking()
