"""What comes back is what was said, to the byte; what a server would refuse is never sent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from memexllm import FIFOAlgorithm, MemoryStorage, SQLiteStorage, with_history
from memexllm.testing.server import Answer, OpenAIServer
from tests.openai.talking import TOOLS, Talk, assistant, call, raw_messages, sdk_client, sent, system, tool, user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}}
SOUND = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
FILE = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}}

AS_GIVEN: dict[str, Any] = {
    "text": {"role": "user", "content": "hello"},
    "key order": {"content": "hello", "name": "ada", "role": "user"},
    "unknown keys": {"role": "user", "x_priority": 1, "content": "hello", "x_tags": {"b": 1, "a": [2, None]}},
    "unicode": {"role": "user", "content": 'Grüße 👩‍👩‍👧 \u202e "quoted" \\ \u0000 \n <|endoftext|>'},
    "picture": {"role": "user", "content": [{"type": "text", "text": "what is this?"}, PICTURE]},
    "sound": {"role": "user", "content": [SOUND]},
    "file": {"role": "user", "content": [FILE, {"type": "text", "text": "sum it up"}]},
    "cache breakpoint": {
        "role": "user",
        "content": [{"type": "text", "text": "long", "prompt_cache_breakpoint": {"type": "ephemeral"}}],
    },
    "numbers": {"role": "user", "content": "x", "x_numbers": [1, 1.5, 1e100, -0.0, 12345678901234567890, True]},
    "empty text": {"role": "user", "content": ""},
}


@pytest.fixture(params=["memory", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    with MemoryStorage() if request.param == "memory" else SQLiteStorage(tmp_path / "chat.db") as storage:
        yield storage


@pytest.mark.parametrize("given", AS_GIVEN)
def test_a_message_is_sent_again_byte_for_byte(
    server: OpenAIServer, talking: Callable[..., Talk], storage: Any, given: str
) -> None:
    talk = talking(storage=storage)
    talk.say(AS_GIVEN[given])
    talk.say(user("next"))
    assert raw_messages(server, 1)[0] == raw_messages(server, 0)[0]
    assert json.loads(raw_messages(server, 1)[0]) == AS_GIVEN[given]


def test_an_assistants_calls_and_results_are_sent_again_byte_for_byte(server: OpenAIServer, talk: Talk) -> None:
    result = {"tool_call_id": "c1", "role": "tool", "content": [{"type": "text", "text": "42"}]}
    asking = {"tool_calls": [call("c1", arguments='{ "a" :1 }')], "content": None, "role": "assistant", "name": "bot"}
    talk.say(user("a"), asking, result)
    talk.say(user("next"))
    assert raw_messages(server, 1)[:3] == raw_messages(server, 0)


def test_the_beginning_of_the_request_never_changes(server: OpenAIServer, talk: Talk) -> None:
    talk.say(system("Be brief."), user("one"))
    for text in ("two", "three", "four"):
        talk.say(user(text))
    for index in range(1, 4):
        before = raw_messages(server, index - 1)
        assert raw_messages(server, index)[: len(before)] == before


NEVER_AGAIN: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nulls": (
        {"content": "hi", "refusal": None, "tool_calls": None, "function_call": None, "audio": None},
        {"role": "assistant", "content": "hi"},
    ),
    "annotations": (
        {"content": "hi", "annotations": [{"type": "url_citation", "url_citation": {"url": "u", "title": "t"}}]},
        {"role": "assistant", "content": "hi"},
    ),
    "empty calls": ({"content": "hi", "tool_calls": []}, {"role": "assistant", "content": "hi"}),
    "a refusal": ({"content": None, "refusal": "no"}, {"role": "assistant", "content": None, "refusal": "no"}),
    "a function call": (
        {"content": None, "function_call": {"name": "look", "arguments": "{}"}},
        {"role": "assistant", "content": None, "function_call": {"name": "look", "arguments": "{}"}},
    ),
    "parsed": (
        {"content": "{}", "parsed": {"a": 1}},
        {"role": "assistant", "content": "{}"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("answered", NEVER_AGAIN)
def test_an_answer_goes_back_in_its_normal_form(server: OpenAIServer, talk: Talk, answered: str) -> None:
    message, expected = NEVER_AGAIN[answered]
    server.answer(message)
    talk.say(user("one"))
    talk.say(user("two"))
    again = json.loads(raw_messages(server, 1)[1])
    assert (again, list(again)) == (expected, list(expected))


def test_citations_are_stored(server: OpenAIServer, talk: Talk) -> None:
    cited = NEVER_AGAIN["annotations"][0]
    server.answer(cited)
    talk.say(user("one"))
    assert talk.stored()[-1] == {"role": "assistant", **cited}


def test_content_stays_null_beside_tool_calls(server: OpenAIServer, talk: Talk) -> None:
    server.answer({"content": None, "tool_calls": [call("c1")]})
    talk.say(user("one"))
    talk.say(tool("c1"))
    assert raw_messages(server, 1)[1].startswith('{"role":"assistant","content":null,"tool_calls":[{"id":"c1",')


def test_an_sdk_message_object_is_sent_without_what_servers_refuse(server: OpenAIServer, client: Any) -> None:
    server.answer({"content": None, "tool_calls": [call("c1")]})
    first = client.chat.completions.create(model="m", messages=[user("one")], thread_id="a").choices[0].message
    client.chat.completions.create(model="m", messages=[user("one"), first, tool("c1")], thread_id="b")
    assert sent(server)[1] == {"role": "assistant", "content": None, "tool_calls": [call("c1")]}


def test_unknown_fields_of_an_answer_are_stored_and_sent_back(server: OpenAIServer, talk: Talk) -> None:
    signed = {**call("c1"), "extra_content": {"google": {"thought_signature": "sig"}}}
    server.answer({"content": None, "tool_calls": [signed], "x_trace": {"id": 7}})
    talk.say(user("one"))
    talk.say(tool("c1"))
    assert sent(server)[1]["tool_calls"] == [signed]
    assert sent(server)[1]["x_trace"] == {"id": 7}


THOUGHT: dict[str, Any] = {"content": "hi", "reasoning_content": "hm", "reasoning_details": [{"text": "hm"}]}


class TestReasoning:
    @pytest.mark.parametrize(
        ("model", "goes_back"),
        [("r1-2026-01-02", True), ("r1", True), ("r1-2026-07-08", True), ("other", False)],
    )
    def test_it_goes_back_to_the_family_it_came_from(
        self, server: OpenAIServer, talk: Talk, model: str, *, goes_back: bool
    ) -> None:
        server.answer(THOUGHT)
        talk.say(user("one"), model="r1-2026-01-02")
        talk.say(user("two"), model=model)
        assert ("reasoning_content" in sent(server)[1]) is goes_back
        assert ("reasoning_details" in sent(server)[1]) is goes_back
        assert talk.stored()[1] == {"role": "assistant", **THOUGHT}

    def test_it_does_not_go_to_another_server(self, server: OpenAIServer) -> None:
        storage = MemoryStorage()
        server.answer(THOUGHT)
        with OpenAIServer(strict_fields=True) as other, sdk_client(server) as one, sdk_client(other) as two:
            for original in (one, two):
                client: Any = with_history(original, storage=storage)
                client.chat.completions.create(model="r1", messages=[user("hi")], thread_id="t")
            assert other.last_messages[1] == assistant("hi")

    @pytest.mark.parametrize(("option", "goes_back"), [("always", True), ("never", False)])
    def test_it_can_be_decided(
        self, server: OpenAIServer, talking: Callable[..., Talk], option: str, *, goes_back: bool
    ) -> None:
        talk = talking(replay_reasoning=option)
        server.answer(THOUGHT)
        talk.say(user("one"), model="a")
        talk.say(user("two"), model="a" if option == "never" else "b")
        assert ("reasoning_content" in sent(server)[1]) is goes_back


class TestAudio:
    def test_a_spoken_answer_goes_back_by_its_id(self, server: OpenAIServer, talk: Talk) -> None:
        server.answer({"content": None, "audio": {"id": "au1", "data": "AA", "transcript": "Hi", "expires_at": 4e9}})
        talk.say(user("one"))
        talk.say(user("two"))
        assert sent(server)[1] == {"role": "assistant", "content": None, "audio": {"id": "au1"}}
        assert talk.stored()[1]["audio"]["transcript"] == "Hi"

    def test_expired_its_transcript_goes_back_as_text(self, server: OpenAIServer, talk: Talk) -> None:
        server.answer({"content": None, "audio": {"id": "au1", "data": "AA", "transcript": "Hi", "expires_at": 1}})
        talk.say(user("one"))
        talk.say(user("two"))
        assert sent(server)[1] == {"role": "assistant", "content": "Hi"}


def test_a_server_that_knows_its_fields_exactly_accepts_what_is_sent_back() -> None:
    with OpenAIServer(strict_fields=True) as strict, sdk_client(strict) as original:
        client: Any = with_history(original, storage=MemoryStorage())
        strict.plan(
            Answer({"content": "cited", "annotations": [{"type": "url_citation"}], "refusal": None}),
            Answer({"content": None, "tool_calls": [call("c1")], "annotations": [], "refusal": None}),
            Answer({"content": None, "refusal": "no"}),
            Answer({"content": None, "audio": {"id": "au1", "data": "AA", "transcript": "Hi", "expires_at": 4e9}}),
        )
        for message in (user("a"), user("b"), tool("c1"), user("c"), user("d"), user("e")):
            client.chat.completions.create(model="m", messages=[message], thread_id="t", tools=TOOLS)
        assert {request.status for request in strict.requests} == {200}
        assert len(strict.last_messages) == 11


def test_a_window_with_two_marks_leaves_the_beginning_alone_between_cuts(
    server: OpenAIServer, talking: Callable[..., Talk]
) -> None:
    talk = talking(algorithm=FIFOAlgorithm(max_messages=20, keep=10))
    for index in range(40):
        talk.say(user(f"q{index}"))
    moved = 0
    for index in range(1, 40):
        before, now = raw_messages(server, index - 1), raw_messages(server, index)
        moved += now[: len(before)] != before
        assert len(now) <= 20
    assert 0 < moved <= 7
