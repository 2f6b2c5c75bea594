"""What fate has planned for one call: what the server, the storage and the caller do in the middle of it."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal

from memexllm import ConcurrencyError
from memexllm.core.errors import HistoryReadError, HistoryWriteError
from memexllm.testing.server import Drop, ServerError, StreamError
from memexllm.testing.server.outcomes import Reply
from tests.openai.talking import BROKEN_STREAM
from tests.storm.places import Down
from tests.storm.speaking import Way

Errors = tuple[type[BaseException], ...]
FAILURES = (429, 500, 503)
_DOWN: Errors = (HistoryReadError, HistoryWriteError)


@dataclass(frozen=True)
class Fate:
    name: str
    plan: tuple[Reply, ...] = ()
    """What the server does with the requests."""
    n_retries: int = 0
    leave_after: int | None = None
    """Pieces of a stream, which is left then."""
    cut: bool = False
    """What is heard may end in the middle without an error."""
    raises: Errors = ()
    """What may come of it."""
    refused: Errors = ()
    """What comes of it for sure, before any request."""
    down: Down | None = None
    """How the storage fails, until the call is over."""
    version: Literal["any", "right", "wrong"] = "any"
    """The one the call expects the thread to have."""
    cancelled: bool = False
    leaves_in_journal: bool = False
    """What was written down before the request stays, when no answer comes."""

    @property
    def needs_quiet(self) -> bool:
        """It is meant for this call, and not for what earlier ones have left to store."""
        return self.version == "wrong" or self.leaves_in_journal or bool(self.down and (self.plan or self.refused))


def failure(random: Random) -> ServerError:
    return ServerError(random.choice(FAILURES), retry_after_s=0)


@dataclass(frozen=True)
class Draw:
    """What is known of a call when its fate is drawn."""

    random: Random
    way: Way
    in_words: bool
    """The answer calls no tools, so a part of it is an answer, too."""
    journal: bool
    n_pieces: int


def any_fate(random: Random, way: Way, *, in_words: bool, journal: bool) -> Fate:
    draw = Draw(random, way, in_words, journal, random.randint(0, 12))
    fates = [_nothing, _nothing, _nothing, _nothing, _nothing, _nothing, _retry, _refusal, _drop]
    fates += [_stale, _unreadable, _unwritable, _unwritable_after_refusal, _doubtful]
    if way.streamed and in_words:
        fates += [_leave, _leave, _leave, _dropped_line, _dropped_line, _error_in_the_stream]
    if way.asynchronous and way.form in ("create", "stream") and in_words:
        fates += [_cancel, _cancel, _cancel]
    return random.choice(fates)(draw)


def _nothing(draw: Draw) -> Fate:
    return Fate("nothing")


def _retry(draw: Draw) -> Fate:
    return Fate("retry", tuple(failure(draw.random) for _ in range(draw.random.randint(1, 2))), n_retries=2)


def _refusal(draw: Draw) -> Fate:
    return Fate("refusal", (failure(draw.random),), raises=BROKEN_STREAM)


def _drop(draw: Draw) -> Fate:
    return Fate("drop", (Drop(),), raises=BROKEN_STREAM)


def _leave(draw: Draw) -> Fate:
    return Fate("leave", leave_after=draw.n_pieces, cut=True)


def _dropped_line(draw: Draw) -> Fate:
    return Fate("dropped line", (Drop(after_chunks=draw.n_pieces),), cut=True, raises=BROKEN_STREAM)


def _error_in_the_stream(draw: Draw) -> Fate:
    # The SDK's helper of responses stumbles over an error that is the first event of all.
    error = StreamError(after_chunks=max(draw.n_pieces, draw.way.form == "helper"))
    return Fate("error in the stream", (error,), cut=True, raises=BROKEN_STREAM)


def _cancel(draw: Draw) -> Fate:
    return Fate("cancel", cut=True, cancelled=True)


def _stale(draw: Draw) -> Fate:
    return Fate("another version expected", version="wrong", refused=(ConcurrencyError,))


def _unreadable(draw: Draw) -> Fate:
    return Fate("storage cannot be read", refused=(HistoryReadError,), down=Down(n_reads=0))


def _unwritable(draw: Draw) -> Fate:
    n_writes = int(draw.journal) if draw.random.random() < 0.7 else 0

    if draw.journal and not n_writes:
        return Fate("storage cannot be written", refused=(HistoryWriteError,), down=Down(n_writes=0))
    leaves = draw.way.streamed and draw.in_words and not draw.journal and draw.random.random() < 0.3
    leave_after = draw.n_pieces if leaves else None
    return Fate(
        "storage cannot be written", leave_after=leave_after, cut=True, raises=_DOWN, down=Down(n_writes=n_writes)
    )


def _unwritable_after_refusal(draw: Draw) -> Fate:
    return Fate(
        "refusal while the storage cannot be written",
        (failure(draw.random),),
        raises=(*_DOWN, *BROKEN_STREAM),
        down=Down(n_writes=int(draw.journal)),
        leaves_in_journal=True,
    )


def _doubtful(draw: Draw) -> Fate:
    down = Down(n_arriving=draw.random.randint(1, 2))
    name = "written, and said not to be"
    if draw.journal:
        return Fate(name, refused=(HistoryWriteError,), down=down, leaves_in_journal=True)
    return Fate(name, raises=_DOWN, down=down)
