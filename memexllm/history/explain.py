"""`explain()`: which messages of a thread a model sees, which it does not, and why.

An explanation is made of the very plan a call follows, so it says what happens and not what should. Making one changes
nothing: no cut is moved, no count is noted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from memexllm.algorithms.base import CUT, BaseAlgorithm, ContextView
from memexllm.core.exchanges import Repaired, says_nothing
from memexllm.core.notebook import table
from memexllm.core.tokens import PRIMING, TokenCounter
from memexllm.core.wire import MessageRow, text_of
from memexllm.history.context import Block, Window

Fate = Literal["included", "excluded", "superseded"]

IN_THE_WINDOW = "in the window"
INSTRUCTIONS = "instructions"
THIS_CALL = "brought by this call"
PINNED = "pinned"
OPENER = "opened the current turn"
PLACEHOLDER = "stands for a result that is missing"
NOT_CHOSEN = "left out by the algorithm"
REPLACED = "replaced by an edit or a new answer"
OLD_INSTRUCTIONS = "replaced instructions"

_PREVIEW = 40
_COLUMNS = ("seq", "role", "fate", "why", "tokens", "text")


@dataclass(frozen=True, slots=True)
class ContextEntry:
    """One message and its fate.

    `seq` is its place in the thread, None for a message a call brought. `repaired`: what is sent of it differs from
    what is stored, or it had to be left out to make the context valid. `tokens` are counted with the explanation's
    encoding. `preview` is the beginning of its text.
    """

    message_id: str
    seq: int | None
    role: str
    fate: Fate
    reason: str
    tokens: int
    pinned: bool = False
    repaired: bool = False
    preview: str = field(default="", repr=False)

    @property
    def included(self) -> bool:
        return self.fate == "included"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What reaches the model of a thread; `print()` shows it as a table, `to_dict()` gives it as data.

    `entries` are in the thread's order, those a call brought last. `tokens` is what is sent: the included entries, the
    tools' schemas and the answer's priming. `budget` is what the algorithm allowed, None when it does not count
    tokens. `cut` is the seq at which the window begins, None while nothing was cut. `not_read` counts older messages
    that a call had no need to read and that are not among `entries`; all of them were excluded.
    """

    thread_id: str
    model: str | None
    algorithm: str
    encoding: str
    entries: tuple[ContextEntry, ...] = field(repr=False)
    tokens: int
    tool_tokens: int = 0
    budget: int | None = None
    cut: int | None = None
    not_read: int = 0

    @property
    def included(self) -> list[ContextEntry]:
        return self._of("included")

    @property
    def excluded(self) -> list[ContextEntry]:
        return self._of("excluded")

    @property
    def superseded(self) -> list[ContextEntry]:
        return self._of("superseded")

    @property
    def repaired(self) -> list[ContextEntry]:
        return [entry for entry in self.entries if entry.repaired]

    def _of(self, fate: Fate) -> list[ContextEntry]:
        return [entry for entry in self.entries if entry.fate == fate]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, the entries' previews included."""
        return asdict(self)

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (
                "" if entry.seq is None else str(entry.seq),
                entry.role,
                entry.fate,
                f"{entry.reason}{', repaired' if entry.repaired else ''}",
                str(entry.tokens),
                entry.preview,
            )
            for entry in self.entries
        ]

    def __str__(self) -> str:
        """A table for people; it shows the beginning of each message's text, which `repr()` does not."""
        return "\n".join([self._summary(), *_table(_COLUMNS, self._rows())])

    def _repr_html_(self) -> str:
        """The same table in a notebook, escaped."""
        return table(_COLUMNS, self._rows(), caption=self._summary())

    def _summary(self) -> str:
        budget = "" if self.budget is None else f" of {self.budget}"
        tools = f", {self.tool_tokens} of them tools" if self.tool_tokens else ""
        unread = f"; {self.not_read} older messages were not read" if self.not_read else ""
        cut = "nothing was cut" if self.cut is None else f"the window begins at seq {self.cut}"
        return (
            f"thread {self.thread_id!r}: {len(self.included)} messages sent, {self.tokens}{budget} tokens{tools} "
            f"({self.encoding}); {len(self.excluded) + self.not_read} excluded, {len(self.superseded)} superseded, "
            f"{len(self.repaired)} repaired; {cut}; {self.algorithm}{unread}"
        )


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a call, or `explain()`, decided: the parts an explanation is made of.

    `rows` are the stored messages that were looked at, in the thread's order, superseded ones included or not.
    `supersedes_from` is the seq from which the call replaces what is stored; `supersedes` are single ones.
    """

    view: ContextView
    block: Block
    rows: Sequence[MessageRow]
    window: Window
    repaired: Repaired
    supersedes_from: int | None = None
    supersedes: Sequence[int] = ()
    not_read: int = 0


def explanation(thread_id: str, algorithm: BaseAlgorithm | None, chosen: Chosen) -> Explanation:
    """`chosen` in words and numbers; counts are taken from the messages where they are stored with them."""
    view, window = chosen.view, chosen.window
    model = view.model or _answering_model(chosen.rows)
    counter = TokenCounter(model) if algorithm is None else algorithm.counter(model)
    entries = tuple(_entries(chosen, counter))
    tool_tokens = counter.count_tools(view.tools if algorithm is None else algorithm.counted_tools(view))
    cut = window.state.get(CUT, view.state.get(CUT)) or None
    return Explanation(
        thread_id=thread_id,
        model=model,
        algorithm="no algorithm: everything is sent" if algorithm is None else repr(algorithm),
        encoding=counter.encoding,
        entries=entries,
        tokens=PRIMING + tool_tokens + sum(entry.tokens for entry in entries if entry.included),
        tool_tokens=tool_tokens,
        budget=None if algorithm is None else algorithm.budget(model),
        cut=cut,
        not_read=chosen.not_read,
    )


def _entries(chosen: Chosen, counter: TokenCounter) -> Iterator[ContextEntry]:
    block_seqs = set(chosen.block.seqs)
    sent = {row["id"]: row for row in chosen.repaired.rows}
    repaired = set(chosen.repaired.repaired_ids)
    in_window = {row["id"] for row in chosen.window.rows}
    # A block that is sent and not (or no longer) among the stored messages: given by this call, or kept by value.
    if not block_seqs.intersection(row.get("seq", -1) for row in chosen.rows):
        for row in chosen.view.block:
            yield _entry(row, "included", INSTRUCTIONS, counter)
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
            fate, reason = "excluded", chosen.window.excluded.get(row["id"], NOT_CHOSEN)
        yield _entry(row, fate, reason, counter, row["id"] in repaired)
    for row in chosen.view.incoming:
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
        preview=_preview(wire),
    )


def _why_included(row: MessageRow, chosen: Chosen) -> str:
    cut = chosen.window.state.get(CUT, chosen.view.state.get(CUT)) or 0
    if row.get("pinned"):
        return PINNED
    if row.get("seq", 0) < cut:
        return OPENER
    return IN_THE_WINDOW


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


def _answering_model(rows: Sequence[MessageRow]) -> str | None:
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


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines with aligned columns; the last one is as long as it is."""
    body = [head, *rows]
    widths = [max(len(row[column]) for row in body) for column in range(len(head) - 1)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in body
    ]
