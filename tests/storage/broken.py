"""Storages with one fault each; the kit must find every one of them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from memexllm.core.models import Message, Thread
from memexllm.storage import MemoryStorage, SQLiteStorage
from tests.storage.custom import LiveDictStorage


class ForgetsToolCalls(MemoryStorage):
    def append_messages(self, thread_id: str, messages: Sequence[Message], **kwargs: Any) -> int:
        return super().append_messages(thread_id, [Message(m.content, m.role) for m in messages], **kwargs)


class SortsKeys(MemoryStorage):
    def append_messages(self, thread_id: str, messages: Sequence[Message], **kwargs: Any) -> int:
        sorted_wires = [m.model_copy(update={"wire": dict(sorted(m.wire.items()))}) for m in messages]
        return super().append_messages(thread_id, sorted_wires, **kwargs)


class SharesItsThreads(LiveDictStorage):
    def append_messages(self, thread_id: str, messages: Sequence[Message], **kwargs: Any) -> int:
        thread = self.threads.setdefault(thread_id, Thread(thread_id, **(kwargs.get("create") or {})))
        thread.messages.extend(messages)
        thread.version += 1
        return thread.version


class SortsByClock(MemoryStorage):
    def read_messages(self, thread_id: str, **bounds: Any) -> Any:
        found = super().read_messages(thread_id, **bounds)
        return found if bounds.get("wire") else sorted(found, key=lambda message: message.created_at)


class IgnoresCase(MemoryStorage):
    def read_messages(self, thread_id: str, **bounds: Any) -> Any:
        return super().read_messages(thread_id.lower(), **bounds)

    def append_messages(self, thread_id: str, messages: Sequence[Message], **kwargs: Any) -> int:
        return super().append_messages(thread_id.lower(), messages, **kwargs)


class StoresOneByOne(SQLiteStorage):
    """The rest of a batch comes after the next one's first message, whoever writes that."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._late: list[Message] = []
        self._handing_over = threading.Lock()

    def append_messages(self, thread_id: str, messages: Sequence[Message], **kwargs: Any) -> int:
        with self._handing_over:
            late, self._late = self._late, list(messages[1:])
            version = super().append_messages(thread_id, messages[:1], **kwargs)
            for message in late:
                version = super().append_messages(thread_id, [message])
            return version


class IgnoresTheVersion(MemoryStorage):
    def append_messages(self, thread_id: str, messages: Sequence[Message], **kwargs: Any) -> int:
        return super().append_messages(thread_id, messages, **{**kwargs, "expected_version": None})


class IgnoresTheUser(MemoryStorage):
    def append_messages(self, thread_id: str, messages: Sequence[Message], **kwargs: Any) -> int:
        if kwargs.get("create") and self.read_head(thread_id) is not None:
            del kwargs["create"]
        return super().append_messages(thread_id, messages, **kwargs)


class DoesNothing(MemoryStorage):
    def append_messages(self, thread_id: str, messages: Sequence[Message], **kwargs: Any) -> int:
        return 1


class KeepsEverything(MemoryStorage):
    def _drop_oldest(self, log: Any) -> None:
        return None


class AcknowledgesTooEarly(SQLiteStorage):
    """Writes a batch when the next one comes."""

    def append_messages(self, thread_id: str, messages: Sequence[Message], **kwargs: Any) -> int:
        waiting = vars(self).pop("waiting", None)
        if waiting is not None:
            super().append_messages(waiting[0], waiting[1], **waiting[2])
        if kwargs.get("create") is not None:
            return super().append_messages(thread_id, messages, **kwargs)
        vars(self)["waiting"] = (thread_id, list(messages), kwargs)
        return 1


class StoresTwiceNowAndThen(SQLiteStorage):
    def append_messages(self, thread_id: str, messages: Sequence[Message], **kwargs: Any) -> int:
        version = super().append_messages(thread_id, messages, **kwargs)
        return super().append_messages(thread_id, messages) if version % 20 == 0 else version


class ListsEveryone(MemoryStorage):
    def list_threads(self, limit: int = 100, offset: int = 0, *, user_id: Any = None, **asked: Any) -> list[Thread]:
        return super().list_threads(limit, offset, **asked)


class ListsByTheFirstWrite(MemoryStorage):
    def list_threads(self, limit: int = 100, offset: int = 0, *, order_by: Any = "created", **asked: Any) -> Any:
        return super().list_threads(limit, offset, order_by=order_by.replace("updated", "created"), **asked)


class TakesOneForTrue(MemoryStorage):
    def list_threads(self, limit: int = 100, offset: int = 0, *, metadata: Any = None, **asked: Any) -> Any:
        found = super().list_threads(1000, 0, **asked)
        wanted = (metadata or {}).items()
        return [each for each in found if all(each.metadata.get(key) == value for key, value in wanted)][offset:][
            :limit
        ]


class LosesThePlaceOfDeletedThreads(MemoryStorage):
    def list_threads(
        self,
        limit: int = 100,
        offset: int = 0,
        *,
        user_id: Any = None,
        metadata: Any = None,
        order_by: Any = "created",
        before: Any = None,
        after: Any = None,
        preview: bool = False,
    ) -> list[Thread]:
        found = super().list_threads(1000, order_by=order_by, before=before)
        cursors = [each.cursor for each in found]
        return found[cursors.index(after) + 1 if after in cursors else 0 :][offset:][:limit]


class FindsEverybodysMessages(MemoryStorage):
    def search_messages(self, text: str, **scope: Any) -> Any:
        return super().search_messages(text, **{**scope, "user_id": None})


class SharesWithItsForks(MemoryStorage):
    """Which so see what is superseded in their parent."""

    def fork_thread(self, thread_id: str, new_id: str, **keywords: Any) -> Thread:
        head = super().fork_thread(thread_id, new_id, **keywords)
        entries = self._logs[new_id].entries
        entries[:] = self._logs[thread_id].entries[: len(entries)]
        return head


class ForksWithoutTheAudit(MemoryStorage):
    def fork_thread(self, thread_id: str, new_id: str, **keywords: Any) -> Thread:
        head = super().fork_thread(thread_id, new_id, **keywords)
        log = self._logs[new_id]
        log.entries = [entry for entry in log.entries if not entry.superseded]
        return head
