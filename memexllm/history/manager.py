"""`HistoryManager`: the flows of `flows.py`, `editing.py` and `compacting.py`, run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from memexllm.algorithms.base import BaseAlgorithm
from memexllm.core.errors import ConfigurationError
from memexllm.core.flow import run
from memexllm.core.hits import MessageHit
from memexllm.core.models import Message, Thread
from memexllm.core.moments import Clock, IdSource, new_id, utc_now
from memexllm.history import compacting, editing, flows
from memexllm.history.base import ManagerBase
from memexllm.history.explain import Explanation
from memexllm.storage._defaults import UNSET
from memexllm.storage._listing import CursorLike, OrderBy, list_query, search_query
from memexllm.storage.base import BaseStorage


class HistoryManager(ManagerBase):
    """Threads over a synchronous storage: an object, a path, a URL, or what `MEMEXLLM_STORAGE` names.

    Without an algorithm the window is the whole conversation. What it returns is the caller's; changing it changes
    nothing stored.
    """

    _asynchronous = False

    def __init__(
        self,
        storage: BaseStorage | str | os.PathLike[str] | None = None,
        algorithm: BaseAlgorithm | None = None,
        *,
        plugins: Iterable[Any] = (),
        clock: Clock = utc_now,
        id_source: IdSource = new_id,
    ) -> None:
        super().__init__(storage, algorithm, plugins=plugins, clock=clock, id_source=id_source)

    def create_thread(
        self,
        metadata: Mapping[str, Any] | None = None,
        *,
        thread_id: str | None = None,
        user_id: str | None = None,
        title: str | None = None,
    ) -> Thread:
        """An empty thread, stored. An id that exists already is a `ValidationError`."""
        return run(flows.create_thread(self._making, metadata, thread_id, user_id, title))

    def fork(
        self,
        thread_id: str,
        at: str | None = None,
        *,
        new_thread_id: str | None = None,
        user_id: str | None = None,
        title: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Thread:
        """A new thread that begins with what this one has, up to message `at` or all of it; its head (`partial`).

        From then on neither changes with the other; what is not given is the parent's. An unknown `at` is a
        `MessageNotFoundError`, a superseded one or a `new_thread_id` that exists a `ValidationError`.
        """
        return run(flows.fork(self._making, thread_id, at, new_thread_id, user_id, title, metadata))

    def get_thread(self, thread_id: str) -> Thread:
        """The thread with the messages of its window; `ThreadNotFoundError` when there is none.

        With an algorithm, or when messages were superseded, the thread is `partial`. A cut that had to be computed is
        stored, so only the first read of an old thread looks at all of it.
        """
        return run(flows.get_thread(self.port, self.chooser, thread_id, self.micros()))

    def context(self, thread_id: str) -> list[Message]:
        """What a model would be sent now: the block, then the window, repaired."""
        return run(flows.context(self.port, self.chooser, thread_id, self.micros()))

    def explain(
        self,
        thread_id: str,
        *,
        model: str | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
        call: str | None = None,
    ) -> Explanation:
        """What `context()` is made of, message by message: included, excluded and why, superseded, repaired, tokens.

        `model` names whose tokens are counted, by default the one that answered last; `tools` are the schemas a call
        brings. With `call`, the id of an answer, it is what the model had seen when it gave that answer: by what was
        noted with it, in the messages as they are now. Reads the whole thread and changes nothing. `print()` shows it
        as a table.
        """
        return run(flows.explain(self.port, self.chooser, thread_id, model, tools, call, self.micros()))

    def compact(self, thread_id: str, *, model: str | None = None) -> bool:
        """Plan the next call now: of a `SummaryAlgorithm` whose window is nearly full, make the summary.

        True when the window moved or a summary was made. Other windows move when they are full and not before.
        """
        return run(compacting.compact(self.port, self.chooser, thread_id, model, self.micros()))

    def get_messages(
        self, thread_id: str, *, limit: int | None = None, include_superseded: bool = False
    ) -> list[Message]:
        """The whole conversation as it stands, blocks included; the newest `limit` of it, in order."""
        return run(flows.get_messages(self.port, thread_id, limit, include_superseded))

    def add_message(
        self,
        thread_id: str,
        content: str | Sequence[Mapping[str, Any]] | None,
        role: str,
        metadata: Mapping[str, Any] | None = None,
        tool_calls: Sequence[Mapping[str, Any]] | None = None,
        tool_call_id: str | None = None,
        function_call: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> Message:
        """Append one message and return it. An unknown thread is a `ThreadNotFoundError`."""
        message = self._message(content, role, metadata, tool_calls, tool_call_id, function_call, name)
        return run(flows.add_messages(self.port, self.chooser, thread_id, [message]))[0]

    def add_messages(self, thread_id: str, messages: Iterable[Message]) -> list[Message]:
        """Append messages in order, all or none."""
        return run(flows.add_messages(self.port, self.chooser, thread_id, messages))

    def edit_message(
        self, thread_id: str, message_id: str, content: str | Sequence[Mapping[str, Any]] | None
    ) -> Message:
        """Say a message again with another content; the new message is returned, and is the thread's last.

        The old one and everything after it are superseded: kept, and no longer sent. A call with `messages=[]` answers
        the new one. Of a tool's result, the other results of its exchange stay. `correct_message` changes nothing else.
        """
        return run(editing.edit_message(self.port, self.chooser, self._said_anew, thread_id, message_id, content))

    def correct_message(
        self, thread_id: str, message_id: str, content: str | Sequence[Mapping[str, Any]] | None
    ) -> Message:
        """Give a message another content in its place: it keeps its id, and what came after it stays.

        The former content is not kept anywhere, so this also takes a secret out of a thread.
        """
        return run(editing.correct_message(self.port, thread_id, message_id, content))

    def regenerate(self, thread_id: str) -> list[Message]:
        """Take back the newest turn's answer, so that a call with `messages=[]` gives another; returns what it took.

        That is all from the assistant's first message after the last user message on, calls and results included (of a
        turn with a `turn_id`: after the turn's first user message). It is superseded: kept, and no longer sent. A turn
        without an answer is left as it is. A thread without a user message is a `ValidationError`.
        """
        return run(editing.regenerate(self.port, thread_id))

    def select_alternative(self, thread_id: str, message_id: str, index: int) -> Message:
        """Make `message.alternatives[index]` the answer, in its place; the former answer takes the alternative's.

        So selecting the same index again takes it back. Messages that follow stay. When the answer or the alternative
        calls tools and messages follow, this is a `ValidationError`: they would be torn from their calls.
        """
        return run(editing.select_alternative(self.port, thread_id, message_id, index))

    def pin(self, thread_id: str, message_id: str) -> Message:
        """Have a message sent with every call, however far back it lies; with a tool's call go its results."""
        return run(editing.set_pinned(self.port, thread_id, message_id, pinned=True))

    def unpin(self, thread_id: str, message_id: str) -> Message:
        """Leave a pinned message to the window again."""
        return run(editing.set_pinned(self.port, thread_id, message_id, pinned=False))

    def list_threads(
        self,
        limit: int = 100,
        offset: int = 0,
        *,
        user_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        order_by: OrderBy = "created",
        before: CursorLike = None,
        after: CursorLike = None,
        preview: bool = False,
    ) -> list[Thread]:
        """Threads in creation order, oldest first; the built-in storages leave their messages out (`partial`).

        `order_by` is "created" or "updated", with a minus for newest first. `user_id` and `metadata` keep the threads
        of that user and those whose metadata holds all that is given: a dict the keys given, anything else the same
        JSON value. `after` and `before` take a listed thread or its `cursor`, also of a thread that is gone, and keep
        what comes after and before it in the list, so pages follow each other whatever is written meanwhile:
        `list_threads(50, order_by="-updated", after=page[-1])`. With `before` alone these are the `limit` threads next
        to it. `preview=True` gives each thread's `preview`.
        """
        listing = list_query(limit, offset, user_id, metadata, order_by, before, after, preview)
        return run(self.port.list_threads(listing))

    def search_threads(
        self,
        query: Mapping[str, Any],
        limit: int = 100,
        offset: int = 0,
        *,
        user_id: str | None = None,
        order_by: OrderBy = "created",
        before: CursorLike = None,
        after: CursorLike = None,
        preview: bool = False,
    ) -> list[Thread]:
        """`list_threads` with a metadata filter, which cannot be empty."""
        listing = search_query(query, limit, offset, user_id, order_by, before, after, preview)
        return run(self.port.list_threads(listing))

    def search_messages(
        self, text: str, *, thread_id: str | None = None, user_id: str | None = None, limit: int = 10
    ) -> list[MessageHit]:
        """The messages that hold words of `text`, best first: of one thread, of one user's, or of all threads.

        `text` is words; no sign in it means anything. Superseded messages are not found.
        """
        return run(flows.search_messages(self.port, text, thread_id, user_id, limit))

    def update_thread(self, thread_id: str, *, title: str | None = UNSET, metadata: Mapping[str, Any] = UNSET) -> None:
        """Set the title, or replace the metadata; what is not given stays."""
        run(flows.update_thread(self.port, thread_id, given(title=title, metadata=metadata)))

    def delete_thread(self, thread_id: str) -> bool:
        """Delete the thread for good; False when there was none."""
        return run(flows.delete_thread(self.port, thread_id))

    def close(self) -> None:
        """Close the storage."""
        run(self.port.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def given(**fields: Any) -> dict[str, Any]:
    given = {name: value for name, value in fields.items() if value is not UNSET}
    if not given:
        raise ConfigurationError("update_thread() changes what it is given: title=, metadata=")
    return given
