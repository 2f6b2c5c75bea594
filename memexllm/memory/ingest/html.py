"""The text of an HTML page: what a reader sees, with headings and lists as Markdown has them."""

from __future__ import annotations

import re

from memexllm.memory.ingest.document import Progress
from memexllm.memory.ingest.html_tokens import Tag, Text, tokens

_LEFT_OUT = frozenset({"template", "svg", "object"})
_BLOCKS = frozenset(
    """
    address article aside blockquote body caption center dd details dialog dir div dl dt fieldset figcaption figure
    footer form h1 h2 h3 h4 h5 h6 header hgroup hr legend li main menu nav ol p pre section summary table tbody tfoot
    thead tr ul option
    """.split()  # noqa: SIM905 - fifty quoted words read worse
)
_APART = frozenset("h1 h2 h3 h4 h5 h6 p pre ul ol dl table blockquote section article figure".split())  # noqa: SIM905 - the same
_HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)}
_SPACE = re.compile(r"[ \t\r\n\f]+")
_LINE_END = re.compile(r"\r\n|\n|\r")
_TOLD_EVERY = 1 << 20


def html_text(markup: str, progress: Progress | None = None) -> tuple[str, str]:
    """(text, title); the title is empty where there is none."""
    page = _Page()
    told = 0
    for end, token in tokens(markup):
        page.take(token)
        if progress is not None and (end - told >= _TOLD_EVERY or end == len(markup)):
            told = end
            progress(end, len(markup))
    return page.text(), _SPACE.sub(" ", "".join(page.title)).strip()


class _Page:
    """The lines of a page, as its tokens come."""

    def __init__(self) -> None:
        self.title: list[str] = []
        self._lines: list[str] = []
        self._line: list[str] = []
        self._line_says_something = False
        self._left_out = 0
        self._in_title = False
        self._n_pre = 0

    def take(self, token: Text | Tag) -> None:
        if isinstance(token, Tag):
            self._tag(token)
        elif self._in_title:
            self.title.append(token.text)
        elif not token.raw and not self._left_out:
            self._say(token.text)

    def _tag(self, tag: Tag) -> None:
        if tag.name in _LEFT_OUT:
            opens = not tag.closes and not tag.attributes.endswith("/")
            self._left_out = max(0, self._left_out + (1 if opens else -1 if tag.closes else 0))
        elif self._left_out:
            return
        elif tag.name == "title":
            self._in_title = not tag.closes
        elif tag.closes:
            self._close(tag.name)
        else:
            self._open(tag)

    def _open(self, tag: Tag) -> None:
        if tag.name == "br":
            self._end_line()
        elif tag.name in ("td", "th"):
            self._line.append(" | " if self._line_says_something else "")
        elif tag.name == "img":
            self._say(f" {tag.attribute('alt')} ")
        elif tag.name in _BLOCKS:
            self._end_line(apart=tag.name in _APART)
            self._n_pre += tag.name == "pre"
            self._line.append(_HEADINGS.get(tag.name) or ("- " if tag.name == "li" else ""))

    def _close(self, name: str) -> None:
        if name in _BLOCKS:
            self._end_line(apart=name in _APART)
            self._n_pre = max(0, self._n_pre - (name == "pre"))

    def _say(self, text: str) -> None:
        self._line_says_something |= bool(text.strip())
        if not self._n_pre:
            self._line.append(_SPACE.sub(" ", text))
            return
        first, *others = _LINE_END.split(text)
        self._line.append(first)
        for other in others:
            self._end_line()
            self._line.append(other)

    def text(self) -> str:
        self._end_line()
        return "\n".join(self._lines).strip("\n")

    def _end_line(self, *, apart: bool = False) -> None:
        """`apart` leaves a blank line below, one at most."""
        line = "".join(self._line)
        line = line.rstrip() if self._n_pre else _SPACE.sub(" ", line).strip()
        self._line.clear()
        if self._line_says_something or self._n_pre:
            self._lines.append(line)
        if apart and self._lines and self._lines[-1]:
            self._lines.append("")
        self._line_says_something = False
