"""Storages as they were written for 0.1."""

from __future__ import annotations

import json
from typing import Any

from memexllm.core.models import Message, Thread
from memexllm.storage.base import BaseStorage


class DictStorage(BaseStorage):
    """Hands out the objects it keeps, and takes a `message_limit`."""

    def __init__(self, max_messages: int | None = None) -> None:
        super().__init__(max_messages=max_messages)
        self.kept: dict[str, Thread] = {}

    def save_thread(self, thread: Thread) -> None:
        if self.max_messages and len(thread.messages) > self.max_messages:
            thread.messages = thread.messages[-self.max_messages :]
        self.kept[thread.id] = thread

    def get_thread(self, thread_id: str, message_limit: int | None = None) -> Thread | None:
        thread = self.kept.get(thread_id)
        if thread is not None and message_limit is not None:
            return Thread(thread.id, thread.messages[-message_limit:], thread.metadata)
        return thread

    def list_threads(self, limit: int = 100, offset: int = 0) -> list[Thread]:
        return list(self.kept.values())[offset : offset + limit]

    def delete_thread(self, thread_id: str) -> bool:
        return self.kept.pop(thread_id, None) is not None

    def search_threads(self, query: dict[str, Any]) -> list[Thread]:  # type: ignore[override]  # its 0.1 form
        wanted = query.get("metadata", query)
        return [each for each in self.kept.values() if wanted.items() <= each.metadata.items()]


class ShorthandStorage(BaseStorage):
    """Never calls `super().__init__()`, keeps JSON of `to_dict()`, and has helpers with names the library uses."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def save_thread(self, thread: Thread) -> None:
        self.texts[thread.id] = json.dumps(thread.to_dict())

    def get_thread(self, thread_id: str) -> Thread | None:
        text = self.texts.get(thread_id)
        return None if text is None else Thread.from_dict(json.loads(text))

    def list_threads(self, limit: int = 100, offset: int = 0) -> list[Thread]:
        return [Thread.from_dict(json.loads(text)) for text in list(self.texts.values())[offset : offset + limit]]

    def delete_thread(self, thread_id: str) -> bool:
        return self.texts.pop(thread_id, None) is not None

    def search_threads(self, query: dict[str, Any]) -> list[Thread]:  # type: ignore[override]  # its 0.1 form
        return []

    def create_thread(self, user: str) -> Thread:
        thread = Thread(id=f"thread-of-{user}", metadata={"user": user})
        self.save_thread(thread)
        return thread

    def add_message(self, user: str, text: str) -> None:
        thread = self.get_thread(f"thread-of-{user}") or self.create_thread(user)
        thread.add_message(Message(text, "user"))
        self.save_thread(thread)

    def get_messages(self, user: str) -> list[str]:
        thread = self.get_thread(f"thread-of-{user}")
        return [] if thread is None else [message.content for message in thread.get_messages()]
