"""Which thread a call continues, and whose it is."""

from __future__ import annotations

import asyncio
import warnings
from typing import TYPE_CHECKING, Any

import openai
import pytest

from memexllm import MemoryStorage, history_of, with_history
from memexllm.core.errors import ConfigurationError, ResourceNotFoundError, ThreadNotFoundError, ValidationError
from memexllm.integrations.openai import ThreadNotGivenWarning
from tests.openai.storages import CountingStorage
from tests.openai.talking import Talk, said, user

if TYPE_CHECKING:
    from collections.abc import Callable

    from memexllm.testing.server import OpenAIServer

HEADER = "X-Memexllm-Thread-Id"


def ids(talk: Talk) -> list[str]:
    return [thread.id for thread in talk.run("list_threads")]


def test_the_keyword_names_it_and_is_not_sent(server: OpenAIServer, talk: Talk) -> None:
    talk.say(user("hi"), thread_id="alice-1")
    assert ids(talk) == ["alice-1"]
    assert b"alice-1" not in server.requests[0].raw
    assert "alice-1" not in str(server.requests[0].headers)


@pytest.mark.parametrize("name", [HEADER, HEADER.lower(), HEADER.upper()])
def test_the_header_names_it_and_is_not_sent(server: OpenAIServer, talk: Talk, name: str) -> None:
    talk.say(user("hi"), thread_id=..., extra_headers={name: "alice-1", "x-mine": "1"})
    assert ids(talk) == ["alice-1"]
    assert "alice-1" not in str(server.requests[0].headers)
    assert server.requests[0].headers["x-mine"] == "1"


def test_the_callers_headers_stay_as_they_are(talk: Talk) -> None:
    headers = {HEADER: "alice-1"}
    talk.say(user("hi"), thread_id=..., extra_headers=headers)
    assert headers == {HEADER: "alice-1"}


def test_with_thread_binds_a_client_and_leaves_nothing_behind(server: OpenAIServer, talk: Talk) -> None:
    bound = talk.client.with_thread("alice-1")
    talk.say(user("hi"), thread_id=..., client=bound)
    talk.say(user("again"), thread_id=..., client=bound.with_options(timeout=5))
    assert said(server) == ["hi", "You said: hi", "again"]
    with pytest.warns(ThreadNotGivenWarning):
        talk.say(user("unbound"), thread_id=...)
    assert said(server) == ["unbound"]


def test_the_managers_thread_binds_the_calls_inside(server: OpenAIServer, talk: Talk) -> None:
    with talk.client.history.thread("alice-1"):
        talk.say(user("hi"), thread_id=...)
        with talk.client.history.thread("bob-1"):
            talk.say(user("hi"), thread_id=...)
    assert ids(talk) == ["alice-1", "bob-1"]


async def test_the_managers_thread_binds_its_own_task_only(async_client: Any) -> None:
    async def say(name: str) -> str:
        with async_client.history.thread(name):
            answer = await async_client.chat.completions.create(model="m", messages=[user(name)])
            return history_of(answer).thread_id

    names = [f"user-{number}" for number in range(10)]
    assert await asyncio.gather(*map(say, names)) == names


def test_the_wrappers_own_thread_is_the_last_resort(talking: Callable[..., Talk]) -> None:
    talk = talking(thread_id="default")
    talk.say(user("hi"), thread_id=...)
    with talk.client.history.thread("context"):
        talk.say(user("hi"), thread_id=...)
        bound = talk.client.with_thread("bound")
        talk.say(user("hi"), thread_id=..., client=bound)
        talk.say(user("hi"), thread_id=..., client=bound, extra_headers={HEADER: "header"})
        talk.say(user("hi"), thread_id="keyword", client=bound, extra_headers={HEADER: "header"})
    assert ids(talk) == ["default", "context", "bound", "header", "keyword"]


class TestNone:
    """A call that names no thread."""

    def test_it_makes_one_and_says_so_once(self, talk: Talk) -> None:
        with pytest.warns(ThreadNotGivenWarning) as warned:
            talk.say(user("hi"), thread_id=...)
        assert talk.info
        first = talk.info.thread_id
        assert len(warned) == 1
        assert first in str(warned[0].message)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            talk.say(user("hi"), thread_id=...)
        assert talk.info.thread_id != first
        assert talk.stored_contents(first) == ["hi", "You said: hi"]

    def test_the_warning_points_at_the_callers_line(self, client: Any) -> None:
        with pytest.warns(ThreadNotGivenWarning) as warned:
            client.chat.completions.create(model="m", messages=[user("hi")])
        assert warned[0].filename == __file__

    async def test_the_warning_points_at_the_callers_line_async(self, async_client: Any) -> None:
        with pytest.warns(ThreadNotGivenWarning) as warned:
            await async_client.chat.completions.create(model="m", messages=[user("hi")])
        assert warned[0].filename == __file__

    def test_it_can_be_ignored(self, talking: Callable[..., Talk]) -> None:
        talk = talking(on_missing_thread="ignore")
        with pytest.raises(ResourceNotFoundError):
            talk.say(user("hi"), thread_id=...)
        assert ids(talk) == []

    def test_it_can_be_refused(self, server: OpenAIServer, talking: Callable[..., Talk]) -> None:
        talk = talking(on_missing_thread="error")
        with pytest.raises(ValidationError, match="names no thread"):
            talk.say(user("hi"), thread_id=...)
        assert server.requests == []


