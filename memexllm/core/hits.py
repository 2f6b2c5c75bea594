"""`MessageHit`: a message that was found, and where in it."""

from __future__ import annotations

from dataclasses import dataclass

from memexllm.core.models import Message


@dataclass(frozen=True, slots=True)
class MessageHit:
    """One message that `search_messages` found; the list it comes in is ordered by `score`, the best first.

    Scores order the hits of one search and mean nothing across searches. `snippet` is a line of the message's text
    around what matched, at most some 160 characters, white space as single blanks, "…" where text was left out.
    `highlights` are the half-open character ranges of the snippet that matched; none when only what was said just
    before or after the message holds the words.
    """

    thread_id: str
    message: Message
    """The caller's own copy, with its `seq`."""
    score: float
    snippet: str
    highlights: tuple[tuple[int, int], ...] = ()

    def __repr__(self) -> str:
        """Names the message without showing what was said."""
        return f"MessageHit(thread_id={self.thread_id!r}, message={self.message!r}, score={self.score:.3g})"
