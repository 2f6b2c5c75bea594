"""What a model answered, as float32 rows that have been looked at: one finite row for each text, all of one length."""

from __future__ import annotations

import base64
import binascii
from types import ModuleType
from typing import TYPE_CHECKING, Any

from memexllm._extras import required
from memexllm.core.errors import EmbeddingError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def numpy_for(by: str) -> ModuleType:
    """NumPy; `MissingDependencyError` says that `by` needs it."""
    return required("numpy", extra="memory", by=by)


def checked_vectors(values: Any, n_texts: int, dimensions: int | None, by: str) -> NDArray[np.float32]:
    """`values` as `n_texts` rows: lists, arrays and tensors of numbers are taken; anything else is `EmbeddingError`.

    No texts give no rows, of the dimensions as far as they are known.
    """
    np = numpy_for(by)
    if n_texts == 0:
        return np.zeros((0, dimensions or 0), dtype=np.float32)  # type: ignore[no-any-return]  # NumPy comes as a module
    rows = _rows(values, by)
    if rows.ndim != 2 or rows.shape[0] != n_texts or rows.shape[1] == 0:
        raise EmbeddingError(f"{by} gave an array of shape {rows.shape} for {n_texts} texts; expected one row each")
    if dimensions is not None and rows.shape[1] != dimensions:
        raise EmbeddingError(f"{by} gave vectors of {rows.shape[1]} dimensions; expected {dimensions}")
    if not np.isfinite(rows).all():
        position = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
        raise EmbeddingError(f"{by} gave a vector that is not finite for text {position} of {n_texts}")
    return rows


def decoded(embedding: Any, by: str) -> Any:
    """One embedding of an API's answer: a list of numbers, or the base64 of little-endian float32."""
    if not isinstance(embedding, str):
        return embedding
    try:
        raw = base64.b64decode(embedding, validate=True)
    except (binascii.Error, ValueError) as error:
        raise EmbeddingError(f"{by} gave an embedding that is no base64: {error}") from None
    if len(raw) % 4:
        raise EmbeddingError(f"{by} gave an embedding of {len(raw)} bytes, which are no float32 numbers")
    np = numpy_for(by)
    return np.frombuffer(raw, dtype="<f4")


def _rows(values: Any, by: str) -> NDArray[np.float32]:
    numpy = numpy_for(by)
    with numpy.errstate(over="ignore", invalid="ignore"):
        try:
            rows: NDArray[np.float32] = numpy.array(values, dtype=numpy.float32)
        except (TypeError, ValueError) as error:
            raise EmbeddingError(
                f"{by} gave no vectors of numbers, all of one length: {type(error).__name__}"
            ) from None
    return rows
