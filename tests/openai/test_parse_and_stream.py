"""The SDK's helpers `chat.completions.parse()` and `.stream()` carry the thread, whatever their parsers make of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import openai
import pydantic
import pytest

from memexllm import history_of
from memexllm.testing.server import ServerError
from tests.openai.storages import CountingStorage
from tests.openai.talking import Talk, assistant, call, said, sent, user

if TYPE_CHECKING:
    import asyncio

    from memexllm.testing.server import OpenAIServer

WAYS = ("parse", "stream", "async parse", "async stream")
STORY = "Once upon a time there was a fox who learned to read."


class City(pydantic.BaseModel):
    name: str


LOOK = openai.pydantic_function_tool(City, name="look")


class Helper(Talk):
    """`say` by `parse()`, or by `.stream()` read to its end; it returns the completion the SDK has put together."""

    def __init__(self, way: str, original: Any, runner: asyncio.Runner | None, **options: Any) -> None:
        super().__init__(way, original, runner, **options)
        self.max_pieces: int | None = None
        """After so many pieces of text the stream is left; 0: at its first event."""

    def _say(self, client: Any, kwargs: dict[str, Any]) -> Any:
        if not self.streamed:
            return client.chat.completions.parse(**kwargs)
        with client.chat.completions.stream(**kwargs) as stream:
            n_pieces = 0
            for event in stream:
                n_pieces += event.type == "content.delta"
                if n_pieces == self.max_pieces:
                    return stream.current_completion_snapshot
            return stream.get_final_completion()

    async def _say_async(self, client: Any, kwargs: dict[str, Any]) -> Any:
        if not self.streamed:
            return await client.chat.completions.parse(**kwargs)
        async with client.chat.completions.stream(**kwargs) as stream:
            n_pieces = 0
            async for event in stream:
                n_pieces += event.type == "content.delta"
                if n_pieces == self.max_pieces:
                    return stream.current_completion_snapshot
            return await stream.get_final_completion()


@pytest.fixture
def storage() -> CountingStorage:
    return CountingStorage()


@pytest.fixture(params=WAYS)
def helper(request: pytest.FixtureRequest, server: OpenAIServer, _originals: Any, storage: CountingStorage) -> Helper:
    original, async_original, runner = _originals
    if request.param.startswith("async"):
        return Helper(request.param, async_original, runner, storage=storage)
    return Helper(request.param, original, None, storage=storage)


def message_of(completion: Any) -> Any:
    return completion.choices[0].message


def test_the_history_is_sent(server: OpenAIServer, helper: Helper) -> None:
    helper.say(user("My name is Ada."))
    answer = helper.say(user("What is my name?"))
    assert message_of(answer).content == "Your name is Ada."
    assert said(server) == ["My name is Ada.", "You said: My name is Ada.", "What is my name?"]


def test_a_turn_is_stored_once(helper: Helper, storage: CountingStorage) -> None:
    helper.say(user("one"))
    assert helper.stored() == [user("one"), assistant("You said: one")]
    assert (storage.n_appends, storage.n_replaced) == (1, 0)


def test_what_is_ours_never_reaches_the_server(server: OpenAIServer, helper: Helper) -> None:
    helper.say(user("one"), thread_id="secret-thread", merge="append", extra_headers={"X-Memexllm-Thread-Id": "other"})
    (request,) = server.requests
    assert b"secret-thread" not in request.raw
    assert {"thread_id", "merge"}.isdisjoint(request.body)
    assert "x-memexllm-thread-id" not in {name.lower() for name in request.headers}
    assert helper.stored_contents("secret-thread") == ["one", "You said: one"]


def test_the_thread_of_a_bound_client_is_continued(server: OpenAIServer, helper: Helper) -> None:
    helper.say(user("one"))
    helper.say(user("two"), client=helper.client.with_thread("t"), thread_id=...)
    assert said(server) == ["one", "You said: one", "two"]


def test_thread_id_none_on_a_bound_client_goes_out_without_history(
    server: OpenAIServer, helper: Helper, storage: CountingStorage
) -> None:
    bound = helper.client.with_thread("t")
    helper.say(user("one"), client=bound, thread_id=...)
    helper.say(user("two"), client=bound, thread_id=None)
    assert said(server) == ["two"]
    assert helper.stored_contents() == ["one", "You said: one"]
    assert storage.n_appends == 1


def test_the_whole_list_may_be_passed(server: OpenAIServer, helper: Helper) -> None:
    helper.say(user("one"))
    helper.say(user("one"), assistant("You said: one"), user("two"))
    assert said(server) == ["one", "You said: one", "two"]
    assert helper.stored_contents() == ["one", "You said: one", "two", "You said: two"]


def test_merge_is_taken_by_the_call(server: OpenAIServer, helper: Helper) -> None:
    helper.say(user("one"))
    helper.say(user("two"), merge="replace")
    assert said(server) == ["two"]
    assert helper.stored_contents() == ["two", "You said: two"]


def test_a_failed_request_leaves_the_thread_as_it_was(server: OpenAIServer, helper: Helper) -> None:
    helper.say(user("one"))
    server.plan(ServerError(400))
    with pytest.raises(openai.BadRequestError):
        helper.say(user("two"))
    assert helper.stored_contents() == ["one", "You said: one"]


class TestParsed:
    def test_the_answer_is_parsed_and_its_text_is_kept(self, server: OpenAIServer, helper: Helper) -> None:
        server.answer('{"name": "Rome"}')
        answer = helper.say(user("Which city?"), response_format=City)
        assert message_of(answer).parsed == City(name="Rome")
        assert helper.stored() == [user("Which city?"), assistant('{"name": "Rome"}')]
        helper.say(user("And then?"))
        assert sent(server)[1] == assistant('{"name": "Rome"}')

    def test_a_tool_call_is_kept_without_its_parsed_arguments(self, server: OpenAIServer, helper: Helper) -> None:
        asked = call("c1", arguments='{"name":"Rome"}')
        server.answer({"content": None, "tool_calls": [asked]})
        answer = helper.say(user("Look it up"), tools=[LOOK])
        assert message_of(answer).tool_calls[0].function.parsed_arguments == City(name="Rome")
        assert helper.stored()[-1]["tool_calls"] == [asked]

    @pytest.mark.parametrize("helper", ["parse", "async parse"], indirect=True)
    def test_history_of_a_parsed_answer(self, helper: Helper) -> None:
        helper.say(user("one"))
        info = history_of(helper.say(user("two")))
        assert (info.thread_id, info.injected, info.saved) == ("t", 2, True)
        assert info.message_ids == [message.id for message in helper.run("get_messages", "t")[-2:]]


class Refused(NamedTuple):
    answer: str
    finish_reason: str
    error: type[Exception]


REFUSED = {
    "no JSON": Refused("I would rather not.", "stop", pydantic.ValidationError),
    "JSON of another shape": Refused('{"planet": "Mars"}', "stop", pydantic.ValidationError),
    "cut off by the token limit": Refused('{"name": "Ro', "length", openai.LengthFinishReasonError),
    "filtered": Refused('{"name": "', "content_filter", openai.ContentFilterFinishReasonError),
}


class TestRefused:
    """An answer the SDK's parser refuses was paid for, and is what the model said."""

    @pytest.mark.parametrize("reason", REFUSED)
    @pytest.mark.parametrize("helper", ["parse", "async parse"], indirect=True)
    def test_an_answer_is_stored(
        self, server: OpenAIServer, helper: Helper, storage: CountingStorage, reason: str
    ) -> None:
        refused = REFUSED[reason]
        server.answer(refused.answer, finish_reason=refused.finish_reason)
        with pytest.raises(refused.error):
            helper.say(user("Which city?"), response_format=City)
        assert helper.stored() == [user("Which city?"), assistant(refused.answer)]
        assert helper.run("get_messages", "t")[-1].call.finish_reason == refused.finish_reason
        assert storage.n_appends == 1

    @pytest.mark.parametrize("reason", [reason for reason in REFUSED if reason != "no JSON"])
    @pytest.mark.parametrize("helper", ["stream", "async stream"], indirect=True)
    def test_a_streamed_answer_is_stored(self, server: OpenAIServer, helper: Helper, reason: str) -> None:
        refused = REFUSED[reason]
        server.answer(refused.answer, finish_reason=refused.finish_reason)
        with pytest.raises(refused.error):
            helper.say(user("Which city?"), response_format=City)
        assert helper.stored() == [user("Which city?"), assistant(refused.answer)]
        assert helper.run("get_messages", "t")[-1].status == "complete"

    @pytest.mark.parametrize("helper", ["stream", "async stream"], indirect=True)
    def test_a_stream_refused_on_the_way_is_kept_as_far_as_it_came(self, server: OpenAIServer, helper: Helper) -> None:
        """The SDK parses every piece as it comes, and gives up on the first that begins no JSON."""
        server.answer("I would rather not.")
        with pytest.raises(ValueError, match="line 1"):
            helper.say(user("Which city?"), response_format=City)
        question, answer = helper.run("get_messages", "t")
        assert (question.content, answer.status) == ("Which city?", "incomplete")
        assert "I would rather not.".startswith(answer.content)

    @pytest.mark.parametrize("helper", ["parse", "async parse"], indirect=True)
    def test_the_conversation_goes_on(self, server: OpenAIServer, helper: Helper) -> None:
        server.answer("I would rather not.")
        with pytest.raises(pydantic.ValidationError):
            helper.say(user("Which city?"), response_format=City)
        helper.say(user("Please?"))
        assert said(server) == ["Which city?", "I would rather not.", "Please?"]


