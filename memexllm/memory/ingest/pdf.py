"""The text of a PDF file, page by page, by pypdf."""

from __future__ import annotations

import io
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

from memexllm._extras import required
from memexllm.core.errors import MemexLLMError, UnreadableFileError
from memexllm.memory.ingest.document import Progress, SourceDocument

_BETWEEN_PAGES = "\n\n"
_SURROGATE = re.compile("[\ud800-\udfff]")


def read_pdf(data: bytes, name: str, password: str | None = None, progress: Progress | None = None) -> SourceDocument:
    """Pages that hold no text are counted in `notes`; a file of none but such is refused: it was scanned."""
    reader = _opened(data, name, password)
    with _readable(name):
        pages = list(reader.pages)
    texts: list[str] = []
    for number, page in enumerate(pages, start=1):
        with _readable(name, number):
            texts.append(_SURROGATE.sub("\ufffd", page.extract_text()).strip())
        if progress is not None:
            progress(number, len(pages))
    n_empty = sum(not text for text in texts)
    if n_empty == len(texts):
        raise UnreadableFileError(
            f"{name}: none of its {len(texts)} pages holds any text; scanned pages need text recognition (OCR) first"
        )
    metadata: dict[str, Any] = {"n_pages": len(texts)}
    if title := _title(reader, name):
        metadata["title"] = title
    notes = (f"{n_empty} of {len(texts)} pages hold no text",) if n_empty else ()
    return SourceDocument(_BETWEEN_PAGES.join(texts), "pdf", metadata, notes, tuple(_starts(texts)))


def _opened(data: bytes, name: str, password: str | None) -> Any:
    pypdf = required("pypdf", extra="pdf", by="reading PDF files")
    with _readable(name):
        reader = pypdf.PdfReader(io.BytesIO(data))
        opened = not reader.is_encrypted or bool(reader.decrypt(password or ""))
    if opened:
        return reader
    if password is None:
        raise UnreadableFileError(f"{name}: this PDF file is encrypted; pass password=")
    raise UnreadableFileError(f"{name}: this PDF file is encrypted, and not with this password")


def _title(reader: Any, name: str) -> str:
    with _readable(name):
        found = reader.metadata.title if reader.metadata else None
    return _SURROGATE.sub("\ufffd", found).strip() if isinstance(found, str) else ""


def _starts(texts: list[str]) -> Iterator[int]:
    place = 0
    for text in texts:
        yield place
        place += len(text) + len(_BETWEEN_PAGES)


@contextmanager
def _readable(name: str, page: int | None = None) -> Generator[None]:
    """Whatever pypdf raises for a broken file, which it does not promise to be its own errors."""
    try:
        yield
    except MemexLLMError:
        raise
    except Exception as error:
        where = f"{name}, page {page}" if page else name
        raise UnreadableFileError(f"{where}: this PDF file cannot be read: {type(error).__name__}") from error
