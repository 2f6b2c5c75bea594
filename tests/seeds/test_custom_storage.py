"""The guide "Custom Storage" that the library was conceived from: its code runs as it stands there.

The guide lies outside the repository; `MEMEXLLM_SEEDS` names its folder (CI sets it). `tests/storage/custom.py` has
storages of the same shape in our own words, which always run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from openai import OpenAI

from memexllm import FIFOAlgorithm, HistoryManager, history_of, with_history
from memexllm.integrations.openai import ThreadNotGivenWarning
from memexllm.storage import BaseStorage
from memexllm.testing.server import OpenAIServer

FOLDER = os.environ.get("MEMEXLLM_SEEDS")
pytestmark = pytest.mark.skipif(FOLDER is None, reason="MEMEXLLM_SEEDS names no folder with the guides")

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"


def blocks() -> list[str]:
    (guide,) = Path(str(FOLDER)).glob("002_*.txt")
    return re.findall(r"```python\n(.*?)```", guide.read_text(), re.DOTALL)


def made_by(block: str) -> dict[str, Any]:
    """The names a block defines."""
    namespace: dict[str, Any] = {"__name__": "guide"}
    exec(compile(block, "guide", "exec"), namespace)  # noqa: S102 - running it is the point
    return namespace


@pytest.fixture(params=["dict", "redis"])
def storage(request: pytest.FixtureRequest, redis_server: str) -> Iterator[BaseStorage]:
    if request.param == "dict":
        yield made_by(blocks()[0])["CustomStorage"]()
        return
    made = made_by(blocks()[1])["RedisStorage"](redis_server)
    yield made
    made.redis.flushdb()
    made.redis.close()


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture
def api(server: OpenAIServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.base_url, api_key="local") as client:
        yield client


def ten_turns(client: Any, thread_id: str) -> list[dict[str, Any]]:
    """A conversation with a tool call and an image; what a caller who keeps the list himself would have."""
    kept: list[dict[str, Any]] = []

    def say(*messages: dict[str, Any], **params: Any) -> Any:
        answer = client.chat.completions.create(model="gpt-4o-mini", messages=messages, thread_id=thread_id, **params)
        said = answer.choices[0].message
        calls = {"tool_calls": [call.model_dump() for call in said.tool_calls]} if said.tool_calls else {}
        kept.extend([*messages, {"role": "assistant", "content": said.content, **calls}])
        return said

    say({"role": "system", "content": "Be brief."}, {"role": "user", "content": "My name is Ada."})
    say({"role": "user", "content": "Grüße, 你好 🙂 \x00", "name": "ada"})
    asked = say({"role": "user", "content": "What is the weather in Paris?"}, tools=[WEATHER])
    results = [{"role": "tool", "tool_call_id": call.id, "content": "sunny"} for call in asked.tool_calls]
    say(*results, tools=[WEATHER])
    picture = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    say({"role": "user", "content": picture})
    say({"role": "developer", "content": "Answer in French now."}, {"role": "user", "content": "And you?"})
    say({"role": "function", "name": "clock", "content": "12:00"}, {"role": "user", "content": "What time is it?"})
    for question in ("One?", "Two?", "What is my name?"):
        say({"role": "user", "content": question})
    return kept


def test_ten_turns_are_kept_without_loss(storage: BaseStorage, api: OpenAI, server: OpenAIServer) -> None:
    manager = HistoryManager(storage)
    client = with_history(history_manager=manager)(api)

    kept = ten_turns(client, "ada")

    assert [message.wire for message in manager.get_messages("ada", include_superseded=True)] == kept
    assert {message.role for message in manager.get_messages("ada", include_superseded=True)} == {
        "system",
        "developer",
        "user",
        "assistant",
        "tool",
        "function",
    }
    assert kept[-1]["content"] == "Your name is Ada."


def test_what_is_sent_is_what_a_bare_client_would_send(storage: BaseStorage, api: OpenAI, server: OpenAIServer) -> None:
    kept = ten_turns(with_history(storage=storage)(api), "ada")

    developer = next(message for message in kept if message["role"] == "developer")
    history = [message for message in kept if message["role"] not in ("system", "developer")]
    assert server.last_messages == [developer, *history[:-1]]


def test_a_new_manager_finds_everything(storage: BaseStorage, api: OpenAI) -> None:
    kept = ten_turns(with_history(storage=storage)(api), "ada")

    again = HistoryManager(storage)
    messages = again.get_messages("ada", include_superseded=True)
    assert [message.wire for message in messages] == kept
    assert messages[1].call is None
    assert messages[2].call is not None
    assert all("memexllm" not in message.metadata for message in messages)
    assert [thread.id for thread in again.list_threads()] == ["ada"]
    assert again.delete_thread("ada") is True
    assert again.delete_thread("ada") is False


def test_the_guides_own_lines_run(redis_server: str, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "local")
    _, redis_block, use = blocks()
    namespace = {**made_by(redis_block), "HistoryManager": HistoryManager, "FIFOAlgorithm": FIFOAlgorithm}
    lines = use.replace("redis://localhost:6379/0", redis_server)  # the one thing that differs: where Redis is

    with pytest.warns(ThreadNotGivenWarning, match="thread_id"):
        exec(compile(lines, "guide", "exec"), namespace)  # noqa: S102 - running it is the point

    answer, manager = namespace["response"], namespace["manager"]
    assert answer.choices[0].message.content == "You said: Hello!"
    assert [m.text for m in manager.get_messages(history_of(answer).thread_id)] == ["Hello!", "You said: Hello!"]
    namespace["client"].close()
    redis.Redis.from_url(redis_server).flushdb()
