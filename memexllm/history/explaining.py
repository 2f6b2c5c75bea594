"""Making an explanation of the very plan a call follows, so that it says what happens and not what should.

Making one changes nothing: no cut is moved, no count is noted, no summary is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from memexllm.algorithms._noted import OLDER, NotedAlgorithm
from memexllm.algorithms.base import BaseAlgorithm, ContextView
from memexllm.algorithms.notes import note_of
from memexllm.algorithms.pipeline import STEPS
from memexllm.algorithms.summary import SUMMARISED
from memexllm.algorithms.summary import SUMMARY as SUMMARY_NOTE
from memexllm.core.calibration import calibration_of
from memexllm.core.errors import MessageNotFoundError, ValidationError
from memexllm.core.exchanges import Repaired, says_nothing
from memexllm.core.state import RECALLED as RECALLED_NOTE
from memexllm.core.tokens import TokenCounter, instructs
from memexllm.core.wire import BLOCK_ROLES, MessageRow, row_of, text_of
from memexllm.history.context import Block, Window
from memexllm.history.explain import ContextEntry, Explanation, Fate
from memexllm.history.prices import cached_tokens

IN_THE_WINDOW = "in the window"
INSTRUCTIONS = "instructions"
THIS_CALL = "brought by this call"
PINNED = "pinned"
OPENER = "opened the current turn"
HELD = "stays until the window moves"
SUMMARY = "summary of what is not sent"
RECALLED = "recalled"
PLACEHOLDER = "stands for a result that is missing"
NOT_CHOSEN = "left out by the algorithm"
REPLACED = "replaced by an edit or a new answer"
OLD_INSTRUCTIONS = "replaced instructions"

_PREVIEW = 40


@dataclass(frozen=True, slots=True)
class Before:
    """What the call before sent besides its instructions: seqs as runs, those `shortened`, and the summary."""

    runs: Sequence[Sequence[int]] = ()
    shortened: Sequence[Sequence[int]] = ()
    summary_id: str | None = None

    def has(self, entry: ContextEntry) -> bool:
        """Whether it sent the message of an entry, in the same words."""
        if entry.seq is None or not _within(entry.seq, self.runs):
            return False
        return entry.shortened == _within(entry.seq, self.shortened)


def _within(seq: int, runs: Sequence[Sequence[int]]) -> bool:
    return any(first <= seq <= last for first, last in runs)


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a call, or `explain()`, decided: the parts an explanation is made of.

    `rows` are the stored messages that were looked at, in the thread's order, superseded ones included or not.
    `supersedes_from` is the seq from which the call replaces what is stored; `supersedes` are single ones.
    `sent_before` is None when there was no call before. `recalled` is the id of a message, and what is sent before it
    that is no message of the thread.
    """

    view: ContextView
    block: Block
    rows: Sequence[MessageRow]
    window: Window
    repaired: Repaired
    supersedes_from: int | None = None
    supersedes: Sequence[int] = ()
    not_read: int = 0
    sent_before: Before | None = None
    same_block: bool = True
    recalled: tuple[str, MessageRow] | None = None


def explanation(thread_id: str, algorithm: BaseAlgorithm | None, chosen: Chosen) -> Explanation:
    """`chosen` in words and numbers; counts are taken from the messages where they are stored with them."""
    view, window = chosen.view, chosen.window
    model = view.model or answering_model(chosen.rows)
    counter = TokenCounter(model) if algorithm is None else algorithm.counter(model)
    summary = _summary_of(algorithm, model, {**view.state, **window.state})
    entries = tuple(_entries(chosen, counter, (summary or {}).get("until") or 0))
    tool_tokens = counter.count_tools(
        view.tools if algorithm is None else algorithm.counted_tools(view),
        instructed=instructs(row["wire"] for row in (*view.block, *window.head)),
    )
    tokens = counter.priming + tool_tokens + sum(entry.tokens for entry in entries if entry.included)
    calibration = calibration_of(view.state, model)
    same = _same_beginning(chosen, entries, counter.priming)
    return Explanation(
        thread_id=thread_id,
        model=model,
        algorithm="no algorithm: everything is sent" if algorithm is None else repr(algorithm),
        encoding=counter.encoding,
        entries=entries,
        tokens=tokens,
        tool_tokens=tool_tokens,
        budget=None if algorithm is None else algorithm.budget(model),
        cut=window.cut,
        not_read=chosen.not_read,
        estimated_tokens=calibration.estimate(tokens),
        cacheable_tokens=cached_tokens(calibration.estimate(tool_tokens + same)) if same else 0,
        summary=summary,
    )


