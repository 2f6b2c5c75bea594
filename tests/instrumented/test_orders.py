"""One client instrumented before or after it is wrapped, and everybody at once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from memexllm import HistoryManager, MemoryStorage, with_history
from tests.instrumented.tracers import TRACERS, logfire_itself, needed, sdk_as_it_is
from tests.openai.talking import call, sdk_client, user

if TYPE_CHECKING:
    from memexllm.testing.server import OpenAIServer


class Person(BaseModel):
    name: str


@pytest.mark.parametrize("first", ["wrapped", "instrumented"])
def test_logfire_on_one_client_sees_the_prompt_in_either_order(server: OpenAIServer, first: str) -> None:
    """It stands around the client's requests, which the wrapped client makes as well: there is no wrong order."""
    own, exporter = logfire_itself()
    exporter.clear()
    manager = HistoryManager(MemoryStorage())
    with sdk_client(server) as original:
        if first == "instrumented":
            own.instrument_openai(original)
        client: Any = with_history(original, history_manager=manager)
        if first == "wrapped":
            own.instrument_openai(client)
        for text in ("one", "two"):
            client.chat.completions.create(model="gpt-4o", messages=[user(text)], thread_id="t")
        client.with_thread("t").responses.create(model="gpt-4o", input="three")
    prompts = [span.attributes["gen_ai.input.messages"] for span in exporter.get_finished_spans()]
    assert [len(json.loads(prompt)) for prompt in prompts] == [1, 3, 5]
    assert [message.text for message in manager.get_messages("t")][::2] == ["one", "two", "three"]


def test_all_of_them_together_see_the_whole_prompt(server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = HistoryManager(MemoryStorage())
    with sdk_as_it_is(), sdk_client(server) as original:
        tracers = [install(monkeypatch) for install in TRACERS.values()]
        client = needed("instructor").from_openai(with_history(original, history_manager=manager))
        for text in ("one", "two"):
            server.answer({"content": None, "tool_calls": [call("c", "Person", '{"name": "Ada"}')]})
            made = client.chat.completions.create(
                model="gpt-4o", messages=[user(text)], response_model=Person, thread_id="t"
            )
            assert made.name == "Ada"
        for tracer in tracers:
            assert any("one" in span and "two" in span for span in tracer.spans()), tracer.name
    assert [message.role for message in manager.get_messages("t")] == ["user", "assistant"] * 2