@pytest.mark.parametrize("helper", ["stream", "async stream"], indirect=True)
class TestLeft:
    def test_a_stream_that_is_left_is_kept_as_far_as_it_came(self, server: OpenAIServer, helper: Helper) -> None:
        server.answer(STORY)
        helper.max_pieces = 3
        said_so_far = message_of(helper.say(user("Tell me a story"))).content
        answer = helper.run("get_messages", "t")[-1]
        assert helper.stored_contents() == ["Tell me a story", said_so_far]
        assert answer.status == "incomplete"
        assert STORY.startswith(said_so_far)
        assert said_so_far != STORY

    def test_a_stream_that_is_left_before_it_says_anything_stores_nothing(
        self, server: OpenAIServer, helper: Helper, storage: CountingStorage
    ) -> None:
        server.answer(STORY)
        helper.max_pieces = 0
        helper.say(user("Tell me a story"))
        assert storage.n_appends == 0

    def test_the_next_call_goes_on_after_what_was_said(self, server: OpenAIServer, helper: Helper) -> None:
        server.answer(STORY)
        helper.max_pieces = 3
        said_so_far = message_of(helper.say(user("Tell me a story"))).content
        helper.max_pieces = None
        helper.say(user("Go on"))
        assert said(server) == ["Tell me a story", said_so_far, "Go on"]


