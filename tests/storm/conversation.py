"""One random conversation on one thread: each step is taken for real and in the model, and both are compared."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

from memexllm import ConcurrencyError
from memexllm.core.errors import HistoryReadError, HistoryWriteError, MemexLLMError
from memexllm.testing.server import Drop, StreamError
from tests.openai.surfaces import got, resource_of
from tests.openai.talking import BROKEN_STREAM
from tests.storm.calling import Caller
from tests.storm.expected import BLOCK_ROLES, Said, stored
from tests.storm.fates import Fate, failure
from tests.storm.places import THREAD_ID, Down
from tests.storm.speaking import Heard, without_waiting


class Conversation(Caller):
    """`play` it once."""

    async def play(self, n_steps: int) -> None:
        self._server.clear()
        for _ in range(n_steps):
            await self._step()
            # What a stream said that was left open is stored by the next call at the latest, and so is what waits.
            if not (self._left or self._waiting) or self._chance(0.5):
                await self._compare()
        await self._compare()
        await self._place.close()
        self._refused_nothing()

    async def _step(self) -> None:
        expected, chance = self._expected, self._random.random()
        if expected.open_calls and chance < 0.8:
            return await self._bring_results()
        if chance < 0.12:
            return await self._talk_at_once()
        if chance < (0.40 if expected.left_in_journal else 0.20) and expected.questions:
            return await self._edit()
        if chance < 0.30 and expected.questions:
            return await self._regenerate()
        if chance < 0.36 and len(expected.conversation) > 2:
            return await self._edit_by_whole_list()
        if chance < 0.42 and expected.questions:
            return await self._regenerate_by_whole_list()
        if chance < 0.48 and expected.live:
            return await (self._select() if any(each.others for each in expected.live) else self._pin())
        if chance < 0.54 and expected.conversation:
            return await self._say_turn_again()
        newest = expected.conversation[-2:]
        if len(newest) == 2 and newest[0].role == "user" and newest[1].status == "incomplete" and chance < 0.80:
            return await self._ask_again(newest[0])
        if chance < 0.62:
            return await self._read_on_later()
        return await self._ask()

    # ---- one call after another

    async def _ask(self) -> None:
        self._brain.n_calls = self._random.choice((0, 0, 0, 1, 2, 3))
        question, block = self._question(), self._maybe_block()
        turn_id = self._maybe_turn()
        if await self._call([question], block, turn_id=turn_id) is None and self._chance(0.5):
            self.done["questions asked again after a failure"] += 1
            await self._call([question], block, turn_id=turn_id)

    async def _bring_results(self) -> None:
        self._brain.n_calls = self._random.choice((0, 0, 1, 2))
        calls = list(self._expected.open_calls)
        self._random.shuffle(calls)
        self.done["results"] += len(calls)
        results = [Said("tool", f"result {next(self._numbers)}", result_of=each) for each in calls]
        await self._call(results, turn_id=self._expected.conversation[-1].turn_id)

    async def _ask_again(self, question: Said) -> None:
        """The answer broke off: whoever asks the same again takes it back."""
        self.done["broken answers asked for again"] += 1
        turn_id = self._random.choice((question.turn_id, self._maybe_turn()))
        await self._call([question], instead_of=self._expected.after(question), whole=False, turn_id=turn_id)

    async def _say_turn_again(self) -> None:
        """A call with the `turn_id` of a stored turn that begins with the turn's question takes the turn's place.

        What came after the turn stays, and then lies before it.
        """
        turns = [each for each in self._expected.questions if each.turn_id and each != self._expected.conversation[-1]]
        if not turns:
            return
        self.done["turns said again"] += 1
        question = self._random.choice(turns)
        turn = [each for each in self._expected.conversation if each.turn_id == question.turn_id]
        await self._call([question], instead_of=turn, whole=False, turn_id=question.turn_id)

    async def _edit(self) -> None:
        """By the manager; the edited message is answered by a call without messages, or by the whole list.

        A question that was left in the journal is picked up so.
        """
        left = self._expected.left_in_journal
        original = self._random.choice(left if left and self._chance(0.7) else self._expected.questions)
        self.done["edits of what was left in the journal" if original.status == "pending" else "edits"] += 1
        message_id = await self._id_of(original)
        text = self._question().text or ""
        await got(self._manager().edit_message(THREAD_ID, message_id, text))
        self._expected.edit(original, text)
        await self._call([], turn_id=original.turn_id)

    async def _regenerate(self) -> None:
        self.done["regenerations by the manager"] += 1
        await got(self._manager().regenerate(THREAD_ID))
        self._expected.regenerate()
        await self._call([], turn_id=self._expected.last_question.turn_id)

    async def _edit_by_whole_list(self) -> None:
        """A caller who keeps the list changes a question in it and drops what came after."""
        conversation = self._expected.conversation
        places = [place for place, each in enumerate(conversation) if each.role == "user" and place > 1]
        if not places:
            return
        self.done["edits by the whole list"] += 1
        after = conversation[self._random.choice(places) :]
        await self._call([self._question()], instead_of=after, whole=True, turn_id=self._maybe_turn())

    async def _regenerate_by_whole_list(self) -> None:
        conversation = self._expected.conversation
        question = self._expected.last_question
        after = conversation.index(question) + 1
        if not 1 < after < len(conversation):
            return
        self.done["regenerations by the whole list"] += 1
        await self._call([], instead_of=conversation[after:], whole=True, turn_id=question.turn_id)

    async def _select(self) -> None:
        """Another choice takes the answer's place, and nothing else changes."""
        answers = [each for each in self._expected.live if all(each.others) and each.others]
        if not answers:
            return
        self.done["alternatives selected"] += 1
        answer = self._random.choice(answers)
        index = self._random.randrange(len(answer.others))
        await got(self._manager().select_alternative(THREAD_ID, await self._id_of(answer), index))
        self._expected.select(answer, index)

    async def _pin(self) -> None:
        """In a window that holds everything a pin changes nothing."""
        self.done["pins"] += 1
        message_id = await self._id_of(self._random.choice(self._expected.live))
        manager = self._manager()
        await got((manager.pin if self._chance(0.7) else manager.unpin)(THREAD_ID, message_id))

    async def _read_on_later(self) -> None:
        """A stream is left in the middle, another call goes through, and then it is read to its end."""
        await self._settle()
        self._brain.n_calls = 0
        way = replace(self._any_way(), form="stream")
        question, heard = self._question(), Heard()
        params = way.params(THREAD_ID, [question])
        self._note("read on after the next call", way, params)
        resource = resource_of(self._clients[way.asynchronous], way.api)
        stream = await got(resource.create(**params, stream=True))
        self._left.append(stream)
        for _ in range(self._random.randint(5, 7)):
            heard.piece(await anext(stream) if way.asynchronous else next(stream))
        partial = heard.answer
        if self._journal:
            self._expected.write_down([question], stays=False)
        self._expected.add([question], partial)
        await self._call([self._question()], whole=False, beside_a_stream=True)
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
        await self._settle()
        fate = self._fate_of_a_round()
        version = await self._place.version() if fate.version == "right" else None
        self._brain.n_calls = 0
        self._server.plan(*fate.plan)
        if fate.down is not None:
            self._place.outage.begin(fate.down)
        turns = [(self._question(), Heard()) for _ in range(self._random.randint(2, 4))]
        errors = await asyncio.gather(*(self._one_of_many(fate, version, *turn) for turn in turns))
        self._place.outage.end()
        self._waiting = True
        self._left += [stream for _, heard in turns for stream in heard.left]
        await self._settle()
        for (question, heard), error in zip(turns, errors, strict=True):
            refused = isinstance(error, MemexLLMError) and heard.answer is None
            assert not (refused and version is not None) or isinstance(error, ConcurrencyError), repr(error)
            if self._journal and not refused:
                self._expected.write_down([question], stays=False)
        await self._take_over(turns, only_one=version is not None)

    def _fate_of_a_round(self) -> Fate:
        raises = BROKEN_STREAM
        chance = self._random.random()
        if chance < 0.15:
            losing = (*raises, ConcurrencyError, HistoryWriteError)
            return Fate("at once, and only one may", raises=losing, version="right")
        if chance < 0.30 and not self._journal:
            down = Down(n_writes=self._random.randint(0, 2))
            return Fate("at once, storage down", raises=(*raises, HistoryReadError, HistoryWriteError), down=down)
        if chance < 0.55:
            plan = self._random.choice((failure(self._random), Drop(), StreamError(4), Drop(3)))
            return Fate("at once, one fails", (plan,), raises=raises)
        return Fate("at once", raises=raises)

    def _one_of_many(
        self, fate: Fate, version: int | None, question: Said, heard: Heard
    ) -> Awaitable[BaseException | None]:
        way = self._any_way()
        expecting = {} if version is None else {"expected_version": version}
        params = way.params(THREAD_ID, [question], **expecting)
        self._note(fate.name, way, params)
        leaves = way.streamed and self._chance(0.3)
        own = replace(fate, leave_after=self._random.randint(0, 12) if leaves else None)
        # Nobody else reads on where one stands in the queue: `serialize` waits for a stream until it is closed.
        close = self._serialize or self._chance(0.5)
        call = self._spoken(way, own, self._clients[way.asynchronous], params, heard, close=close)
        return call if way.asynchronous else asyncio.to_thread(without_waiting, call)

    async def _take_over(self, turns: list[tuple[Said, Heard]], *, only_one: bool) -> None:
        """The turns of a round into the model, in the order in which the thread has them."""
        heard_of = {question: heard for question, heard in turns if heard.answer is not None}
        live = [stored(each) for each in await self._place.messages() if not each.superseded]
        questions = live[len(self._expected.live) :: 2]
        assert not only_one or len(questions) == bool(heard_of)
        for question in questions:
            self._expected.add([question], heard_of.pop(question).answer)
        for question, heard in heard_of.items():
            late = only_one and heard.info is not None and isinstance(heard.info.error, ConcurrencyError)
            assert late, f"{question.text!r} was answered and is not in the thread"

    # ---- small things

    async def _id_of(self, said: Said) -> str:
        await self._settle()
        messages: list[Any] = await self._place.messages()
        # The same words may have been written down more than once; the model counts from the first, too.
        message_id: str = next(each.id for each in messages if not each.superseded and stored(each) == said)
        return message_id

    def _question(self) -> Said:
        return Said("user", f"question {next(self._numbers)}")

    def _maybe_turn(self) -> str | None:
        return f"turn {next(self._numbers)}" if self._chance(0.5) else None

    def _maybe_block(self) -> Said | None:
        if self._chance(0.7):
            return None
        self.done["new blocks"] += 1
        return Said(self._random.choice(BLOCK_ROLES), f"block {next(self._numbers)}")
