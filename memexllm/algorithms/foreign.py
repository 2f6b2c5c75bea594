"""Algorithms that are no `BaseAlgorithm`: any object with the methods of the 0.1 contract, mocks included."""

from __future__ import annotations

from typing import Any

from memexllm.algorithms.base import BaseAlgorithm, window_of_hook
from memexllm.core.errors import ConfigurationError
from memexllm.core.models import Message, Thread


class ForeignAlgorithm(BaseAlgorithm):
    """An object's `get_message_window`, its `process_thread`, or both."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner
        self.observes_messages = callable(getattr(inner, "process_thread", None))

    def __repr__(self) -> str:
        return self.shown_name()

    def get_message_window(self, messages: list[Message]) -> list[Message]:
        if callable(getattr(self.inner, "get_message_window", None)):
            return list(self.inner.get_message_window(messages))
        return window_of_hook(self, messages)

    def process_thread(self, thread: Thread, new_message: Message) -> None:
        self.inner.process_thread(thread, new_message)

    def shown_name(self) -> str:
        return type(self.inner).__name__


def as_algorithm(algorithm: Any) -> BaseAlgorithm | None:
    """`algorithm` itself when its class is one of ours; by its type, since a mock passes isinstance()."""
    if algorithm is None or issubclass(type(algorithm), BaseAlgorithm):
        return algorithm  # type: ignore[no-any-return]  # checked
    if isinstance(algorithm, type):
        raise ConfigurationError(
            f"{algorithm.__name__} is a class, and an algorithm is an object: {algorithm.__name__}(...)"
        )
    if not any(callable(getattr(algorithm, name, None)) for name in ("get_message_window", "process_thread")):
        raise ConfigurationError(
            f"{type(algorithm).__name__} is no algorithm: it lacks get_message_window; "
            "subclass memexllm.algorithms.BaseAlgorithm"
        )
    return ForeignAlgorithm(algorithm)
