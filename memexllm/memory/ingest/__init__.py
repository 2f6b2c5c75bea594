"""Files become text: which kind a file is, and a reader for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memexllm._lazy import lazy_exports

if TYPE_CHECKING:
    from memexllm.memory.ingest.document import Progress, SourceDocument
    from memexllm.memory.ingest.reading import MAX_BYTES, read_bytes, read_file

__all__ = ["read_file", "read_bytes", "SourceDocument", "Progress", "MAX_BYTES"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "MAX_BYTES": "memexllm.memory.ingest.reading",
        "Progress": "memexllm.memory.ingest.document",
        "SourceDocument": "memexllm.memory.ingest.document",
        "read_bytes": "memexllm.memory.ingest.reading",
        "read_file": "memexllm.memory.ingest.reading",
    },
)