def test_an_explicit_none_is_a_call_without_history(server: OpenAIServer, talking: Callable[..., Talk]) -> None:
    storage = CountingStorage()
    talk = talking(storage=storage, thread_id="default")
    talk.say(user("kept"), thread_id="bound")
    storage.n_rows_read = storage.n_appends = 0
    with talk.client.history.thread("context"):
        talk.say(user("hi"), thread_id=None, client=talk.client.with_thread("bound"))
    assert said(server) == ["hi"]
    assert (storage.n_appends, storage.n_rows_read) == (0, 0)
    assert ids(talk) == ["bound"]


@pytest.mark.parametrize("thread_id", ["", 7, b"t", ["t"], False])
def test_what_is_no_id_is_refused_before_the_request(server: OpenAIServer, talk: Talk, thread_id: Any) -> None:
    with pytest.raises(ValidationError, match="Thread ID"):
        talk.say(user("hi"), thread_id=thread_id)
    with pytest.raises(ValidationError, match="Thread ID"):
        talk.client.with_thread(thread_id)
    with pytest.raises(ValidationError, match="Thread ID"):
        talk.client.history.thread(thread_id)
    assert server.requests == []


def test_an_empty_header_is_refused_before_the_request(server: OpenAIServer, talk: Talk) -> None:
    with pytest.raises(ValidationError, match="Thread ID cannot be empty"):
        talk.say(user("hi"), thread_id=..., extra_headers={HEADER: ""})
    assert server.requests == []


def test_an_id_in_the_extra_body_would_be_sent_and_is_refused(server: OpenAIServer, talk: Talk) -> None:
    with pytest.raises(ConfigurationError, match="thread_id="):
        talk.say(user("hi"), extra_body={"thread_id": "t"})
    assert server.requests == []


def test_an_unknown_id_is_created_and_strange_ones_are_ids(talk: Talk) -> None:
    for thread_id in ("../etc", "ä ö", "👩‍👩‍👧", "a" * 500, "'; DROP TABLE threads; --"):
        talk.say(user("hi"), thread_id=thread_id)
        assert len(talk.stored(thread_id)) == 2


class TestUsers:
    def test_a_users_client_makes_the_users_threads(self, talk: Talk) -> None:
        alice = talk.client.for_user("alice")
        talk.say(user("hi"), client=alice)
        assert talk.run("get_thread", "t").user_id == "alice"
        talk.say(user("again"), client=alice.with_thread("t"), thread_id=...)
        talk.say(user("again"), client=alice.with_options(timeout=5))
        assert len(talk.stored()) == 6

    @pytest.mark.parametrize("owner", ["alice", None])
    def test_another_users_thread_is_unknown(self, server: OpenAIServer, talk: Talk, owner: str | None) -> None:
        talk.say(user("secret"), client=talk.client.for_user(owner) if owner else None)
        before = len(server.requests)
        for client in (talk.client.for_user("bob"), talk.client.with_thread("t").for_user("bob")):
            with pytest.raises(ThreadNotFoundError, match="Thread not found: t"):
                talk.say(user("hi"), client=client)
        assert len(server.requests) == before
        assert talk.stored_contents() == ["secret", "You said: secret"]

    def test_binding_a_thread_keeps_the_user_and_the_other_way_round(self, talk: Talk) -> None:
        for number, client in enumerate(
            (talk.client.for_user("alice").with_thread("0"), talk.client.with_thread("1").for_user("alice"))
        ):
            talk.say(user("hi"), client=client, thread_id=...)
            assert talk.run("get_thread", str(number)).user_id == "alice"

    def test_no_user_is_refused(self, talk: Talk) -> None:
        with pytest.raises(ValidationError, match="user_id"):
            talk.client.for_user("")


class TestInfo:
    def test_it_says_what_was_stored_and_sent(self, talk: Talk) -> None:
        talk.say({"role": "system", "content": "Be brief."}, user("one"))
        assert talk.info
        assert (talk.info.injected, talk.info.saved, talk.info.error) == (0, True, None)
        assert talk.info.message_ids == [message.id for message in talk.run("get_messages", "t")]
        talk.say(user("two"))
        assert talk.info.injected == 3
        assert talk.info.message_ids == [message.id for message in talk.run("get_messages", "t")][3:]

    def test_it_does_not_show_in_what_the_sdk_dumps(self, client: Any) -> None:
        answer = client.chat.completions.create(model="m", messages=[user("hi")], thread_id="t")
        assert "memex" not in answer.model_dump_json()
        assert history_of(answer).thread_id == "t"

    def test_other_responses_have_none(self, client: Any) -> None:
        answer = client.chat.completions.create(model="m", messages=[user("hi")], thread_id=None)
        for response in (answer, object(), None, {"choices": []}):
            with pytest.raises(ResourceNotFoundError):
                history_of(response)


def test_two_clients_over_one_storage_continue_each_others_threads(
    server: OpenAIServer, talking: Callable[..., Talk], client: Any
) -> None:
    storage = MemoryStorage()
    talking(storage=storage).say(user("My name is Ada."))
    other: Any = with_history(client._memexllm_original, storage=storage)
    answer = other.chat.completions.create(model="m", messages=[user("What is my name?")], thread_id="t")
    assert answer.choices[0].message.content == "Your name is Ada."


@pytest.mark.parametrize("mark", [openai.NOT_GIVEN, getattr(openai, "omit", openai.NOT_GIVEN)])
def test_the_sdks_marks_for_not_given_are_none(client: Any, mark: Any) -> None:
    with pytest.warns(ThreadNotGivenWarning):
        answer = client.chat.completions.create(model="m", messages=[user("hi")], thread_id=mark)
    assert history_of(answer).saved


def test_a_role_that_is_no_string_is_refused_before_the_request(client: Any, server: OpenAIServer) -> None:
    with pytest.raises(ValidationError, match="role"):
        client.chat.completions.create(model="m", messages=[{"role": ["user"], "content": "x"}], thread_id="t")
    assert server.requests == []
