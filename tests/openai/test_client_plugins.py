"""Plugins of a wrapped client are told of the contexts it sends and of what it stores."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import openai
import pytest

from memexllm import AsyncHistoryManager, HistoryManager, MemoryStorage, Plugin, StorageError, with_history
from memexllm.core.errors import ConfigurationError
from memexllm.testing.server import OpenAIServer, ServerError
from tests.history.test_thread_plugins import Breaking, Told, Waiting
from tests.openai.talking import Talk, said, sdk_client, system, user

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_call_is_told_of_once(talking: Callable[..., Talk]) -> None:
    told = Told()
    talk = talking(plugins=[told])
    talk.say(system("Be brief."), user("one"))
    talk.say(user("two"))
    assert told.told == [
        ("context", "t", ["Be brief.", "one"]),
        ("thread", "t", None, 0),
        ("message", "t", "Be brief."),
        ("message", "t", "one"),
        ("message", "t", "You said: one"),
        ("context", "t", ["Be brief.", "one", "You said: one", "two"]),
        ("message", "t", "two"),
        ("message", "t", "You said: two"),
    ]


def test_what_is_written_down_before_its_answer_is_told_once(
    talking: Callable[..., Talk], server: OpenAIServer
) -> None:
    told = Told()
    talk = talking(plugins=[told], journal=True)
    server.plan(ServerError(400))
    with pytest.raises(openai.APIStatusError):
        talk.say(user("one"))
    assert told.told == [("context", "t", ["one"]), ("thread", "t", None, 0)]
    told.told.clear()
    talk.say(user("two"))
    assert told.told[1:] == [("message", "t", "two"), ("message", "t", "You said: two")]


def test_a_plugin_breaks_no_call(
    talking: Callable[..., Talk], server: OpenAIServer, caplog: pytest.LogCaptureFixture
) -> None:
    talk = talking(plugins=[Breaking])
    with caplog.at_level(logging.DEBUG, "memexllm.plugins"):
        talk.say(user("a secret"))
    talk.say(user("two"))
    assert said(server) == ["a secret", "You said: a secret", "two"]
    assert "secret" not in caplog.text


def test_a_call_without_history_is_not_told(server: OpenAIServer) -> None:
    told = Told()
    with sdk_client(server) as original:
        client: Any = with_history(original, storage=MemoryStorage(), plugins=[told])
        client.chat.completions.create(model="m", messages=[user("one")], thread_id=None)
    assert told.told == []


def test_a_turn_that_waited_for_its_storage_is_told_when_it_is_stored(server: OpenAIServer) -> None:
    class Failing(MemoryStorage):
        failing = True

        def append_messages(self, *args: Any, **changes: Any) -> int:
            if self.failing:
                raise StorageError("down")
            return super().append_messages(*args, **changes)

    told, storage = Told(), Failing()
    with sdk_client(server) as original:
        client: Any = with_history(original, storage=storage, plugins=[told])
        client.chat.completions.create(model="m", messages=[user("one")], thread_id="t")
        assert [each[0] for each in told.told] == ["context"]
        storage.failing = False
        client.flush()
    assert told.told[1:] == [
        ("thread", "t", None, 0),
        ("message", "t", "one"),
        ("message", "t", "You said: one"),
    ]


def test_plugins_are_the_managers_where_one_is_given(server: OpenAIServer) -> None:
    told = Told()
    with sdk_client(server) as original:
        manager = HistoryManager(MemoryStorage(), plugins=[told])
        client: Any = with_history(original, history_manager=manager)
        client.chat.completions.create(model="m", messages=[user("one")], thread_id="t")
        assert len(told.told) == 4
        with pytest.raises(ConfigurationError, match="load_plugin"):
            with_history(original, history_manager=manager, plugins=[told])
        with pytest.raises(ConfigurationError, match="async def"):
            with_history(original, storage=MemoryStorage(), plugins=[Waiting])


def test_an_asynchronous_hook_under_a_synchronous_client_is_logged_and_breaks_nothing(
    server: OpenAIServer, caplog: pytest.LogCaptureFixture
) -> None:
    waiting = Waiting()
    manager = AsyncHistoryManager(MemoryStorage(), plugins=[waiting])
    with sdk_client(server) as original:
        client: Any = with_history(original, history_manager=manager)
        client.chat.completions.create(model="m", messages=[user("one")], thread_id="t")
    assert [each[0] for each in waiting.told] == ["context", "thread"]
    assert "Waiting.on_message_added raised ConfigurationError" in caplog.text


class ReadsResponses(Plugin):
    def __init__(self) -> None:
        self.told: list[Any] = []

    def on_context_built(self, thread_id: str, messages: Any) -> None:
        self.told.append(messages)


def test_the_context_of_responses_is_told_as_items(server: OpenAIServer) -> None:
    told = ReadsResponses()
    with sdk_client(server) as original:
        client: Any = with_history(original, storage=MemoryStorage(), plugins=[told])
        client.responses.create(model="m", input="one", thread_id="t")
        client.responses.create(model="m", input="two", thread_id="t")
    assert told.told[1] == server.requests[-1].body["input"]
