"""Calls on one thread: each is made for real and in the model, whatever happens to it."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from random import Random
from typing import Any

import pytest

from memexllm import HistoryReadError, HistoryWriteError, MemexLLMError, with_history
from memexllm.testing import OpenAIServer
from memexllm.testing.server import Gate, Hold
from tests.openai.surfaces import got
from tests.storm.brain import Brain
from tests.storm.expected import Expected, Said, stored
from tests.storm.fates import FAILURES, Fate, any_fate
from tests.storm.places import KINDS, THREAD_ID, Place
from tests.storm.speaking import Heard, Way, any_way, speak


class Caller:
    """`done` counts what was done, `log` tells it."""

    def __init__(self, server: OpenAIServer, brain: Brain, originals: Sequence[Any], seed: int, folder: Path) -> None:
        self._server, self._brain = server, brain
        self._random = Random(seed)
        self._place = Place(list(KINDS)[seed % len(KINDS)], folder / f"{seed}.db")
        self._serialize, self._journal = self._chance(0.3), self._chance(0.3)
        options: dict[str, Any] = {
            "serialize": self._serialize,
            "journal": self._journal,
            "on_write_error": self._random.choice(("warn", "warn", "raise")),
        }
        self._clients = {
            asynchronous: with_history(originals[asynchronous], storage=self._place.storage, **options)
            for asynchronous in ((True,) if self._place.asynchronous else (False, True))
        }
        self._expected = Expected()
        self._numbers = itertools.count(1)
        self._left: list[Any] = []
        self._waiting = False
        """Turns may wait for the storage, which is back."""
        self.done: Counter[str] = Counter({name: 1 for name, value in options.items() if value is True})
        self.log: list[str] = [f"{type(self._place.storage).__name__} {options}"]

    async def _call(
        self,
        new: Sequence[Said],
        block: Said | None = None,
        *,
        instead_of: Sequence[Said] = (),
        whole: bool | None = None,
        turn_id: str | None = None,
        beside_a_stream: bool = False,
    ) -> Said | None:
        """One call, whatever happens to it; the answer, or what came of it.

        It takes the place of what it is said `instead_of`.
        `beside_a_stream` that is read on afterwards, so it is not closed before the call.
        """
        expected, way, heard = self._expected, self._any_way(), Heard()
        fate = self._any_fate(way, beside_a_stream)
        if self._needs_quiet(fate) or (not beside_a_stream and self._chance(0.2)):
            await self._settle()
        history = [each for each in expected.conversation if each not in instead_of]
        told = self._told(history, new, block, self._chance(0.4) if whole is None else whole)
        params = way.params(THREAD_ID, told, **await self._ours(way, fate, turn_id))
        refused = await self._happen(way, fate, params, heard)
        if self._brain.received:
            to_send = expected.to_send(history, new, block)
            assert self._brain.received == to_send, (way, difference(self._brain.received, to_send))
        answer = heard.answer
        if self._journal and (fate.leaves_in_journal or not refused):
            expected.write_down(new, stays=answer is None and fate.leaves_in_journal)
        if answer is not None:
            expected.supersede(instead_of, block)
        expected.add(new, answer, block, turn_id)
        self._brain.n_calls = 0
        return answer

    def _any_fate(self, way: Way, beside_a_stream: bool) -> Fate:
        while True:
            fate = any_fate(self._random, way, in_words=not self._brain.n_calls, journal=self._journal)
            if not (beside_a_stream and self._needs_quiet(fate)):
                return fate

    def _needs_quiet(self, fate: Fate) -> bool:
        """Also when a task would wait for the stream that another one has left."""
        return fate.needs_quiet or (fate.cancelled and self._serialize)

    def _told(self, history: Sequence[Said], new: Sequence[Said], block: Said | None, whole: bool) -> list[Said]:
        """What the caller passes: all of it, or only what is new."""
        if block is None and whole and self._chance(0.5):
            block = self._expected.block
        self.done["calls with the whole list" if whole else "calls with what is new"] += 1
        return [*([] if block is None else [block]), *(history if whole else ()), *new]

    async def _ours(self, way: Way, fate: Fate, turn_id: str | None) -> dict[str, Any]:
        """What the call asks for besides an answer."""
        asked: dict[str, Any] = {} if turn_id is None else {"turn_id": turn_id}
        if way.api == "chat" and not self._brain.n_calls and self._chance(0.25):
            asked["n"] = self._random.randint(2, 3)
        if fate.version == "wrong":
            asked["expected_version"] = await self._place.version() + self._random.choice((-1, 1, 7))
        elif not self._left and not self._waiting and self._chance(0.3):
            asked["expected_version"] = await self._place.version()
        for name in asked:
            self.done[f"calls with {name}"] += 1
        return asked

    async def _happen(self, way: Way, fate: Fate, params: dict[str, Any], heard: Heard) -> bool:
        """The call, with what fate plans for it. Whether it was refused before its request."""
        self._note(fate.name, way, params)
        self._brain.received = []
        n_requests = len(self._server.requests)
        client = self._clients[way.asynchronous]
        if fate.n_retries:
            client = client.with_options(max_retries=fate.n_retries)
        self._server.plan(*fate.plan)
        if fate.down is not None:
            self._place.outage.begin(fate.down)
        error = await (self._cancelled if fate.cancelled else self._spoken)(way, fate, client, params, heard)
        refused = isinstance(error, MemexLLMError) and heard.answer is None
        assert not refused or len(self._server.requests) == n_requests
        assert not fate.refused or (refused and isinstance(error, fate.refused)), f"not refused: {error!r}"
        assert error is not None or heard.finished or fate.cut
        if fate.down is not None:
            await self._while_down(fate, heard, client)
            self._place.outage.end()
            self._waiting = True
        self._left += heard.left
        return refused

    async def _while_down(self, fate: Fate, heard: Heard, client: Any) -> None:
        """Nobody pays for an answer without the turn that waits."""
        if fate.down is None or fate.down.n_writes is None or heard.answer is None:
            return
        assert heard.info is not None
        assert not heard.info.saved
        n_requests = len(self._server.requests)
        with pytest.raises(HistoryReadError):
            await got(client.chat.completions.create(model="gpt-4o", messages=[], thread_id=THREAD_ID))
        assert len(self._server.requests) == n_requests

    async def _spoken(
        self, way: Way, fate: Fate, client: Any, params: dict[str, Any], heard: Heard, *, close: bool | None = None
    ) -> BaseException | None:
        """What it raised. `close` a stream that is left, or only leave it."""
        if close is None:
            close = fate.down is not None or self._chance(0.5)
        try:
            await speak(way, client, params, heard, fate.leave_after, close=close)
        except (*fate.raises, *fate.refused) as error:
            if isinstance(error, HistoryWriteError) and error.response is not None:
                heard.whole(error.response)
            return error
        return None

    async def _cancelled(self, way: Way, fate: Fate, client: Any, params: dict[str, Any], heard: Heard) -> None:
        """The task is cancelled while it waits for the answer, or for the rest of it."""
        n_pieces = self._random.randint(1, 8) if way.streamed else None
        reached = asyncio.Event()
        heard.on_piece = lambda number: reached.set() if number == n_pieces else None
        with Gate() as gate:
            self._server.plan(Hold(gate, before_chunk=n_pieces))
            task = asyncio.create_task(speak(way, client, params, heard, None, close=False))
            waiting = reached.wait() if way.streamed else asyncio.to_thread(gate.wait_until_reached)
            await asyncio.wait_for(waiting, 20)
            task.cancel()
            (outcome,) = await asyncio.gather(task, return_exceptions=True)
            assert isinstance(outcome, asyncio.CancelledError), outcome

    # ---- what is compared

    async def _compare(self) -> None:
        """What the thread holds with what it must hold, once nothing is left to store."""
        await self._settle()
        messages = await self._place.messages()
        live = [stored(each) for each in messages if not each.superseded]
        assert live == self._expected.live, difference(live, self._expected.live)
        gone = Counter(stored(each) for each in messages if each.superseded)
        assert gone == Counter(self._expected.gone), (
            gone - Counter(self._expected.gone),
            Counter(self._expected.gone) - gone,
        )
        assert len({each.id for each in messages}) == len(messages)

    def _refused_nothing(self) -> None:
        statuses = Counter(request.status for request in self._server.requests)
        self.done["requests"] += statuses.total()
        assert set(statuses) <= {None, 200, *FAILURES}, statuses

    # ---- small things

    async def _settle(self) -> None:
        """Nothing that was said is left to store."""
        while self._left:
            await got(self._left.pop().close())
        if self._waiting:
            self._waiting = False
            await got(self._any_client().flush())

    def _any_way(self) -> Way:
        return any_way(self._random, list(self._clients))

    def _any_client(self) -> Any:
        return self._random.choice(list(self._clients.values()))

    def _manager(self) -> Any:
        return self._any_client().history

    def _note(self, what: str, way: Way, params: dict[str, Any]) -> None:
        self.done[f"fate: {what}"] += 1
        self.done[f"{way.api} {way.form}{' (async)' if way.asynchronous else ''}"] += 1
        self.log.append(f"{what} {way} { ({key: params[key] for key in params if key not in ('model', 'tools')}) }")

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability


def difference(found: Sequence[Said], expected: Sequence[Said]) -> str:
    lines = (f"{'  ' if ours == theirs else '! '}{ours}\n  {theirs}" for ours, theirs in zip_longest(found, expected))
    return "found, and what was expected:\n" + "\n".join(lines)
