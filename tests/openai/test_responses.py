"""Calls of the Responses API continue a thread: items are kept in order and whole, and sent back as they came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from memexllm import FIFOAlgorithm, MemoryStorage, history_of, with_history
from memexllm.core.errors import ConfigurationError, ThreadNotFoundError, ValidationError, WindowError
from memexllm.testing.server import Answer, Failed, ServerError
from tests.openai.responding import (
    FUNCTIONS,
    Respond,
    answered,
    custom_call,
    custom_output,
    function_call,
    function_output,
    items,
    kinds,
    texts,
)
from tests.openai.storages import CountingStorage
from tests.openai.talking import assistant, call, calling, sdk_client, system, tool, user

if TYPE_CHECKING:
    from collections.abc import Callable

    from memexllm.testing.server import OpenAIServer


def image(url: str = "https://example.org/a.png") -> dict[str, Any]:
    return {"type": "input_image", "image_url": url, "detail": "auto"}


class TestTurns:
    def test_the_history_is_sent_and_the_turn_is_stored(self, server: OpenAIServer, respond: Respond) -> None:
        respond.say("My name is Ada.")
        assert respond.say("What is my name?") == "Your name is Ada."
        assert texts(server) == ["My name is Ada.", "You said: My name is Ada.", "What is my name?"]
        assert respond.stored_contents() == [*texts(server), "Your name is Ada."]

    def test_the_info_of_a_call_is_on_what_it_returns(self, respond: Respond) -> None:
        respond.say("one")
        respond.say("two")
        assert respond.info is not None
        assert (respond.info.thread_id, respond.info.injected, respond.info.saved) == ("t", 2, True)
        assert respond.info.message_ids == [message.id for message in respond.run("get_messages", "t")[-2:]]

    def test_an_answers_call_is_known(self, respond: Respond) -> None:
        respond.say("one")
        answer = respond.run("get_messages", "t")[-1]
        assert answer.call.model == "gpt-4o"
        assert answer.call.finish_reason == "completed"
        assert answer.call.response_id == respond.response.id
        assert answer.call.usage["output_tokens"] == respond.response.usage.output_tokens

    def test_the_answers_item_is_sent_back_as_it_came(self, server: OpenAIServer, respond: Respond) -> None:
        respond.say("one")
        (came,) = respond.response.to_dict()["output"]
        respond.say("two")
        (part,) = came["content"]
        assert items(server)[1] == {**came, "content": [{k: v for k, v in part.items() if k != "logprobs"}]}

    def test_a_turn_is_one_write(self, responding: Callable[..., Respond]) -> None:
        storage = CountingStorage()
        responding(storage=storage).say("one")
        assert (storage.n_appends, storage.n_replaced) == (1, 0)

    def test_thread_id_none_has_no_history(self, server: OpenAIServer, respond: Respond) -> None:
        respond.say("one")
        respond.say("two", thread_id=None)
        assert texts(server) == ["two"]
        assert respond.stored_contents() == ["one", "You said: one"]

    def test_instructions_belong_to_their_call(self, server: OpenAIServer, respond: Respond) -> None:
        respond.say("one", instructions="Be brief.")
        respond.say("two")
        assert [request.body.get("instructions") for request in server.requests] == ["Be brief.", None]
        assert respond.stored_contents() == ["one", "You said: one", "two", "You said: two"]

    def test_leading_system_messages_are_remembered_as_the_block(self, server: OpenAIServer, respond: Respond) -> None:
        respond.say({"role": "developer", "content": "Be brief."}, user("one"))
        respond.say("two")
        assert kinds(server) == ["developer", "user", "assistant", "user"]
        respond.say({"role": "developer", "content": [{"type": "input_text", "text": "Be long."}]}, user("three"))
        assert (kinds(server)[0], texts(server)[0]) == ("developer", "Be long.")
        respond.say("four")
        assert items(server)[0] == {"role": "developer", "content": [{"type": "input_text", "text": "Be long."}]}

    def test_other_kinds_of_content_are_kept(self, server: OpenAIServer, respond: Respond) -> None:
        question = user([{"type": "input_text", "text": "What is this?"}, image()])
        respond.say(question)
        respond.say("two")
        assert items(server)[0] == question

    def test_a_generator_of_items_is_taken(self, server: OpenAIServer, client: Any) -> None:
        given = (user(text) for text in ("one", "two"))
        client.responses.create(model="gpt-4o", input=given, thread_id="t")
        assert texts(server) == ["one", "two"]

    @pytest.mark.parametrize("given", [3, {"role": "user", "content": "?"}, [3]])
    def test_what_is_no_input_is_refused_before_the_request(
        self, server: OpenAIServer, respond: Respond, given: Any
    ) -> None:
        with pytest.raises(ValidationError, match="input"):
            respond.say(input=given)
        assert server.requests == []

    def test_a_prompt_of_the_platform_needs_no_input(self, server: OpenAIServer, client: Any) -> None:
        client.responses.create(model="gpt-4o", input="one", thread_id="t")
        client.responses.create(model="gpt-4o", prompt={"id": "pmpt_1"}, thread_id="t")
        assert texts(server) == ["one", "You said: one"]


class TestMerging:
    def test_the_whole_list_with_the_output_is_recognised(self, server: OpenAIServer, respond: Respond) -> None:
        conversation: list[Any] = []
        for text in ("one", "two", "three"):
            conversation.append(user(text))
            respond.say(*conversation)
            conversation += respond.response.output
        assert texts(server) == ["one", "You said: one", "two", "You said: two", "three"]
        assert respond.stored_contents() == [*texts(server), "You said: three"]

    def test_the_whole_list_with_the_text_of_the_output_is_recognised(
        self, server: OpenAIServer, respond: Respond
    ) -> None:
        respond.say("one")
        respond.say(user("one"), assistant(respond.response.output_text), user("two"))
        assert texts(server) == ["one", "You said: one", "two"]

    def test_the_whole_list_of_a_function_call_is_recognised(self, server: OpenAIServer, respond: Respond) -> None:
        server.plan(Answer(items=[function_call("c1"), function_call("c2")]))
        conversation: list[Any] = [user("Look")]
        respond.say(*conversation, tools=FUNCTIONS)
        conversation += respond.response.output
        conversation += [function_output("c1"), function_output("c2")]
        respond.say(*conversation, tools=FUNCTIONS)
        assert kinds(server) == ["user", *["function_call"] * 2, *["function_call_output"] * 2]
        assert len(respond.stored()) == 5

    def test_an_edited_list_supersedes_the_tail(self, server: OpenAIServer, respond: Respond) -> None:
        conversation: list[Any] = [user("one")]
        respond.say(*conversation)
        conversation += respond.response.output
        respond.say(*conversation, user("two"))
        respond.say(*conversation, user("another two"))
        assert texts(server) == ["one", "You said: one", "another two"]
        assert respond.superseded() == ["two", "You said: two"]

    @pytest.mark.parametrize(("merge", "sent"), [("append", ["one", "You said: one", "one"]), ("replace", ["one"])])
    def test_merge_is_taken_by_the_call(
        self, server: OpenAIServer, respond: Respond, merge: str, sent: list[str]
    ) -> None:
        respond.say("one")
        respond.say(user("one"), merge=merge)
        assert texts(server) == sent


class TestCalls:
    def test_a_function_call_is_continued_by_its_output(self, server: OpenAIServer, respond: Respond) -> None:
        server.plan(Answer(items=[function_call("c1", '{"at":1}')]), "It is 42.")
        respond.say("Look", tools=FUNCTIONS)
        asked = respond.response.to_dict()["output"]
        assert respond.say(function_output("c1"), tools=FUNCTIONS) == "It is 42."
        assert items(server) == [user("Look"), *asked, function_output("c1")]
        assert [wire["role"] for wire in respond.stored()] == ["user", "assistant", "tool", "assistant"]

    def test_parallel_calls_of_several_kinds_stay_together(self, server: OpenAIServer, respond: Respond) -> None:
        output = [answered("One moment."), function_call("c1"), custom_call("c2"), function_call("c3")]
        server.plan(Answer(items=output))
        respond.say("Look", tools=FUNCTIONS)
        respond.say(custom_output("c2"), function_output("c3"), function_output("c1"), tools=FUNCTIONS)
        sent = ["user", "assistant", "function_call", "custom_tool_call", "function_call"]
        sent += ["custom_tool_call_output", "function_call_output", "function_call_output"]
        assert kinds(server) == sent
        respond.say("And then?", tools=FUNCTIONS)
        assert kinds(server) == [*sent, "assistant", "user"]

    @pytest.mark.parametrize("store", [True, False])
    def test_a_loop_of_many_calls_goes_through(self, server: OpenAIServer, respond: Respond, store: bool) -> None:
        respond.model = "o4-mini"
        given: Any = "Look"
        for number in range(4):
            server.plan(Answer({"reasoning_content": "Hm.", "tool_calls": [call(f"c{number}")]}))
            respond.say(given, tools=FUNCTIONS, store=store)
            given = function_output(f"c{number}")
        respond.say(given, tools=FUNCTIONS, store=store)
        assert {request.status for request in server.requests} == {200}
        assert len(respond.stored()) == 10

    def test_an_unanswered_call_is_left_out_and_stays_stored(self, server: OpenAIServer, respond: Respond) -> None:
        server.plan(Answer(items=[answered("Wait."), function_call("c1"), custom_call("c2")]))
        respond.say("Look", tools=FUNCTIONS)
        respond.say(function_output("c1"), user("Never mind."), tools=FUNCTIONS)
        assert kinds(server) == ["user", "assistant", "function_call", "function_call_output", "user"]
        assert [item["type"] for item in respond.stored_items()[1]] == ["message", "function_call", "custom_tool_call"]

    def test_a_placeholder_answers_a_call_when_asked_for(
        self, server: OpenAIServer, responding: Callable[..., Respond]
    ) -> None:
        respond = responding(orphans="placeholder")
        server.plan(Answer(items=[function_call("c1"), custom_call("c2")]))
        respond.say("Look", tools=FUNCTIONS)
        respond.say("Never mind.", tools=FUNCTIONS)
        called = ["function_call", "custom_tool_call"]
        assert kinds(server) == ["user", *called, *(f"{kind}_output" for kind in called), "user"]

    def test_outputs_without_calls_are_refused_before_the_request(self, server: OpenAIServer, respond: Respond) -> None:
        with pytest.raises(WindowError):
            respond.say(function_output("c1"))
        assert server.requests == []

    def test_an_output_of_parts_is_kept(self, server: OpenAIServer, respond: Respond) -> None:
        server.plan(Answer(items=[function_call("c1")]))
        respond.say("Look", tools=FUNCTIONS)
        output = function_output("c1", [{"type": "input_text", "text": "a picture:"}, image()])
        respond.say(output, tools=FUNCTIONS)
        respond.say("And then?")
        assert items(server)[2] == output

    def test_hosted_tools_are_sent_back_with_what_they_led_to(self, server: OpenAIServer, respond: Respond) -> None:
        searched = {"type": "web_search_call", "action": {"type": "search", "query": "weather"}}
        server.plan(Answer(items=[searched, answered("It rains.")]))
        respond.say("Weather?")
        came = respond.response.to_dict()["output"]
        respond.say("And tomorrow?")
        assert kinds(server) == ["user", "web_search_call", "assistant", "user"]
        assert items(server)[1] == came[0]

    @pytest.mark.parametrize("max_messages", [2, 3, 4, 5, 6])
    def test_a_window_never_tears_a_response(
        self, server: OpenAIServer, responding: Callable[..., Respond], max_messages: int
    ) -> None:
        respond = responding(algorithm=FIFOAlgorithm(max_messages=max_messages))
        respond.model = "o4-mini"
        for number in range(4):
            output = [answered("Wait."), function_call(f"a{number}"), custom_call(f"b{number}")]
            server.plan(Answer(items=[{"type": "reasoning", "summary": []}, *output]))
            respond.say(f"Look {number}", tools=FUNCTIONS, store=False)
            respond.say(function_output(f"a{number}"), custom_output(f"b{number}"), tools=FUNCTIONS, store=False)
            sent = kinds(server)
            assert sent.count("function_call") == sent.count("function_call_output") >= 1
            assert sent.count("custom_tool_call") == sent.count("custom_tool_call_output")
        assert {request.status for request in server.requests} == {200}


class TestTroubles:
    @pytest.mark.parametrize(
        ("name", "value"), [("previous_response_id", "resp_1"), ("conversation", "conv_1"), ("background", True)]
    )
    @pytest.mark.parametrize("place", ["keyword", "extra_body"])
    def test_a_second_history_is_refused_before_the_request(
        self, server: OpenAIServer, respond: Respond, name: str, value: Any, place: str
    ) -> None:
        given = {name: value} if place == "keyword" else {"extra_body": {name: value}}
        with pytest.raises(ConfigurationError, match=f"{name} and thread_id cannot go together"):
            respond.say("one", **given)
        assert server.requests == []
        assert respond.run("list_threads") == []

    def test_without_a_thread_the_servers_history_may_be_used(self, server: OpenAIServer, respond: Respond) -> None:
        respond.say("My name is Ada.", thread_id=None)
        answer = respond.say("What is my name?", thread_id=None, previous_response_id=respond.response.id)
        assert answer == "Your name is Ada."

    @pytest.mark.parametrize("place", [{"thread_id": "t"}, {"input": "two"}])
    def test_what_would_take_the_place_of_the_thread_is_refused(
        self, server: OpenAIServer, respond: Respond, place: dict[str, Any]
    ) -> None:
        with pytest.raises(ConfigurationError, match="extra_body"):
            respond.say("one", extra_body=place)
        assert server.requests == []

    def test_a_failed_response_leaves_the_thread_as_it_was(self, server: OpenAIServer, respond: Respond) -> None:
        respond.say("one")
        server.plan(Failed(answer="So"))
        respond.say("two")
        assert respond.response.status == "failed"
        assert respond.stored_contents() == ["one", "You said: one"]
        respond.say("three")
        assert texts(server) == ["one", "You said: one", "three"]

    def test_a_refused_request_leaves_the_thread_as_it_was(self, server: OpenAIServer, respond: Respond) -> None:
        server.plan(ServerError(400))
        with pytest.raises(Exception, match="400"):
            respond.say("one")
        assert respond.run("list_threads") == []

    @pytest.mark.parametrize(
        ("finish_reason", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
    )
    def test_a_response_that_was_cut_off_is_stored(
        self, server: OpenAIServer, respond: Respond, finish_reason: str, reason: str
    ) -> None:
        server.answer("Once upon", finish_reason=finish_reason)
        respond.say("A story!")
        assert respond.response.status == "incomplete"
        answer = respond.run("get_messages", "t")[-1]
        assert (answer.text, answer.call.finish_reason) == ("Once upon", reason)
        respond.say("Go on.")
        assert texts(server) == ["A story!", "Once upon", "Go on."]

    def test_a_refusal_is_kept_and_sent_back(self, server: OpenAIServer, respond: Respond) -> None:
        server.answer({"refusal": "I will not."})
        respond.say("Do it!")
        assert respond.stored()[-1]["refusal"] == "I will not."
        respond.say("Please?")
        assert items(server)[1]["content"] == [{"type": "refusal", "refusal": "I will not."}]

    @pytest.mark.parametrize("streamed", [False, True])
    def test_retries_are_one_write_and_send_identical_bodies(self, server: OpenAIServer, streamed: bool) -> None:
        storage = CountingStorage()
        with sdk_client(server, max_retries=3) as plain:
            client = with_history(plain, storage=storage)
            client.responses.create(model="gpt-4o", input="one", thread_id="t")
            server.plan(*(ServerError(status, retry_after_s=0) for status in (429, 500, 503)))
            found = client.responses.create(model="gpt-4o", input="two", stream=streamed, thread_id="t")
            if streamed:
                list(found)
        assert [request.status for request in server.requests] == [200, 429, 500, 503, 200]
        assert len({request.raw for request in server.requests[1:]}) == 1
        assert storage.n_appends == 2


class TestBothApis:
    """A thread is one conversation, whichever API continues it."""

    def chat(self, client: Any, *messages: Any, **params: Any) -> Any:
        return client.chat.completions.create(model="gpt-4o", messages=list(messages), thread_id="t", **params)

    def respond(self, client: Any, *given: Any, **params: Any) -> Any:
        return client.responses.create(model="gpt-4o", input=list(given), thread_id="t", **params)

    def test_a_conversation_alternates(self, server: OpenAIServer, client: Any) -> None:
        self.chat(client, system("Be brief."), user("My name is Ada."))
        answer = self.respond(client, user("What is my name?"))
        assert answer.output_text == "Your name is Ada."
        self.chat(client, user("three"))
        assert [message["role"] for message in server.last_messages] == ["system", *["user", "assistant"] * 2, "user"]
        self.respond(client, user("four"))
        assert kinds(server) == ["system", *["user", "assistant"] * 3, "user"]
        assert len(client.history.get_messages("t")) == 9

    def test_calls_made_in_chat_are_items(self, server: OpenAIServer, client: Any) -> None:
        custom = {"id": "c2", "type": "custom", "custom": {"name": "shell", "input": "ls"}}
        server.answer({"content": "Wait.", "tool_calls": [call("c1", arguments='{"at":1}'), custom]})
        self.chat(client, user("Look"))
        self.respond(client, function_output("c1"), custom_output("c2"), tools=FUNCTIONS)
        assert items(server)[1:4] == [
            {"role": "assistant", "content": "Wait."},
            function_call("c1", '{"at":1}'),
            custom_call("c2"),
        ]
        self.chat(client, user("And then?"))
        assert [message["role"] for message in server.last_messages][2:4] == ["tool", "tool"]

    def test_calls_made_in_responses_are_tool_calls(self, server: OpenAIServer, client: Any) -> None:
        reasoned = {"type": "reasoning", "summary": []}
        server.plan(Answer(items=[reasoned, answered("Wait."), function_call("c1", '{"at":1}'), custom_call("c2")]))
        self.respond(client, user("Look"), tools=FUNCTIONS)
        self.chat(client, tool("c1"), tool("c2", "a.txt"))
        custom = {"id": "c2", "type": "custom", "custom": {"name": "shell", "input": "ls"}}
        assert server.last_messages == [
            user("Look"),
            assistant("Wait.", tool_calls=[call("c1", arguments='{"at":1}'), custom]),
            tool("c1"),
            tool("c2", "a.txt"),
        ]
        self.respond(client, user("And then?"))
        assert kinds(server)[2:6] == [
            "function_call",
            "custom_tool_call",
            "function_call_output",
            "custom_tool_call_output",
        ]

    @pytest.mark.parametrize("refusal", ["I will not."])
    def test_refusals_go_both_ways(self, server: OpenAIServer, client: Any, refusal: str) -> None:
        server.plan({"refusal": refusal}, {"refusal": refusal})
        self.chat(client, user("Do it!"))
        self.respond(client, user("Do it now!"))
        assert texts(server) == ["Do it!", refusal, "Do it now!"]
        self.chat(client, user("Please?"))
        assert [message.get("refusal") for message in server.last_messages] == [None, refusal, None, refusal, None]

    def test_pictures_go_both_ways(self, server: OpenAIServer, client: Any) -> None:
        url = "https://example.org/a.png"
        chat_part = {"type": "image_url", "image_url": {"url": url, "detail": "low"}}
        item_part = {"type": "input_image", "image_url": url, "detail": "low"}
        self.chat(client, user([{"type": "text", "text": "This:"}, chat_part]))
        self.respond(client, user([{"type": "input_text", "text": "And this:"}, item_part]))
        assert items(server)[0] == user([{"type": "input_text", "text": "This:"}, item_part])
        self.chat(client, user("?"))
        assert server.last_messages[2] == user([{"type": "text", "text": "And this:"}, chat_part])

    def test_the_whole_list_of_the_other_api_is_recognised(self, server: OpenAIServer, client: Any) -> None:
        self.respond(client, user("one"))
        self.chat(client, user("one"), assistant("You said: one"), user("two"))
        assert len(server.last_messages) == 3
        self.respond(
            client, user("one"), assistant("You said: one"), user("two"), assistant("You said: two"), user("3")
        )
        assert texts(server) == ["one", "You said: one", "two", "You said: two", "3"]
        assert len(client.history.get_messages("t")) == 6

    @pytest.mark.parametrize("odd", ["", None])
    def test_empty_answers_go_both_ways(self, server: OpenAIServer, client: Any, odd: str | None) -> None:
        server.plan({"content": odd}, Answer(items=[]), Answer(items=[{"type": "reasoning", "summary": []}]))
        self.chat(client, user("one"))
        self.respond(client, user("two"))
        self.respond(client, user("three"))
        self.chat(client, user("four"))
        self.respond(client, user("five"))
        assert {request.status for request in server.requests} == {200}


class TestBoundClients:
    def test_for_user_keeps_others_out(self, server: OpenAIServer, client: Any) -> None:
        client.for_user("ada").responses.create(model="gpt-4o", input="one", thread_id="t")
        assert client.history.get_thread("t").user_id == "ada"
        with pytest.raises(ThreadNotFoundError):
            client.for_user("bob").responses.create(model="gpt-4o", input="two", thread_id="t")
        assert len(server.requests) == 1

    def test_what_is_retrieved_is_not_stored_again(self, client: Any) -> None:
        answer = client.responses.create(model="gpt-4o", input="one", thread_id="t")
        assert client.responses.retrieve(answer.id).output_text == "You said: one"
        assert len(client.history.get_messages("t")) == 2

    def test_history_of_a_parsed_response(self, client: Any) -> None:
        assert history_of(client.responses.parse(model="gpt-4o", input="one", thread_id="t")).saved

    def test_the_storage_is_shared_by_both_apis(self, server: OpenAIServer) -> None:
        with sdk_client(server) as plain:
            storage = MemoryStorage()
            with_history(plain, storage=storage).responses.create(model="gpt-4o", input="one", thread_id="t")
            again: Any = with_history(plain, storage=storage)
            again.chat.completions.create(model="gpt-4o", messages=[user("two")], thread_id="t")
        assert [message["content"] for message in server.last_messages] == ["one", "You said: one", "two"]


def test_calling_is_told_from_speaking(server: OpenAIServer, respond: Respond) -> None:
    """An assistant message of the chat form that calls tools is no item; the API's own words say what is."""
    with pytest.raises(Exception, match="tool_calls"):
        respond.say(user("Look"), calling("c1"))
