"""One call: read the thread, put the context together, and store the turn.

`prepare` runs before the request and raises before any money is spent; `save` runs after the answer and never loses
it. Both are flows, driven by `run` or `arun`; a call keeps no state anywhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any, TypeAlias

from memexllm.algorithms.base import ContextView
from memexllm.core.errors import (
    ConcurrencyError,
    HistoryReadError,
    HistoryWriteError,
    StorageError,
    ThreadNotFoundError,
    WindowError,
)
from memexllm.core.exchanges import Repaired, needs_repair, repair
from memexllm.core.flow import Flow, Step
from memexllm.core.wire import ALTERNATIVES, Draft, MessageRow, Status, row_of
from memexllm.history.context import Loaded, choose_of_thread, load
from memexllm.integrations.openai.answers import Answer
from memexllm.integrations.openai.client_history import CallOptions, ClientHistory, Scope
from memexllm.integrations.openai.info import HistoryInfo
from memexllm.integrations.openai.journal import Journaled, strike_out, write_down
from memexllm.integrations.openai.merge import Merged, merge
from memexllm.integrations.openai.outbox import Turn, logger
from memexllm.integrations.openai.prepared import Prepared
from memexllm.integrations.openai.recalling import Chosen, Recalling
from memexllm.integrations.openai.surface import Surface
from memexllm.integrations.openai.turnstile import Ticket
from memexllm.storage._defaults import check_version
from memexllm.storage._telling import tell_context, tell_stored

_Read: TypeAlias = tuple[Loaded, Merged, Chosen]


class Call:
    """`info` is what `history_of` returns; `server` is the base URL the request goes to."""

    __slots__ = (
        "_algorithm",
        "_journaled",
        "_ours",
        "_prepared",
        "_scope",
        "_started_at",
        "_ticket",
        "asynchronous",
        "history",
        "info",
        "outbox",
        "server",
        "surface",
        "thread_id",
    )
    _prepared: Prepared
    _started_at: float

    def __init__(
        self,
        history: ClientHistory,
        thread_id: str,
        scope: Scope,
        server: str,
        ours: CallOptions,
        surface: Surface,
        *,
        asynchronous: bool,
    ) -> None:
        self.history = history
        self.thread_id = thread_id
        self.server = server
        self.surface = surface
        self.info = HistoryInfo(thread_id)
        self.outbox = history.outbox
        self._algorithm = history.algorithm
        self._scope = scope
        self.asynchronous = asynchronous
        self._ours = ours
        self._journaled: Journaled | None = None
        self._ticket: Ticket | None = None

    def prepare(self, incoming: list[Draft], body: Mapping[str, Any]) -> Flow[list[dict[str, Any]]]:
        """What to send for `incoming`, which becomes the call's own; `body` is the rest of the request."""
        options = self.history.options
        if options.serialize:
            yield from self._wait_for_turn()
        loaded, merged, chosen = yield from self._read(incoming, body)
        window = chosen.window
        repaired = Repaired([*window.rows, *merged.new], [])
        if needs_repair(repaired.rows):
            repaired = repair(repaired.rows, options.orphans)
            self._refuse_nothing(incoming, merged, repaired.rows)
        self._prepared = Prepared(self.thread_id, self._algorithm, loaded, merged, chosen, repaired)
        self.info.prepared = self._prepared
        self.info.injected = self._count_injected(repaired.rows)
        rows = self._prepared.sent_rows
        sent = self.surface.sent(
            [*merged.block, *window.head], rows, (self.server, body.get("model")), options.replay_reasoning
        )
        plugins = self.history.manager.port.plugins
        if plugins is not None:
            yield from tell_context(plugins, self.thread_id, sent)
        if options.journal and not loaded.unread:
            created = loaded.head is None
            self._journaled = yield from write_down(self.outbox.port, self.thread_id, self._input_turn())
            if plugins is not None and created and self._journaled.version == 1:
                yield from tell_stored(plugins, self.outbox.port, self.thread_id, [], created=True)
        self._started_at = perf_counter()
        return sent

    def extended(self, body: Mapping[str, Any], sent: list[dict[str, Any]]) -> dict[str, Any]:
        """The request's body with what `prepare` gave."""
        surface = self.surface
        return {**body, surface.body_key: sent, **surface.further(body, self.history.options.replay_reasoning)}

    def _view(self, loaded: Loaded, merged: Merged, body: Mapping[str, Any]) -> ContextView:
        return ContextView(
            (),
            incoming=merged.new,
            block=merged.block,
            state={**loaded.state, **merged.state},
            model=_model_of(body),
            tools=body.get("tools") or (),
            max_output_tokens=self._max_output(body),
            now=merged.new[-1]["created_at"] if merged.new else self.history.manager.micros(),
        )

    def _max_output(self, body: Mapping[str, Any]) -> int | None:
        for name in self.surface.max_output:
            if limit := body.get(name):
                return limit  # type: ignore[no-any-return]  # what the caller gave
        return None

    def turn(self, answer: Answer, status: Status = "complete", answer_id: str | None = None) -> Turn:
        """The write of this call: its new messages and the answer, at once."""
        merged, window = self._prepared.merged, self._prepared.window
        rows = list(merged.stored)
        if answer.wire is not None:
            rows.append(self._answer_row(answer, status, answer_id))
        changes = self._condition()
        prepared = self._prepared
        state = {**prepared.loaded.noted, **merged.state, **prepared.state, **prepared.recalibrated(answer)}
        # What was found without the thread's history says nothing of it.
        if state and not self._prepared.loaded.unread:
            changes["state"] = state
        if window.counts:
            changes["counts"] = window.counts
        if merged.supersede_from is not None:
            changes["supersede_from"] = merged.supersede_from
        superseded = (*merged.supersede, *(self._journaled.seqs if self._journaled else ()))
        if superseded:
            changes["supersede"] = superseded
        if self._ours.turn_id is not None:
            for row in rows[len(merged.block_to_store) :]:
                row["turn_id"] = self._ours.turn_id
        self.info.message_ids = [row["id"] for row in rows]
        view, manager = self._prepared.view, self.history.manager
        turn = Turn(self.thread_id, rows, changes, self.info, model=view.model, now=view.now or 0)
        turn.chooser, turn.plugins = self._algorithm, manager.port.plugins
        turn.asynchronous = self.asynchronous
        turn.before = self._prepared.loaded.state
        return turn

    def later_turn(self, answer: Answer, status: Status, answer_id: str) -> Turn:
        """The write that puts a stream's later state in the place of the answer that was stored."""
        row = self._answer_row(answer, status, answer_id)
        if self._ours.turn_id is not None:
            row["turn_id"] = self._ours.turn_id
        return Turn(self.thread_id, [row], {}, self.info, replaces=answer_id)

    def save(self, received: Any) -> Flow[None]:
        """Store the turn of what came back whole; nothing when that is no answer."""
        answer = self.surface.answer(received)
        if answer is None:
            yield from self.withdraw()
        else:
            yield from self.store(self.turn(answer))

    def store(self, turn: Turn) -> Flow[None]:
        """Store a turn of this call; what was written down before a turn that came too late is superseded."""
        yield from self.outbox.write(turn)
        if isinstance(self.info.error, ConcurrencyError):
            yield from self.withdraw()

    @property
    def under_way(self) -> bool:
        """Whether others wait for this call, or it has written something down that has no answer yet."""
        return self._ticket is not None or (self._journaled is not None and not self.info.message_ids)

    def leave(self) -> None:
        """The call is over, or its stream was interrupted: the next call on the thread may go on."""
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            ticket.leave()

    def withdraw(self) -> Flow[None]:
        """Nothing comes of the call: what was written down before it is superseded, and the thread is as it was."""
        journaled, self._journaled = self._journaled, None
        if journaled is not None:
            yield from strike_out(self.outbox.port, self.thread_id, journaled)

    def _condition(self) -> dict[str, Any]:
        """What must hold for the turn to be stored."""
        changes: dict[str, Any] = {}
        if self._prepared.loaded.head is None and self._journaled is None:
            # Only then: a thread that is deleted while its answer is on the way stays deleted.
            changes["create"] = {} if self._scope.user_id is None else {"user_id": self._scope.user_id}
        if self._ours.expected_version is not None:
            journaled = self._journaled
            changes["expected_version"] = self._ours.expected_version if journaled is None else journaled.version
        return changes

    def _input_turn(self) -> Turn:
        """What the call brought, as it is written down before its answer."""
        rows = [row.copy() for row in self._prepared.merged.new]
        for row in rows:
            row["id"] = self.history.manager.id_source()
            row["status"] = "pending"
        return Turn(self.thread_id, rows, self._condition(), self.info)

    def _wait_for_turn(self) -> Flow[None]:
        turnstile = self.outbox.turnstile
        if turnstile.held_by_caller(self.thread_id):
            # By a stream that this caller left unread, or by a call around this one, which cannot wait for itself.
            yield from self.outbox.interrupt_streams(self.thread_id)
            if turnstile.held_by_caller(self.thread_id):
                return
        self._ticket = turnstile.enter(self.thread_id, asynchronous=self.asynchronous)
        try:
            yield Step(self._ticket.wait, (), blocking=False)
        except BaseException:
            self.leave()
            raise

    def _read(self, incoming: list[Draft], body: Mapping[str, Any]) -> Flow[_Read]:
        """The thread, what the call adds to it, and what of it is sent. A merge or a window may read on, too."""
        trouble = "waits for an earlier turn that could not be stored yet"
        try:
            if self.outbox.has_unsettled:
                yield from self.outbox.settle(self.thread_id)
            trouble = "could not be read"
            loaded = yield from self._load(len(incoming), _model_of(body))
            return (yield from self._choose(loaded, incoming, body))
        except ConcurrencyError:
            raise
        except StorageError as error:
            if self.history.options.on_read_error == "raise":
                raise HistoryReadError(
                    f"thread {self.thread_id!r} {trouble}, so no request was made: {error}"
                ) from error
            logger.warning("thread %r %s; the call goes on without its history", self.thread_id, trouble)
        return (yield from self._choose(Loaded(unread=True), incoming, body))

    def _load(self, n_incoming: int, model: str | None) -> Flow[Loaded]:
        history = self.history
        reader = yield from history.manager.port.read(self.thread_id)
        version = 0 if reader is None else reader.head.version
        check_version(self.thread_id, version, self._ours.expected_version)
        if reader is None:
            return (yield from load(None, None))
        if self._scope.user_id is not None and reader.head.user_id != self._scope.user_id:
            raise ThreadNotFoundError(f"Thread not found: {self.thread_id}; no such thread of this user")
        return (yield from load(reader, self._algorithm, n_incoming, model=model))

    def _choose(self, loaded: Loaded, incoming: list[Draft], body: Mapping[str, Any]) -> Flow[_Read]:
        history = self.history
        mode = self._ours.merge or history.options.merge
        merged = yield from merge(loaded, incoming, mode, self._rows_of, self._ours.turn_id)
        view = self._view(loaded, merged, body)
        if history.options.recall is None:
            window = yield from choose_of_thread(self._algorithm, view, loaded, merged.history, merged.supersede_from)
            return loaded, merged, Chosen(view, window)
        user_id = self._scope.user_id if loaded.head is None else loaded.head.user_id
        recalling = Recalling(history.options.recall, history.manager.port, self.thread_id, user_id)
        return loaded, merged, (yield from recalling.choose(self._algorithm, view, loaded, merged))

    def _rows_of(self, drafts: Sequence[Draft]) -> list[MessageRow]:
        """Rows for messages that are stored for the first time."""
        new_id = self.history.manager.id_source
        now = self.history.manager.micros()
        return [row_of(draft, new_id(), now) for draft in drafts]

    def _answer_row(self, answer: Answer, status: Status, answer_id: str | None) -> MessageRow:
        prepared = self._prepared
        row = self._rows_of([{"wire": answer.wire or {}}])[0]
        if answer.items is not None:
            row["items"] = answer.items
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
            "block_seqs": prepared.block_seqs,
            "cut_seq": prepared.window.cut,
            "summary_id": prepared.summary_id,
            "recalled_ids": prepared.recalled_ids,
            "sent_seqs": prepared.sent_seqs,
            "shortened_seqs": prepared.shortened_seqs,
            "brought": len(prepared.merged.new) or None,
            "repairs": prepared.repaired.repaired_ids or None,
        }
        row["origin"] = [self.server, answer.model]
        row["call"] = {key: value for key, value in call.items() if value is not None}
        if status != "complete":
            row["status"] = status
        if answer.alternatives:
            row["metadata"] = {ALTERNATIVES: answer.alternatives}
        return row

    def _refuse_nothing(self, incoming: Sequence[Draft], merged: Merged, rows: Sequence[MessageRow]) -> None:
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


def _model_of(body: Mapping[str, Any]) -> str | None:
    model = body.get("model")
    return model if isinstance(model, str) else None


def raise_if_asked(call: Call, response: Any) -> None:
    """With `on_write_error="raise"`: the failed write, carrying the answer."""
    error = call.info.error
    if error is not None and call.history.options.on_write_error == "raise":
        raise HistoryWriteError(
            f"the answer arrived and its turn could not be stored in thread {call.thread_id!r}: {error}", response
        ) from error
