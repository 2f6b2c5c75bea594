"""`with_history` gives a new client of the same class and leaves the old one alone."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from openai import AsyncAzureOpenAI, AsyncOpenAI, AzureOpenAI, OpenAI

from memexllm import (
    AsyncHistoryManager,
    FIFOAlgorithm,
    HistoryManager,
    MemoryStorage,
    SQLiteStorage,
    history_of,
    with_history,
)
from memexllm.core.errors import ConfigurationError
from memexllm.integrations.openai import AsyncHistoryOpenAI, HistoryOpenAI
from tests.openai.storages import AsyncMemoryStorage, FourMethodStorage
from tests.openai.talking import async_sdk_client, said, sdk_client, user

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from memexllm.testing.server import OpenAIServer


def say(client: Any, text: str = "hi", **params: Any) -> Any:
    return client.chat.completions.create(**{"model": "m", "messages": [user(text)], "thread_id": "t", **params})


@pytest.fixture
def original(server: OpenAIServer) -> Iterator[OpenAI]:
    with sdk_client(server) as original:
        yield original


def test_the_new_client_is_one_of_the_same_class(original: OpenAI) -> None:
    client = with_history(original, storage=MemoryStorage())
    assert client is not original
    assert isinstance(client, OpenAI)
    assert (type(client).__name__, type(client).__module__) == ("OpenAI", type(original).__module__)
    assert client.api_key == original.api_key
    assert client.base_url == original.base_url


def test_a_check_tells_a_wrapped_client(original: OpenAI) -> None:
    client: Any = with_history(original, storage=MemoryStorage())
    assert isinstance(client.with_thread("t").with_options(timeout=3), HistoryOpenAI)
    assert [kind for kind in (HistoryOpenAI, AsyncHistoryOpenAI) if isinstance(client, kind)] == [HistoryOpenAI]
    assert not isinstance(original, HistoryOpenAI)


def test_the_original_stays_as_it_was(server: OpenAIServer, original: OpenAI) -> None:
    before = dict(original.__dict__)
    client = with_history(original, storage=MemoryStorage())
    say(client)
    assert type(original) is OpenAI
    assert {name for name in original.__dict__ if name not in before} <= {"chat"}
    with pytest.raises(TypeError):
        say(original)
    original.chat.completions.create(model="m", messages=[{"role": "user", "content": "alone"}])
    assert said(server) == ["alone"]


def test_a_resource_used_before_is_not_shared(server: OpenAIServer, original: OpenAI) -> None:
    original.chat.completions.create(model="m", messages=[{"role": "user", "content": "before"}])
    client = with_history(original, storage=MemoryStorage())
    say(client)
    assert say(client, "again").choices[0].message.content == "You said: again"
    assert said(server) == ["hi", "You said: hi", "again"]
    assert client.chat is not original.chat


def test_it_shares_the_connections(original: OpenAI) -> None:
    assert with_history(original, storage=MemoryStorage())._client is original._client


@pytest.mark.parametrize("method", ["with_options", "copy"])
def test_copies_keep_the_history(server: OpenAIServer, original: OpenAI, method: str) -> None:
    client: Any = with_history(original, storage=MemoryStorage())
    say(client)
    copied = getattr(client, method)(timeout=7)
    assert copied.timeout == 7
    say(copied, "again")
    assert said(server) == ["hi", "You said: hi", "again"]
    assert copied.history is client.history


async def test_copies_of_an_async_client_keep_the_history(server: OpenAIServer) -> None:
    async with async_sdk_client(server) as original:
        assert isinstance(with_history(original, storage=MemoryStorage()), AsyncOpenAI)
        client: Any = with_history(original, storage=MemoryStorage())
        await say(client)
        await say(client.with_options(max_retries=1).with_thread("t"), "again")
        assert said(server) == ["hi", "You said: hi", "again"]


class TestTwice:
    def test_with_the_same_manager_it_is_the_same_client(self, original: OpenAI, manager: HistoryManager) -> None:
        client = with_history(original, history_manager=manager)
        assert with_history(client, history_manager=manager) is client
        assert with_history(history_manager=manager)(client) is client

    def test_with_the_same_storage_it_is_the_same_client(self, original: OpenAI) -> None:
        storage = MemoryStorage()
        client = with_history(original, storage=storage)
        assert with_history(client, storage=storage) is client

    def test_with_another_it_is_refused(self, original: OpenAI, manager: HistoryManager) -> None:
        client = with_history(original, history_manager=manager)
        with pytest.raises(ConfigurationError, match="wrap the original"):
            with_history(client, storage=MemoryStorage())
        with pytest.raises(ConfigurationError, match="wrap the original"):
            with_history(client.with_thread("t"), storage=MemoryStorage())

    def test_the_original_can_be_wrapped_again(self, server: OpenAIServer, original: OpenAI) -> None:
        say(with_history(original, storage=MemoryStorage()))
        say(with_history(original, storage=MemoryStorage()), "other")
        assert said(server) == ["other"]


class TestDecorator:
    def test_on_a_function_that_makes_a_client(self, server: OpenAIServer, original: OpenAI) -> None:
        @with_history(storage=MemoryStorage())
        def make_client() -> OpenAI:
            """Ours."""
            return original

        say(make_client())
        say(make_client(), "again")
        assert said(server) == ["hi", "You said: hi", "again"]
        assert (make_client.__name__, make_client.__doc__) == ("make_client", "Ours.")

    async def test_on_an_async_function(self, server: OpenAIServer) -> None:
        @with_history(storage=MemoryStorage())
        async def make_client() -> AsyncOpenAI:
            await asyncio.sleep(0)
            return async_sdk_client(server)

        client: Any = await make_client()
        async with client:
            await say(client)
            await say(client, "again")
        assert said(server) == ["hi", "You said: hi", "again"]


class TestArguments:
    def test_one_of_storage_and_manager_is_needed(self) -> None:
        with pytest.raises(ConfigurationError, match="Either storage or history_manager must be provided"):
            with_history()

    def test_an_empty_storage_is_a_storage(self, original: OpenAI) -> None:
        class Sized(MemoryStorage):
            def __len__(self) -> int:
                return 0

        say(with_history(original, storage=Sized()))

    def test_both_are_too_many(self, manager: HistoryManager) -> None:
        with pytest.raises(ConfigurationError, match="either history_manager"):
            with_history(history_manager=manager, storage=MemoryStorage())
        with pytest.raises(ConfigurationError, match="either history_manager"):
            with_history(history_manager=manager, algorithm=FIFOAlgorithm())

    @pytest.mark.parametrize(
        "option",
        ["on_missing_thread", "merge", "orphans", "on_read_error", "on_write_error", "replay_reasoning", "inject"],
    )
    def test_an_unknown_choice_is_refused(self, option: str) -> None:
        arguments: Any = {option: "perhaps"}
        with pytest.raises(ConfigurationError, match=f"{option} is one of"):
            with_history(storage=MemoryStorage(), **arguments)

    @pytest.mark.parametrize("place", ["path", "str", "sqlite:///", "storage"])
    def test_a_storage_is_a_place_or_an_object(
        self, server: OpenAIServer, original: OpenAI, tmp_path: Path, place: str
    ) -> None:
        path = tmp_path / "chat.db"
        storage: Any = {"path": path, "str": str(path), "sqlite:///": f"sqlite:///{path}"}.get(place)
        client = with_history(original, storage=storage or SQLiteStorage(path))
        say(client)
        client.history.close()
        other = with_history(original, storage=path)
        say(other, "again")
        other.history.close()
        assert said(server) == ["hi", "You said: hi", "again"]

    @pytest.mark.parametrize("storage", ["mongodb://nowhere/x", 7, {}])
    def test_what_is_no_storage_is_refused(self, original: OpenAI, storage: Any) -> None:
        with pytest.raises(ConfigurationError):
            with_history(original, storage=storage)

    def test_what_is_no_client_is_refused(self) -> None:
        clients: list[Any] = ["OpenAI", 7, object()]
        for client in clients:
            with pytest.raises(ConfigurationError, match="wraps OpenAI clients"):
                with_history(client, storage=MemoryStorage())


class TestSyncAndAsync:
    def test_an_async_storage_needs_an_async_client(self, original: OpenAI) -> None:
        with pytest.raises(ConfigurationError, match="AsyncMemoryStorage is asynchronous"):
            with_history(original, storage=AsyncMemoryStorage())
        with pytest.raises(ConfigurationError, match="AsyncMemoryStorage is asynchronous"):
            with_history(original, history_manager=AsyncHistoryManager(AsyncMemoryStorage()))

    @pytest.mark.parametrize("storage_class", [MemoryStorage, FourMethodStorage, AsyncMemoryStorage])
    async def test_an_async_client_works_over_any_storage(self, server: OpenAIServer, storage_class: Any) -> None:
        async with async_sdk_client(server) as original:
            client: Any = with_history(original, storage=storage_class())
            await say(client)
            await say(client, "again")
            assert said(server) == ["hi", "You said: hi", "again"]
            assert isinstance(client.history, AsyncHistoryManager)

    async def test_a_sync_manager_serves_an_async_client(self, server: OpenAIServer, manager: HistoryManager) -> None:
        async with async_sdk_client(server) as original:
            client: Any = with_history(original, history_manager=manager)
            await say(client)
            assert isinstance(client.history, AsyncHistoryManager)
            assert client.history.storage is manager.storage
            assert len(await client.history.get_messages("t")) == len(manager.get_messages("t")) == 2

    def test_an_async_manager_over_a_sync_storage_serves_a_sync_client(self, original: OpenAI) -> None:
        manager = AsyncHistoryManager(MemoryStorage())
        client: Any = with_history(original, history_manager=manager)
        say(client)
        assert isinstance(client.history, HistoryManager)
        assert client.history.storage is manager.storage
        assert len(client.history.get_messages("t")) == 2

    def test_the_manager_given_is_the_clients_history(self, original: OpenAI, manager: HistoryManager) -> None:
        assert with_history(original, history_manager=manager).history is manager


class Mine(OpenAI):
    """A user's subclass with an `__init__` of its own."""

    def __init__(self, company: str, server_url: str) -> None:
        super().__init__(base_url=server_url, api_key="local", max_retries=0)
        self.company = company

    def greet(self) -> str:
        answer = self.chat.completions.create(model="m", messages=[{"role": "user", "content": self.company}])
        return answer.choices[0].message.content or ""


