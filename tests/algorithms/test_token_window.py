"""TokenWindowAlgorithm: the kit's laws, the budget in tokens, the cut, and counting once."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memexllm import HistoryManager, MemoryStorage, SQLiteStorage, TokenWindowAlgorithm, with_history
from memexllm.algorithms import ContextView
from memexllm.core.errors import ValidationError, WindowError
from memexllm.core.exchanges import exchanges
from memexllm.core.flow import run
from memexllm.core.models import Message
from memexllm.core.tokens import PRIMING, TokenCounter, byte_bound, tools_bound, window_of
from memexllm.core.wire import MessageRow
from memexllm.testing import AlgorithmConformance
from memexllm.testing._conversations import Writer, messages_of
from memexllm.testing.server import OpenAIServer
from tests.notes_in_state import cut_in
from tests.openai.talking import said, sdk_client, system, user

COUNTER = TokenCounter("gpt-4o")


class TestWide(AlgorithmConformance):
    @pytest.fixture
    def algorithm(self) -> TokenWindowAlgorithm:
        return TokenWindowAlgorithm(max_tokens=100_000, model="gpt-4o")


class TestByCharacters(AlgorithmConformance):
    @pytest.fixture
    def algorithm(self) -> TokenWindowAlgorithm:
        return TokenWindowAlgorithm(max_tokens=2_000_000, keep=1, token_counter=len)


def thread(n: int, words: int = 40) -> list[MessageRow]:
    rows: list[MessageRow] = []
    for seq in range(n):
        wire = {"role": "assistant" if seq % 2 else "user", "content": f"{seq} " + "word " * words}
        row: MessageRow = {"id": str(seq), "created_at": seq, "wire": wire, "seq": seq}
        if seq % 2:
            row["origin"] = ["s", "gpt-4o"]
        rows.append(row)
    return rows


def incoming(text: str = "and now?") -> list[MessageRow]:
    return [{"id": "new", "created_at": 0, "wire": {"role": "user", "content": text}}]


def view_of(rows: list[MessageRow], **fields: Any) -> ContextView:
    return ContextView(exchanges(rows), incoming=incoming(), model="gpt-4o", **fields)


def tokens_of(rows: list[MessageRow]) -> int:
    return sum(COUNTER.count_message(row["wire"]) for row in rows)


@pytest.mark.parametrize("max_tokens", [120, 500, 2_000])
def test_what_is_sent_fits(max_tokens: int) -> None:
    view = view_of(
        thread(100), block=[{"id": "b", "created_at": 0, "wire": {"role": "system", "content": "Be brief."}}]
    )
    plan = run(TokenWindowAlgorithm(max_tokens=max_tokens).plan(view))
    sent = [*view.block, *(row for exchange in plan.exchanges for row in exchange.rows), *view.incoming]
    assert plan.tokens == PRIMING + tokens_of(sent)
    assert plan.tokens <= max_tokens
    assert [row["id"] for exchange in plan.exchanges for row in exchange.rows] == [
        str(seq) for seq in range(100 - sum(len(e) for e in plan.exchanges), 100)
    ]


def test_the_front_rests_between_two_marks() -> None:
    algorithm = TokenWindowAlgorithm(max_tokens=1_000, keep=0.6)
    rows = thread(200)
    state: dict[str, Any] = {}
    fronts: list[int] = []
    for end in range(2, 200, 2):
        plan = run(algorithm.plan(view_of(rows[:end], state=state)))
        state = {**state, **plan.state}
        fronts.append(plan.exchanges[0].seq or 0)
    assert len(set(fronts)) <= len(fronts) // 4
    assert fronts == sorted(fronts)


def test_a_lost_cut_is_found_again() -> None:
    algorithm = TokenWindowAlgorithm(max_tokens=1_000)
    rows = thread(121)
    state: dict[str, Any] = {}
    cuts = set()
    for asked in range(0, 121, 2):
        view = ContextView(exchanges(rows[:asked]), incoming=rows[asked : asked + 1], state=state, model="gpt-4o")
        state = {**state, **run(algorithm.plan(view)).state}
        cuts.add(cut_in(state))
    again = run(algorithm.plan(ContextView(exchanges(rows[:120]), incoming=rows[120:], model="gpt-4o")))
    assert again.state == state
    assert len(cuts) > 3


def test_what_must_be_sent_and_does_not_fit_is_refused_with_its_size() -> None:
    view = ContextView((), incoming=incoming("word " * 500), model="gpt-4o")
    with pytest.raises(WindowError, match=r"need 5\d\d tokens .* max_tokens allows 100"):
        run(TokenWindowAlgorithm(max_tokens=100).plan(view))


def test_tools_and_the_room_for_the_answer_count() -> None:
    tools = [{"type": "function", "function": {"name": "look_up", "description": "word " * 100}}]
    schema = COUNTER.count_tools(tools)
    for algorithm, room in (
        (TokenWindowAlgorithm(max_tokens=600, tools=tools), 0),
        (TokenWindowAlgorithm(max_tokens=600, reserve_tokens=200), 200),
    ):
        plan = run(algorithm.plan(view_of(thread(100))))
        kept = [row for exchange in plan.exchanges for row in exchange.rows]
        assert plan.tokens == PRIMING + (0 if room else schema) + tokens_of([*kept, *incoming()])
        assert plan.tokens + room <= 600


@pytest.mark.parametrize("arguments", [{"max_tokens": 0}, {"max_tokens": -5}, {"max_tokens": 10, "keep": 0}])
def test_a_budget_is_positive(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="positive"):
        TokenWindowAlgorithm(**arguments)


@pytest.mark.parametrize("wrong", ["8000", None, True, float("nan"), float("inf")], ids=str)
def test_what_is_no_finite_number_is_refused(wrong: Any) -> None:
    for name in ("max_tokens", "keep", "reserve_tokens", "cache_discount"):
        with pytest.raises(ValidationError, match=name):
            TokenWindowAlgorithm(**{"max_tokens": 100, name: wrong})


def test_a_message_is_counted_once() -> None:
    counted: list[str] = []

    def count(text: str) -> int:
        counted.append(text)
        return len(text.split())

    storage = MemoryStorage()
    algorithm = TokenWindowAlgorithm(max_tokens=60, token_counter=count)
    with OpenAIServer() as server, sdk_client(server) as api:
        client: Any = with_history(api, storage=storage, algorithm=algorithm)
        for number in range(12):
            client.chat.completions.create(model="gpt-4o", messages=[user(f"question {number} " * 5)], thread_id="t")
    texts = [text for text in counted if text.startswith(("question", "You said"))]
    assert len(texts) == len(set(texts))
    stored = storage.read_messages("t")
    assert sum(message.tokens is not None for message in stored) >= len(stored) - 2


def test_a_short_thread_is_not_counted_at_all() -> None:
    def refuse(text: str) -> int:
        raise AssertionError(f"counted: {text}")

    rows = thread(20)
    algorithm = TokenWindowAlgorithm(max_tokens=100_000, token_counter=refuse)
    assert algorithm.takes_all(view_of(rows), rows)


@given(st.integers(0, 10_000))
def test_the_bound_in_bytes_is_never_too_low(seed: int) -> None:
    random = Random(seed)
    for message in messages_of(Writer(random).conversation(4), random):
        assert byte_bound(message.wire, "gpt-4o") >= COUNTER.count_message(message.wire)


def test_the_bound_of_tools_is_never_too_low() -> None:
    tools = [
        {
            "type": "function",
            "function": {
                "name": "f",
                "parameters": {"type": "object", "properties": {"a": {"enum": ["x", "y"]}, "b": {}}},
            },
        }
    ]
    assert tools_bound(tools) >= COUNTER.count_tools(tools)


def test_the_wrapper_sends_everything_up_to_80_percent_of_the_models_window(tmp_path: Any) -> None:
    storage = SQLiteStorage(tmp_path / "chat.db")
    manager = HistoryManager(storage)
    manager.create_thread(thread_id="t")
    texts = ["word " * 900 for _ in range(12)]
    manager.add_messages("t", [Message(text, "assistant" if i % 2 else "user") for i, text in enumerate(texts)])
    with OpenAIServer() as server, sdk_client(server) as api, storage:
        client: Any = with_history(api, history_manager=manager)
        client.chat.completions.create(model="gpt-4o", messages=[user("in a large window")], thread_id="t")
        everything = len(server.last_messages)
        client.chat.completions.create(model="gpt-4", messages=[system("S"), user("in a small one")], thread_id="t")
        sent = server.last_messages
    assert everything == 13
    assert len(sent) < 13
    assert sent[0] == system("S")
    assert said(server)[-1] == "in a small one"
    assert TokenCounter("gpt-4").count_messages(sent) <= 0.8 * window_of("gpt-4")
