"""SummaryAlgorithm: what falls out of the window is replaced by one running summary."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from time import monotonic
from typing import Any, Literal

from memexllm.algorithms._budget import Gauge, Keep, TokenAlgorithm, shown
from memexllm.algorithms._marks import Front, Marks, Pressure, advance, seq_of
from memexllm.algorithms._noted import OLDER, Arranged, divided, refold
from memexllm.algorithms._summarizing import PROMPT, Desk, Made, as_summarizer
from memexllm.algorithms.base import ContextView, required
from memexllm.algorithms.notes import Note
from memexllm.core.errors import ValidationError
from memexllm.core.exchanges import Exchange, exchanges
from memexllm.core.flow import Flow
from memexllm.core.tokens import TextCounter, TokenCounter
from memexllm.core.wire import MessageRow

logger = logging.getLogger("memexllm.algorithms.summary")

SUMMARY = "summary"
"""In a note: the summary. `text` stands for the messages up to the seq `until` (not included)."""
OWED = "owed"
"""In a summary: seqs before `until` that it does not cover. They were held, and could not be worked in when let go."""
SUMMARISED = "covered by the summary"
HEADING = "Summary of the conversation before the messages that follow:\n"
_WORDS_A_TOKEN = 0.75
_AHEAD = 0.9
"""Of the high mark: where the next call is prepared for when there is time."""
_MOST_CHARACTERS = 32
"""Of a token: what is longer is not counted, only cut off; counting megabytes takes seconds."""


class SummaryAlgorithm(TokenAlgorithm):
    """As `TokenWindowAlgorithm`, and a summary of what was cut is sent right after the block.

    `summarizer(messages, previous) -> str` is any callable, sync or async: `messages` are those that have just been
    cut, `previous` is the summary so far, which the new one replaces. Or it is an OpenAI client (not a wrapped one),
    with the `model` that writes and a `prompt` of your own. It is asked once each time the window moves, never per
    call, and the summary is kept in the thread's state with the range it covers and its cost; stored messages stay.

    It has `timeout_s` for each move. When it raises, is too slow, or says nothing, the call goes on with the summary
    there is, a warning is logged, and what was cut is given to it again the next time; a text of more than
    `max_summary_tokens` (by default a tenth of the budget, at most 1,000) is cut off there. With `after_answer=True`
    no call waits for it: it works once an answer has been stored, in a background thread or task, when the window is
    nearly full; `manager.compact(thread_id)` does the same when you say so.

    `role` is whose message the summary is. A user's by default: what people said must not become instructions.
    """

    def __init__(
        self,
        summarizer: Any,
        max_tokens: float,
        keep: Keep = 0.6,
        max_summary_tokens: int | None = None,
        prompt: str = PROMPT,
        *,
        model: str | None = None,
        timeout_s: float = 30.0,
        after_answer: bool = False,
        role: Literal["user", "system", "developer"] = "user",
        token_counter: TokenCounter | TextCounter | None = None,
        reserve_tokens: int = 0,
        tools: Sequence[Mapping[str, Any]] | None = None,
        cache_discount: float = 0.9,
    ) -> None:
        super().__init__(max_tokens, keep, token_counter, None, reserve_tokens, tools, cache_discount)
        if max_summary_tokens is not None and not max_summary_tokens > 0:
            raise ValidationError(f"max_summary_tokens must be a positive number; got {max_summary_tokens!r}")
        if max_summary_tokens is not None and 1 < max_tokens <= max_summary_tokens:
            raise ValidationError(
                f"a summary of max_summary_tokens={max_summary_tokens} leaves no room in max_tokens={max_tokens:g}"
            )
        if not timeout_s > 0:
            raise ValidationError(f"timeout_s is how long a summary may take, more than 0; got {timeout_s!r}")
        if role not in ("user", "system", "developer"):
            raise ValidationError(f"the summary's role is user, system or developer; got {role!r}")
        words = int((max_summary_tokens or 1000) * _WORDS_A_TOKEN)
        self._desk = Desk(as_summarizer(summarizer, model, prompt.replace("{words}", str(words))))
        self.max_summary_tokens = max_summary_tokens
        self.timeout_s = timeout_s
        self.works_ahead = after_answer
        self.role = role

    def __repr__(self) -> str:
        return f"SummaryAlgorithm(max_tokens={self.max_tokens:g}, keep={shown(self.keep)})"

    def key(self, model: str | None) -> str:
        return f"summary:{super().key(model)}"

    def arrange(self, view: ContextView, note: Note, pressure: Pressure) -> Flow[Arranged]:
        summary: dict[str, Any] = dict(note.get(SUMMARY) or {})
        must = required(view)
        gauge = self.gauge(view, note)
        required_ones = divided(view, must, "")[0]
        with_head = self._with_head(view, gauge, summary, required_ones)
        self.refuse_what_cannot_fit(view, must, with_head)
        before = Front.of(note)
        front = advance(view, must, self._marks(view, with_head), gauge.cost, before, pressure)
        noted = self.moved(view, gauge, note, front)
        if self._asks_now(view, front != before, front.cut, summary):
            yield from self._extend(view, gauge, (before, front), summary)
            if summary:
                noted[SUMMARY] = summary
        kept, excluded = divided(view, front.keep(view, must), OLDER)
        # A window that rests gives way for its summary at its next call, and not the summary for it.
        with_head = self._with_head(view, gauge, summary, kept if front != before else required_ones)
        covered = {row["id"] for exchange in view.exchanges for row in exchange.rows if _seq(row) < _until(summary)}
        excluded = {each: SUMMARISED if each in covered else reason for each, reason in excluded.items()}
        tokens = with_head.tokens([*(row for exchange in kept for row in exchange.rows), *view.incoming])
        return Arranged(
            kept,
            noted,
            excluded,
            head=self.head(summary) if with_head.fixed > gauge.fixed else [],
            tokens=tokens - self.reserve_tokens,
            counts=gauge.counts,
        )

    def fold(self, view: ContextView) -> Note:
        """Where the window would be; what was cut is summarised when it next moves."""
        view = replace(view, state={}, occasion="look")
        gauge = self.gauge(view, {})
        return refold(view, lambda then, note: self.arrange(then, note, None), gauge.cost, gauge.marks.high)

    def head(self, summary: Mapping[str, Any]) -> list[MessageRow]:
        """The summary as it is sent; nothing before there is one."""
        if not summary.get("text"):
            return []
        wire = {"role": self.role, "content": HEADING + summary["text"]}
        return [{"id": summary["id"], "created_at": 0, "wire": wire}]

    def _with_head(
        self, view: ContextView, gauge: Gauge, summary: Mapping[str, Any], sent: Sequence[Exchange]
    ) -> Gauge:
        """`gauge` with the summary sent besides, as far as it fits beside `sent`; a longer one fits at the low mark."""
        counter = self.counter(view.model)
        cost = sum(counter.count_message(row["wire"]) for row in self.head(summary))
        longest = counter.count_message({"role": self.role, "content": HEADING}) + self._most_tokens(view)
        rows = [*(row for exchange in sent for row in exchange.rows), *view.incoming]
        if cost and gauge.tokens(rows) + cost > gauge.limit:
            cost = 0
        return replace(gauge, fixed=gauge.fixed + cost, find_low=lambda: gauge.find_low() - max(longest - cost, 0))

    def _most_tokens(self, view: ContextView) -> int:
        return self.max_summary_tokens or min(max(self.limit(view) // 10, 1), 1000)

    def _marks(self, view: ContextView, gauge: Gauge) -> Marks:
        if view.occasion != "ahead":
            return gauge.marks
        return Marks(int(gauge.marks.high * _AHEAD), gauge.marks.find_low)

    def _asks_now(self, view: ContextView, moved: bool, cut: int, summary: Mapping[str, Any]) -> bool:
        if view.occasion == "look":
            return False
        if view.occasion == "ahead":
            return cut > _until(summary)
        return moved and not self.works_ahead

    def _extend(
        self, view: ContextView, gauge: Gauge, move: tuple[Front, Front], summary: dict[str, Any]
    ) -> Flow[None]:
        """Work what was cut and is not covered yet into `summary`; as far as the time goes."""
        started = monotonic()
        owed = _let_go(view, move, summary)
        rows = yield from self._cut_rows(view, move[1], _until(summary), owed)
        if owed:
            summary[OWED] = sorted(owed)
        for chunk, until in _chunks(rows, move[1].cut, gauge, max(gauge.limit, 1)):
            left = self.timeout_s - (monotonic() - started)
            if left <= 0:
                return
            made = yield from self._desk.ask(chunk, summary.get("text"), left)
            self._note_cost(summary, made)
            if made.error:
                summary["error"] = made.error
                logger.warning(
                    "the summary of %d messages could not be made (%s); they are stored, and left out without it",
                    len(chunk),
                    made.error,
                )
                return
            owed.difference_update(map(_seq, chunk))
            summary[OWED] = sorted(owed)
            if not owed:
                del summary[OWED]
            summary.pop("error", None)
            summary.setdefault("first", _seq(chunk[0]))
            summary["until"] = max(until, _until(summary))
            summary["id"] = f"summary:{summary['first']}-{summary['until'] - 1}"
            summary["text"] = self._short_enough(view, made.text)

    def _cut_rows(self, view: ContextView, front: Front, until: int, owed: Collection[int]) -> Flow[list[MessageRow]]:
        """What is not sent any more and not covered; read where a failure left it uncovered."""
        rows = [
            row
            for exchange in view.exchanges
            if not front.keeps(exchange) and not exchange.pinned
            for row in exchange.rows
            if _seq(row) >= until or _seq(row) in owed
        ]
        first = min((_seq(row) for exchange in view.exchanges for row in exchange.rows), default=front.cut)
        found = {_seq(row) for row in rows}
        start = min((until, *(seq for seq in owed if seq not in found)))
        if view.earlier is not None and (start < first or start < until):
            seen = {row["id"] for exchange in view.exchanges for row in exchange.rows}
            earlier = yield from view.earlier(start)
            rows += (
                row
                for row in earlier
                if row["id"] not in seen and (until <= _seq(row) < front.cut or _seq(row) in owed)
            )
        return sorted(rows, key=_seq)

    def _note_cost(self, summary: dict[str, Any], made: Made) -> None:
        cost: dict[str, Any] = dict(summary.get("cost") or {})
        cost["calls"] = cost.get("calls", 0) + 1
        cost["seconds"] = round(cost.get("seconds", 0.0) + made.seconds, 3)
        for name, count in made.usage.items():
            cost[name] = cost.get(name, 0) + count
        summary["cost"] = cost

    def _short_enough(self, view: ContextView, text: str) -> str:
        counter = self.counter(view.model)
        most = self._most_tokens(view)
        text = text[: most * _MOST_CHARACTERS].encode(errors="replace").decode()  # no database stores a lone surrogate
        n_tokens = counter.count_text(text)
        if n_tokens <= most:
            return text
        logger.warning("a summary of %d tokens was cut off after %d (max_summary_tokens)", n_tokens, most)
        fits, too_long = 0, len(text)
        while too_long - fits > 1:
            middle = (fits + too_long) // 2
            fits, too_long = (middle, too_long) if counter.count_text(text[:middle]) <= most else (fits, middle)
        return text[:fits]


def _chunks(rows: Sequence[MessageRow], cut: int, gauge: Gauge, most: int) -> Iterator[tuple[list[MessageRow], int]]:
    """`rows` in whole exchanges of up to `most` tokens: a thread of years is not one request.

    With each the seq up to which everything before the `cut` is covered once it is.
    """
    chunk: list[MessageRow] = []
    size = 0
    for exchange in exchanges(rows):
        cost = sum(map(gauge.cost, exchange.rows))
        if chunk and size + cost > most:
            yield chunk, min(_seq(exchange.rows[0]), cut)
            chunk, size = [], 0
        chunk.extend(exchange.rows)
        size += cost
    if chunk:
        yield chunk, cut


def _let_go(view: ContextView, move: tuple[Front, Front], summary: Mapping[str, Any]) -> set[int]:
    """The seqs before the summary's `until` that it does not cover and that are not sent any more."""
    before, front = move
    held = {
        _seq(row)
        for exchange in view.exchanges
        if seq_of(exchange) in before.held and not front.keeps(exchange) and not exchange.pinned
        for row in exchange.rows
        if _seq(row) < _until(summary)
    }
    return held.union(summary.get(OWED) or ())


def _until(summary: Mapping[str, Any]) -> int:
    return int(summary.get("until") or 0)


def _seq(row: MessageRow) -> int:
    return row.get("seq", 0)