def test_a_users_subclass_stays_one_and_its_methods_remember(server: OpenAIServer) -> None:
    with Mine("Acme", server.base_url) as original:
        client = with_history(original, storage=MemoryStorage(), thread_id="t")
        assert isinstance(client, Mine)
        client.greet()
        assert client.greet() == "You said: Acme"
    assert said(server) == ["Acme", "You said: Acme", "Acme"]


def test_azure(server: OpenAIServer) -> None:
    with AzureOpenAI(azure_endpoint=server.origin, api_key="local", api_version="2024-10-21") as original:
        client: Any = with_history(original, storage=MemoryStorage())
        assert isinstance(client, AzureOpenAI)
        say(client)
        say(client.with_options(timeout=5), "again")
    assert said(server) == ["hi", "You said: hi", "again"]
    assert server.requests[0].path.startswith("/openai/deployments/m/chat/completions")


async def test_async_azure(server: OpenAIServer) -> None:
    async with AsyncAzureOpenAI(azure_endpoint=server.origin, api_key="local", api_version="2024-10-21") as original:
        client: Any = with_history(original, storage=MemoryStorage())
        await say(client)
        async for _ in await say(client, "again", stream=True):
            pass
    assert said(server) == ["hi", "You said: hi", "again"]


@pytest.mark.parametrize("kind", ["memory", "sqlite", "four methods"])
def test_eight_threads_of_execution_keep_eight_conversations_apart(
    server: OpenAIServer, original: OpenAI, tmp_path: Path, kind: str
) -> None:
    storages: Any = {"memory": MemoryStorage, "four methods": FourMethodStorage}
    storage = storages[kind]() if kind in storages else SQLiteStorage(tmp_path / "chat.db")
    client: Any = with_history(original, storage=storage)

    def talk(number: int) -> None:
        for index in range(25):
            answer = say(client, f"{number}:{index}", thread_id=f"thread {number}")
            assert history_of(answer).saved

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(talk, range(8)))
    for number in range(8):
        contents = [message.content for message in client.history.get_messages(f"thread {number}")]
        assert contents[::2] == [f"{number}:{index}" for index in range(25)]
        assert contents[1::2] == [f"You said: {number}:{index}" for index in range(25)]
    client.history.close()


@pytest.mark.parametrize("kind", ["memory", "sqlite", "four methods"])
def test_eight_threads_of_execution_on_one_conversation_lose_nothing(
    original: OpenAI, tmp_path: Path, kind: str
) -> None:
    storages: Any = {"memory": MemoryStorage, "four methods": FourMethodStorage}
    storage = storages[kind]() if kind in storages else SQLiteStorage(tmp_path / "chat.db")
    client: Any = with_history(original, storage=storage)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: say(client, str(number)), range(40)))
    contents = [message.content for message in client.history.get_messages("t")]
    assert sorted(map(int, contents[::2])) == list(range(40))
    assert contents[1::2] == [f"You said: {text}" for text in contents[::2]]
    client.history.close()
