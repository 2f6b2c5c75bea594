"""One random conversation on one thread: each step is taken for real and in the model, and both are compared."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from random import Random
from typing import Any

from memexllm import HistoryManager, MemoryStorage, SQLiteStorage, with_history
from memexllm.storage import BaseStorage
from memexllm.testing import OpenAIServer
from memexllm.testing.server import Answer, Drop, Gate, Hold, Reply, ServerError, StreamError
from memexllm.testing.server.received import ChatRequest
from tests.openai.surfaces import got
from tests.openai.talking import BROKEN_STREAM
from tests.storage.custom import LiveDictStorage
from tests.storm.expected import BLOCK_ROLES, Expected, Said, said_by, stored
from tests.storm.speaking import Heard, Way, any_way, speak, without_waiting

STORAGES = ("memory", "sqlite", "four methods")
FAILURES = (429, 500, 503)
THREAD_ID = "storm"


class Brain:
    """The model behind the server: every answer is unlike all others, and it knows what it was asked with."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self.n_calls = 0
        """How many tools the next answer calls; 0 is an answer in words."""
        self.received: list[Said] = []

    def reply(self, request: ChatRequest) -> Answer:
        number = next(self._numbers)
        self.received = list(_joined(map(said_by, request.messages), apart=request.responses is None))
        if not self.n_calls:
            # Its first piece, of up to 8 characters, tells it from all others: a stream may break right after it.
            return Answer(f"a{number} has some words of its own")
        calls = [
            {"id": f"call_{number}_{place}", "type": "function", "function": {"name": "look", "arguments": "{}"}}
            for place in range(self.n_calls)
        ]
        return Answer({"content": None, "tool_calls": calls})


def _joined(messages: Iterator[Said], *, apart: bool) -> Iterator[Said]:
    """Parallel calls, which a Responses request has as items of their own, as the one message they were."""
    last: Said | None = None
    for each in messages:
        if last is not None and last.calls and each.calls and not apart:
            last = replace(last, calls=(*last.calls, *each.calls))
            continue
        if last is not None:
            yield last
        last = each
    if last is not None:
        yield last