class TestRawResponses:
    @pytest.mark.parametrize("method", ["create", "parse"])
    def test_a_raw_response_carries_history(self, client: Any, server: OpenAIServer, method: str) -> None:
        for text in ("one", "two"):
            ask = getattr(client.chat.completions.with_raw_response, method)
            response = ask(model="gpt-4o", messages=[user(text)], thread_id="t")
            assert message_of(response.parse()).content == f"You said: {text}"
        assert said(server) == ["one", "You said: one", "two"]
        assert history_of(response).saved
        assert len(client.history.get_messages("t")) == 4

    @pytest.mark.parametrize("method", ["create", "parse"])
    async def test_an_awaited_raw_response_carries_history(
        self, async_client: Any, server: OpenAIServer, method: str
    ) -> None:
        for text in ("one", "two"):
            ask = getattr(async_client.chat.completions.with_raw_response, method)
            response = await ask(model="gpt-4o", messages=[user(text)], thread_id="t")
            assert message_of(response.parse()).content == f"You said: {text}"
        assert said(server) == ["one", "You said: one", "two"]
        assert history_of(response).saved
        assert len(await async_client.history.get_messages("t")) == 4

    def test_a_raw_stream_is_stored_when_it_is_read(self, client: Any) -> None:
        ask = client.chat.completions.with_raw_response.create
        response = ask(model="gpt-4o", messages=[user("one")], stream=True, thread_id="t")
        assert client.history.list_threads() == []
        list(response.parse())
        assert [message.content for message in client.history.get_messages("t")] == ["one", "You said: one"]


class TestStreamingResponses:
    @pytest.mark.parametrize("method", ["create", "parse"])
    def test_an_answer_is_stored(self, client: Any, server: OpenAIServer, method: str) -> None:
        ask = getattr(client.chat.completions.with_streaming_response, method)
        for text in ("one", "two"):
            with ask(model="gpt-4o", messages=[user(text)], thread_id="t") as response:
                assert message_of(response.parse()).content == f"You said: {text}"
                assert history_of(response).saved
        assert said(server) == ["one", "You said: one", "two"]

    @pytest.mark.parametrize("method", ["create", "parse"])
    async def test_an_awaited_answer_is_stored(self, async_client: Any, server: OpenAIServer, method: str) -> None:
        ask = getattr(async_client.chat.completions.with_streaming_response, method)
        for text in ("one", "two"):
            async with ask(model="gpt-4o", messages=[user(text)], thread_id="t") as response:
                assert message_of(await response.parse()).content == f"You said: {text}"
                assert history_of(response).saved
        assert said(server) == ["one", "You said: one", "two"]


@pytest.mark.parametrize("method", ["create", "parse"])
def test_beta_is_another_way_to_the_same_thread(client: Any, server: OpenAIServer, method: str) -> None:
    client.chat.completions.create(model="gpt-4o", messages=[user("one")], thread_id="t")
    bound = client.with_thread("t")
    getattr(bound.beta.chat.completions, method)(model="gpt-4o", messages=[user("two")])
    assert said(server) == ["one", "You said: one", "two"]
    getattr(client.beta.chat.completions, method)(model="gpt-4o", messages=[user("three")], thread_id="t")
    assert said(server) == ["one", "You said: one", "two", "You said: two", "three"]


async def test_beta_of_an_async_client(async_client: Any, server: OpenAIServer) -> None:
    for text in ("one", "two"):
        await async_client.beta.chat.completions.parse(model="gpt-4o", messages=[user(text)], thread_id="t")
    assert said(server) == ["one", "You said: one", "two"]


def test_the_rest_of_beta_is_the_sdks(client: Any) -> None:
    assert type(client.beta.assistants) is openai.resources.beta.assistants.Assistants
