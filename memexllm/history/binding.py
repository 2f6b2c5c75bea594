"""`with manager.thread("alice-1"):` binds a thread for the calls of wrapped clients in this task or thread."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_bound: ContextVar[tuple[tuple[int, str], ...]] = ContextVar("memexllm_threads", default=())


@contextmanager
def bind_thread(storage: Any, thread_id: str) -> Generator[str]:
    """Bound for clients over the same storage; the innermost binding counts."""
    token = _bound.set((*_bound.get(), (id(storage), thread_id)))
    try:
        yield thread_id
    finally:
        _bound.reset(token)


def bound_thread(storage: Any) -> str | None:
    bindings = _bound.get()
    if not bindings:
        return None
    return next((thread_id for key, thread_id in reversed(bindings) if key == id(storage)), None)
