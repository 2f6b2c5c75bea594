"""`journal=True`: what a call brings is written down before its request, so that a crash cannot lose it.

It is stored with the status `pending`, which is no history: other calls do not see it, `get_messages()` does. With the
answer the turn is stored whole, in one write that supersedes what was written down. A call that fails or is cancelled
supersedes it too; after a crash it stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from memexllm.core.errors import ConcurrencyError, HistoryWriteError, StorageError
from memexllm.core.flow import Flow, to_the_end
from memexllm.core.wire import MessageRow
from memexllm.integrations.openai.outbox import Turn, logger
from memexllm.storage.port import StoragePort

_OTHERS = 64
"""How many messages of others may have come after those that were just written."""


@dataclass(slots=True)
class Journaled:
    """Where the rows lie, and the thread's version with them."""

    seqs: tuple[int, ...]
    version: int


def write_down(port: StoragePort, thread_id: str, turn: Turn) -> Flow[Journaled]:
    """Before the request: a storage that cannot keep it is a `HistoryWriteError`, before any money is spent."""
    try:
        version: int = yield port.append_messages(thread_id, turn.rows, turn.changes)
        # To the end: only who knows where the rows lie can take them back.
        newest = yield from to_the_end(_newest(port, thread_id, len(turn.rows) + _OTHERS))
    except ConcurrencyError:
        raise
    except StorageError as error:
        raise HistoryWriteError(
            f"what the call brings could not be written down in thread {thread_id!r}, so no request was made: {error}",
            None,
        ) from error
    ids = {row["id"] for row in turn.rows}
    return Journaled(tuple(row["seq"] for row in newest if row["id"] in ids and "seq" in row), version)


def _newest(port: StoragePort, thread_id: str, limit: int) -> Flow[list[MessageRow]]:
    reader = yield from port.read(thread_id)
    newest: list[MessageRow] = [] if reader is None else (yield reader.rows(limit=limit))
    return newest


def strike_out(port: StoragePort, thread_id: str, journaled: Journaled) -> Flow[None]:
    try:
        yield port.append_messages(thread_id, [], {"supersede": journaled.seqs})
    except StorageError as error:
        # The caller gets the request's own error; what stays is no history.
        logger.error("what was written down in thread %r stays there (%s)", thread_id, type(error).__name__)
