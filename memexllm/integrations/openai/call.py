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
from memexllm.core.exchanges import Repaired, repair
from memexllm.core.flow import Flow
from memexllm.core.models import Message, MessageRow, Status, plain, to_micros
from memexllm.history.context import BLOCK, Loaded, Window, choose, load, with_opener
from memexllm.integrations.openai.answers import Answer
from memexllm.integrations.openai.client_history import ClientHistory, Scope, Turn, logger
from memexllm.integrations.openai.info import HistoryInfo
from memexllm.integrations.openai.merge import Merged, MergeMode, merge
from memexllm.integrations.openai.wire import Wire, sendable


class Call:
    """`info` is what `history_of` returns; `server` is the base URL the request goes to."""

    def __init__(
        self, history: ClientHistory, thread_id: str, scope: Scope, server: str, mode: MergeMode | None = None
    ) -> None:
        self.history = history
        self.thread_id = thread_id
        self.server = server
        self.info = HistoryInfo(thread_id)
        self._scope = scope
        self._mode: MergeMode = mode or history.options.merge
        self._merged = Merged([], [], [])
        self._window = Window([])
        self._repairs: list[str] = []
        self._state: Mapping[str, Any] = {}
        self._started_at = 0.0

    def prepare(self, body: Mapping[str, Any]) -> Flow[list[Wire]]:
        """The messages to send in place of the body's."""
        incoming: list[Wire] = plain(body.get("messages") or [])
        model = body.get("model")
        loaded = yield from self._load(len(incoming))
        self._state = loaded.state
        merged = yield from merge(loaded, incoming, self._mode, self._new_row)
        rows = yield from with_opener(loaded, merged.history, merged.new, end=merged.supersede_from)
        view = ContextView(
            (),
            incoming=merged.new,
            block=merged.block,
            state={**loaded.state, **merged.state},
            model=model if isinstance(model, str) else None,
            tools=body.get("tools") or (),
            max_output_tokens=body.get("max_completion_tokens") or body.get("max_tokens"),
        )
        window = yield from choose(self.history.manager.algorithm, view, rows)
        repaired = repair([*window.rows, *merged.new], self.history.options.orphans)
        self._refuse_nothing(incoming, merged, repaired)
        self._merged, self._window, self._repairs = merged, window, repaired.repaired_ids
        self.info.injected = self._count_injected(merged, repaired)
        self._started_at = perf_counter()
        target = (self.server, view.model)
        replay = self.history.options.replay_reasoning
        return [sendable(row, target, replay) for row in (*merged.block, *repaired.rows)]

    def turn(self, answer: Answer, status: Status = "complete", answer_id: str | None = None) -> Turn:
        """The write of this call: its new messages and the answer, at once."""
        merged = self._merged
        rows = list(merged.stored)
        if answer.wire is not None:
            rows.append(self._answer_row(answer, status, answer_id))
        changes: dict[str, Any] = {"create": {} if self._scope.user_id is None else {"user_id": self._scope.user_id}}
        state = {**merged.state, **self._window.state}
        if state:
            changes["state"] = state
        if merged.supersede_from is not None:
            changes["supersede_from"] = merged.supersede_from
        if merged.supersede:
            changes["supersede"] = merged.supersede
        self.info.message_ids = [row["id"] for row in rows]
        return Turn(self.thread_id, [Message.from_row(row) for row in rows], changes, self.info)

    def later_turn(self, answer: Answer, status: Status, answer_id: str) -> Turn:
        """The write that puts a stream's later state in the place of the answer that was stored."""
        row = self._answer_row(answer, status, answer_id)
        return Turn(self.thread_id, [Message.from_row(row)], {}, self.info, replaces=answer_id)

    def save(self, answer: Answer) -> Flow[None]:
        """Store the turn of a whole answer."""
        return self.history.write(self.turn(answer))

    def _load(self, n_incoming: int) -> Flow[Loaded]:
        try:
            yield from self.history.settle(self.thread_id)
            reader = yield from self.history.manager.port.read(self.thread_id)
            if reader is not None and self._scope.user_id is not None and reader.head.user_id != self._scope.user_id:
                raise ThreadNotFoundError(f"Thread not found: {self.thread_id}; no such thread of this user")
            return (yield from load(reader, self.history.manager.algorithm, n_incoming))
        except StorageError as error:
            if self.history.options.on_read_error == "raise":
                raise HistoryReadError(
                    f"thread {self.thread_id!r} could not be read, so no request was made: {error}"
                ) from error
            logger.warning("thread %r could not be read; the call goes on without its history", self.thread_id)
            return Loaded(unread=True)

    def _new_row(self, wire: Wire) -> MessageRow:
        manager = self.history.manager
        return {"id": manager.id_source(), "created_at": to_micros(manager.clock()), "wire": wire}

    def _answer_row(self, answer: Answer, status: Status, answer_id: str | None) -> MessageRow:
        row = self._new_row(answer.wire or {})
        if answer_id is not None:
            row["id"] = answer_id
        call = {
            "model": answer.model,
            "server": self.server,
            "usage": answer.usage,
            "finish_reason": answer.finish_reason,
            "response_id": answer.response_id,
            "latency_s": round(perf_counter() - self._started_at, 6),
            "block_hash": self._block_hash(),
            "cut_seq": self._window.state.get("cut", self._state.get("cut")),
            "repairs": self._repairs or None,
        }
        row["origin"] = [self.server, answer.model]
        row["call"] = {key: value for key, value in call.items() if value is not None}
        if status != "complete":
            row["status"] = status
        if answer.alternatives:
            row["metadata"] = {"alternatives": answer.alternatives}
        return row

    def _block_hash(self) -> str | None:
        named = self._merged.state.get(BLOCK) or self._state.get(BLOCK) or {}
        found: str | None = named.get("hash")
        return found

    def _refuse_nothing(self, incoming: Sequence[Wire], merged: Merged, repaired: Repaired) -> None:
        if incoming and merged.new and not repaired.rows:
            raise WindowError(
                "nothing of the conversation is left to send: what the call brought are results without their calls, "
                "or calls without results. Pass the assistant's message with its tool_calls along with the results"
            )

    def _count_injected(self, merged: Merged, repaired: Repaired) -> int:
        passed = {row["id"] for row in merged.new}
        block = 0 if merged.block_to_store else len(merged.block)
        return block + sum(row["id"] not in passed for row in repaired.rows)


def raise_if_asked(call: Call, response: Any) -> None:
    """With `on_write_error="raise"`: the failed write, carrying the answer."""
    error = call.info.error
    if error is not None and call.history.options.on_write_error == "raise":
        raise HistoryWriteError(
            f"the answer arrived and its turn could not be stored in thread {call.thread_id!r}: {error}", response
        ) from error
