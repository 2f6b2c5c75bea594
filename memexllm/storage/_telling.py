"""Plugins are told of threads and messages, once these are stored."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from memexllm.core.errors import MemexLLMError
from memexllm.core.flow import Flow, to_the_end
from memexllm.core.models import Message, Thread
from memexllm.core.plugins import Plugins
from memexllm.core.wire import MessageRow, copy_row, plain

if TYPE_CHECKING:
    from memexllm.storage.port import StoragePort

_log = logging.getLogger("memexllm.plugins")


def tell_stored(
    plugins: Plugins, port: StoragePort, thread_id: str, rows: Sequence[MessageRow], *, created: bool
) -> Flow[None]:
    """To the end, as the write itself: a call that is cancelled after it has stored something tells of that too."""
    yield from to_the_end(_tell(plugins, port, thread_id, rows, created=created))


def tell_created(plugins: Plugins, thread: Thread) -> Flow[None]:
    yield from to_the_end(plugins.tell("on_thread_created", partial(_shown_thread, thread)))


def tell_context(plugins: Plugins, thread_id: str, messages: Sequence[Any]) -> Flow[None]:
    """`messages` in wire form."""
    yield from plugins.tell("on_context_built", lambda: (thread_id, plain(list(messages))))


def _tell(
    plugins: Plugins, port: StoragePort, thread_id: str, rows: Sequence[MessageRow], *, created: bool
) -> Flow[None]:
    if created and plugins.has("on_thread_created"):
        try:
            reader = yield from port.read(thread_id)
        except MemexLLMError as error:
            # It is stored: a caller who were told of this would store it twice.
            _log.warning("thread %r was created and plugins were not told: %s", thread_id, type(error).__name__)
            reader = None
        if reader is not None:
            yield from plugins.tell("on_thread_created", partial(_shown_thread, reader.head))
    for row in rows:
        yield from plugins.tell("on_message_added", partial(_shown, thread_id, row))


def _shown(thread_id: str, row: MessageRow) -> tuple[str, Message]:
    return thread_id, Message.from_row(copy_row(row))


def _shown_thread(thread: Thread) -> tuple[Thread]:
    return (thread.changed(messages=[], metadata=plain(thread.metadata), state=plain(thread.state), partial=True),)
