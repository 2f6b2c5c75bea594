"""One write per call, after the answer, with all that is known of the call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openai
import pytest

from memexllm import FIFOAlgorithm, with_history
from memexllm.testing.server import Answer, Drop, OpenAIServer, ServerError
from tests.openai.storages import CountingStorage
from tests.openai.talking import TOOLS, Talk, call, calling, said, sdk_client, system, tool, user

if TYPE_CHECKING:
    from collections.abc import Callable


def test_input_and_answer_are_one_write(talking: Callable[..., Talk]) -> None:
    storage = CountingStorage()
    talk = talking(storage=storage, algorithm=FIFOAlgorithm(max_messages=6, keep=3))
    for index in range(10):
        talk.say(system(f"style {index // 3}"), user(f"q{index}"), user("and?"))
        assert storage.n_appends == index + 1
    assert storage.n_replaced == 0


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
def test_an_error_of_the_api_leaves_the_thread_as_it_was(server: OpenAIServer, talk: Talk, status: int) -> None:
    server.plan(ServerError(status))
    with pytest.raises(openai.APIStatusError):
        talk.say(system("Be brief."), user("one"))
    assert talk.run("list_threads") == []
    talk.say(user("one"))
    server.plan(ServerError(status))
    version = talk.run("get_thread", "t").version
    with pytest.raises(openai.APIStatusError):
        talk.say(system("Be brief."), user("two"))
    assert talk.run("get_thread", "t").version == version
    assert talk.stored_contents() == ["one", "You said: one"]
    talk.say(user("two"))
    assert said(server) == ["one", "You said: one", "two"]


def test_a_line_dropped_before_the_answer_leaves_the_thread_as_it_was(server: OpenAIServer, talk: Talk) -> None:
    server.plan(Drop())
    with pytest.raises(openai.APIConnectionError):
        talk.say(user("one"))
    assert talk.run("list_threads") == []


@pytest.mark.parametrize("streamed", [False, True])
def test_retries_of_the_sdk_send_the_same_and_store_once(server: OpenAIServer, *, streamed: bool) -> None:
    storage = CountingStorage()
    with sdk_client(server, max_retries=5) as original:
        client: Any = with_history(original, storage=storage)
        client.chat.completions.create(model="m", messages=[user("one")], thread_id="t")
        server.plan(*(ServerError(status, retry_after_s=0) for status in (429, 500, 503)))
        answer = client.chat.completions.create(model="m", messages=[user("two")], thread_id="t", stream=streamed)
        if streamed:
            list(answer)
    bodies = [request.raw for request in server.requests[1:]]
    assert len(bodies) == 4
    assert len(set(bodies)) == 1
    assert storage.n_appends == 2
    assert [message.content for message in client.history.get_messages("t")] == [
        "one",
        "You said: one",
        "two",
        "You said: two",
    ]


def test_a_key_in_the_servers_address_is_not_stored(server: OpenAIServer) -> None:
    address = server.base_url.replace("http://", "http://ada:secret@")
    with openai.OpenAI(base_url=address, api_key="local", max_retries=0) as original:
        client: Any = with_history(original, storage=CountingStorage())
        client.chat.completions.create(model="m", messages=[user("hello")], thread_id="t")
    answer = client.history.get_messages("t")[-1]
    assert answer.call.server == server.base_url + "/"
    assert "secret" not in repr(answer.row())


def test_what_is_known_of_the_call_is_kept_with_its_answer(server: OpenAIServer, talk: Talk) -> None:
    talk.seed(user("a"), calling("c1"))
    unanswered = talk.run("get_messages", "t")[1].id
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 4,
        "total_tokens": 13,
        "prompt_tokens_details": {"cached_tokens": 2},
    }
    server.plan(
        Answer("hello", usage=usage, finish_reason="length", extra={"id": "chatcmpl-7", "model": "m-2026-01-01"})
    )
    streaming: dict[str, Any] = {"stream_options": {"include_usage": True}} if talk.streamed else {}
    talk.say(system("Be brief."), user("b"), model="m", **streaming)
    info = talk.run("get_messages", "t")[-1].call
    assert info.model == "m-2026-01-01"
    assert info.usage == usage
    assert info.finish_reason == "length"
    assert info.response_id == "chatcmpl-7"
    assert info.server == server.base_url + "/"
    assert info.repairs == [unanswered]
    assert 0 < info.latency_s < 60
    assert info.block_hash
    assert [message.call for message in talk.run("get_messages", "t")[:-1]] == [None] * 4


def test_an_answer_without_choices_loses_nothing_of_the_input(server: OpenAIServer, client: Any) -> None:
    server.plan(Answer("", extra={"choices": []}))
    client.chat.completions.create(model="m", messages=[user("one")], thread_id="t")
    client.chat.completions.create(model="m", messages=[user("two")], thread_id="t")
    assert said(server) == ["one", "two"]


def test_an_agent_of_many_calls_stores_each_of_them(server: OpenAIServer, talk: Talk) -> None:
    talk.say(user("look around"), tools=TOOLS)
    server.clear()
    for number in range(20):
        server.answer({"content": None, "tool_calls": [call(f"c{number}")]})
    message = user("go")
    for number in range(20):
        talk.say(message, tools=TOOLS)
        message = tool(f"c{number}", str(number))
    assert talk.say(message) == "The result of look is: 19"
    assert len(talk.stored()) == 2 + 1 + 20 * 2 + 1
