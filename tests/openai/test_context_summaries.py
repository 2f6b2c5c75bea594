"""Summaries of wrapped clients: what is paid for, what is kept, and what a correction takes out of them."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import openai
import pytest

from memexllm import HistoryManager, MemoryStorage, Message, TokenWindowAlgorithm, history_of, with_history
from memexllm.algorithms import Pipeline, SummaryAlgorithm, ToolResultTrimming
from memexllm.algorithms.notes import WINDOWS
from memexllm.testing.server import OpenAIServer
from memexllm.testing.server.outcomes import Gate, Hold, ServerError
from tests.openai.talking import async_sdk_client, sdk_client, sent, system, user
from tests.storage.custom import LiveDictStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from openai import OpenAI


BUDGET = 600
QUESTION = "question {} " + "word " * 40
SLIP = "the word is hunter2"


class Scribe:
    """A summariser that writes down what it was told, and waits when there is a gate."""

    def __init__(self) -> None:
        self.given: list[list[str]] = []
        self.gate: threading.Event | None = None
        self.asked = threading.Event()

    def __call__(self, messages: list[Message], previous: str | None) -> str:
        self.given.append([message.text for message in messages])
        self.asked.set()
        if self.gate is not None:
            assert self.gate.wait(10)
        texts = [message.text.replace("word ", "") for message in messages]
        return f"{previous or ''} {' '.join(texts)}"


@pytest.fixture
def original(server: OpenAIServer) -> Iterator[OpenAI]:
    with sdk_client(server) as original:
        yield original


@pytest.fixture
def scribe() -> Scribe:
    return Scribe()


def client_of(original: Any, scribe: Any, storage: Any = None, **options: Any) -> Any:
    algorithm = SummaryAlgorithm(scribe, BUDGET, max_summary_tokens=150, **options)
    return with_history(original, storage=storage or MemoryStorage(), algorithm=algorithm)


def ask(client: Any, text: str, **params: Any) -> Any:
    return client.chat.completions.create(**{"model": "gpt-4o", "messages": [user(text)], "thread_id": "t", **params})


def fill(client: Any, until: Callable[[], Any], start: int = 0) -> int:
    """Ask until something is so; the number of the next question."""
    for number in range(start, start + 40):
        if until():
            return number
        ask(client, QUESTION.format(number))
    raise AssertionError("it never was so")


def note(client: Any) -> dict[str, Any]:
    thread = client.history.storage.get_thread("t")
    state = thread.state if thread else {}
    return dict(next(iter((state.get(WINDOWS) or {"": {}}).values())))


def summary_text(client: Any) -> str:
    return str((note(client).get("summary") or {}).get("text") or "")


def test_a_failed_request_does_not_pay_for_its_summary_again(
    server: OpenAIServer, original: OpenAI, scribe: Scribe
) -> None:
    client = client_of(original, scribe)
    number = 0
    while not scribe.given:
        server.plan(ServerError(500, "not now"))
        with pytest.raises(openai.InternalServerError):
            ask(client, QUESTION.format(number))
        if not scribe.given:
            ask(client, QUESTION.format(number))
        number += 1
    assert not summary_text(client)
    ask(client, QUESTION.format(number))
    assert summary_text(client)
    assert len(scribe.given) == 1
    assert note(client)["summary"]["cost"]["calls"] == 1


@pytest.mark.parametrize("change", ["correct", "edit", "regenerate from the start", "the turn again"])
def test_a_secret_that_was_taken_back_is_in_no_summary_and_no_request(
    server: OpenAIServer, original: OpenAI, scribe: Scribe, change: str
) -> None:
    client = client_of(original, scribe)
    ask(client, SLIP, turn_id="first")
    number = fill(client, lambda: "hunter2" in summary_text(client))
    messages = client.history.get_messages("t")
    if change == "correct":
        client.history.correct_message("t", messages[0].id, "nothing")
        client.history.correct_message("t", messages[1].id, "fine")
    elif change == "edit":
        client.history.edit_message("t", messages[0].id, "nothing")
    elif change == "the turn again":
        ask(client, SLIP, turn_id="first", messages=[user(SLIP)])
        client.history.correct_message("t", client.history.get_messages("t")[-2].id, "nothing")
        client.history.correct_message("t", client.history.get_messages("t")[-1].id, "fine")
    else:
        ask(client, "", messages=[*[message.wire for message in messages[:1]], user("changed")], merge="replace")
        client.history.correct_message("t", client.history.get_messages("t")[0].id, "nothing")
    assert "hunter2" not in json.dumps(dict(client.history.storage.get_thread("t").state))
    fill(client, lambda: summary_text(client), number)
    ask(client, "well?")
    assert "hunter2" not in json.dumps(sent(server))
    assert "hunter2" not in summary_text(client)


@pytest.mark.parametrize("works", ["in the call", "after the answer", "by compact", "for context"])
def test_a_secret_corrected_while_it_is_summarised_is_not_in_the_summary(
    server: OpenAIServer, original: OpenAI, scribe: Scribe, works: str
) -> None:
    client = client_of(original, scribe, after_answer=works == "after the answer")
    ask(client, SLIP)
    secret = client.history.get_messages("t")
    for number in range(3):
        ask(client, QUESTION.format(number))
    scribe.gate = threading.Event()
    if works in ("by compact", "for context"):
        _grown(client)
    doing = {
        "in the call": lambda: fill(client, lambda: scribe.given),
        "after the answer": lambda: fill(client, scribe.asked.is_set),
        "by compact": lambda: client.history.compact("t"),
        "for context": lambda: client.history.context("t"),
    }[works]
    worker = threading.Thread(target=doing)
    worker.start()
    assert scribe.asked.wait(10)
    for message in secret:
        client.history.correct_message("t", message.id, "nothing")
    scribe.gate.set()
    worker.join()
    client.flush()
    assert "hunter2" not in json.dumps(dict(client.history.storage.get_thread("t").state))
    scribe.gate = None
    fill(client, lambda: summary_text(client))
    assert "hunter2" not in summary_text(client)


def _grown(client: Any) -> None:
    client.history.add_messages("t", [Message(QUESTION.format(number), "user") for number in range(20)])


def test_a_secret_corrected_while_its_request_is_under_way_is_not_in_the_summary(
    server: OpenAIServer, original: OpenAI, scribe: Scribe
) -> None:
    client = client_of(original, scribe)
    ask(client, SLIP)
    secret = client.history.get_messages("t")
    _grown(client)
    with Gate() as gate:
        server.plan(Hold(gate, "fine"))
        worker = threading.Thread(target=ask, args=(client, "and now?"))
        worker.start()
        gate.wait_until_reached()
        for message in secret:
            client.history.correct_message("t", message.id, "nothing")
    worker.join()
    assert "hunter2" in json.dumps(scribe.given)
    assert "hunter2" not in json.dumps(dict(client.history.storage.get_thread("t").state))


def test_nobody_waits_for_a_summary_that_is_made_after_the_answer(
    server: OpenAIServer, original: OpenAI, scribe: Scribe
) -> None:
    scribe.gate = threading.Event()
    client = client_of(original, scribe, after_answer=True)
    fill(client, scribe.asked.is_set)
    started = time.perf_counter()
    ask(client, "and now?")
    assert time.perf_counter() - started < 5
    assert not summary_text(client)
    scribe.gate.set()
    client.flush()
    client.history.compact("t")
    assert summary_text(client)
    ask(client, "and now?")
    assert "Summary" in json.dumps(sent(server)[0])


async def test_so_it_is_for_an_asynchronous_client(server: OpenAIServer) -> None:
    gate = asyncio.Event()
    asked = asyncio.Event()

    async def summarize(messages: list[Message], previous: str | None) -> str:
        asked.set()
        await gate.wait()
        return "the gist"

    async with async_sdk_client(server) as original:
        client = client_of(original, summarize, after_answer=True)
        for number in range(40):
            if asked.is_set():
                break
            await ask(client, QUESTION.format(number))
            await asyncio.sleep(0)
        assert not summary_text(client)
        gate.set()
        await client.flush()
        await client.history.compact("t")
        assert summary_text(client) == "the gist"


def test_compact_makes_the_summary_of_a_nearly_full_window_and_no_other(
    server: OpenAIServer, original: OpenAI, scribe: Scribe
) -> None:
    client = client_of(original, scribe, after_answer=False)
    ask(client, "hello")
    assert not client.history.compact("t")
    _grown(client)
    assert client.history.compact("t")
    assert summary_text(client)
    assert not client.history.compact("t")
    n_calls = len(scribe.given)
    ask(client, "and now?")
    assert len(scribe.given) == n_calls
    assert "Summary" in json.dumps(sent(server)[0])
    plain: Any = with_history(original, storage=client.history.storage, algorithm=TokenWindowAlgorithm(5000))
    assert not plain.history.compact("t")


def test_an_openai_client_summarises(server: OpenAIServer, original: OpenAI) -> None:
    algorithm = SummaryAlgorithm(original, BUDGET, max_summary_tokens=150, model="gpt-4o-mini")
    client: Any = with_history(original, storage=MemoryStorage(), algorithm=algorithm)
    fill(client, lambda: summary_text(client))
    (request,) = [each for each in server.chat_requests if each.model == "gpt-4o-mini"]
    assert [message["role"] for message in request.messages] == ["system", "user"]
    assert "user: question 0" in request.messages[1]["content"]
    cost = note(client)["summary"]["cost"]
    assert cost["calls"] == 1
    assert cost["prompt_tokens"] > 0


def test_a_client_that_fails_to_summarise_is_reported_without_what_was_said(
    server: OpenAIServer, original: OpenAI, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(request: Any) -> Any:
        return ServerError(500, "no") if request.model == "gpt-4o-mini" else "fine"

    with OpenAIServer(fails) as failing, sdk_client(failing, max_retries=2) as api, caplog.at_level(logging.WARNING):
        algorithm = SummaryAlgorithm(api, BUDGET, model="gpt-4o-mini")
        client: Any = with_history(api, storage=MemoryStorage(), algorithm=algorithm)
        for number in range(20):
            ask(client, QUESTION.format(number))
        n_asked = sum(each.model == "gpt-4o-mini" for each in failing.chat_requests)
    assert 0 < n_asked < 10
    assert "InternalServerError" in caplog.text
    assert "question" not in caplog.text.replace("memexllm", "")


def test_calls_at_once_on_one_thread_ask_for_a_summary_once(
    server: OpenAIServer, original: OpenAI, scribe: Scribe
) -> None:
    client = client_of(original, scribe)
    ask(client, "hello")
    _grown(client)
    scribe.gate = threading.Event()
    workers = [threading.Thread(target=ask, args=(client, f"at once {number}")) for number in range(4)]
    for worker in workers:
        worker.start()
    assert scribe.asked.wait(10)
    scribe.gate.set()
    for worker in workers:
        worker.join()
    assert summary_text(client)
    assert len({json.dumps(given) for given in scribe.given}) == len(scribe.given)
    assert {request.status for request in server.requests} == {200}


def test_a_storage_with_four_methods_keeps_a_summary(server: OpenAIServer, original: OpenAI, scribe: Scribe) -> None:
    storage = LiveDictStorage()
    client = client_of(original, scribe, storage)
    number = fill(client, lambda: scribe.given)
    again = client_of(original, scribe, storage)
    ask(again, QUESTION.format(number))
    assert len(scribe.given) == 1
    assert "question 0" in json.dumps(sent(server)[0])


def test_a_summary_in_a_pipeline_is_explained_as_one_alone(
    server: OpenAIServer, original: OpenAI, scribe: Scribe
) -> None:
    algorithm = Pipeline([ToolResultTrimming(), SummaryAlgorithm(scribe, BUDGET, max_summary_tokens=150)])
    client: Any = with_history(original, storage=MemoryStorage(), algorithm=algorithm)
    for number in range(20):
        response = ask(client, QUESTION.format(number))
    explained = history_of(response).context
    assert explained.summary is not None
    assert explained.summary["cost"]["calls"] == len(scribe.given)
    assert explained.included[0].reason == "summary of what is not sent"


def test_responses_are_summarised_as_well(server: OpenAIServer, original: OpenAI, scribe: Scribe) -> None:
    client = client_of(original, scribe)
    for number in range(20):
        client.responses.create(model="gpt-4o", input=QUESTION.format(number), thread_id="t", instructions="Be kind.")
    assert scribe.given
    assert {request.status for request in server.requests} == {200}
    assert "Summary" in json.dumps(server.last_items[0])


def test_instructions_come_before_the_summary(server: OpenAIServer, original: OpenAI, scribe: Scribe) -> None:
    client = client_of(original, scribe)
    ask(client, "", messages=[system("Be kind."), user("hello")])
    fill(client, lambda: scribe.given)
    assert sent(server)[0] == system("Be kind.")
    assert "Summary" in str(sent(server)[1]["content"])
    manager: HistoryManager = client.history
    assert [message.text[:7] for message in manager.context("t")[:2]] == ["Be kind", "Summary"]
