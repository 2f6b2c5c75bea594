"""instructor asks for a tool call that nobody answers; the thread stays valid, in either order of wrapping."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel, Field

from memexllm import HistoryManager, MemoryStorage, with_history
from memexllm.integrations.openai import PatchedClientWarning
from tests.instrumented.tracers import needed
from tests.openai.talking import async_sdk_client, call, sdk_client, user

if TYPE_CHECKING:
    from memexllm.testing.server import OpenAIServer


class Person(BaseModel):
    name: str
    age: int = Field(ge=0)


ADA = {"name": "Ada", "age": 36}


def answer(server: OpenAIServer, *people: dict[str, Any]) -> None:
    """Plan answers that call the tool with these arguments."""
    for place, person in enumerate(people):
        called = call(f"c{place}", "Person", json.dumps(person))
        server.answer({"content": None, "tool_calls": [called]})


def ask(client: Any, text: str, **params: Any) -> Any:
    return client.chat.completions.create(
        model="gpt-4o", messages=[user(text)], response_model=Person, thread_id="t", **params
    )


def roles(manager: HistoryManager) -> list[str]:
    return [message.role for message in manager.get_messages("t")]


@pytest.fixture
def manager() -> HistoryManager:
    return HistoryManager(MemoryStorage())


def test_the_call_after_a_forced_tool_call_is_valid(server: OpenAIServer, manager: HistoryManager) -> None:
    with sdk_client(server) as original:
        client = needed("instructor").from_openai(with_history(original, history_manager=manager))
        answer(server, ADA, ADA)
        assert ask(client, "Ada is 36").model_dump() == ADA
        assert ask(client, "Again").model_dump() == ADA
        plain = client.chat.completions.create(
            model="gpt-4o", messages=[user("Thanks")], response_model=None, thread_id="t"
        )
    assert plain.choices[0].message.content == "You said: Thanks"
    assert roles(manager) == ["user", "assistant"] * 3
    assert [message["content"] for message in server.last_messages] == ["Ada is 36", "Again", "Thanks"]


async def test_the_async_call_after_a_forced_tool_call_is_valid(server: OpenAIServer, manager: HistoryManager) -> None:
    async with async_sdk_client(server) as original:
        client = needed("instructor").from_openai(with_history(original, history_manager=manager))
        answer(server, ADA, ADA)
        assert (await ask(client, "Ada is 36")).model_dump() == ADA
        assert (await ask(client, "Again")).model_dump() == ADA
    assert roles(manager) == ["user", "assistant"] * 2


def test_an_answer_that_is_asked_again_is_there_once(server: OpenAIServer, manager: HistoryManager) -> None:
    with sdk_client(server) as original:
        client = needed("instructor").from_openai(with_history(original, history_manager=manager))
        answer(server, {"name": "Ada", "age": -1}, ADA)
        assert ask(client, "Ada is 36", max_retries=2).model_dump() == ADA
    stored = manager.get_messages("t")
    assert [message.role for message in stored] == ["user", "assistant", "tool", "assistant"]
    assert [json.loads(message.tool_calls[0]["function"]["arguments"])["age"] for message in stored[1::2]] == [-1, 36]


WRONG: dict[str, Callable[[Any, Any], Any]] = {
    "patch": lambda instructor, client: instructor.patch(client),
    "from_openai": lambda instructor, client: instructor.from_openai(client),
}


@pytest.mark.parametrize("how", WRONG)
def test_instrumented_before_it_is_wrapped_it_says_so_and_loses_nothing(
    server: OpenAIServer, manager: HistoryManager, how: str
) -> None:
    with sdk_client(server) as original:
        patched = WRONG[how](needed("instructor"), original)
        with pytest.warns(PatchedClientWarning, match="Wrap with_history first, then instrument") as warned:
            client = with_history(patched, history_manager=manager)
        assert warned[0].filename == __file__
        answer(server, ADA, ADA)
        assert ask(client, "Ada is 36").model_dump() == ADA
        assert ask(client, "Again").model_dump() == ADA
    assert roles(manager) == ["user", "assistant"] * 2
    assert [message["content"] for message in server.last_messages] == ["Ada is 36", "Again"]
