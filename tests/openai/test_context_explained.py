"""What explanations say of a request is what the server received: messages, reasons, tokens, what is cached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from memexllm import MemoryStorage, Message, TokenWindowAlgorithm, history_of, with_history
from memexllm.algorithms import FIFOAlgorithm, Pipeline, SummaryAlgorithm, ToolResultTrimming
from memexllm.core.calibration import CALIBRATION
from memexllm.core.tokens import TokenCounter
from memexllm.core.vocabularies import encoding
from memexllm.core.wire import text_of
from memexllm.history.prices import Prices
from memexllm.testing.server import OpenAIServer
from tests.openai.talking import TOOLS, assistant, sdk_client, sent, system, user
from tests.openai.windows_played import ALL, Asked, Player, chat, noted_down

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openai import OpenAI

    from memexllm import BaseAlgorithm

COUNTER = TokenCounter("gpt-4o")


@pytest.fixture
def original(server: OpenAIServer) -> Iterator[OpenAI]:
    with sdk_client(server) as original:
        yield original


def contents(player: Player) -> dict[str, Any]:
    stored = player.manager.get_messages("t", include_superseded=True)
    return {message.id: message.wire.get("content") for message in stored}


@pytest.mark.parametrize("name", ALL)
def test_a_call_is_explained_later_as_the_server_received_it(server: OpenAIServer, original: OpenAI, name: str) -> None:
    player = Player(server, original, ALL[name]())
    received: dict[str, list[Any]] = {}
    for number, asked in enumerate(chat(8, 18)):
        if number % 10 == 7 and asked.messages[0]["role"] == "user":
            asked = Asked([system(f"Be like {number}."), *asked.messages], asked.answer, asked.after_s)
        if number % 10 == 4 and asked.messages[0]["role"] == "user":
            asked = Asked([*asked.messages, system("Mind the gap.")], asked.answer, asked.after_s)
        response = player.ask(asked)
        received[history_of(response).message_ids[-1]] = sent(server)
        if number % 12 == 11 and "tool_calls" not in asked.answer:
            player.manager.regenerate("t")
            response = player.ask(Asked([], assistant("said again")))
            received[history_of(response).message_ids[-1]] = sent(server)
    player.manager.edit_message("t", player.manager.get_messages("t")[-3].id, "otherwise")
    stored = contents(player)
    for answer_id, messages in received.items():
        explained = player.manager.explain("t", call=answer_id)
        # An entry stands where its message lies in the thread; instructions that came later are sent first.
        included = sorted(explained.included, key=lambda entry: entry.reason != "instructions")
        assert len(included) == len(messages)
        for entry, message in zip(included, messages, strict=True):
            assert entry.role == message["role"]
            if entry.shortened:
                assert message["content"] != stored[entry.message_id]
            elif entry.reason != "summary of what is not sent":
                assert message.get("content") == stored[entry.message_id]


@pytest.mark.parametrize("name", ALL)
def test_a_calls_context_is_its_request(server: OpenAIServer, original: OpenAI, name: str) -> None:
    player = Player(server, original, ALL[name](), usage=None)
    reasons: set[str] = set()
    for number, asked in enumerate(chat(9, 18)):
        explained = history_of(player.ask(asked, tools=TOOLS)).context
        messages = sent(server)
        assert [entry.role for entry in explained.included] == [message["role"] for message in messages]
        assert explained.tokens == COUNTER.count_request(messages, TOOLS)
        counted = [COUNTER.count_message(message) for message in messages]
        assert [entry.tokens for entry in explained.included] == counted
        if explained.budget is not None:
            assert explained.estimated_tokens <= explained.budget
        reasons |= {entry.reason for entry in explained.entries}
        if number == 5:
            player.manager.pin("t", player.manager.get_messages("t")[1].id)
    assert "stands for a result that is missing" not in reasons
    expected = {"instructions", "brought by this call", "in the window", "pinned"}
    assert expected - reasons <= ({"in the window"} if name == "trim" else set())


@pytest.mark.parametrize(
    ("algorithm", "words"),
    [
        (TokenWindowAlgorithm(4000), 300),
        (SummaryAlgorithm(noted_down, 4000), 300),
        (Pipeline([ToolResultTrimming(2, 1, 80), TokenWindowAlgorithm(4000)]), 300),
        (ToolResultTrimming(2, 1, 80), 300),
        (FIFOAlgorithm(10), 2000),
    ],
    ids=["tokens", "summary", "trim, window", "trim", "fifo"],
)
def test_what_is_cacheable_is_what_the_server_has_cached(algorithm: BaseAlgorithm, words: int) -> None:
    block = system("Be kind and brief. " * words)
    with OpenAIServer(encode=encoding("o200k_base").encode_ordinary) as server, sdk_client(server) as original:
        player = Player(server, original, algorithm, usage=None)
        n_cached = 0
        for number, asked in enumerate(chat(10, 25)):
            said = [
                {**message, "content": text_of(message)} for message in asked.messages
            ]  # images cost what they cost
            messages = [block, *said[1:]] if number == 0 else said
            response = player.ask(Asked(messages, asked.answer, asked.after_s))
            cached = response.usage.prompt_tokens_details.cached_tokens
            explained = history_of(response).context
            # The server counts a rendering of its own, which has fewer tokens for a call and its id.
            scaled = explained.cacheable_tokens * response.usage.prompt_tokens / explained.estimated_tokens
            assert abs(scaled - cached) <= 2 * 128
            assert explained.cacheable_tokens % 128 == 0
            n_cached += cached > 0
        assert n_cached > 20


def test_after_a_new_summary_only_the_instructions_are_cacheable(server: OpenAIServer, original: OpenAI) -> None:
    player = Player(server, original, SummaryAlgorithm(noted_down, 4000, max_summary_tokens=100))
    player.ask(Asked([system("Be kind. " * 500), user("hello")], assistant("hello")))
    player.manager.add_messages("t", [Message("word " * 100, "user") for _ in range(40)])
    player.manager.compact("t", model="gpt-4o")
    block = COUNTER.count_message(system("Be kind. " * 500))
    assert player.manager.explain("t").cacheable_tokens == (block + 3) // 128 * 128


def test_a_price_is_the_users_prices_of_what_is_estimated(server: OpenAIServer, original: OpenAI) -> None:
    player = Player(server, original, TokenWindowAlgorithm(4000), usage={"prompt_tokens": 3000, "completion_tokens": 1})
    player.ask(Asked([user("word " * 1500)], assistant("fine")))
    explained = history_of(player.ask(Asked([user("and?")], assistant("fine")))).context
    assert player.state[CALIBRATION]
    assert explained.estimated_tokens > explained.tokens
    prices = Prices(input=2.0, cached_input=0.5, output=8.0)
    full = explained.estimated_tokens - explained.cacheable_tokens
    assert explained.cacheable_tokens >= 1024
    expected = (2.0 * full + 0.5 * explained.cacheable_tokens + 8.0 * 100) / 1e6
    assert explained.price(prices, output_tokens=100) == pytest.approx(expected)


def test_a_past_call_tells_what_it_cost(server: OpenAIServer, original: OpenAI) -> None:
    client: Any = with_history(original, storage=MemoryStorage(), algorithm=TokenWindowAlgorithm(4000))
    response: Any = None
    for _ in range(3):
        response = client.chat.completions.create(model="gpt-4o", messages=[user("word " * 1500)], thread_id="t")
    explained = client.history.explain("t", call=history_of(response).message_ids[-1])
    assert explained.estimated_tokens == response.usage.prompt_tokens
    assert explained.cacheable_tokens == response.usage.prompt_tokens_details.cached_tokens
