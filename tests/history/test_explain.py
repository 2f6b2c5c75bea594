"""`explain()` says, message by message, what `context()` is made of, and changes nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memexllm import FIFOAlgorithm, HistoryManager, MemoryStorage, Message, TokenWindowAlgorithm
from memexllm.core.errors import ThreadNotFoundError
from memexllm.core.tokens import PRIMING, TokenCounter
from memexllm.history import Explanation

if TYPE_CHECKING:
    from collections.abc import Callable

    from memexllm import BaseAlgorithm

ALGORITHMS: dict[str, Callable[[], BaseAlgorithm | None]] = {
    "none": lambda: None,
    "fifo": lambda: FIFOAlgorithm(max_messages=4),
    "fifo with two marks": lambda: FIFOAlgorithm(max_messages=6, keep=3),
    "tokens": lambda: TokenWindowAlgorithm(max_tokens=120, keep=0.5),
}


def managed(algorithm: Any, *wires: dict[str, Any], **fields: Any) -> HistoryManager:
    manager = HistoryManager(MemoryStorage(), algorithm)
    manager.create_thread(thread_id="t")
    manager.add_messages("t", [Message(wire=wire, **fields) for wire in wires])
    return manager


def talk(n_turns: int) -> list[dict[str, Any]]:
    return [
        {"role": "user" if index % 2 == 0 else "assistant", "content": f"message number {index}"}
        for index in range(2 * n_turns)
    ]


def wires_of(manager: HistoryManager, ids: list[str]) -> list[dict[str, Any]]:
    stored = {message.id: message.wire for message in manager.get_messages("t")}
    return [stored[message_id] for message_id in ids]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_included_messages_are_those_of_the_context(name: str) -> None:
    manager = managed(ALGORITHMS[name](), {"role": "system", "content": "Be brief."}, *talk(8))
    included = [entry.message_id for entry in manager.explain("t").included]
    assert included == [message.id for message in manager.context("t")]


@given(
    n_turns=st.integers(0, 12),
    n_tools=st.integers(0, 3),
    answered=st.integers(0, 3),
    pinned=st.sets(st.integers(0, 30), max_size=3),
    name=st.sampled_from(sorted(ALGORITHMS)),
)
@settings(max_examples=60, deadline=None)
def test_every_stored_message_has_one_entry_and_the_sum_is_what_is_sent(
    n_turns: int, n_tools: int, answered: int, pinned: set[int], name: str
) -> None:
    calls = [{"id": f"c{i}", "type": "function", "function": {"name": "f", "arguments": "{}"}} for i in range(n_tools)]
    wires = talk(n_turns)
    if calls:
        wires.append({"role": "user", "content": "Use the tool."})
        wires.append({"role": "assistant", "content": None, "tool_calls": calls})
    wires += [{"role": "tool", "tool_call_id": f"c{i}", "content": "42"} for i in range(min(answered, n_tools))]
    manager = HistoryManager(MemoryStorage(), ALGORITHMS[name]())
    manager.create_thread(thread_id="t")
    manager.add_messages("t", [Message(wire=wire, pinned=index in pinned) for index, wire in enumerate(wires)])

    explained = manager.explain("t", model="gpt-4o")
    sent = manager.context("t")
    assert [entry.message_id for entry in explained.entries] == [message.id for message in manager.get_messages("t")]
    assert [entry.message_id for entry in explained.included] == [message.id for message in sent]
    assert explained.tokens == TokenCounter("gpt-4o").count_messages([message.wire for message in sent])


def test_a_message_that_is_left_out_says_why() -> None:
    manager = managed(TokenWindowAlgorithm(max_tokens=100, keep=0.5), *talk(10))
    explained = manager.explain("t")
    assert explained.excluded
    assert {entry.reason for entry in explained.excluded} == {"older than the window"}
    assert explained.cut == explained.included[0].seq
    assert explained.budget == 100
    assert explained.tokens <= 100


def test_what_is_sent_from_behind_the_cut_says_why() -> None:
    manager = HistoryManager(MemoryStorage(), TokenWindowAlgorithm(max_tokens=100, keep=0.5))
    manager.create_thread(thread_id="t")
    manager.add_messages("t", [Message(wire=wire, pinned=index == 0) for index, wire in enumerate(talk(10))])
    assert manager.explain("t").included[0].reason == "pinned"


def test_superseded_messages_are_listed_as_such() -> None:
    storage = MemoryStorage()
    manager = HistoryManager(storage)
    manager.create_thread(thread_id="t")
    manager.add_messages("t", [Message(wire=wire) for wire in talk(2)])
    storage.append_messages("t", [Message("Something else", "user")], supersede_from=2)
    explained = manager.explain("t")
    assert [(entry.seq, entry.fate) for entry in explained.entries] == [
        (0, "included"),
        (1, "included"),
        (2, "superseded"),
        (3, "superseded"),
        (4, "included"),
    ]


def test_an_unanswered_call_is_excluded_with_its_reason() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    manager = managed(
        None, {"role": "user", "content": "Look"}, {"role": "assistant", "content": None, "tool_calls": [call]}
    )
    (entry,) = manager.explain("t").repaired
    assert (entry.fate, entry.reason) == ("excluded", "a call without its result")


def test_a_message_whose_calls_are_left_out_is_included_and_counted_as_it_is_sent() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"a long": "argument"}'}}
    manager = managed(
        None, {"role": "user", "content": "Look"}, {"role": "assistant", "content": "I will.", "tool_calls": [call]}
    )
    entry = manager.explain("t", model="gpt-4o").entries[1]
    assert entry.included
    assert entry.repaired
    assert entry.tokens == TokenCounter("gpt-4o").count_message({"role": "assistant", "content": "I will."})


def test_tools_and_model_are_counted_as_asked() -> None:
    tools = [{"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {}}}]
    manager = managed(None, {"role": "user", "content": "天気はどうですか"})
    new, old = manager.explain("t", model="gpt-4o", tools=tools), manager.explain("t", model="gpt-4")
    assert (new.encoding, old.encoding) == ("o200k_base", "cl100k_base")
    assert new.tool_tokens == TokenCounter("gpt-4o").count_tools(tools)
    assert new.tokens == PRIMING + new.tool_tokens + new.entries[0].tokens
    assert old.tokens == TokenCounter("gpt-4").count_messages([{"role": "user", "content": "天気はどうですか"}])


def test_explaining_changes_nothing() -> None:
    manager = managed(TokenWindowAlgorithm(max_tokens=100, keep=0.5), *talk(10))
    before = manager.storage.get_thread("t")
    manager.explain("t")
    assert manager.storage.get_thread("t") == before


def test_it_prints_as_a_table_and_is_plain_json_as_data() -> None:
    manager = managed(FIFOAlgorithm(max_messages=2), *talk(2))
    explained = manager.explain("t")
    lines = str(explained).splitlines()
    assert lines[0].startswith("thread 't': 2 messages sent")
    assert lines[1].split() == ["seq", "role", "fate", "why", "tokens", "text"]
    assert len(lines) == 2 + 4
    assert "message number 3" in lines[-1]
    data = json.loads(json.dumps(explained.to_dict()))
    assert [entry["fate"] for entry in data["entries"]] == ["excluded", "excluded", "included", "included"]


def test_it_is_a_table_in_a_notebook_in_which_what_was_said_is_text() -> None:
    shown = managed(None, {"role": "user", "content": "<script>alert(1)</script>"}).explain("t")._repr_html_()
    assert "&lt;script&gt;" in shown
    assert "<script" not in shown


def test_its_repr_shows_nothing_that_was_said() -> None:
    explained = managed(None, {"role": "user", "content": "a secret"}).explain("t")
    assert "secret" not in repr(explained) + repr(explained.entries)


def test_an_unknown_thread_is_not_found() -> None:
    with pytest.raises(ThreadNotFoundError, match="Thread not found: t"):
        HistoryManager(MemoryStorage()).explain("t")


def test_an_empty_thread_is_explained() -> None:
    manager = HistoryManager(MemoryStorage())
    manager.create_thread(thread_id="t")
    explained: Explanation = manager.explain("t")
    assert (explained.entries, explained.tokens) == ((), PRIMING)
