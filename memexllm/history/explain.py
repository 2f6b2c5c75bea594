"""`explain()`: which messages of a thread a model sees, which it does not, and why; `explaining.py` makes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from memexllm.core.notebook import table
from memexllm.history.prices import Prices

Fate = Literal["included", "excluded", "superseded"]

_COLUMNS = ("seq", "role", "fate", "why", "tokens", "text")


@dataclass(frozen=True, slots=True)
class ContextEntry:
    """One message and its fate.

    `seq` is its place in the thread, None for a message a call brought and for a summary. `repaired`: what is sent of
    it differs from what is stored, or it had to be left out to make the context valid. `shortened`: a placeholder is
    sent for its old result or image, which `reason` says. `tokens` are those of what is sent, counted with the
    explanation's encoding; of an excluded message, its own. `preview` is the beginning of its text.
    """

    message_id: str
    seq: int | None
    role: str
    fate: Fate
    reason: str
    tokens: int
    pinned: bool = False
    repaired: bool = False
    shortened: bool = False
    preview: str = field(default="", repr=False)

    @property
    def included(self) -> bool:
        return self.fate == "included"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What reaches the model of a thread; `print()` shows it as a table, `to_dict()` gives it as data.

    `entries` are in the thread's order, those a call brought last. `tokens` is what is sent: the included entries, the
    tools' schemas and the answer's priming. `budget` is what the algorithm allowed, None when it does not count
    tokens. `estimated_tokens` is `tokens` as servers have counted this thread's calls to this model so far. `cut` is
    the seq at which the window begins, None while nothing was cut. `cacheable_tokens` are those at the beginning that
    the call before has sent as well, in the steps in which providers cache them. `summary` is what is known of the
    summary: its `id`, the seqs it covers (`first`, `until`, not included), what it `cost`, and the `error` if the last
    one could not be made. `not_read` counts older messages that a call had no need to read and that are not among
    `entries`; all of them were excluded.
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
    estimated_tokens: int = 0
    cacheable_tokens: int = 0
    summary: Mapping[str, Any] | None = field(default=None, repr=False)

    def price(self, prices: Prices, *, output_tokens: int = 0) -> float:
        """What this request costs at `prices`, with an answer of so many tokens, if the provider's cache is warm."""
        return prices.of(self.estimated_tokens, self.cacheable_tokens, output_tokens)

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

    @property
    def shortened(self) -> list[ContextEntry]:
        return [entry for entry in self.entries if entry.shortened]

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
        cached = f", {self.cacheable_tokens} of them cacheable" if self.cacheable_tokens else ""
        return (
            f"thread {self.thread_id!r}: {len(self.included)} messages sent, {self.tokens}{budget} tokens{tools} "
            f"({self.encoding}){cached}; {len(self.excluded) + self.not_read} excluded, "
            f"{len(self.superseded)} superseded, {len(self.repaired)} repaired; {cut}; {self.algorithm}{unread}"
        )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines with aligned columns; the last one is as long as it is."""
    body = [head, *rows]
    widths = [max(len(row[column]) for row in body) for column in range(len(head) - 1)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in body
    ]
