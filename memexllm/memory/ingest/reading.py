"""A file, or bytes, become a document."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from memexllm.core.errors import UnreadableFileError, ValidationError
from memexllm.memory.ingest.decoding import decoded
from memexllm.memory.ingest.document import Progress, SourceDocument
from memexllm.memory.ingest.html import html_text
from memexllm.memory.ingest.kinds import kind_of
from memexllm.memory.ingest.pdf import read_pdf

MAX_BYTES = 100_000_000
"""What is larger is refused unless `max_bytes` says otherwise."""
KINDS = ("text", "markdown", "html", "code", "pdf")
_READ_AT_ONCE = 1 << 20
_LOOKED_AT = 4096


def read_file(
    path: str | os.PathLike[str],
    *,
    kind: str | None = None,
    encoding: str | None = None,
    password: str | None = None,
    max_bytes: int = MAX_BYTES,
    progress: Progress | None = None,
) -> SourceDocument:
    """The text of a file: plain text, Markdown, HTML, source code, or PDF (the extra `pdf`).

    The kind is told by the name, by the first bytes where that says nothing, and by `kind` where you know better. Text
    is read by its byte order mark, by what HTML and Python declare, as UTF-8, and else as cp1252, which is noted;
    `encoding` settles it. What is no text, broken, encrypted (`password` is for PDF) or larger than `max_bytes` is an
    `UnreadableFileError`; a file that is missing or closed to you is the usual `OSError`.
    """
    path = Path(path)
    data = _bytes_of(path, max_bytes)
    document = read_bytes(
        data, path.name, kind=kind, encoding=encoding, password=password, max_bytes=max_bytes, progress=progress
    )
    document.metadata["source"] = str(path)
    return document


def read_bytes(
    data: bytes,
    name: str = "bytes",
    *,
    kind: str | None = None,
    encoding: str | None = None,
    password: str | None = None,
    max_bytes: int = MAX_BYTES,
    progress: Progress | None = None,
) -> SourceDocument:
    """As `read_file`, for what was read already; `name` tells the kind by its suffix, and stands in errors."""
    if kind is not None and kind not in KINDS:
        raise ValidationError(f"kind must be one of {', '.join(KINDS)}; got {kind!r:.40}")
    if len(data) > max_bytes:
        raise _too_large(name, len(data), max_bytes)
    found, language = kind_of(name, data[:_LOOKED_AT]) if kind is None else (kind, None)
    if found == "pdf":
        document = read_pdf(data, name, password, progress)
        document.metadata["kind"] = "pdf"
        return document
    text, used, notes = decoded(data, name, found, encoding)
    metadata: dict[str, Any] = {"kind": found, "encoding": used}
    if language is not None:
        metadata["language"] = language
    if found == "html":
        text, title = html_text(text, progress)
        metadata |= {"title": title} if title else {}
    return SourceDocument(text, found, metadata, tuple(notes))


def _bytes_of(path: Path, max_bytes: int) -> bytes:
    """Not more than `max_bytes`, whatever the file says its size is: a pipe says 0, and another writer may be at it."""
    with path.open("rb") as file:
        n_bytes = os.fstat(file.fileno()).st_size
        if n_bytes > max_bytes:
            raise _too_large(path.name, n_bytes, max_bytes)
        data = bytearray()
        while piece := file.read(_READ_AT_ONCE):
            data += piece
            if len(data) > max_bytes:
                raise _too_large(path.name, len(data), max_bytes)
    return bytes(data)


def _too_large(name: str, n_bytes: int, max_bytes: int) -> UnreadableFileError:
    return UnreadableFileError(
        f"{name}: {n_bytes:,} bytes are more than max_bytes={max_bytes:,}; divide it, or allow more"
    )
