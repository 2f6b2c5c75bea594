"""What a file says, and where its pages begin."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from typing import Any, Protocol


class Progress(Protocol):
    """Called while a long file is read: pages of a PDF, characters of HTML. What it raises ends the reading."""

    def __call__(self, done: int, total: int, /) -> None: ...


@dataclass(frozen=True, slots=True)
class SourceDocument:
    """The text of a file, as it stands there: line ends are kept, so offsets are those of the text.

    `kind` is "text", "markdown", "html", "code" or "pdf". `metadata` can be stored as JSON: `kind`, and where there is
    one `source`, `title`, `language`, `encoding`, `n_pages`. `notes` say what was taken for granted, an encoding or a
    page without text. The text of HTML has its headings and lists in Markdown.
    """

    text: str
    kind: str
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    notes: tuple[str, ...] = ()
    page_starts: tuple[int, ...] = ()
    """Where each page of a PDF begins in the text."""

    def __repr__(self) -> str:
        return f"SourceDocument({len(self.text)} characters, kind={self.kind!r}, metadata keys {sorted(self.metadata)})"

    def page_of(self, offset: int) -> int | None:
        """The page, counted from 1, on which the text at this offset stands; None where there are no pages."""
        return bisect.bisect_right(self.page_starts, offset) or None
