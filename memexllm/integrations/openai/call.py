"""One call: read the thread, put the context together, and store the turn.

`prepare` runs before the request and raises before any money is spent; `save` runs after the answer and never loses
it. Both are flows, driven by `run` or `arun`; a call keeps no state anywhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

from memexllm.algorithms.base import ContextView
from memexllm.core.errors import (
    HistoryReadError,
    HistoryWriteError,
    StorageError,
    ThreadNotFoundError,
    WindowError,
)
from memexllm.core.exchanges import Repaired, needs_repair, repair
from memexllm.core.flow import Flow
from memexllm.core.wire import ALTERNATIVES, MessageRow, Status
from memexllm.history.context import Loaded, choose_of_thread, load
from memexllm.integrations.openai.answers import Answer
from memexllm.integrations.openai.client_history import ClientHistory, Scope, Turn, logger
from memexllm.integrations.openai.info import HistoryInfo
from memexllm.integrations.openai.merge import Merged, MergeMode, merge
from memexllm.integrations.openai.prepared import Prepared
from memexllm.integrations.openai.wire import Wire, sendable


class Call:
    """`info` is what `history_of` returns; `server` is the base URL the request goes to."""

    __slots__ = (
        "_mode",
        "_prepared",
        "_scope",
        "_started_at",
        "history",
        "info",
        "server",
        "thread_id",
    )
    _prepared: Prepared
    _started_at: float

    def __init__(
        self, history: ClientHistory, thread_id: str, scope: Scope, server: str, mode: MergeMode | None = None
    ) -> None:
        self.history = history
        self.thread_id = thread_id
        self.server = server
        self.info = HistoryInfo(thread_id)
        self._scope = scope
        self._mode: MergeMode = mode or history.options.merge

    def prepare(self, incoming: list[Wire], body: Mapping[str, Any]) -> Flow[list[Wire]]:
        """The messages to send for `incoming`, which becomes the call's own; `body` is the rest of the request."""
        options = self.history.options
        loaded = yield from self._load(len(incoming))
        merged = yield from merge(loaded, incoming, self._mode, self._rows_of)
        view = self._view(loaded, merged, body)
        algorithm = self.history.algorithm
        window = yield from choose_of_thread(algorithm, view, loaded, merged.history, merged.supersede_from)
        repaired = Repaired([*window.rows, *merged.new], [])
        if needs_repair(repaired.rows):
            repaired = repair(repaired.rows, options.orphans)
            self._refuse_nothing(incoming, merged, repaired.rows)
        rows = repaired.rows
        self._prepared = Prepared(self.thread_id, algorithm, loaded, merged, view, window, repaired)
        self.info.prepared = self._prepared
        self.info.injected = self._count_injected(rows)
        target = (self.server, body.get("model"))
        sent = [row["wire"] for row in merged.block]
        sent += [sendable(row, target, options.replay_reasoning) for row in rows]
        self._started_at = perf_counter()
        return sent

    def _view(self, loaded: Loaded, merged: Merged, body: Mapping[str, Any]) -> ContextView:
        model = body.get("model")
        return ContextView(
            (),
            incoming=merged.new,
            block=merged.block,
            state={**loaded.state, **merged.state},
            model=model if isinstance(model, str) else None,
            tools=body.get("tools") or (),
            max_output_tokens=body.get("max_completion_tokens") or body.get("max_tokens"),
        )

    def turn(self, answer: Answer, status: Status = "complete", answer_id: str | None = None) -> Turn:
        """The write of this call: its new messages and the answer, at once."""
        merged, window = self._prepared.merged, self._prepared.window
        rows = list(merged.stored)
        if answer.wire is not None:
            rows.append(self._answer_row(answer, status, answer_id))
        changes: dict[str, Any] = {}
        if self._prepared.loaded.head is None:
            # Only then: a thread that is deleted while its answer is on the way stays deleted.
            changes["create"] = {} if self._scope.user_id is None else {"user_id": self._scope.user_id}
        state = {**self._prepared.loaded.noted, **merged.state, **window.state}
        # What was found without the thread's history says nothing of it.
        if state and not self._prepared.loaded.unread:
            changes["state"] = state
        if window.counts:
            changes["counts"] = window.counts
        if merged.supersede_from is not None:
            changes["supersede_from"] = merged.supersede_from
        if merged.supersede:
            changes["supersede"] = merged.supersede
        self.info.message_ids = [row["id"] for row in rows]
        return Turn(self.thread_id, rows, changes, self.info)

    def later_turn(self, answer: Answer, status: Status, answer_id: str) -> Turn:
        """The write that puts a stream's later state in the place of the answer that was stored."""
        row = self._answer_row(answer, status, answer_id)
        return Turn(self.thread_id, [row], {}, self.info, replaces=answer_id)

    def save(self, answer: Answer) -> Flow[None]:
        """Store the turn of a whole answer."""
        return self.history.write(self.turn(answer))

    def _load(self, n_incoming: int) -> Flow[Loaded]:
        history = self.history
        trouble = "could not be read"
        try:
            if history.has_unsettled:
                trouble = "waits for an earlier turn that could not be stored yet"
                yield from history.settle(self.thread_id)
                trouble = "could not be read"
            reader = yield from history.manager.port.read(self.thread_id)
            if reader is None:
                return Loaded()
            if self._scope.user_id is not None and reader.head.user_id != self._scope.user_id:
                raise ThreadNotFoundError(f"Thread not found: {self.thread_id}; no such thread of this user")
            return (yield from load(reader, history.algorithm, n_incoming))
        except StorageError as error:
            if history.options.on_read_error == "raise":
                raise HistoryReadError(
                    f"thread {self.thread_id!r} {trouble}, so no request was made: {error}"
                ) from error
            logger.warning("thread %r %s; the call goes on without its history", self.thread_id, trouble)
            return Loaded(unread=True)

    def _rows_of(self, wires: Sequence[Wire]) -> list[MessageRow]:
        """Rows for messages that are stored for the first time."""
        new_id = self.history.manager.id_source
        now = self.history.manager.micros()
        return [{"id": new_id(), "created_at": now, "wire": wire} for wire in wires]

    def _answer_row(self, answer: Answer, status: Status, answer_id: str | None) -> MessageRow:
        prepared = self._prepared
        row = self._rows_of([answer.wire or {}])[0]
        if answer_id is not None:
            row["id"] = answer_id
        call = {
            "model": answer.model,
            "server": self.server,
            "usage": answer.usage,
            "finish_reason": answer.finish_reason,
            "response_id": answer.response_id,
            "latency_s": round(perf_counter() - self._started_at, 6),
            "block_hash": prepared.block_hash,
            "cut_seq": prepared.cut,
            "repairs": prepared.repaired.repaired_ids or None,
        }
        row["origin"] = [self.server, answer.model]
        row["call"] = {key: value for key, value in call.items() if value is not None}
        if status != "complete":
            row["status"] = status
        if answer.alternatives:
            row["metadata"] = {ALTERNATIVES: answer.alternatives}
        return row

    def _refuse_nothing(self, incoming: Sequence[Wire], merged: Merged, rows: Sequence[MessageRow]) -> None:
        if incoming and merged.new and not rows:
            raise WindowError(
                "nothing of the conversation is left to send: what the call brought are results without their calls, "
                "or calls without results. Pass the assistant's message with its tool_calls along with the results"
            )

    def _count_injected(self, rows: Sequence[MessageRow]) -> int:
        """How many of the messages that are sent were stored before this call."""
        stored = sum("seq" in row for row in rows)
        merged = self._prepared.merged
        return stored if merged.block_to_store else stored + len(merged.block)


def raise_if_asked(call: Call, response: Any) -> None:
    """With `on_write_error="raise"`: the failed write, carrying the answer."""
    error = call.info.error
    if error is not None and call.history.options.on_write_error == "raise":
        raise HistoryWriteError(
            f"the answer arrived and its turn could not be stored in thread {call.thread_id!r}: {error}", response
        ) from error
