"""Forks on both managers and over any storage, and the calls that continue them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from openai import OpenAI

from memexllm import AsyncHistoryManager, FIFOAlgorithm, HistoryManager, MemoryStorage, Message, with_history
from memexllm.core.errors import MessageNotFoundError, ThreadNotFoundError, ValidationError
from memexllm.testing import OpenAIServer
from tests.history.test_editing import made as made
from tests.history.test_editing import says, tools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.history.test_managers import Spoken

MOMENT = datetime(2025, 1, 1, tzinfo=UTC)


@pytest.fixture
def manager(made: Callable[..., Spoken]) -> Spoken:
    manager = made(clock=lambda: MOMENT)
    manager.create_thread(thread_id="t", user_id="ann", title="Bread", metadata={"a": 1})
    return manager


def contents(manager: Any, thread_id: str) -> list[Any]:
    return [message.content for message in manager.get_messages(thread_id)]


def test_a_fork_goes_on_without_its_parent(manager: Spoken) -> None:
    says(manager, "Which tea?", "Green.", "How long?", "Three minutes.")
    answer = manager.get_messages("t")[1]
    fork = manager.fork("t", answer.id, new_thread_id="f")
    manager.add_message("f", "How hot?", "user")
    manager.add_message("t", "Milk?", "user")
    assert contents(manager, "f") == ["Which tea?", "Green.", "How hot?"]
    assert contents(manager, "t") == ["Which tea?", "Green.", "How long?", "Three minutes.", "Milk?"]
    assert (fork.id, fork.user_id, fork.title, fork.metadata) == ("f", "ann", "Bread", {"a": 1})
    assert (fork.created_at, fork.message_count, fork.partial) == (MOMENT, 2, True)


def test_a_fork_is_given_an_id_and_fields(manager: Spoken) -> None:
    says(manager, "hi", "hello")
    fork = manager.fork("t", user_id="bob", title="Tea", metadata={})
    assert fork.id not in ("t", "")
    assert (fork.user_id, fork.title, fork.metadata) == ("bob", "Tea", {})
    assert contents(manager, fork.id) == ["hi", "hello"]


def test_what_cannot_be_forked_is_refused_and_nothing_made(manager: Spoken) -> None:
    first, *_ = says(manager, "hi", "hello")
    manager.create_thread(thread_id="u")
    manager.edit_message("t", first.id, "good morning")
    refused: list[tuple[type[Exception], Callable[[], Any]]] = [
        (ThreadNotFoundError, lambda: manager.fork("nobody")),
        (MessageNotFoundError, lambda: manager.fork("t", "nothing")),
        (ValidationError, lambda: manager.fork("t", first.id)),
        (ValidationError, lambda: manager.fork("t", new_thread_id="u")),
        (ValidationError, lambda: manager.fork("t", new_thread_id="")),
        (ValidationError, lambda: manager.fork("t", "")),
        (ValidationError, lambda: manager.fork("t", 3)),
        (ValidationError, lambda: manager.fork("")),
        (ValidationError, lambda: manager.fork("t", user_id=3)),
        (ValidationError, lambda: manager.fork("t", metadata={1: object()})),
    ]
    for kind, use in refused:
        with pytest.raises(kind):
            use()
    assert [thread.id for thread in manager.list_threads()] == ["t", "u"]


def test_a_fork_keeps_its_pins_in_sight(made: Callable[..., Spoken]) -> None:
    manager = made(FIFOAlgorithm(max_messages=3))
    manager.create_thread(thread_id="t")
    first, *_, last = says(manager, *map(str, range(12)))
    manager.pin("t", first.id)
    manager.get_thread("t")
    fork = manager.fork("t", last.id)
    manager.unpin("t", first.id)
    assert [message.content for message in manager.context(fork.id)] == ["0", "10", "11"]
    assert [message.content for message in manager.context("t")] == ["9", "10", "11"]


@pytest.mark.parametrize("length", [12, 100], ids=str)
def test_the_window_of_a_fork_is_that_of_a_thread_as_long(made: Callable[..., Spoken], length: int) -> None:
    manager = made(FIFOAlgorithm(max_messages=4))
    manager.create_thread(thread_id="t")
    said = says(manager, *map(str, range(length)))
    manager.get_thread("t")
    fork = manager.fork("t", said[5].id)
    assert [message.content for message in manager.context(fork.id)] == ["2", "3", "4", "5"]
    manager.add_message(fork.id, "new", "user")
    assert [message.content for message in manager.context(fork.id)] == ["3", "4", "5", "new"]


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture
def client(server: OpenAIServer) -> Iterator[Any]:
    with OpenAI(base_url=server.base_url, api_key="local") as api:
        yield with_history(api, storage=MemoryStorage())


def ask(client: Any, thread_id: str, *messages: Any) -> None:
    listed = [{"role": "user", "content": each} if isinstance(each, str) else each for each in messages]
    client.chat.completions.create(model="gpt-4o-mini", messages=listed, thread_id=thread_id)


def sent(server: OpenAIServer) -> list[Any]:
    return [message["content"] for message in server.last_messages]


def test_a_call_continues_a_fork_with_its_instructions(server: OpenAIServer, client: Any) -> None:
    server.answer("Green.")
    ask(client, "t", {"role": "system", "content": "Be brief."}, "Which tea?")
    server.answer("Three minutes.")
    ask(client, "t", {"role": "system", "content": "Be kind."}, "How long?")
    answer = next(each for each in client.history.get_messages("t") if each.content == "Green.")
    client.history.fork("t", answer.id, new_thread_id="f")
    ask(client, "f", "How hot?")
    # The instructions in force now: they may have been changed for a reason.
    assert sent(server) == ["Be kind.", "Which tea?", "Green.", "How hot?"]
    ask(client, "t", "Milk?")
    assert sent(server) == ["Be kind.", "Which tea?", "Green.", "How long?", "Three minutes.", "Milk?"]


def test_a_fork_in_the_middle_of_a_tool_exchange_is_sent_repaired(server: OpenAIServer, client: Any) -> None:
    history = client.history
    history.create_thread(thread_id="t")
    said = history.add_messages(
        "t",
        [
            Message("Weather?", "user"),
            Message(None, "assistant", tool_calls=tools("call_1", "call_2")),
            Message("sun", "tool", tool_call_id="call_1"),
            Message("rain", "tool", tool_call_id="call_2"),
        ],
    )
    history.fork("t", said[2].id, new_thread_id="f")
    ask(client, "f", "And now?")  # the server refuses a call without its result
    assert sent(server)[0] == "Weather?"
    assert sent(server)[-1] == "And now?"
    assert "rain" not in sent(server)


def test_an_answer_that_waits_to_be_stored_is_in_the_fork(server: OpenAIServer, client: Any) -> None:
    server.answer("Green.")
    messages: Any = [{"role": "user", "content": "Which tea?"}]
    stream = client.chat.completions.create(model="gpt-4o-mini", messages=messages, thread_id="t", stream=True)
    list(stream)
    assert contents(client.history, client.history.fork("t").id) == ["Which tea?", "Green."]


def test_forks_are_made_at_once(made: Callable[..., Spoken]) -> None:
    manager = made()
    manager.create_thread(thread_id="t")
    says(manager, "hi", "hello")
    if isinstance(manager.manager, AsyncHistoryManager):
        forking = partial(manager.manager.fork, "t", new_thread_id="f")

        async def at_once() -> list[Any]:
            return await asyncio.gather(*(forking() for _ in range(5)), return_exceptions=True)

        outcomes = manager.runner.run(at_once())
        assert sorted(type(each).__name__ for each in outcomes) == ["Thread", *["ValidationError"] * 4]
    else:
        assert isinstance(manager.manager, HistoryManager)
        manager.fork("t", new_thread_id="f")
    assert contents(manager, "f") == ["hi", "hello"]
