"""The best of many scores, with ties in a fixed order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memexllm.memory.embeddings.vectors import numpy_for

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def best_places(scores: NDArray[np.float32], limit: int, offset: int, min_score: float | None) -> tuple[list[int], int]:
    """Places of the scores from `offset` on, by falling score and then by place; and how many are wanted at all."""
    numpy = numpy_for("memory")
    places = numpy.arange(len(scores)) if min_score is None else numpy.flatnonzero(scores >= min_score)
    total, end = len(places), offset + limit
    if end < total:
        # Those as good as the last one wanted are all taken, so that ties are broken by place and not by chance.
        kept = scores[places]
        places = places[kept >= numpy.partition(kept, total - end)[total - end]]
    order = numpy.argsort(-scores[places], kind="stable")
    return [int(place) for place in places[order][offset:end]], total
