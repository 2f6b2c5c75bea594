"""What a storage and its managers should do, on plain dicts and lists: small enough to be right at a look.

A message is a dict of its fields (`seq` among them), a thread a dict of its fields with its `messages`. An operation
returns what the real one returns, or raises `Refused` with the error types it may answer with.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from memexllm.core.errors import ConcurrencyError, MessageNotFoundError, ThreadNotFoundError

Fields = dict[str, Any]
NOW = "now"
"""A time the storage takes from the clock."""


class Refused(Exception):  # noqa: N818 - it is an expected outcome
    """The operation changes nothing and raises one of `kinds`."""

    def __init__(self, *kinds: type[Exception]) -> None:
        super().__init__(*kinds)
        self.kinds = kinds


def live(messages: Sequence[Fields]) -> list[Fields]:
    return [message for message in messages if not message["superseded"]]


class Model:
    """`threads` is in creation order."""

    def __init__(self, max_messages: int | None = None) -> None:
        self.threads: dict[str, Fields] = {}
        self.max_messages = max_messages
        self._n_writes = 0

    def thread(self, thread_id: str) -> Fields:
        if thread_id not in self.threads:
            raise Refused(ThreadNotFoundError)
        return self.threads[thread_id]

    def append(
        self,
        thread_id: str,
        messages: Sequence[Fields],
        *,
        expected_version: int | None = None,
        supersede_from: int | None = None,
        supersede: Sequence[int] = (),
        state: Mapping[str, Any] | None = None,
        create: Mapping[str, Any] | None = None,
        counts: Mapping[int, tuple[int, str]] | None = None,
    ) -> int:
        thread = self.threads.get(thread_id)
        if thread is None:
            if create is None:
                raise Refused(ThreadNotFoundError)
            thread = self._made(create)
        elif create is not None and create.get("user_id") not in (None, thread["user_id"]):
            raise Refused(ThreadNotFoundError)
        if expected_version not in (None, thread["version"]):
            raise Refused(ConcurrencyError)
        for message in thread["messages"]:
            if message["seq"] in supersede or (supersede_from is not None and message["seq"] >= supersede_from):
                message["superseded"] = True
            if counts and message["seq"] in counts:
                message["tokens"] = list(counts[message["seq"]])
        first = thread["next_seq"]
        for index, message in enumerate(messages):
            thread["messages"].append({**copy.deepcopy(message), "seq": first + index})
        thread["next_seq"] += len(messages)
        thread["state"].update(named(copy.deepcopy(dict(state or {})), first))
        self.threads[thread_id] = thread
        self._drop_oldest(thread)
        return self._wrote(thread)

    def replace(self, thread_id: str, message_id: str, message: Fields) -> None:
        thread = self.thread(thread_id)
        places = [index for index, each in enumerate(thread["messages"]) if each["id"] == message_id]
        if not places:
            raise Refused(MessageNotFoundError)
        newest = places[-1]
        thread["messages"][newest] = {**copy.deepcopy(message), "seq": thread["messages"][newest]["seq"]}
        self._wrote(thread)

    def patch(self, thread_id: str, **fields: Any) -> None:
        thread = self.thread(thread_id)
        given = copy.deepcopy(fields)
        thread["state"].update(given.pop("state", {}))
        thread.update(given)
        if given:
            self._wrote(thread)

    def save(self, thread_id: str, fields: Fields, messages: Sequence[Fields]) -> None:
        """`fields` are those of the thread that is saved; a seq that does not ascend becomes the next one."""
        thread = self._made(fields)
        thread["updated_at"] = fields["updated_at"]
        thread["version"] = fields["version"]
        last = -1
        for message in messages:
            seq = message["seq"] if message["seq"] is not None and message["seq"] > last else last + 1
            thread["messages"].append({**copy.deepcopy(message), "seq": seq})
            last = seq
        thread["next_seq"] = last + 1
        old = self.threads.get(thread_id)
        if old is not None:
            thread["version"] = max(fields["version"], old["version"] + 1)
            thread["next_seq"] = max(last + 1, old["next_seq"])
        self._drop_oldest(thread)
        self.threads[thread_id] = thread

    def delete(self, thread_id: str) -> bool:
        return self.threads.pop(thread_id, None) is not None

    def messages(
        self,
        thread_id: str,
        *,
        limit: int | None = None,
        before: int | None = None,
        after: int | None = None,
        include_superseded: bool = False,
    ) -> list[Fields]:
        """None of an unknown thread."""
        found = self.threads[thread_id]["messages"] if thread_id in self.threads else []
        found = found if include_superseded else live(found)
        found = [message for message in found if before is None or message["seq"] < before]
        found = [message for message in found if after is None or message["seq"] > after]
        if limit is None:
            return found
        return found[:limit] if after is not None else found[max(len(found) - limit, 0) :]

    def listed(self, limit: int, offset: int) -> list[str]:
        return list(self.threads)[offset : offset + limit]

    def _made(self, fields: Mapping[str, Any]) -> Fields:
        self._n_writes += 1
        return {
            "user_id": fields.get("user_id"),
            "title": fields.get("title"),
            "metadata": copy.deepcopy(dict(fields.get("metadata") or {})),
            "state": copy.deepcopy(dict(fields.get("state") or {})),
            "created_at": fields.get("created_at", NOW),
            "updated_at": NOW,
            "version": 0,
            "messages": [],
            "next_seq": 0,
            # Names this thread, and its newest write, among all there ever were.
            "made": self._n_writes,
            "write": self._n_writes,
        }

    def _wrote(self, thread: Fields) -> int:
        self._n_writes += 1
        thread["write"] = self._n_writes
        thread["updated_at"] = NOW
        thread["version"] += 1
        return int(thread["version"])

    def _drop_oldest(self, thread: Fields) -> None:
        """`max_messages` counts live messages; what lies before the oldest kept goes, superseded or not."""
        kept = live(thread["messages"])
        if self.max_messages is not None and len(kept) > self.max_messages:
            oldest = kept[-self.max_messages]["seq"]
            thread["messages"] = [message for message in thread["messages"] if message["seq"] >= oldest]


def named(value: Any, first_seq: int) -> Any:
    """`value` with `{"$new": i}` replaced by the seq of message i of the batch."""
    if isinstance(value, dict):
        if list(value) == ["$new"]:
            return first_seq + value["$new"]
        return {key: named(item, first_seq) for key, item in value.items()}
    if isinstance(value, list):
        return [named(item, first_seq) for item in value]
    return value
