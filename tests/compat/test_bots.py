"""Whole programs as they were written for 0.1, on each storage, against the local server."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletion

from memexllm.algorithms import FIFOAlgorithm
from memexllm.algorithms.base import BaseAlgorithm
from memexllm.core.models import Message, Thread
from memexllm.history import HistoryManager
from memexllm.integrations.openai import with_history
from memexllm.storage import MemoryStorage, SQLiteStorage
from memexllm.testing import OpenAIServer
from tests.compat.algorithms import Duck
from tests.compat.storages import DictStorage, ShorthandStorage


@pytest.fixture(params=["memory", "sqlite", "dict", "shorthand"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    match request.param:
        case "memory":
            return MemoryStorage(max_messages=1000)
        case "sqlite":
            return SQLiteStorage(str(tmp_path / "bot.db"), max_messages=1000)
        case "dict":
            return DictStorage(1000)
    return ShorthandStorage()


class SupportBot:
    """One thread a customer, made by hand on the first message and found again by its metadata."""

    def __init__(self, client: OpenAI, storage: Any, window: int) -> None:
        self.manager = HistoryManager(storage=storage, algorithm=FIFOAlgorithm(max_messages=window))
        self.client: Any = with_history(history_manager=self.manager)(client)

    def thread_of(self, customer: str) -> str:
        for thread in self.manager.list_threads(limit=100, offset=0):
            if thread.metadata.get("customer") == customer:
                return thread.id
        thread = self.manager.create_thread(metadata={"customer": customer})
        self.manager.add_message(thread.id, "You help with shoes.", "system", {"by": "setup"})
        return thread.id

    def ask(self, customer: str, text: str) -> str:
        response = self.client.chat.completions.create(
            model="gpt-3.5-turbo",
            messages=[{"role": "user", "content": text}],
            thread_id=self.thread_of(customer),
        )
        return str(response.choices[0].message.content)

    def forget(self, customer: str) -> bool:
        return self.manager.delete_thread(self.thread_of(customer))


def test_a_bot_remembers_each_customer(storage: Any, openai_server: OpenAIServer) -> None:
    with OpenAI(base_url=openai_server.base_url, api_key="local") as api:
        bot = SupportBot(api, storage, window=6)
        bot.ask("ann", "My name is Ann.")
        bot.ask("bob", "My name is Bob.")
        assert bot.ask("ann", "What is my name?") == "Your name is Ann."
        assert SupportBot(api, storage, window=6).ask("bob", "What is my name?") == "Your name is Bob."
        assert [message["role"] for message in openai_server.last_messages] == ["system", "user", "assistant", "user"]

        for number in range(6):
            bot.ask("ann", f"Shoe number {number}?")
        ann = bot.thread_of("ann")
        assert len(openai_server.last_messages) <= 7
        assert openai_server.last_messages[0]["content"] == "You help with shoes."
        assert len(bot.manager.get_messages(ann)) == 17
        assert len(bot.manager.get_thread(ann).messages) <= 7

        assert bot.forget("ann") is True
        assert bot.ask("ann", "What is my name?") != "Your name is Ann."


class TopicAlgorithm(BaseAlgorithm):
    """Recent messages that matter, and notes on the thread: the shape of the custom algorithm 0.1 documented."""

    def __init__(self, max_messages: int = 100, hours: int = 24) -> None:
        super().__init__(max_messages=max_messages)
        self.recent = timedelta(hours=hours)

    def get_message_window(self, messages: list[Message]) -> list[Message]:
        now = datetime.now(UTC)
        system = [message for message in messages if message.role == "system"]
        others = [
            message for message in messages if message.role != "system" and now - message.created_at < self.recent
        ]
        return system + others[-(self.max_messages or 100) :]

    def process_thread(self, thread: Thread, new_message: Message) -> None:
        known: Any = thread.metadata.get("topics", [])
        topics = set(known)
        topics.update(word for word in ("shoes", "hats") if word in (new_message.content or ""))
        thread.metadata.update({"topics": sorted(topics), "last": new_message.created_at.isoformat()})


def test_an_algorithm_of_0_1_chooses_and_keeps_notes(storage: Any, openai_server: OpenAIServer) -> None:
    with OpenAI(base_url=openai_server.base_url, api_key="local") as api:
        manager = HistoryManager(storage, TopicAlgorithm(max_messages=3))
        client: Any = with_history(history_manager=manager)(api)
        for text in ("Tell me about hats.", "And shoes?", "And gloves?"):
            client.chat.completions.create(
                model="gpt-3.5-turbo", messages=[{"role": "user", "content": text}], thread_id="t"
            )
        assert [message["content"] for message in openai_server.last_messages] == [
            "And shoes?",
            "You said: And shoes?",
            "And gloves?",
        ]
        assert manager.get_thread("t").metadata["topics"] == ["hats", "shoes"]
        assert len(manager.get_messages("t")) == 6


def test_an_asynchronous_bot_remembers(storage: Any, openai_server: OpenAIServer) -> None:
    async def talk() -> str:
        async with AsyncOpenAI(base_url=openai_server.base_url, api_key="local") as api:
            algorithm: Any = Duck()
            client: Any = with_history(storage=storage, algorithm=algorithm)(api)
            for text in ("My name is Ann.", "What is my name?"):
                response = await client.chat.completions.create(
                    model="gpt-3.5-turbo", messages=[{"role": "user", "content": text}], thread_id="my-thread"
                )
            return str(response.choices[0].message.content)

    # The newest two messages are the answer and the question: the name is out of the window.
    assert asyncio.run(talk()) != "Your name is Ann."
    assert [message["role"] for message in openai_server.last_messages] == ["assistant", "user"]


@pytest.mark.parametrize("client", [MagicMock(spec=OpenAI), MagicMock()], ids=["spec", "plain"])
def test_a_bot_can_be_tested_with_a_mock_client(client: MagicMock, storage: Any) -> None:
    answer = ChatCompletion.model_validate(
        {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": "gpt-3.5-turbo",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello!"}}],
        }
    )
    client.chat = MagicMock()
    client.chat.completions.create.return_value = answer
    create = client.chat.completions.create
    bot = SupportBot(client, storage, window=50)
    assert bot.ask("ann", "Hi") == "Hello!"
    assert [message["content"] for message in create.call_args.kwargs["messages"]] == ["You help with shoes.", "Hi"]
    assert "thread_id" not in create.call_args.kwargs
    assert [m.content for m in bot.manager.get_messages(bot.thread_of("ann"))] == [
        "You help with shoes.",
        "Hi",
        "Hello!",
    ]
