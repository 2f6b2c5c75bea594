"""What a call decided before it was sent: the parts its turn is stored from and its explanation is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memexllm.algorithms.base import BaseAlgorithm, ContextView
from memexllm.algorithms.notes import CUT, HELD, WINDOWS
from memexllm.algorithms.pipeline import STEPS
from memexllm.algorithms.summary import SUMMARY
from memexllm.core.calibration import recalibrated
from memexllm.core.exchanges import Repaired
from memexllm.core.wire import MessageRow
from memexllm.history import explaining
from memexllm.history.context import BLOCK, Block, Loaded, Window
from memexllm.history.explain import Explanation
from memexllm.history.explaining import Before
from memexllm.integrations.openai.answers import Answer
from memexllm.integrations.openai.merge import Merged
from memexllm.integrations.openai.recalling import Chosen, Recalled


@dataclass(slots=True, weakref_slot=True)
class Prepared:
    """It knows nothing of the call or its response, which hold it: no cycle keeps a conversation in memory."""

    thread_id: str
    algorithm: BaseAlgorithm
    loaded: Loaded
    merged: Merged
    chosen: Chosen
    repaired: Repaired

    @property
    def view(self) -> ContextView:
        return self.chosen.view

    @property
    def window(self) -> Window:
        return self.chosen.window

    @property
    def state(self) -> dict[str, Any]:
        """What the choice changes in the thread's state."""
        return {**self.window.state, **self.chosen.state}

    @property
    def recalled(self) -> Recalled | None:
        """What is recalled, unless the message before which it stands could not be sent."""
        recalled = self.chosen.recalled
        there = recalled is not None and any(row["id"] == recalled.before for row in self.repaired.rows)
        return recalled if there else None

    @property
    def recalled_ids(self) -> list[str] | None:
        return None if self.recalled is None else self.recalled.ids

    @property
    def sent_rows(self) -> list[MessageRow]:
        recalled = self.recalled
        return self.repaired.rows if recalled is None else recalled.placed(self.repaired.rows)

    @property
    def summary_id(self) -> str | None:
        return self.window.head[0]["id"] if self.window.head else None

    @property
    def sent_seqs(self) -> list[list[int]]:
        """The seqs of the stored messages that were sent, as runs `[first, last]`."""
        rows = self.window.rows
        if rows and not self.repaired.repaired_ids:
            first, last = rows[0].get("seq", 0), rows[-1].get("seq", 0)
            if last - first + 1 == len(rows):
                return [[first, last]]
        return runs_of([row["seq"] for row in self.repaired.rows if "seq" in row])

    @property
    def shortened_seqs(self) -> list[list[int]] | None:
        if not self.window.shortened:
            return None
        return runs_of([row.get("seq", 0) for row in self.window.rows if "shortened" in row])

    def recalibrated(self, answer: Answer) -> dict[str, Any]:
        """What the server's count of this request says of ours, as a change to the thread's state."""
        counted, usage = self.window.tokens, answer.usage
        if counted is None or usage is None or self.repaired.repaired_ids:
            return {}
        reported = usage.get("prompt_tokens") or usage.get("input_tokens")
        if not isinstance(reported, int):
            return {}
        return recalibrated(self.view.state, self.view.model, counted, reported)

    @property
    def block_seqs(self) -> list[list[int]] | None:
        seqs = self.loaded.block.seqs
        return None if self.merged.block_to_store or not seqs else runs_of(seqs)

    @property
    def block_hash(self) -> str | None:
        named = self.merged.state.get(BLOCK) or self.loaded.state.get(BLOCK) or {}
        found: str | None = named.get("hash")
        return found

    def explanation(self) -> Explanation:
        loaded = self.loaded
        # The message that opened the turn may have been read on its own.
        seen = {row["id"]: row for row in (*loaded.rows, *self.window.rows)}
        rows = sorted(seen.values(), key=lambda row: row.get("seq", 0))
        n_seen = len(rows) + len(loaded.block.seqs)
        recalled = self.recalled
        chosen = explaining.Chosen(
            view=self.view,
            block=Block(),  # the call's own, in `view`, whether it was stored before or is new
            rows=rows,
            window=self.window,
            repaired=self.repaired,
            supersedes_from=self.merged.supersede_from,
            supersedes=self.merged.supersede,
            not_read=0 if loaded.whole or loaded.head is None else max(0, loaded.head.message_count - n_seen),
            sent_before=self._sent_before(),
            same_block=not self.merged.block_to_store,
            recalled=None if recalled is None else (recalled.before, recalled.row),
        )
        return explaining.explanation(self.thread_id, self.algorithm, chosen)

    def _sent_before(self) -> Before | None:
        """What the call before sent: as this one, up to its answer, as long as the window has not moved."""
        answers = [row.get("seq", 0) for row in self.loaded.rows if "origin" in row]
        if not answers:
            return None
        slides = self.window.excluded and self.window.cut is None
        if slides or _cuts(self.view.state) != _cuts({**self.view.state, **self.window.state}):
            return Before()
        shortened = [row.get("seq", 0) for row in self.window.rows if "shortened" in row]
        if WINDOWS in self.window.state:  # only old results were trimmed: as before up to the first of them
            return Before([[0, min(shortened, default=answers[-1]) - 1]], summary_id=self.summary_id)
        return Before([[0, answers[-1] - 1]], runs_of(shortened), self.summary_id)


def _cuts(state: Mapping[str, Any]) -> dict[str, Any]:
    """Where the windows noted in a state begin, what they hold, and what they have summarised."""
    notes: Mapping[str, Mapping[str, Any]] = state.get(WINDOWS) or {}
    return {
        key: found for key, note in notes.items() if any(found := [note.get(CUT), note.get(HELD), _summaries(note)])
    }


def _summaries(note: Mapping[str, Any]) -> list[Any]:
    return [each[SUMMARY] for each in (note, *(note.get(STEPS) or {}).values()) if SUMMARY in each]


def runs_of(seqs: Sequence[int]) -> list[list[int]]:
    """Ascending numbers as runs: 1, 2, 3, 7 is `[[1, 3], [7, 7]]`."""
    runs: list[list[int]] = []
    for seq in seqs:
        if runs and seq == runs[-1][1] + 1:
            runs[-1][1] = seq
        else:
            runs.append([seq, seq])
    return runs
