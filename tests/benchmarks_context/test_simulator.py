"""The simulator of prompt-cache cost: its arithmetic, its workloads, and what reaches the wire."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.context.caching import PromptCache, Sent, Summarised, bill_of, cacheable, shared_tokens
from benchmarks.context.latency import ANSWER, QUESTION, latencies
from benchmarks.context.marks import Matcher, best_mark, bills_of_marks
from benchmarks.context.peers import parent
from benchmarks.context.policies import OURS, PLAIN, Summarizer, played, policies, rows_of
from benchmarks.context.rendering import PRIMING, Prompt, prompt_of, rendered, text_tokens, tokens_in
from benchmarks.context.report import as_json, merged, row_of, table
from benchmarks.context.texts import WORDS
from benchmarks.context.wired import MODEL, requests
from benchmarks.context.workloads import MADE, Wire, agent, chat, longchat
from memexllm import MemoryStorage, Message, TokenWindowAlgorithm, with_history
from memexllm.core.exchanges import needs_repair
from memexllm.core.tokens import TokenCounter
from memexllm.testing.server import Answer, OpenAIServer
from tests.openai.talking import sdk_client

SHORT = chat().first(150)
TOOLS = agent().first(60)


def message(*tokens: int) -> tuple[int, ...]:
    return (-1, *tokens, -3)


def user(n_tokens: int, first: int = 0) -> tuple[int, ...]:
    """So many tokens, the marks counted."""
    return message(*range(first, first + n_tokens - 2))


@pytest.mark.parametrize(
    ("n_tokens", "n_cached"), [(0, 0), (1023, 0), (1024, 1024), (1151, 1024), (1152, 1152), (8600, 8576)]
)
def test_a_beginning_is_cached_from_1024_tokens_on_in_steps_of_128(n_tokens: int, n_cached: int) -> None:
    assert cacheable(n_tokens) == n_cached


def test_a_beginning_is_shared_to_the_token() -> None:
    one = (user(600), user(700), message(1, 2, 3))
    other = (user(600), user(700), message(1, 2, 4))
    assert shared_tokens(one, other) == 600 + 700 + 3
    assert shared_tokens(one, one) == 1305


def test_any_earlier_prompt_counts_not_only_the_last() -> None:
    cache = PromptCache()
    first = (user(2000), user(100, first=5))
    assert [cache.add(first), cache.add((user(50, first=9),)), cache.add((*first, user(10)))] == [0, 0, 2048]


def test_a_new_first_message_makes_a_prompt_new() -> None:
    cache = PromptCache()
    cache.add((user(600), user(4000), user(4000, first=1)))
    assert cache.add((user(600), user(4000, first=1), user(90))) == 0


small_prompts = st.lists(
    st.lists(st.lists(st.integers(0, 2), max_size=3).map(lambda tokens: message(*tokens)), max_size=5).map(tuple),
    max_size=12,
)


@given(small_prompts)
def test_of_all_earlier_prompts_the_longest_shared_beginning_is_found(prompts: list[Prompt]) -> None:
    cache = PromptCache()
    long = user(1024)
    for place, prompt in enumerate(prompts):
        shared = [shared_tokens((long, *prompt), (long, *earlier)) for earlier in prompts[:place]]
        assert cache.add((long, *prompt)) == cacheable(max(shared, default=0))


def test_a_price_is_what_is_not_discounted_with_the_summarisers_share() -> None:
    block, first, second = user(1000), user(200, first=3), user(300, first=4)
    summary = Summarised(prompt_tokens=5000, answer_tokens=100)
    bill = bill_of([Sent((block, first)), Sent((block, first, second), [summary])], frozenset({first, second}))
    assert bill.sent == [1200 + PRIMING, 1500 + PRIMING]
    assert bill.cached == [0, 1152]
    assert bill.kept == [200, 500]
    assert bill.price(0.75) == (2706 - 0.75 * 1152 + 5000 + 4 * 100) / 2
    assert bill.price(0.9) == (2706 - 0.9 * 1152 + 5000 + 8 * 100) / 2
    assert bill.worth(0.75, budget=1000) == bill.price(0.75) + 2 * 0.25 * (1000 - 350)


def test_a_text_has_as_many_tokens_as_words() -> None:
    assert all(len(text_tokens(word)) == len(text_tokens(f" {word}")) == 1 for word in WORDS)


@pytest.mark.parametrize("name", MADE)
def test_a_message_is_rendered_in_as_many_tokens_as_are_counted(name: str) -> None:
    workload = MADE[name]().first(20)
    counter = TokenCounter(MODEL)
    for each in (workload.block, *workload.messages):
        assert tokens_in(each) == counter.count_message(each)


@pytest.mark.parametrize("name", MADE)
def test_a_workload_is_the_same_each_time_and_valid(name: str) -> None:
    workload = MADE[name]()
    assert workload.messages == MADE[name]().messages
    assert not needs_repair(rows_of(workload.messages))


def test_the_chat_has_the_size_of_locomos_dialogues() -> None:
    workload = chat()
    assert (len(workload.calls), len(workload.messages), workload.block_tokens) == (2931, 5882, 600)
    assert workload.tokens == pytest.approx(202_260, rel=0.01)


@pytest.mark.parametrize("name", policies())
def test_what_is_sent_of_a_thread_with_tools_is_valid_and_ends_with_the_call(name: str) -> None:
    for sent, call in zip(policies()[name](TOOLS, 32_000), TOOLS.calls, strict=True):
        assert not sent.refused
        assert sent.prompt[0] == rendered(TOOLS.block)
        assert sent.prompt[-len(call.said) :] == prompt_of(call.said)


@pytest.mark.parametrize("name", [name for name in OURS if "TokenWindow" in name])
def test_our_windows_keep_no_more_than_the_budget(name: str) -> None:
    assert max(played(policies()[name], SHORT, 3_000).kept) <= 3_000


def test_sliding_in_one_mark_is_the_sliding_window() -> None:
    prompts = [
        [sent.prompt for sent in policies()[name](SHORT, 3_000)] for name in ("sliding window", "TokenWindow, keep=1")
    ]
    assert prompts[0] == prompts[1]


def test_the_transport_in_memory_is_sent_what_a_server_is() -> None:
    workload = SHORT.first(60)
    # The transport in memory reports no usage, so the server's says nothing either.
    unknown = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    answers = iter([Answer(str(call.answer["content"]), usage=unknown) for call in workload.calls])
    received: list[list[Wire]] = []
    with OpenAIServer(lambda request: next(answers)) as server, sdk_client(server) as api:
        algorithm = TokenWindowAlgorithm(2_000, keep=0.5)
        client = with_history(api, storage=MemoryStorage(), algorithm=algorithm).with_thread("t")
        for number, call in enumerate(workload.calls):
            said: list[Any] = [*([workload.block] if number == 0 else []), *call.said]
            client.chat.completions.create(model=MODEL, messages=said)
            received.append(server.last_messages)
    assert [body["messages"] for body in requests(workload, TokenWindowAlgorithm(2_000, keep=0.5))] == received
    assert received[-1][1] != workload.messages[0]


def test_a_summariser_is_charged_for_what_it_reads() -> None:
    summarizer = Summarizer()
    written = summarizer([Message("word " * 9, "user")], "three words here")
    assert len(text_tokens(written)) == 400
    assert [each.prompt_tokens for each in summarizer.noted()] == [
        400 + tokens_in(Message("word " * 9, "user").wire) + 3
    ]
    assert summarizer.noted() == []


def test_the_sliding_window_costs_what_was_measured_of_it_elsewhere() -> None:
    """7,976 and 7,885 on LoCoMo's ten dialogues, 7,834 tokens kept."""
    bill = played(PLAIN["sliding window"], chat(), 8_000)
    assert bill.mean_kept == pytest.approx(7_834, rel=0.01)
    assert [bill.price(0.75), bill.price(0.9)] == pytest.approx([7_976, 7_885], rel=0.03)


