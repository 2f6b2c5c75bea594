"""Vectors of the words themselves: offline, without a model, and blind to meaning."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from memexllm.core.refusals import checked_positive
from memexllm.memory.embeddings._features import features
from memexllm.memory.embeddings.base import EmbeddingProvider
from memexllm.memory.embeddings.vectors import numpy_for

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class HashingEmbeddings(EmbeddingProvider):
    """Lexical: texts are near that share words or parts of words, whatever they mean. For tests, demos and offline use.

    Unit vectors, the same in every process and on every platform; a text without any sign gives zeros. Words that share
    a dimension by chance blur the result: 1,024 dimensions and more keep long texts apart.
    """

    def __init__(self, dimensions: int = 1024) -> None:
        checked_positive(dimensions, "dimensions")
        self._np = numpy_for("HashingEmbeddings")
        self._dimensions = dimensions

    def __repr__(self) -> str:
        return f"HashingEmbeddings({self._dimensions})"

    @property
    def dimensions(self) -> int:
        return self._dimensions

    def embed(self, text: str) -> NDArray[np.float32]:
        vector: NDArray[np.float32] = self.embed_batch([text])[0]
        return vector

    def embed_batch(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows: NDArray[np.float32] = self._np.zeros((len(texts), self._dimensions), dtype=self._np.float32)
        for row, text in zip(rows, texts, strict=True):
            weights = features(text, self._dimensions)
            # Whole numbers until the last division, so that no platform rounds otherwise.
            norm = math.sqrt(sum(weight * weight for weight in weights.values())) or 1.0
            row[list(weights)] = [weight / norm for weight in weights.values()]
        return rows
