"""Embedding providers that are broken in one way each."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from memexllm.memory.embeddings import HashingEmbeddings

SMALL = HashingEmbeddings(64)


class Broken:
    """A provider that is right until `rows` is overridden."""

    dimensions = 64

    def rows(self, texts: list[str]) -> Any:
        return SMALL.embed_batch(texts)

    def embed(self, text: str) -> Any:
        return self.rows([text])[0]

    def embed_batch(self, texts: list[str]) -> Any:
        return self.rows(texts)


class Constant(Broken):
    def rows(self, texts: list[str]) -> Any:
        return np.ones((len(texts), 64))


class Reversing(Broken):
    def embed_batch(self, texts: list[str]) -> Any:
        return self.rows(texts[::-1])


class Dropping(Broken):
    def embed_batch(self, texts: list[str]) -> Any:
        return self.rows(texts[:50])


class DroppingEmpty(Broken):
    def embed_batch(self, texts: list[str]) -> Any:
        return self.rows([text for text in texts if text])


class Cutting(Broken):
    def rows(self, texts: list[str]) -> Any:
        return SMALL.embed_batch([text[:1000] for text in texts])


class NotFinite(Broken):
    def rows(self, texts: list[str]) -> Any:
        return np.vstack([SMALL.embed(text) * (1 if len(text) > 1 else np.nan) for text in texts])


class Wrong(Broken):
    dimensions = 65


class Counting(Broken):
    n = 0

    def rows(self, texts: list[str]) -> Any:
        self.n += 1
        return SMALL.embed_batch([f"{text} {self.n}" for text in texts])


class Sharing(Broken):
    def __init__(self) -> None:
        self.kept: dict[tuple[str, ...], Any] = {}

    def rows(self, texts: list[str]) -> Any:
        return self.kept.setdefault(tuple(texts), SMALL.embed_batch(texts))


class Consuming(Broken):
    def embed_batch(self, texts: list[str]) -> Any:
        rows = self.rows(texts)
        texts.clear()
        return rows


class NoRows(Broken):
    def embed_batch(self, texts: list[str]) -> Any:
        return self.rows(texts) if texts else np.zeros((0, 3))


class OneMethod:
    def embed(self, text: str) -> Any:
        return SMALL.embed(text)


class Growing(Broken):
    """Its vectors are as long as it has been asked often."""

    dimensions = 64

    def rows(self, texts: list[str]) -> Any:
        rows = SMALL.embed_batch(texts)[:, : self.dimensions]
        self.dimensions -= 1
        return rows


class Racing(Broken):
    """Callers at the same time get the answer of one of them."""

    def __init__(self) -> None:
        self.meeting = threading.Barrier(2)
        self.text = ""

    def embed(self, text: str) -> Any:
        self.text = text
        try:
            self.meeting.wait(0.01)
        except threading.BrokenBarrierError:
            self.meeting.reset()
        return self.rows([self.text])[0]