def sent_before(rows: Sequence[MessageRow]) -> Before | None:
    """What the newest call of a thread sent, what it brought included."""
    for row in reversed(rows):
        call = row.get("call")
        if call is not None and not row.get("superseded"):
            return Before(_runs_sent(row, call), call.get("shortened_seqs") or (), call.get("summary_id"))
    return None


def _runs_sent(answer: MessageRow, call: Mapping[str, Any]) -> list[list[int]]:
    seq = answer.get("seq", 0)
    brought = call.get("brought") or 0
    return [*(call.get("sent_seqs") or ()), *([[seq - brought, seq - 1]] if brought else [])]


def past_call(thread_id: str, rows: Sequence[MessageRow], answer_id: str) -> Explanation:
    """What the call that gave an answer was sent, by what was noted with it."""
    answer = next((row for row in rows if row["id"] == answer_id), None)
    if answer is None:
        raise MessageNotFoundError(f"Message not found: {answer_id}; thread {thread_id!r} has none of that id")
    call = answer.get("call")
    if call is None:
        raise ValidationError(f"message {answer_id!r} is no answer of a call through this library: nothing was noted")
    model = call.get("model")
    counter = TokenCounter(model)
    end = answer.get("seq", 0)
    sent = _runs_sent(answer, call)
    brought = end - (call.get("brought") or 0)
    known = call.get("block_seqs")
    block = {row.get("seq", 0) for row in rows if _within(row.get("seq", 0), known or ())}
    if known is None:
        block = _block_stored_at(rows, brought, sent)
    entries = [_not_stored(call["summary_id"], SUMMARY)] if call.get("summary_id") else []
    for row in rows:
        seq = row.get("seq", 0)
        if seq >= end:
            break
        if seq in block:
            entries.append(_entry(row, "included", INSTRUCTIONS, counter))
        elif _within(seq, sent):
            reason = THIS_CALL if seq >= brought else IN_THE_WINDOW
            entry = _entry(row, "included", reason, counter, row["id"] in (call.get("repairs") or ()))
            left_out = _within(seq, call.get("shortened_seqs") or ())
            entries.append(replace(entry, shortened=True) if left_out else entry)
        else:
            fate: Fate = "superseded" if row.get("superseded") else "excluded"
            entries.append(_entry(row, fate, REPLACED if row.get("superseded") else OLDER, counter))
    if call.get("recalled_ids"):
        entries = _with_past_recalled(entries)
    usage = call.get("usage") or {}
    tokens = counter.priming + sum(entry.tokens for entry in entries if entry.included)
    return Explanation(
        thread_id=thread_id,
        model=model,
        algorithm=f"the call of answer {answer_id!r}",
        encoding=counter.encoding,
        entries=tuple(entries),
        tokens=tokens,
        cut=call.get("cut_seq"),
        estimated_tokens=usage.get("prompt_tokens") or usage.get("input_tokens") or tokens,
        cacheable_tokens=_reported_as_cached(usage),
    )


