"""Showing stored messages to an algorithm that asks for it: the `process_thread` of the 0.1 contract."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

from memexllm.algorithms.base import BaseAlgorithm, observe
from memexllm.core.errors import MemexLLMError
from memexllm.core.flow import Flow
from memexllm.core.models import Message
from memexllm.core.wire import copy_row, plain
from memexllm.storage.port import StoragePort

logger = logging.getLogger("memexllm")


def show_new(
    port: StoragePort, algorithm: BaseAlgorithm | None, thread_id: str, message_ids: Collection[str]
) -> Flow[None]:
    """Each message of `message_ids`, which are stored, with the thread before it; metadata it sets is stored.

    The messages are safe already, so nothing that fails here is raised: a caller would store them twice.
    """
    if algorithm is None or not algorithm.observes_messages:
        return
    try:
        yield from _show(port, algorithm, thread_id, set(message_ids))
    except MemexLLMError as error:
        logger.error(  # noqa: TRY400 - the error says it all
            "the metadata %r made for thread %r was not stored: %s", algorithm, thread_id, error
        )


def _show(port: StoragePort, algorithm: BaseAlgorithm, thread_id: str, message_ids: set[str]) -> Flow[None]:
    reader = yield from port.read(thread_id)
    if reader is None:
        return
    messages: list[Message] = yield reader.messages()
    old: dict[str, Any] = plain(reader.head.metadata)
    metadata: dict[str, Any] = plain(old)
    for index, message in enumerate(messages):
        if message.id in message_ids:
            before = [_copy(each) for each in messages[:index]]
            thread = reader.head.changed(messages=before, metadata=metadata, state={}, partial=False)
            observe(algorithm, thread, _copy(message))
            metadata = thread.metadata
    if metadata == old:
        return
    newest = yield from port.read(thread_id)
    if newest is not None:
        kept = {key: value for key, value in newest.head.metadata.items() if key in metadata or key not in old}
        kept |= {key: value for key, value in metadata.items() if key not in old or old[key] != value}
        yield port.patch_thread(thread_id, metadata=kept)


def _copy(message: Message) -> Message:
    return Message.from_row(copy_row(message.row()))
