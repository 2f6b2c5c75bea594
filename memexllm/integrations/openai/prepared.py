"""What a call decided before it was sent: the parts its turn is stored from and its explanation is made of."""

from __future__ import annotations

from dataclasses import dataclass

from memexllm.algorithms.base import CUT, BaseAlgorithm, ContextView
from memexllm.core.exchanges import Repaired
from memexllm.history.context import BLOCK, Block, Loaded, Window
from memexllm.history.explain import Chosen, Explanation, explanation
from memexllm.integrations.openai.merge import Merged


@dataclass(slots=True, weakref_slot=True)
class Prepared:
    """It knows nothing of the call or its response, which hold it: no cycle keeps a conversation in memory."""

    thread_id: str
    algorithm: BaseAlgorithm
    loaded: Loaded
    merged: Merged
    view: ContextView
    window: Window
    repaired: Repaired

    @property
    def cut(self) -> int | None:
        found: int | None = self.window.state.get(CUT, self.loaded.state.get(CUT))
        return found

    @property
    def block_hash(self) -> str | None:
        named = self.merged.state.get(BLOCK) or self.loaded.state.get(BLOCK) or {}
        found: str | None = named.get("hash")
        return found

    def explanation(self) -> Explanation:
        loaded = self.loaded
        n_seen = len(loaded.rows) + len(loaded.block.seqs)
        chosen = Chosen(
            view=self.view,
            block=Block(),  # the call's own, in `view`, whether it was stored before or is new
            rows=loaded.rows,
            window=self.window,
            repaired=self.repaired,
            supersedes_from=self.merged.supersede_from,
            supersedes=self.merged.supersede,
            not_read=0 if loaded.whole or loaded.head is None else max(0, loaded.head.message_count - n_seen),
        )
        return explanation(self.thread_id, self.algorithm, chosen)
