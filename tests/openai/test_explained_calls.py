"""`history_of(response).context` says what a call sent, as the server received it."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from memexllm import (
    FIFOAlgorithm,
    HistoryManager,
    MemoryStorage,
    ResourceNotFoundError,
    TokenWindowAlgorithm,
    history_of,
    with_history,
)
from memexllm.core.tokens import TokenCounter
from tests.openai.talking import TOOLS, Talk, calling, sdk_client, sent, system, tool, user

if TYPE_CHECKING:
    from memexllm.testing.server import OpenAIServer


def included(talk: Talk) -> list[tuple[str, str]]:
    assert talk.info is not None
    return [(entry.role, entry.reason) for entry in talk.info.context.included]


def test_a_call_lists_what_it_sent_in_order(talk: Talk) -> None:
    talk.say(system("Be brief."), user("My name is Ada."))
    talk.say(user("What is my name?"))
    assert included(talk) == [
        ("system", "instructions"),
        ("user", "in the window"),
        ("assistant", "in the window"),
        ("user", "brought by this call"),
    ]


def test_its_tokens_are_those_of_the_request(talk: Talk, server: OpenAIServer) -> None:
    talk.say(system("Be brief."), user("My name is Ada."), tools=TOOLS)
    talk.say(user("What is my name?"), tools=TOOLS)
    counter = TokenCounter("gpt-4o")
    assert talk.info is not None
    explained = talk.info.context
    assert explained.tokens == counter.count_request(sent(server), TOOLS)
    assert explained.model == "gpt-4o"


def test_what_a_call_left_out_is_listed_or_counted(server: OpenAIServer) -> None:
    client: Any = with_history(sdk_client(server), storage=MemoryStorage(), algorithm=FIFOAlgorithm(max_messages=5))
    explained = None
    for number in range(8):
        response = client.chat.completions.create(model="gpt-4o", messages=[user(f"{number}")], thread_id="t")
        explained = history_of(response).context
        assert len(explained.included) == len(sent(server))
        assert len(explained.excluded) + explained.not_read == 2 * number + 1 - len(sent(server))
    assert explained is not None
    assert explained.not_read > 0
    assert f"{explained.not_read} older messages were not read" in str(explained)


def test_an_edit_lists_what_it_supersedes(talk: Talk) -> None:
    first = talk.say(user("One"))
    talk.say(user("Two"))
    talk.say(user("One"), {"role": "assistant", "content": first}, user("Two, but better"))
    assert talk.info is not None
    assert [entry.role for entry in talk.info.context.superseded] == ["user", "assistant"]


def test_a_repair_is_listed(talk: Talk) -> None:
    talk.seed(user("Look"), calling("a", "b"), tool("a"))
    talk.say(user("Never mind."))
    assert talk.info is not None
    explained = talk.info.context
    assert [(entry.role, entry.fate) for entry in explained.repaired] == [("assistant", "included")]


def test_placeholders_are_listed(server: OpenAIServer) -> None:
    client: Any = with_history(sdk_client(server), storage=MemoryStorage(), orphans="placeholder")
    client.history.create_thread(thread_id="t")
    client.history.add_message("t", "Look", "user")
    client.history.add_message("t", None, "assistant", tool_calls=calling("a")["tool_calls"])
    response = client.chat.completions.create(model="gpt-4o", messages=[user("And?")], thread_id="t")
    explained = history_of(response).context
    assert len(explained.included) == len(sent(server)) == 4
    assert explained.tokens == TokenCounter("gpt-4o").count_messages(sent(server))


def test_the_manager_of_a_client_explains_with_the_clients_window(server: OpenAIServer) -> None:
    client: Any = with_history(sdk_client(server), storage=MemoryStorage())
    client.chat.completions.create(model="gpt-4o", messages=[user("Hello")], thread_id="t")
    explained = client.history.explain("t")
    assert explained.budget == int(0.8 * 128_000)
    assert explained.model == "gpt-4o-2024-08-06" or explained.model.startswith("gpt-4o")


def test_explaining_a_call_later_shows_the_call_and_not_the_thread_as_it_is_now(talk: Talk) -> None:
    talk.say(user("One"))
    first = talk.info
    talk.say(user("Two"))
    assert first is not None
    assert [entry.role for entry in first.context.entries] == ["user"]


def test_a_response_that_is_dropped_takes_its_messages_with_it(server: OpenAIServer) -> None:
    manager = HistoryManager(MemoryStorage(), TokenWindowAlgorithm(max_tokens=1000))
    client: Any = with_history(sdk_client(server), history_manager=manager)
    response = client.chat.completions.create(model="gpt-4o", messages=[user("Hello")], thread_id="t")
    prepared = history_of(response).prepared
    assert prepared is not None
    watched = weakref.ref(prepared)
    gc.disable()
    try:
        del response, prepared
        assert watched() is None
    finally:
        gc.enable()


def test_a_call_that_was_refused_has_no_context(talk: Talk) -> None:
    talk.say(user("Hello"), thread_id=None)
    assert talk.info is None
    with pytest.raises(ResourceNotFoundError):
        history_of(object())
