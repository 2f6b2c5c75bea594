"""Reasoning goes back only encrypted, and only to the server and model it came from; else it goes, with the ids of what
it led to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from memexllm import MemoryStorage, with_history
from memexllm.testing.server import Answer, OpenAIServer
from tests.openai.responding import (
    FUNCTIONS,
    Respond,
    answered,
    function_call,
    function_output,
    items,
    kinds,
    reasoning,
)
from tests.openai.talking import sdk_client, user

if TYPE_CHECKING:
    from collections.abc import Callable

ENCRYPTED = "reasoning.encrypted_content"


@pytest.fixture
def respond(responding: Callable[..., Respond]) -> Respond:
    respond = responding()
    respond.model = "o4-mini"
    return respond


def included(server: OpenAIServer, index: int = -1) -> Any:
    return server.responses_requests[index].body.get("include")


class TestAsking:
    def test_a_server_that_stores_nothing_is_asked_for_it(self, server: OpenAIServer, respond: Respond) -> None:
        respond.say("one", store=False)
        assert included(server) == [ENCRYPTED]

    def test_what_the_caller_includes_stays(self, server: OpenAIServer, respond: Respond) -> None:
        respond.say("one", store=False, include=["message.output_text.logprobs"])
        assert included(server) == ["message.output_text.logprobs", ENCRYPTED]
        respond.say("two", store=False, include=[ENCRYPTED])
        assert included(server) == [ENCRYPTED]

    def test_a_server_that_stores_is_not_asked(self, server: OpenAIServer, respond: Respond) -> None:
        respond.say("one")
        respond.say("two", store=True)
        respond.say("three", store=False, thread_id=None)
        assert [request.body.get("include") for request in server.responses_requests] == [None] * 3

    def test_nobody_is_asked_for_what_is_never_sent(
        self, server: OpenAIServer, responding: Callable[..., Respond]
    ) -> None:
        respond = responding(replay_reasoning="never")
        respond.model = "o4-mini"
        respond.say("one", store=False)
        respond.say("two", store=False)
        assert included(server) is None
        assert kinds(server) == ["user", "assistant", "user"]


class TestReplay:
    def test_encrypted_reasoning_goes_back_as_it_came(self, server: OpenAIServer, respond: Respond) -> None:
        respond.say("one", store=False)
        thought, said = respond.response.to_dict()["output"]
        assert thought["encrypted_content"]
        respond.say("two", store=False)
        assert kinds(server) == ["user", "reasoning", "assistant", "user"]
        assert items(server)[1] == {key: value for key, value in thought.items() if value is not None}
        assert items(server)[2]["id"] == said["id"]

    def test_a_dated_name_is_the_same_model(self, server: OpenAIServer, respond: Respond) -> None:
        respond.say("one", store=False)
        respond.say("two", store=False, model="o4-mini-2025-04-16")
        assert "reasoning" in kinds(server)

    @pytest.mark.parametrize("model", ["gpt-4o", "o3"])
    def test_another_model_does_not_get_it(self, server: OpenAIServer, respond: Respond, model: str) -> None:
        respond.say("one", store=False)
        respond.say("two", store=False, model=model)
        assert kinds(server) == ["user", "assistant", "user"]
        assert items(server)[1] == {"role": "assistant", "content": "You said: one"}

    def test_the_first_model_gets_its_own_back(self, server: OpenAIServer, respond: Respond) -> None:
        respond.say("one", store=False)
        respond.say("two", store=False, model="gpt-4o")
        respond.say("three", store=False)
        assert kinds(server) == ["user", "reasoning", "assistant", "user", "assistant", "user"]

    def test_another_server_does_not_get_it(self, server: OpenAIServer) -> None:
        storage = MemoryStorage()
        with sdk_client(server) as plain, OpenAIServer() as other, sdk_client(other) as elsewhere:
            params: dict[str, Any] = {"model": "o4-mini", "store": False, "thread_id": "t"}
            with_history(plain, storage=storage).responses.create(input="one", **params)
            with_history(elsewhere, storage=storage).responses.create(input="two", **params)
            assert kinds(other) == ["user", "assistant", "user"]

    def test_reasoning_that_is_not_encrypted_goes_with_the_ids_it_led_to(
        self, server: OpenAIServer, respond: Respond
    ) -> None:
        server.plan(Answer(items=[reasoning(), answered("Wait."), function_call("c1")]))
        respond.say("Look", tools=FUNCTIONS)
        respond.say(function_output("c1"), tools=FUNCTIONS)
        assert kinds(server) == ["user", "assistant", "function_call", "function_call_output"]
        assert not any("id" in item for item in items(server))

    def test_it_is_stored_all_the_same(self, server: OpenAIServer, respond: Respond) -> None:
        server.plan(Answer(items=[reasoning("Secret."), answered("Hello.")]))
        respond.say("Hi")
        answer = respond.run("get_messages", "t")[-1]
        assert [item["type"] for item in answer.items] == ["reasoning", "message"]
        assert answer.text == "Hello."

    def test_encrypted_reasoning_stays_beside_its_call(self, server: OpenAIServer, respond: Respond) -> None:
        server.plan(Answer(items=[reasoning(), function_call("c1"), function_call("c2")]))
        respond.say("Look", tools=FUNCTIONS, store=False)
        respond.say(function_output("c1"), function_output("c2"), tools=FUNCTIONS, store=False)
        assert kinds(server) == ["user", "reasoning", *["function_call"] * 2, *["function_call_output"] * 2]

    def test_reasoning_whose_call_is_unanswered_is_not_left_alone(self, server: OpenAIServer, respond: Respond) -> None:
        server.plan(Answer(items=[reasoning(), function_call("c1")]))
        respond.say("Look", tools=FUNCTIONS, store=False)
        respond.say("Never mind.", tools=FUNCTIONS, store=False)
        assert kinds(server) == ["user", "user"]

    def test_reasoning_alone_is_not_sent_back(self, server: OpenAIServer, respond: Respond) -> None:
        server.plan(Answer(items=[reasoning()], finish_reason="length"))
        respond.say("one", store=False)
        respond.say("two", store=False)
        assert {request.status for request in server.requests} == {200}
        assert "reasoning" not in kinds(server)

    def test_one_answered_call_of_two_keeps_the_reasoning_valid(self, server: OpenAIServer, respond: Respond) -> None:
        server.plan(Answer(items=[reasoning("a"), function_call("c1"), reasoning("b"), function_call("c2")]))
        respond.say("Look", tools=FUNCTIONS, store=False)
        respond.say(function_output("c1"), user("Never mind the other."), tools=FUNCTIONS, store=False)
        assert kinds(server) == ["user", "reasoning", "function_call", "function_call_output", "user"]

    def test_a_list_that_repeats_the_output_is_recognised(self, server: OpenAIServer, respond: Respond) -> None:
        conversation: list[Any] = [user("one")]
        respond.say(*conversation, store=False)
        conversation += [*respond.response.output, user("two")]
        respond.say(*conversation, store=False)
        assert kinds(server) == ["user", "reasoning", "assistant", "user"]
        assert len(respond.stored()) == 4

    def test_reasoning_goes_to_no_chat(self, server: OpenAIServer, client: Any) -> None:
        client.responses.create(model="o4-mini", input="one", store=False, thread_id="t")
        client.chat.completions.create(model="o4-mini", messages=[user("two")], thread_id="t")
        assert [message.keys() for message in server.last_messages] == [{"role", "content"}] * 3
        client.responses.create(model="o4-mini", input="three", store=False, thread_id="t")
        assert kinds(server) == ["user", "reasoning", "assistant", "user", "assistant", "user"]
