"""The headings and code fences of a Markdown text, by the block rules of CommonMark 0.31.

https://spec.commonmark.org/0.31.2/#leaf-blocks; a heading inside a quotation or a list is text here.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from memexllm.memory.chunking.cutting import line_starts

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r" {0,3}(#{1,6})(?=[ \t\r\n]|$)")
_UNDERLINE = re.compile(r" {0,3}(?:(=+)|-+)[ \t]*$")
# What a paragraph cannot begin with, so that a line of dashes below it is a rule and no underline.
_NO_PARAGRAPH = re.compile(r" {0,3}(?:[-*+>|]|\d{1,9}[.)]\s)|\s*$| {4}|\t")
_MARKS = frozenset(" \t\r\n\f\v`~#=-")
_FRONT_MATTER = "---"


@dataclass(frozen=True, slots=True)
class Heading:
    start: int
    body: int
    """Where the line after it begins."""
    level: int
    title: str


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with what stands below it, up to the next heading of any level."""

    start: int
    body: int
    end: int
    headings: tuple[str, ...]
    """The titles above it and its own, outermost first."""


@dataclass(slots=True)
class Outline:
    n_chars: int
    headings: list[Heading] = field(default_factory=list[Heading])
    fence_starts: list[int] = field(default_factory=list[int])
    fence_ends: list[int] = field(default_factory=list[int])

    def sections(self) -> Iterator[Section]:
        """They follow each other without a gap, from the beginning of the text to its end."""
        starts = [*(heading.start for heading in self.headings), self.n_chars]
        if starts[0] > 0:
            yield Section(0, 0, starts[0], ())
        above: list[Heading] = []
        for heading, end in zip(self.headings, starts[1:], strict=True):
            above = [each for each in above if each.level < heading.level] + [heading]
            yield Section(heading.start, heading.body, end, tuple(each.title for each in above))

    def in_fence(self, place: int, *, at_its_start: bool = False) -> bool:
        """Whether the place lies inside a code fence; its own beginning only counts when asked for."""
        number = bisect.bisect_right(self.fence_starts, place) - 1
        if number < 0 or place >= self.fence_ends[number]:
            return False
        return at_its_start or place > self.fence_starts[number]


def outline_of(text: str) -> Outline:
    starts = line_starts(text)
    ends = [*starts[1:], len(text)]
    outline = Outline(len(text))
    number = _front_matter_lines(text, starts, ends)
    paragraph: int | None = None
    while number < len(starts):
        start, end = starts[number], ends[number]
        if paragraph is not None and text[start : start + 1] not in _MARKS:
            # Most lines go on with a paragraph, and none of the rules below is about them.
            number += 1
            continue
        if fence := _FENCE.match(text, start, end):
            number = _after_fence(text, starts, ends, number, fence[1])
            outline.fence_starts.append(start)
            outline.fence_ends.append(ends[number - 1])
            paragraph = None
            continue
        if heading := _HEADING.match(text, start, end):
            outline.headings.append(Heading(start, end, len(heading[1]), _title(text[heading.end() : end])))
            paragraph = None
        elif paragraph is not None and (underline := _UNDERLINE.match(text[start:end].rstrip("\r\n"))):
            title = text[paragraph:start].strip().replace("\r\n", "\n").replace("\n", " ")
            outline.headings.append(Heading(paragraph, end, 1 if underline[1] else 2, title))
            paragraph = None
        elif _is_blank(text, start, end):
            paragraph = None
        elif paragraph is None and not _NO_PARAGRAPH.match(text, start, end):
            paragraph = start
        number += 1
    return outline


def _front_matter_lines(text: str, starts: list[int], ends: list[int]) -> int:
    """How many lines of settings stand between two lines of dashes at the very beginning."""
    if text[: ends[0]].rstrip() != _FRONT_MATTER:
        return 0
    for number in range(1, len(starts)):
        if text[starts[number] : ends[number]].rstrip() == _FRONT_MATTER:
            return number + 1
    return 0


def _after_fence(text: str, starts: list[int], ends: list[int], opening: int, marks: str) -> int:
    """The number of the line after the fence that begins at line `opening`; one never closed goes on to the end."""
    for number in range(opening + 1, len(starts)):
        line = text[starts[number] : ends[number]].strip()
        if len(line) >= len(marks) and line == marks[0] * len(line):
            return number + 1
    return len(starts)


def _title(rest: str) -> str:
    """The heading's text without the closing number signs it may have."""
    rest = rest.strip()
    without = rest.rstrip("#")
    return without.strip() if not without or without[-1].isspace() else rest


def _is_blank(text: str, start: int, end: int) -> bool:
    return not text[start:end].strip()