def test_two_marks_are_five_times_cheaper_than_sliding_at_the_same_kept_context() -> None:
    workload = chat().first(300)
    slides = played(PLAIN["sliding window"], workload, 3_000)
    matched = Matcher(workload, keep=0.5).at(slides.mean_kept)
    assert matched is not None
    assert matched.bill.mean_kept == pytest.approx(slides.mean_kept, rel=0.01)
    assert 5 * matched.bill.price(0.9) < slides.price(0.9)


def test_where_nothing_valid_fits_there_is_no_window_that_keeps_so_little() -> None:
    """Its tool results are longer than all that is to be kept."""
    assert Matcher(TOOLS).at(kept=20, n_tries=2) is None


def test_the_best_mark_is_worth_the_most_of_those_that_were_tried() -> None:
    workload = longchat().first(80)
    bills = bills_of_marks(workload, 6_000, marks=(0.5, 0.7, 0.9))
    best = best_mark(bills, 6_000, 0.75)
    assert bills[best].worth(0.75, 6_000) == min(bill.worth(0.75, 6_000) for bill in bills.values())
    prices = [bill.price(0.75) for bill in bills.values()]
    assert prices == sorted(prices), "the less is kept the less it costs"


def test_choosing_counts_what_the_call_brings_and_the_answer_before_it_alone() -> None:
    call, _ = latencies(n_messages=2_000, n_rounds=1)
    assert sorted(call.counted) == sorted(["user", QUESTION, "assistant", ANSWER])


@pytest.mark.skipif(not parent.installed(), reason="scripts/peers makes the environments of other libraries")
@pytest.mark.parametrize("name", parent.PEERS)
def test_another_library_sends_messages_of_the_thread_and_ends_with_the_call(name: str) -> None:
    calls = list(parent.peers()[name](SHORT.first(40), 2_000))
    for sent, call in zip(calls, SHORT.calls, strict=False):
        assert sent.prompt[-len(call.said) :] == prompt_of(call.said)
    assert len(calls) == 40
    assert any(sent.summaries for sent in calls) == ("ummar" in name)


def test_a_row_says_what_was_played() -> None:
    bill = played(PLAIN["everything"], SHORT, 3_000)
    row = row_of(SHORT, 3_000, "everything", bill, series=True)
    assert row.series is not None
    assert row.series["sent"] == bill.sent
    assert f"| everything | {bill.mean_kept:,.0f} |" in table([row])
    assert as_json([row])[0]["prices"] == {str(each): round(bill.price(each), 1) for each in (0.5, 0.75, 0.9)}


def test_figures_of_another_run_replace_their_own_alone() -> None:
    first, second, again = (
        {"workload": name, "policy": "p", "kept": kept} for name, kept in (("a", 1), ("b", 2), ("b", 3))
    )
    found = merged({"rows": [first, second]}, {"rows": [again], "versions": {"x": "1"}})
    assert found == {"rows": [first, again], "versions": {"x": "1"}}