class Conversation:
    """`play` it once. `done` counts what was done."""

    def __init__(self, server: OpenAIServer, brain: Brain, originals: Sequence[Any], seed: int, folder: Path) -> None:
        self._server, self._brain = server, brain
        self._random = Random(seed)
        self._kind = STORAGES[seed % len(STORAGES)]
        self._storage = self._new_storage(folder / f"{seed}.db")
        # The synchronous one, and the asynchronous one.
        self._clients = [with_history(original, storage=self._storage) for original in originals]
        self._expected = Expected()
        self._numbers = itertools.count(1)
        self._left: list[Any] = []
        self.done: Counter[str] = Counter()
        self.log: list[str] = []

    async def play(self, n_steps: int) -> None:
        self._server.clear()
        for _ in range(n_steps):
            await self._step()
            # What a stream said that was left open is stored by the next call at the latest.
            if not self._left or self._chance(0.5):
                await self._close_left()
                self._compare()
        await self._close_left()
        self._compare()
        self._storage.close()
        self._refused_nothing()

    async def _step(self) -> None:
        expected, chance = self._expected, self._random.random()
        if expected.open_calls and chance < 0.8:
            return await self._bring_results()
        if chance < 0.12:
            return await self._talk_at_once()
        if chance < 0.22 and expected.questions:
            return await self._edit()
        if chance < 0.34 and expected.questions:
            return await self._regenerate()
        if chance < 0.40 and len(expected.conversation) > 2:
            return await self._edit_by_whole_list()
        if chance < 0.46 and expected.questions:
            return await self._regenerate_by_whole_list()
        newest = expected.conversation[-2:]
        if len(newest) == 2 and newest[0].role == "user" and newest[1].status == "incomplete" and chance < 0.75:
            return await self._ask_again(newest[0])
        if chance < 0.55:
            return await self._read_on_later()
        return await self._ask()

    # ---- one call after another

    async def _ask(self) -> None:
        self._brain.n_calls = self._random.choice((0, 0, 0, 1, 2, 3))
        question, block = self._question(), self._maybe_block()
        if await self._call([question], block) is None and self._chance(0.5):
            self.done["questions asked again after a failure"] += 1
            await self._call([question], block)

    async def _bring_results(self) -> None:
        self._brain.n_calls = self._random.choice((0, 0, 1, 2))
        calls = list(self._expected.open_calls)
        self._random.shuffle(calls)
        self.done["results"] += len(calls)
        await self._call([Said("tool", f"result {next(self._numbers)}", result_of=each) for each in calls])

    async def _ask_again(self, question: Said) -> None:
        """The answer broke off: whoever asks the same again takes it back."""
        self.done["broken answers asked for again"] += 1
        await self._call([question], go_back_to=question, whole=False)

    async def _edit(self) -> None:
        """By the manager; the edited message is answered by a call without messages, or by the whole list."""
        await self._close_left()
        self.done["edits by the manager"] += 1
        original = self._random.choice(self._expected.questions)
        text = self._question().text or ""
        manager = self._manager()
        (found,) = [each for each in await got(manager.get_messages(THREAD_ID)) if each.content == original.text]
        await got(manager.edit_message(THREAD_ID, found.id, text))
        self._expected.edit(original, text)
        await self._call([])

    async def _regenerate(self) -> None:
        self.done["regenerations by the manager"] += 1
        await got(self._manager().regenerate(THREAD_ID))
        self._expected.regenerate()
        await self._call([])

    async def _edit_by_whole_list(self) -> None:
        """A caller who keeps the list changes a question in it and drops what came after."""
        conversation = self._expected.conversation
        places = [place for place, each in enumerate(conversation) if each.role == "user" and place > 1]
        if not places or (conversation[-1].status == "incomplete" and len(conversation) < 3):
            return
        self.done["edits by the whole list"] += 1
        await self._call([self._question()], go_back_to=conversation[self._random.choice(places)], whole=True)

    async def _regenerate_by_whole_list(self) -> None:
        conversation = self._expected.conversation
        after = conversation.index(self._expected.last_question) + 1
        if not 1 < after < len(conversation):
            return
        self.done["regenerations by the whole list"] += 1
        await self._call([], go_back_to=conversation[after], whole=True)

    async def _call(
        self,
        new: Sequence[Said],
        block: Said | None = None,
        *,
        go_back_to: Said | None = None,
        whole: bool | None = None,
    ) -> Said | None:
        """One call, whatever happens to it; the answer, or what came of it."""
        expected, way, heard = self._expected, any_way(self._random), Heard()
        history = expected.conversation
        if go_back_to is not None:
            history = history[: history.index(go_back_to)]
        self._brain.received = []
        told = self._told(history, new, block, self._chance(0.4) if whole is None else whole)
        await self._happen(way, told, heard)
        if self._brain.received:
            to_send = expected.to_send(history, new, block)
            assert self._brain.received == to_send, (way, _difference(self._brain.received, to_send))
        answer = heard.answer
        if answer is not None and go_back_to is not None:
            expected.go_back_to(go_back_to, block)
        expected.add(new, answer, block)
        self._brain.n_calls = 0
        return answer

    def _told(self, history: Sequence[Said], new: Sequence[Said], block: Said | None, whole: bool) -> list[Said]:
        """What the caller passes: all of it, or only what is new."""
        if block is None and whole and self._chance(0.5):
            block = self._expected.block
        self.done["calls with the whole list" if whole else "calls with what is new"] += 1
        return [*([] if block is None else [block]), *(history if whole else ()), *new]

    async def _happen(self, way: Way, told: Sequence[Said], heard: Heard) -> None:
        """The call, with what fate plans for it."""
        fates = ["nothing", "nothing", "nothing", "nothing", "retry", "refusal", "drop"]
        if way.streamed and not self._brain.n_calls:
            fates += ["leave", "leave", "dropped line", "error in the stream"]
        if way.asynchronous and way.form in ("create", "stream") and not self._brain.n_calls:
            fates += ["cancel", "cancel"]
        fate = self._random.choice(fates)
        self.done[f"fate: {fate}"] += 1
        self._count(way)
        self.log.append(f"{fate} {way} {told}")
        client = self._clients[way.asynchronous]
        params = way.params(THREAD_ID, told)
        n_pieces = self._random.randint(0, 12)
        if fate == "cancel":
            await self._cancelled(way, client, params, heard)
            return
        if fate == "retry":
            client = client.with_options(max_retries=2)
            self._server.plan(*(self._failure() for _ in range(self._random.randint(1, 2))))
        elif fate == "refusal":
            self._server.plan(self._failure())
        elif fate == "drop":
            self._server.plan(Drop())
        elif fate == "dropped line":
            self._server.plan(Drop(after_chunks=n_pieces))
        elif fate == "error in the stream":
            # The SDK's helper of responses stumbles over an error that is the first event of all.
            self._server.plan(StreamError(after_chunks=max(n_pieces, way.form == "helper")))
        leave_after = n_pieces if fate == "leave" else None
        failed = False
        try:
            await speak(way, client, params, heard, leave_after, close=self._chance(0.5))
        except BROKEN_STREAM:
            failed = True
        assert not failed or fate in ("refusal", "drop", "dropped line", "error in the stream")
        assert failed or heard.finished or fate in ("leave", "dropped line", "error in the stream")
        self._left += heard.left

    async def _cancelled(self, way: Way, client: Any, params: dict[str, Any], heard: Heard) -> None:
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
        self._left += heard.left

    async def _read_on_later(self) -> None:
        """A stream is left in the middle, another call goes through, and then it is read to its end."""
        self._brain.n_calls = 0
        way = replace(any_way(self._random), form="stream")
        self._count(way)
        self.done["streams read on after the next call"] += 1
        question, heard = self._question(), Heard()
        opened = self._clients[way.asynchronous].chat.completions if way.api == "chat" else None
        resource = opened or self._clients[way.asynchronous].responses
        stream = await got(resource.create(**way.params(THREAD_ID, [question]), stream=True))
        self._left.append(stream)
        for _ in range(self._random.randint(5, 7)):
            heard.piece(await anext(stream) if way.asynchronous else next(stream))
        partial = heard.answer
        self._expected.add([question], partial)
        await self._call([self._question()], whole=False)
        if way.asynchronous:
            async for piece in stream:
                heard.piece(piece)
        else:
            for piece in stream:
                heard.piece(piece)
        if partial is not None and heard.answer is not None:
            self._expected.live[self._expected.live.index(partial)] = heard.answer

    # ---- several calls at once

    async def _talk_at_once(self) -> None:
        """Each acknowledged turn is there once and whole; in which order they came, the thread decides."""
        await self._close_left()
        n_calls = self._random.randint(2, 4)
        self.done["rounds of calls at once"] += 1
        self._brain.n_calls = 0
        if self._chance(0.3):
            fates: list[Reply] = [self._failure(), Drop(), StreamError(4), Drop(3)]
            fate = self._random.choice(fates)
            self.log.append(f"at once, planned: {fate}")
            self._server.plan(fate)
        calls = []
        turns: list[tuple[Said, Heard]] = []
        for _ in range(n_calls):
            way, question, heard = any_way(self._random), self._question(), Heard()
            self._count(way)
            turns.append((question, heard))
            leave_after = self._random.randint(0, 12) if way.streamed and self._chance(0.3) else None
            self.log.append(f"at once, left after {leave_after}: {way} {question.text}")
            client, params = self._clients[way.asynchronous], way.params(THREAD_ID, [question])
            call = speak(way, client, params, heard, leave_after, close=self._chance(0.5))
            calls.append(call if way.asynchronous else asyncio.to_thread(without_waiting, call))
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(outcome, BaseException) and not isinstance(outcome, BROKEN_STREAM):
                raise outcome
        answers = {question: heard.answer for question, heard in turns}
        self._left += [stream for _, heard in turns for stream in heard.left]
        await self._close_left()
        for question in self._live_now()[len(self._expected.live) :: 2]:
            self._expected.add([question], answers.pop(question))
        assert not any(answers.values()), "a turn was heard and is not in the thread"

    # ---- what is compared

    def _compare(self) -> None:
        live = self._live_now()
        assert live == self._expected.live, _difference(live, self._expected.live)
        messages = self._all_messages()
        gone = Counter(stored(each) for each in messages if each.superseded)
        assert gone == Counter(self._expected.gone)
        assert len({each.id for each in messages}) == len(messages)

    def _live_now(self) -> list[Said]:
        return [stored(each) for each in self._all_messages() if not each.superseded]

    def _all_messages(self) -> list[Any]:
        manager = HistoryManager(self._storage)
        if not manager.list_threads():
            return []
        return list(manager.get_messages(THREAD_ID, include_superseded=True))

    def _refused_nothing(self) -> None:
        statuses = Counter(request.status for request in self._server.requests)
        self.done["requests"] += statuses.total()
        assert set(statuses) <= {None, 200, *FAILURES}, statuses

    # ---- small things

    async def _close_left(self) -> None:
        while self._left:
            await got(self._left.pop().close())

    def _new_storage(self, path: Path) -> BaseStorage:
        if self._kind == "sqlite":
            return SQLiteStorage(path)
        return MemoryStorage() if self._kind == "memory" else LiveDictStorage()

    def _manager(self) -> Any:
        return self._clients[self._chance(0.5)].history

    def _question(self) -> Said:
        return Said("user", f"question {next(self._numbers)}")

    def _maybe_block(self) -> Said | None:
        if self._chance(0.7):
            return None
        self.done["new blocks"] += 1
        return Said(self._random.choice(BLOCK_ROLES), f"block {next(self._numbers)}")

    def _failure(self) -> ServerError:
        return ServerError(self._random.choice(FAILURES), retry_after_s=0)

    def _count(self, way: Way) -> None:
        self.done[f"{way.api} {way.form}{' (async)' if way.asynchronous else ''}"] += 1

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability


def _difference(found: Sequence[Said], expected: Sequence[Said]) -> str:
    lines = (f"{'  ' if ours == theirs else '! '}{ours}\n  {theirs}" for ours, theirs in zip_longest(found, expected))
    return "found, and what was expected:\n" + "\n".join(lines)
