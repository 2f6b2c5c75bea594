"""Exchanges: calls and results stay together, and what is repaired is valid and nothing more."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memexllm.core.errors import ValidationError
from memexllm.core.exchanges import exchanges, repair
from memexllm.core.wire import MessageRow
from memexllm.testing.server.errors import InvalidRequestError
from memexllm.testing.server.tool_rules import check_tool_order

Wire = dict[str, Any]

IDS = st.sampled_from(["c1", "c2", "c3"])


def calling(ids: list[str], content: str | None = None) -> Wire:
    calls = [{"id": i, "type": "function", "function": {"name": "f", "arguments": "{}"}} for i in ids]
    return {"role": "assistant", "content": content, "tool_calls": calls}


MESSAGES = st.one_of(
    st.builds(lambda text: {"role": "user", "content": text}, st.sampled_from(["a", "b"])),
    st.builds(lambda text: {"role": "assistant", "content": text}, st.sampled_from(["x", "", None])),
    st.builds(calling, st.lists(IDS, min_size=1, max_size=3, unique=True), st.sampled_from([None, "so"])),
    st.builds(lambda i: {"role": "tool", "tool_call_id": i, "content": "r"}, IDS),
    st.just({"role": "system", "content": "s"}),
    st.just({"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}),
    st.just({"role": "function", "name": "f", "content": "r"}),
)
STATUSES = st.sampled_from(["complete", "complete", "complete", "incomplete"])


@st.composite
def threads(draw: st.DrawFn) -> list[MessageRow]:
    wires = draw(st.lists(MESSAGES, max_size=14))
    made: list[MessageRow] = []
    for index, wire in enumerate(wires):
        row: MessageRow = {"id": str(index), "created_at": 0, "wire": dict(wire), "seq": index}
        if draw(STATUSES) == "incomplete":
            row["status"] = "incomplete"
        made.append(row)
    return made


def rows(*wires: Wire) -> list[MessageRow]:
    return [{"id": str(index), "created_at": 0, "wire": wire, "seq": index} for index, wire in enumerate(wires)]


def valid(wires: list[Wire]) -> bool:
    try:
        check_tool_order(wires)
    except InvalidRequestError:
        return False
    return True


@given(threads())
def test_grouping_loses_nothing_and_keeps_each_exchange_in_order(thread: list[MessageRow]) -> None:
    groups = exchanges(thread)
    grouped = [row["id"] for group in groups for row in group.rows]
    assert Counter(grouped) == Counter(row["id"] for row in thread)
    for group in groups:
        places = [row.get("seq", 0) for row in group.rows]
        assert places == sorted(places)
    firsts = [group.seq or 0 for group in groups]
    assert firsts == sorted(firsts)


@given(threads(), st.sampled_from(["drop", "placeholder"]))
def test_what_is_repaired_is_valid(thread: list[MessageRow], orphans: Literal["drop", "placeholder"]) -> None:
    assert valid([row["wire"] for row in repair(thread, orphans).rows])


@given(threads())
def test_what_is_valid_is_left_alone(thread: list[MessageRow]) -> None:
    repaired = repair(thread, "drop").rows
    again = repair(repaired, "drop")
    assert (again.rows, again.repaired_ids) == (repaired, [])


@given(threads())
def test_the_thread_itself_is_not_changed(thread: list[MessageRow]) -> None:
    before = [{**row, "wire": dict(row["wire"])} for row in thread]
    repair(thread, "drop")
    repair(thread, "placeholder")
    assert thread == before


@given(threads())
def test_what_was_changed_is_named(thread: list[MessageRow]) -> None:
    repaired = repair(thread, "drop")
    sent = {row["id"]: row["wire"] for row in repaired.rows}
    changed = {row["id"] for row in thread if sent.get(row["id"]) != row["wire"]}
    assert changed <= set(repaired.repaired_ids)
    assert set(repaired.repaired_ids) <= {row["id"] for row in thread}


@given(threads())
def test_user_and_system_messages_are_always_kept(thread: list[MessageRow]) -> None:
    kept = [row["id"] for row in repair(thread, "drop").rows if row["wire"]["role"] in ("user", "system")]
    assert kept == [row["id"] for row in thread if row["wire"]["role"] in ("user", "system")]


@given(threads())
def test_refusing_orphans_refuses_exactly_what_has_some(thread: list[MessageRow]) -> None:
    complete = [row for row in thread if row.get("status") != "incomplete"]
    groups = exchanges(complete)
    has_orphans = any(group.unanswered or group.role == "tool" for group in groups)
    if has_orphans:
        with pytest.raises(ValidationError, match="not valid"):
            repair(complete, "error")
    else:
        assert valid([row["wire"] for row in repair(complete, "error").rows])


def test_results_in_any_order_go_out_as_they_were_given() -> None:
    thread = rows(
        calling(["c1", "c2"]),
        {"role": "tool", "tool_call_id": "c2", "content": "2"},
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
    )
    assert repair(thread, "drop").rows == thread
    assert len(exchanges(thread)) == 1


def test_an_id_that_is_used_again_belongs_to_the_newest_call_that_waits() -> None:
    result = {"role": "tool", "tool_call_id": "c1", "content": "r"}
    thread = rows(calling(["c1"]), result, {"role": "user", "content": "again"}, calling(["c1"]), result)
    assert [len(group) for group in exchanges(thread)] == [2, 1, 2]
    assert repair(thread, "drop").rows == thread


def test_a_late_result_is_moved_to_its_call() -> None:
    thread = rows(
        calling(["c1"]), {"role": "user", "content": "?"}, {"role": "tool", "tool_call_id": "c1", "content": "r"}
    )
    assert [row["id"] for row in repair(thread, "drop").rows] == ["0", "2", "1"]
    assert repair(thread, "drop").repaired_ids != []
