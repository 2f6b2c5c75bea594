"""A storage that fails under calls of the Responses API: no answer is lost, none is paid for without memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from memexllm import history_of, with_history
from memexllm.core.errors import HistoryReadError, HistoryWriteError
from memexllm.testing.server import Answer
from tests.openai.responding import FUNCTIONS, Respond, answered, function_call, function_output, kinds, texts
from tests.openai.storages import FailingStorage
from tests.openai.talking import sdk_client

if TYPE_CHECKING:
    from collections.abc import Callable

    from memexllm.testing.server import OpenAIServer


@pytest.fixture
def storage() -> FailingStorage:
    return FailingStorage()


@pytest.fixture
def respond(responding: Callable[..., Respond], storage: FailingStorage) -> Respond:
    return responding(storage=storage)


def test_a_thread_that_cannot_be_read_costs_nothing(
    server: OpenAIServer, respond: Respond, storage: FailingStorage
) -> None:
    storage.failing_reads = 1
    with pytest.raises(HistoryReadError, match="no request was made"):
        respond.say("one")
    assert server.requests == []
    respond.say("one")
    assert respond.stored_contents() == ["one", "You said: one"]


def test_ignored_it_is_sent_without_history_and_stored(
    server: OpenAIServer, responding: Callable[..., Respond], storage: FailingStorage
) -> None:
    respond = responding(storage=storage, on_read_error="ignore")
    respond.say("one")
    storage.failing_reads = 1
    respond.say("two")
    assert texts(server) == ["two"]
    assert respond.stored_contents() == ["one", "You said: one", "two", "You said: two"]


def test_the_answer_is_returned_and_its_items_are_stored_by_the_next_call(
    server: OpenAIServer, respond: Respond, storage: FailingStorage
) -> None:
    server.plan(Answer(items=[answered("Wait."), function_call("c1")]))
    storage.failing_writes = 2
    assert respond.say("Look", tools=FUNCTIONS) == "Wait."
    assert respond.info is not None
    assert not respond.info.saved
    assert isinstance(respond.info.error, Exception)
    respond.say(function_output("c1"), tools=FUNCTIONS)
    assert kinds(server) == ["user", "assistant", "function_call", "function_call_output"]
    assert [wire["role"] for wire in respond.stored()] == ["user", "assistant", "tool", "assistant"]


def test_flush_stores_it(respond: Respond, storage: FailingStorage) -> None:
    storage.failing_writes = 2
    respond.say("one")
    respond.run("flush")
    assert respond.stored_contents() == ["one", "You said: one"]


@pytest.mark.parametrize("method", ["create", "parse", "raw", "stream", "helper"])
def test_the_error_carries_the_answer(server: OpenAIServer, storage: FailingStorage, method: str) -> None:
    with sdk_client(server) as plain:
        client = with_history(plain, storage=storage, on_write_error="raise")
        storage.failing_writes = 2
        heard: list[Any] = []
        with pytest.raises(HistoryWriteError) as raised:
            _call(client, method, heard)
        if method in ("stream", "helper"):
            assert heard[-1].type == "response.completed"
        else:
            response = raised.value.response
            answer = response.parse() if method == "raw" else response
            assert answer.output_text == "You said: one"
            assert not history_of(answer).saved


def _call(client: Any, method: str, heard: list[Any]) -> None:
    params: dict[str, Any] = {"model": "gpt-4o", "input": "one", "thread_id": "t"}
    if method == "raw":
        client.responses.with_raw_response.create(**params)
    elif method == "stream":
        _hear(client.responses.create(**params, stream=True), heard)
    elif method == "helper":
        with client.responses.stream(**params) as stream:
            _hear(stream, heard)
    else:
        getattr(client.responses, method)(**params)


def _hear(stream: Any, heard: list[Any]) -> None:
    """What came before the error is there: `extend` keeps what it was given."""
    heard.extend(stream)
