"""`history_of(response)`: what the library did for a call."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from memexllm.core.errors import ResourceNotFoundError
from memexllm.history.explain import Explanation

_ATTRIBUTE = "_memexllm"


class ThreadNotGivenWarning(UserWarning):
    """A call named no thread, so a new one was made for it; the message names it."""


class PatchedClientWarning(UserWarning):
    """A client was instrumented before it was wrapped: wrap with_history first, then instrument.

    Its calls are traced and remembered all the same; those of its copies and of `beta` are not traced.
    """


class Explains(Protocol):
    def explanation(self) -> Explanation: ...


@dataclass(slots=True)
class HistoryInfo:
    """What the library did for one call; of a stream it is filled in as the stream is read.

    `saved` turns True when the turn is stored. `message_ids` are the messages stored by this call, in order, the answer
    last. `injected` counts the stored messages that were sent, the block included. `error` is why the turn could not be
    stored (it is kept and tried again). `version` is the thread's with the turn, to be expected by the next call.
    """

    thread_id: str
    message_ids: list[str] = field(default_factory=list[str])
    injected: int = 0
    saved: bool = False
    error: Exception | None = None
    version: int | None = None
    prepared: Explains | None = field(default=None, repr=False, compare=False)
    _context: Explanation | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def context(self) -> Explanation:
        """What this call sent, message by message; `print()` shows it.

        Made when it is first asked for, from the messages of the call, which live as long as its response.
        """
        if self._context is None:
            if self.prepared is None:
                raise ResourceNotFoundError(f"the call on thread {self.thread_id!r} sent nothing that can be explained")
            self._context = self.prepared.explanation()
            self.prepared = None
        return self._context


def history_of(response: Any) -> HistoryInfo:
    """What was done for the call of this response, raw or not, or stream; `ResourceNotFoundError` when there is none.

    A call made with `thread_id=None` has no history, and neither has its response.
    """
    info = _noted(response)
    if info is None:  # what the SDK's `.stream()` gives reads the stream of the call
        info = _noted(getattr(response, "__dict__", {}).get("_raw_stream"))
    if not isinstance(info, HistoryInfo):
        raise ResourceNotFoundError(
            f"this {type(response).__name__} carries no history: it did not come from a client made by with_history(), "
            "or its call was made with thread_id=None"
        )
    return info


def _noted(response: Any) -> Any:
    return getattr(response, "__dict__", {}).get(_ATTRIBUTE)


def attach(response: Any, info: HistoryInfo) -> None:
    """Where `history_of` looks; invisible to `model_dump()`. Objects that take no attributes are left as they are."""
    fields = getattr(response, "__dict__", None)
    if isinstance(fields, dict):
        fields[_ATTRIBUTE] = info
