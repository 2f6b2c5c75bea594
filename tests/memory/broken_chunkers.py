"""Chunkers that are broken in one way each."""

from __future__ import annotations

import re
from typing import Any

from memexllm.memory.chunking import Span

SIZE = 100


class Broken:
    """A chunker that is right until `chunk` is overridden."""

    def chunk(self, text: str) -> Any:
        pieces = [text[start : start + SIZE].strip() for start in range(0, len(text), SIZE)]
        return [piece for piece in pieces if piece]


class Lazy(Broken):
    def chunk(self, text: str) -> Any:
        return iter(super().chunk(text))


class KeepsNothing(Broken):
    def chunk(self, text: str) -> Any:
        return super().chunk(text) or [text]


class KeepsGaps(Broken):
    def chunk(self, text: str) -> Any:
        return [text[start : start + SIZE] for start in range(0, len(text), SIZE)] if text.strip() else []


class ChangesLines(Broken):
    def chunk(self, text: str) -> Any:
        return super().chunk(text.replace("\r\n", "\n"))


class LosesTheEnd(Broken):
    def chunk(self, text: str) -> Any:
        return super().chunk(text)[:-1] or super().chunk(text)


class KeepsLongWords(Broken):
    def chunk(self, text: str) -> Any:
        return re.findall(r"\S{100,}|\S.{0,98}\S|\S", text, re.DOTALL)


class Wanders(Broken):
    n = 0

    def chunk(self, text: str) -> Any:
        self.n += 1
        half = len(text) // 2 + self.n % 2
        return [piece for start, end in ((0, half), (half, len(text))) for piece in Broken.chunk(self, text[start:end])]


class SaysOtherwise(Broken):
    def spans(self, text: str) -> Any:
        return [Span(0, len(text))]


class Quadratic(Broken):
    def chunk(self, text: str) -> Any:
        rest, pieces = text, []
        while rest:
            for start in range(0, len(rest), 4):
                rest.startswith("never", start)
            pieces.append(rest[:SIZE].strip())
            rest = rest[SIZE:]
        return [piece for piece in pieces if piece]
