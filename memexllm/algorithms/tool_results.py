"""ToolResultTrimming: old tool results and images make room first; they are most of what an agent's thread costs."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

from memexllm.algorithms._marks import Pressure
from memexllm.algorithms._noted import Arranged, NotedAlgorithm, stored_calls
from memexllm.algorithms.base import ContextView, Reads, required
from memexllm.algorithms.notes import WINDOWS, Note
from memexllm.core.errors import ValidationError
from memexllm.core.exchanges import Exchange
from memexllm.core.flow import Flow
from memexllm.core.wire import MessageRow, text_of

RESULT_LEFT_OUT = "(an older result was left out here)"
IMAGE_LEFT_OUT = "(an older image was left out here)"
RESULTS, IMAGES = "results", "images"
"""In a note: the seqs before which results and images are left out."""
_RESULT_ROLES = ("tool", "function")


class ToolResultTrimming(NotedAlgorithm):
    """All messages, old tool results and images replaced by a short placeholder; what is stored stays as it is.

    The newest `keep_last` results and `keep_images` images stay whole, and so do results of up to `longer_than`
    characters, pinned messages, and the results the model has not seen yet. Alone, it trims when twice as many have
    gathered; in a `Pipeline` with a token budget, when that is passed. In between nothing changes, which leaves the
    provider's prompt cache whole.
    """

    gives_way_only = True

    def __init__(self, keep_last: int = 5, keep_images: int = 2, longer_than: int = 200) -> None:
        super().__init__()
        for name, value in (("keep_last", keep_last), ("keep_images", keep_images), ("longer_than", longer_than)):
            if type(value) is not int or value < 0:
                raise ValidationError(f"{name} is a number of at least 0; got {value!r}")
        self.keep_last = keep_last
        self.keep_images = keep_images
        self.longer_than = longer_than

    def __repr__(self) -> str:
        return f"ToolResultTrimming(keep_last={self.keep_last}, keep_images={self.keep_images})"

    def key(self, model: str | None) -> str:
        return f"results:{self.keep_last}:{self.keep_images}:{self.longer_than}"

    def takes_all(self, view: ContextView, rows: Sequence[MessageRow]) -> bool:
        """When even alone it would leave all of them whole."""
        if self.key(view.model) in (view.state.get(WINDOWS) or ()):
            return False
        n_results = sum(row["wire"].get("role") in _RESULT_ROLES for row in rows)
        n_images = sum(map(_n_images, rows))
        return n_results <= 2 * self.keep_last and n_images <= 2 * self.keep_images

    def arrange(self, view: ContextView, note: Note, pressure: Pressure) -> Flow[Arranged]:
        yield from ()
        noted = dict(note)
        if pressure is not False:
            self._move(view, noted, 1 if pressure else 2)
        shortened: dict[str, str] = {}
        kept = [self._shortened(exchange, noted, shortened) for exchange in view.exchanges]
        return Arranged(kept, noted, shortened=shortened)

    def fold(self, view: ContextView) -> Note:
        """Alone it excludes nothing, so each stored call saw all that came before it."""
        pinned = {row["id"] for exchange in view.exchanges if exchange.pinned for row in exchange.rows}
        noted: dict[str, Any] = {}
        results: list[int] = []
        images: list[int] = []
        opener: int | None = None
        for before, incoming, _ in stored_calls(view):
            for row in before:
                opener = _seq(row) if row["wire"].get("role") == "user" else opener
                if row["id"] not in pinned:
                    results += [_seq(row)] * self._is_long_result(row)
                    images += [_seq(row)] * _n_images(row)
            goes_on = not any(row["wire"].get("role") == "user" for row in incoming)
            _set_on(noted, RESULTS, results, self.keep_last, 2, None)
            _set_on(noted, IMAGES, images, self.keep_images, 2, opener if goes_on else None)
        return noted

    def reads(self, state: Mapping[str, Any], model: str | None = None) -> Reads:
        return Reads()

    def _move(self, view: ContextView, noted: dict[str, Any], times: int) -> None:
        """Set the marks on when more than `times` what is kept has gathered behind them."""
        must = required(view)
        unpinned = [
            (exchange, wanted) for exchange, wanted in zip(view.exchanges, must, strict=True) if not exchange.pinned
        ]
        # What must be sent now is left whole, and all after it, so that it does not change when it need not be sent.
        limits = [_seq(exchange.rows[0]) for exchange, wanted in unpinned if wanted]
        results = [_seq(row) for each, _ in unpinned for row in each.rows if self._is_long_result(row)]
        images = [_seq(row) for each, _ in unpinned for row in each.rows for _ in range(_n_images(row))]
        open_from = _seq(view.exchanges[-1].rows[0]) if must and must[-1] else None
        _set_on(noted, RESULTS, results, self.keep_last, times, open_from)
        _set_on(noted, IMAGES, images, self.keep_images, times, min(limits, default=None))

    def _shortened(self, exchange: Exchange, note: Note, shortened: dict[str, str]) -> Exchange:
        if exchange.pinned or _seq(exchange.rows[0]) >= max(note.get(RESULTS, 0), note.get(IMAGES, 0)):
            return exchange
        rows: list[MessageRow] = []
        for row in exchange.rows:
            if _seq(row) < note.get(RESULTS, 0) and self._is_long_result(row):
                shortened[row["id"]] = "its result was left out"
                row = with_content(row, RESULT_LEFT_OUT)
            elif _seq(row) < note.get(IMAGES, 0) and _n_images(row):
                shortened[row["id"]] = "its images were left out"
                row = with_content(row, [_without_image(part) for part in row["wire"]["content"]])
            rows.append(row)
        return Exchange(tuple(rows), exchange.unanswered)

    def _is_long_result(self, row: MessageRow) -> bool:
        wire = row["wire"]
        if wire.get("role") not in _RESULT_ROLES:
            return False
        return bool(_n_images(row)) or len(text_of(wire)) > max(self.longer_than, len(RESULT_LEFT_OUT))


def with_content(row: MessageRow, content: Any) -> MessageRow:
    """`row` as it is sent with another content; its count and the items it came as were those of the old one."""
    changed = row.copy()
    changed["wire"] = {**row["wire"], "content": content}
    changed["shortened"] = True
    changed.pop("tokens", None)
    changed.pop("items", None)
    return changed


def _set_on(noted: dict[str, Any], mark: str, seqs: list[int], keep: int, times: int, limit: int | None) -> None:
    """Move a mark so that `keep` of `seqs` lie behind it, none of them before `limit`; those it passed are dropped."""
    behind = seqs[bisect_left(seqs, noted.get(mark, 0)) :]
    if len(behind) <= keep * times:
        return
    reached = behind[-keep] if keep else behind[-1] + 1
    if limit is not None:
        reached = min(reached, limit)
    if behind[0] < reached:
        noted[mark] = reached
        seqs[:] = [seq for seq in behind if seq >= reached]


def _n_images(row: MessageRow) -> int:
    content = row["wire"].get("content")
    return sum(map(_is_image, content)) if isinstance(content, list) else 0


def _is_image(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "image_url"


def _without_image(part: Any) -> Any:
    return {"type": "text", "text": IMAGE_LEFT_OUT} if _is_image(part) else part


def _seq(row: MessageRow) -> int:
    return row.get("seq", 0)
