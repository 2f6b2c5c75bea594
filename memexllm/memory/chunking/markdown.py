"""Chunks along the headings and paragraphs of Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from memexllm.memory.chunking.base import Span, SpanChunker
from memexllm.memory.chunking.cutting import checked_size, cuts_after, paragraphs, refined, spans_between, words
from memexllm.memory.chunking.markdown_outline import Outline, Section, outline_of
from memexllm.memory.chunking.sentence import sentences

_LINE_END = re.compile(r"\r\n|\n|\r")


class MarkdownChunker(SpanChunker):
    """One chunk for each section that fits in `max_chars`; a longer one is divided between its paragraphs.

    A heading without a text of its own stays with the section below it. Code fences, lists and tables stay whole where
    they fit, and are divided between lines where not. `metadata["headings"]` are the titles above a chunk, outermost
    first. Text without any headings is divided between its paragraphs.
    """

    def __init__(self, max_chars: int = 1500) -> None:
        checked_size(max_chars, "max_chars")
        self.max_chars = max_chars

    def __repr__(self) -> str:
        return f"MarkdownChunker({self.max_chars})"

    def spans(self, text: str) -> list[Span]:
        outline = outline_of(text)
        found: list[Span] = []
        for section in self._sections(text, outline):
            metadata = {"headings": list(section.headings)} if section.headings else {}
            cuts = self._cuts(text, section, outline)
            found.extend(Span(span.start, span.end, metadata) for span in spans_between(text, cuts))
        return found

    def _sections(self, text: str, outline: Outline) -> Iterator[Section]:
        """The outline's, each together with the bare headings above it as far as they fit."""
        waiting: Section | None = None
        for section in outline.sections():
            if waiting is not None and section.end - waiting.start <= self.max_chars:
                section = replace(section, start=waiting.start)
            elif waiting is not None:
                yield waiting
            bare = not text[section.body : section.end].strip() and section.end < len(text)
            waiting = section if bare else None
            if not bare:
                yield section

    def _cuts(self, text: str, section: Section, outline: Outline) -> list[int]:
        def blocks(text: str, start: int, end: int) -> list[int]:
            return [cut for cut in paragraphs(text, start, end) if not outline.in_fence(cut)]

        def lines_or_sentences(text: str, start: int, end: int) -> list[int]:
            if outline.in_fence(start, at_its_start=True) or text[start:end].lstrip().startswith("|"):
                return cuts_after(_LINE_END, text, start, end)
            return sentences(text, start, end)

        ways = [blocks, lines_or_sentences, words]
        return refined(text, section.start, section.end, self.max_chars, ways)
