"""HTML as a row of texts and tags, in time that grows with the text and not faster.

The standard library's parser takes quadratic time for some broken pages (an hour for a megabyte of "<!--", before its
fix of 2025), and a page to be remembered is anybody's. The rules are those of
https://html.spec.whatwg.org/multipage/parsing.html#tokenization as far as text depends on them.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass

# A quotation mark opens a value only behind an equals sign. Nothing here is tried twice: each `++` and `*+` keeps what
# it has, and a quotation that is never closed can only be the last one.
_TAG = re.compile(r"<(/?)([a-zA-Z][^\s/>]*+)((?:[^>=]++|=\s*+(?:\"[^\"]*+\"|'[^']*+')|=)*+)>")
_TAG_START = re.compile(r"</?[a-zA-Z]")
_ATTRIBUTE = re.compile(r"([^\s=/>\"']++)\s*+=\s*+(?:\"([^\"]*+)\"|'([^']*+)'|([^\s>]++))")
_RAW = frozenset({"script", "style", "iframe", "noembed", "noframes", "xmp"})
_ESCAPABLE = frozenset({"title", "textarea"})
# Python refuses to read numbers of thousands of digits; no character has one of nine.
_NO_CHARACTER = re.compile(r"&#(?:[0-9]{9,}|[xX][0-9a-fA-F]{9,});?")


@dataclass(frozen=True, slots=True)
class Text:
    text: str
    raw: bool = False
    """Of a script, a style and the like: nothing to be read."""


@dataclass(frozen=True, slots=True)
class Tag:
    name: str
    closes: bool
    attributes: str
    """As they stand in the tag."""

    def attribute(self, name: str) -> str:
        """Its value; empty where it has none."""
        for match in _ATTRIBUTE.finditer(self.attributes):
            if match[1].lower() == name:
                return unescaped(match[2] or match[3] or match[4] or "")
        return ""


def tokens(markup: str) -> Iterator[tuple[int, Text | Tag]]:
    """(where it ends, the text or tag). What is never finished (a comment, a tag) ends the page, as in a browser."""
    place = 0
    while place < len(markup):
        start = markup.find("<", place)
        if start < 0:
            start = len(markup)
        if start > place:
            yield start, Text(unescaped(markup[place:start]))
        if start == len(markup):
            return
        match = _TAG.match(markup, start)
        if match is None:
            place = _after_other(markup, start)
            if place == start + 1:
                yield place, Text("<")
            continue
        place = match.end()
        name = match[2].lower()
        yield place, Tag(name, match[1] == "/", match[3])
        if not match[1] and (name in _RAW or name in _ESCAPABLE):
            end = _closing(markup, name, place)
            inside = markup[place:end]
            yield end, Text(inside, raw=True) if name in _RAW else Text(unescaped(inside))
            place = end


def unescaped(text: str) -> str:
    return html.unescape(_NO_CHARACTER.sub("\ufffd", text)) if "&" in text else text


def _after_other(markup: str, start: int) -> int:
    """Behind a comment or a declaration that begins at `start`; one further where it is a mere "<"."""
    if markup.startswith("<!--", start):
        end = markup.find("-->", start + 2)
        return len(markup) if end < 0 else end + 3
    if markup.startswith(("<!", "<?"), start):
        end = markup.find(">", start)
        return len(markup) if end < 0 else end + 1
    return len(markup) if _TAG_START.match(markup, start) else start + 1


def _closing(markup: str, name: str, place: int) -> int:
    """Where the closing tag begins; without one, the end of the page."""
    match = re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE).search(markup, place)
    return match.start() if match else len(markup)
