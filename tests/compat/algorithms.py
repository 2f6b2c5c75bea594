"""Algorithms as they were written for 0.1."""

from __future__ import annotations

from memexllm.algorithms.base import BaseAlgorithm
from memexllm.core.models import Message, Thread


class Newest(BaseAlgorithm):
    """The newest two; notes what it was shown in the thread's metadata, and trims the thread it is given."""

    def get_message_window(self, messages: list[Message]) -> list[Message]:
        return messages[-2:]

    def process_thread(self, thread: Thread, new_message: Message) -> None:
        thread.metadata["count"] = len(thread.messages) + 1
        thread.metadata["roles"] = [message.role for message in [*thread.messages, new_message]]
        thread.messages = thread.messages[-1:]
        thread.add_message(new_message)
        new_message.content = "changed"


class HookAlone(BaseAlgorithm):
    """No `get_message_window`: what `process_thread` leaves is the window."""

    def process_thread(self, thread: Thread, new_message: Message) -> None:
        thread.add_message(new_message)
        thread.messages = thread.messages[-2:]


class Duck:
    """No subclass of anything."""

    max_messages = 2

    def get_message_window(self, messages: list[Message]) -> list[Message]:
        return messages[-2:]


class DuckHookAlone:
    def process_thread(self, thread: Thread, new_message: Message) -> None:
        thread.messages = [*thread.messages[-1:], new_message]


class NoBaseInit(BaseAlgorithm):
    def __init__(self, size: int) -> None:
        self.size = size

    def get_message_window(self, messages: list[Message]) -> list[Message]:
        return messages[-self.size :]

    def process_thread(self, thread: Thread, new_message: Message) -> None:
        pass


class Failing(BaseAlgorithm):
    def get_message_window(self, messages: list[Message]) -> list[Message]:
        return messages

    def process_thread(self, thread: Thread, new_message: Message) -> None:
        raise RuntimeError(f"cannot read {new_message.content}")
