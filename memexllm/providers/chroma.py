"""Another path to the store over Chroma; it lives in `memexllm.memory.stores.chroma`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memexllm._lazy import lazy_exports

if TYPE_CHECKING:
    from memexllm.memory.stores.chroma import ChromaDocumentAdapter

__all__ = ["ChromaDocumentAdapter"]

__getattr__, __dir__ = lazy_exports(__name__, {"ChromaDocumentAdapter": "memexllm.memory.stores.chroma"})