def _summary_of(
    algorithm: BaseAlgorithm | None, model: str | None, state: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    note = note_of(state, algorithm.key(model)) if isinstance(algorithm, NotedAlgorithm) else None
    notes: list[Mapping[str, Any]] = [note or {}, *((note or {}).get(STEPS) or {}).values()]
    return next((each[SUMMARY_NOTE] for each in notes if each.get(SUMMARY_NOTE)), None)


def _not_stored(entry_id: str, reason: str) -> ContextEntry:
    """What a past call sent and is kept nowhere."""
    return ContextEntry(entry_id, None, "user", "included", reason, 0)


def _with_past_recalled(entries: Sequence[ContextEntry]) -> list[ContextEntry]:
    """With what was recalled before the last user message that was sent."""
    asked = max((n for n, each in enumerate(entries) if each.included and each.role == "user" and each.seq is not None))
    return [*entries[:asked], _not_stored(f"recalled:{entries[asked].message_id}", RECALLED), *entries[asked:]]


def recalled_again(state: Mapping[str, Any], rows: Sequence[MessageRow]) -> tuple[str, MessageRow] | None:
    """What a thread's next call sends again because it goes on with the turn that recalled it."""
    note: Mapping[str, Any] = state.get(RECALLED_NOTE) or {}
    asked = next((row["id"] for row in reversed(rows) if row["wire"].get("role") == "user"), None)
    if asked is None or note.get("before") != asked:
        return None
    last = rows[-1]["wire"]
    goes_on = last.get("role") in ("tool", "function") or last.get("tool_calls") or last.get("function_call")
    return (asked, recalled_row(asked, note["wire"])) if goes_on else None


def recalled_row(before: str, wire: dict[str, Any]) -> MessageRow:
    """What is recalled before that message, as it is sent; it is never stored."""
    return row_of({"wire": wire}, f"recalled:{before}", 0)


def _block_stored_at(rows: Sequence[MessageRow], brought: int, sent: Sequence[Sequence[int]]) -> set[int]:
    """The instructions that a call stored right before what it brought."""
    block: set[int] = set()
    for row in reversed(rows):
        seq = row.get("seq", 0)
        if seq < brought:
            if seq != brought - len(block) - 1 or not _is_block_row(row) or _within(seq, sent):
                break
            block.add(seq)
    return block


def _is_block_row(row: MessageRow) -> bool:
    return row["wire"].get("role") in BLOCK_ROLES


def _reported_as_cached(usage: Mapping[str, Any]) -> int:
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    return int(details.get("cached_tokens") or 0) if isinstance(details, Mapping) else 0


def _same_beginning(chosen: Chosen, entries: Sequence[ContextEntry], priming: int) -> int:
    """Tokens, tools apart, that the call before sent as well, up to the first that it did not."""
    if chosen.sent_before is None or not chosen.same_block:
        return 0
    head = {row["id"] for row in chosen.window.head}
    before = chosen.sent_before
    noted: Mapping[str, Any] = chosen.view.state.get(RECALLED_NOTE) or {}
    now: str | None = None
    again: str | None = None
    if chosen.recalled is not None:
        now, row = chosen.recalled
        if noted.get("before") == now and noted.get("wire") == row["wire"]:
            again = row["id"]
    same = priming + sum(entry.tokens for entry in entries if entry.reason == INSTRUCTIONS and entry.included)
    for entry in entries:
        if not entry.included or entry.reason == INSTRUCTIONS:
            continue
        if noted.get("before") == entry.message_id != now:
            break  # the call before has sent something recalled there
        if entry.message_id in head:
            there = entry.message_id == before.summary_id
        else:
            there = entry.message_id == again or before.has(entry)
        if not there:
            break
        same += entry.tokens
    return same


def _entries(chosen: Chosen, counter: TokenCounter, until: int) -> Iterator[ContextEntry]:
    block_seqs = set(chosen.block.seqs)
    sent = {row["id"]: row for row in chosen.repaired.rows}
    repaired = set(chosen.repaired.repaired_ids)
    in_window = {row["id"] for row in chosen.window.rows}
    # A block that is sent and not (or no longer) among the stored messages: given by this call, or kept by value.
    if not block_seqs.intersection(row.get("seq", -1) for row in chosen.rows):
        for row in chosen.view.block:
            yield _entry(row, "included", INSTRUCTIONS, counter)
    for row in chosen.window.head:
        yield _entry(row, "included", SUMMARY, counter)
    for row in chosen.rows:
        seq = row.get("seq", 0)
        fate: Fate
        if seq in block_seqs:
            fate, reason = "included", INSTRUCTIONS
        elif row.get("superseded") or _is_replaced(seq, chosen):
            fate, reason = "superseded", _why_superseded(row)
        elif row["id"] in sent:
            row = sent.pop(row["id"])
            fate, reason = "included", _why_included(row, chosen)
        elif row["id"] in in_window:
            fate, reason = "excluded", _why_invalid(row)
        else:
            fate, reason = "excluded", _why_excluded(row, chosen, until)
        if chosen.recalled is not None and row["id"] == chosen.recalled[0]:
            yield _entry(chosen.recalled[1], "included", RECALLED, counter)
        yield _entry(row, fate, reason, counter, row["id"] in repaired)
    for row in chosen.view.incoming:
        if chosen.recalled is not None and row["id"] == chosen.recalled[0]:
            yield _entry(chosen.recalled[1], "included", RECALLED, counter)
        if row["id"] in sent:
            yield _entry(sent.pop(row["id"]), "included", THIS_CALL, counter, row["id"] in repaired)
        else:
            yield _entry(row, "excluded", _why_invalid(row), counter, repaired=True)
    for row in sent.values():
        yield _entry(row, "included", PLACEHOLDER, counter)


def _is_replaced(seq: int, chosen: Chosen) -> bool:
    return seq in chosen.supersedes or (chosen.supersedes_from is not None and seq >= chosen.supersedes_from)


def _entry(row: MessageRow, fate: Fate, reason: str, counter: TokenCounter, repaired: bool = False) -> ContextEntry:
    wire = row["wire"]
    # What a repair changed was counted before it was changed.
    known = row.get("tokens") or [0, None]
    counted = not repaired and known[1] == counter.encoding
    return ContextEntry(
        message_id=row["id"],
        seq=row.get("seq"),
        role=str(wire.get("role")),
        fate=fate,
        reason=reason,
        tokens=int(known[0]) if counted else counter.count_message(wire),
        pinned=bool(row.get("pinned")),
        repaired=repaired,
        shortened="shortened" in row,
        preview=_preview(wire),
    )


def _why_included(row: MessageRow, chosen: Chosen) -> str:
    if row.get("pinned"):
        return PINNED
    if row.get("seq", 0) < (chosen.window.cut or 0):
        newest = next((each for each in reversed(chosen.window.rows) if each["wire"].get("role") == "user"), None)
        opens = newest is not None and newest["id"] == row["id"]
        return (
            OPENER if opens and not any(each["wire"].get("role") == "user" for each in chosen.view.incoming) else HELD
        )
    return chosen.window.shortened.get(row["id"], IN_THE_WINDOW)


def _why_excluded(row: MessageRow, chosen: Chosen, until: int) -> str:
    reason = chosen.window.excluded.get(row["id"])
    if reason is not None:
        return reason
    seq = row.get("seq", 0)
    return SUMMARISED if seq < until else OLDER if seq < (chosen.window.cut or 0) else NOT_CHOSEN


def _why_superseded(row: MessageRow) -> str:
    return OLD_INSTRUCTIONS if row["wire"].get("role") in ("system", "developer") else REPLACED


def _why_invalid(row: MessageRow) -> str:
    """Why the API would refuse it as it is (`core.exchanges.repair`)."""
    wire = row["wire"]
    if wire.get("role") in ("tool", "function"):
        return "a result whose call is not there"
    if wire.get("tool_calls") or wire.get("function_call"):
        return "a call without its result"
    return "says nothing" if says_nothing(wire) else NOT_CHOSEN


def answering_model(rows: Sequence[MessageRow]) -> str | None:
    """The model that gave the newest answer: the likeliest to be asked next."""
    for row in reversed(rows):
        origin = row.get("origin")
        if origin:
            model: str | None = origin[1]
            return model
    return None


def _preview(wire: Mapping[str, Any]) -> str:
    text = text_of(dict(wire))
    if not text and wire.get("tool_calls"):
        names = [_called(call) for call in wire["tool_calls"] if isinstance(call, Mapping)]
        text = f"calls {', '.join(names)}"
    line = " ".join(text.split())
    return line if len(line) <= _PREVIEW else line[: _PREVIEW - 1] + "…"


def _called(call: Mapping[str, Any]) -> str:
    called = call.get("function") or call.get("custom")
    return str(called.get("name")) if isinstance(called, Mapping) else "a tool"
