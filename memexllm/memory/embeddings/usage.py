"""What embedding has cost."""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EmbeddingUsage:
    """Counted since the provider was made; `tokens` as the server reports them, 0 where it does not."""

    requests: int = 0
    texts: int = 0
    tokens: int = 0


class UsageMeter:
    """Adds up answered requests, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._total = EmbeddingUsage()

    @property
    def total(self) -> EmbeddingUsage:
        return self._total

    def add(self, *, texts: int, tokens: int) -> None:
        with self._lock:
            before = self._total
            self._total = EmbeddingUsage(before.requests + 1, before.texts + texts, before.tokens + tokens)
