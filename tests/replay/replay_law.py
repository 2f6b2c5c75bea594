"""Both sides of the replay law: a caller with a bare client who keeps the whole list, and one with a wrapped client.

What the library may change in an answer before it is sent again is written down here once more, from the rules and not
from the code: `as_sent_again`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

from openai import AsyncOpenAI, OpenAI

from memexllm.algorithms import BaseAlgorithm
from memexllm.integrations.openai import history_of, with_history
from memexllm.storage import BaseStorage, MemoryStorage, SQLiteStorage
from memexllm.testing import OpenAIServer
from memexllm.testing._conversations import ScriptedCall

Wire = dict[str, Any]
Part = Literal["new", "block and new", "window", "block and window", "whole"]

THREAD_ID = "replay"
BLOCK_ROLES = ("system", "developer")
SEEDS = range(int(20 * float(os.environ.get("MEMEXLLM_TEST_SCALE", "1"))))


def text(messages: Sequence[Wire]) -> list[str]:
    """The messages as they are in the request, key order included."""
    return [json.dumps(message, ensure_ascii=False) for message in messages]


def without(wire: Wire, *keys: str) -> Wire:
    return {key: value for key, value in wire.items() if key not in keys}


def as_kept(answer: Wire) -> Wire:
    """The normal form of an answer: role and content first; no `parsed`, nothing empty but the content."""
    kept: Wire = {"role": answer.get("role", "assistant"), "content": answer.get("content")}
    kept |= without(answer, "role", "content", "parsed")
    empty = [key for key in ("refusal", "annotations", "tool_calls", "function_call", "audio") if not kept.get(key)]
    return without(kept, *empty)


def as_sent_again(message: Wire) -> Wire:
    """An assistant's message without what is never sent again; an answer in audio goes back by its id."""
    if message["role"] != "assistant":
        return message
    empty = [key for key in ("refusal", "tool_calls", "function_call", "audio") if not message.get(key)]
    sent = without(message, "annotations", "parsed", "logprobs", *empty)
    if "audio" in sent:
        audio = sent["audio"]
        if audio.get("expires_at", 0) and audio["expires_at"] < time.time():
            sent = without({**sent, "content": sent["content"] or audio["transcript"]}, "audio")
        else:
            sent["audio"] = {"id": audio["id"]}
    return sent


def accumulated(answer: Wire) -> Wire:
    """A streamed answer put together by a caller: in the order of the deltas, unknown fields first."""
    known = ("refusal", "function_call", "audio", "tool_calls")
    whole: Wire = {"role": "assistant", "content": answer["content"]}
    whole |= {key: value for key, value in answer.items() if key not in known and value not in (None, [])}
    whole |= {key: answer[key] for key in known if answer.get(key)}
    if "function_call" in whole:
        whole["function_call"] = _in_order(whole["function_call"], "arguments", "name")
    if "audio" in whole:
        whole["audio"] = dict(answer["audio"])
    if "tool_calls" in whole:
        whole["tool_calls"] = [_accumulated_call(call) for call in answer["tool_calls"]]
    return whole


def _accumulated_call(call: Wire) -> Wire:
    ordered = _in_order(call, "id", "type", "function")
    if "function" in ordered:
        ordered["function"] = _in_order(ordered["function"], "arguments", "name")
    return ordered


def _in_order(wire: Wire, *first: str) -> Wire:
    return {key: wire[key] for key in (*first, *(key for key in wire if key not in first)) if key in wire}


@dataclass
class Given:
    """One call of the wrapped side: what was passed, and how."""

    part: Part
    messages: list[Any]
    streamed: bool
    asynchronous: bool


class BareCaller:
    """Keeps the whole conversation and sends all of it, with the SDK's client as it is."""

    def __init__(self, server: OpenAIServer) -> None:
        self._server = server
        self._client = OpenAI(base_url=server.base_url, api_key="bare", max_retries=0)
        self.messages: list[Any] = []
        self.answered: set[int] = set()

    def call(self, scripted: ScriptedCall, *, streamed: bool) -> list[Wire]:
        """The messages the server received."""
        self.messages.extend(scripted.said)
        self._server.answer(scripted.answer)
        completion = self._client.chat.completions.create(model="any", messages=self.messages)
        self.answered.add(len(self.messages))
        self.messages.append(accumulated(scripted.answer) if streamed else completion.choices[0].message)
        return self._server.last_messages

    def close(self) -> None:
        self._client.close()


class WrappedCaller:
    """Sends a part of the conversation, any that shows where it goes on, and may start anew between two calls."""

    def __init__(
        self,
        server: OpenAIServer,
        random: Random,
        path: Path | None,
        algorithm: BaseAlgorithm | None = None,
    ) -> None:
        self._server = server
        self._random = random
        self._path = path
        self.algorithm = algorithm
        self._messages: list[Any] = []
        self._n_block = 0
        self.heard: Wire = {}
        """The newest answer that was not streamed, as the SDK dumps it."""
        options: Any = {"base_url": server.base_url, "api_key": "wrapped", "max_retries": 0}
        self._original = OpenAI(**options)
        self._async_original = AsyncOpenAI(**options)
        self.storage: BaseStorage = self._storage()
        self._wrap_clients()

    async def call(self, scripted: ScriptedCall) -> Given:
        if self._chance(0.3):
            self._start_anew()
        part = self._part(scripted)
        given = Given(part, self._passed(part, scripted.said), self._chance(0.4), self._chance(0.5))
        self._server.answer(scripted.answer)
        answer = (await self._call_async(given)) if given.asynchronous else self._call_sync(given)
        if not self._messages:
            self._n_block = _n_leading(scripted.said)
        self._messages.extend(scripted.said)
        self._messages.append(accumulated(scripted.answer) if answer is None else answer)
        return given

    async def close(self) -> None:
        self._original.close()
        await self._async_original.close()
        self.storage.close()

    def _part(self, scripted: ScriptedCall) -> Part:
        if not self._messages:
            return "whole"
        if scripted.said[0]["role"] in BLOCK_ROLES:
            # At the beginning of a list these would be taken for a new block.
            return self._random.choice(("window", "whole"))
        parts: list[Part] = ["new", "new", "block and new", "window", "block and window", "whole"]
        return self._random.choice(parts)

    def _passed(self, part: Part, said: list[Wire]) -> list[Any]:
        block, history = self._messages[: self._n_block], self._messages[self._n_block :]
        if part == "new":
            return said
        if part == "block and new":
            return [*block, *said]
        if part == "whole":
            return [*self._messages, *said]
        window = history[-self._random.randint(1, len(history)) :]
        if part == "block and window" and _n_leading(window) == 0:
            return [*block, *window, *said]
        return [*window, *said]

    def _call_sync(self, given: Given) -> Any:
        create = self._sync.chat.completions.create
        if given.streamed:
            stream = create(model="any", messages=given.messages, stream=True, thread_id=THREAD_ID)
            for _ in stream:
                pass
            assert history_of(stream).saved
            return None
        completion = create(model="any", messages=given.messages, thread_id=THREAD_ID)
        assert history_of(completion).saved
        return self._held(completion)

    async def _call_async(self, given: Given) -> Any:
        create = self._async.chat.completions.create
        if given.streamed:
            stream = await create(model="any", messages=given.messages, stream=True, thread_id=THREAD_ID)
            async for _ in stream:
                pass
            assert history_of(stream).saved
            return None
        completion = await create(model="any", messages=given.messages, thread_id=THREAD_ID)
        assert history_of(completion).saved
        return self._held(completion)

    def _held(self, completion: Any) -> Any:
        """What a caller appends to his list: the SDK's object, or what he dumped of it."""
        message = completion.choices[0].message
        self.heard = message.model_dump(exclude_unset=True)
        return message if self._chance(0.5) else message.model_dump(exclude_unset=self._chance(0.5))

    def _start_anew(self) -> None:
        """Another client, and a storage that is opened again, find the thread as it was left."""
        self.storage.close()
        if self._path is not None:
            self.storage = self._storage()
        self._wrap_clients()

    def _storage(self) -> BaseStorage:
        return MemoryStorage() if self._path is None else SQLiteStorage(self._path)

    def _wrap_clients(self) -> None:
        wrapper = with_history(storage=self.storage, algorithm=self.algorithm)
        self._sync: Any = wrapper(self._original.copy())
        self._async: Any = wrapper(self._async_original.copy())

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability


def _n_leading(messages: Sequence[Any]) -> int:
    """How many system and developer messages it begins with."""
    count = 0
    for message in messages:
        if not isinstance(message, dict) or message["role"] not in BLOCK_ROLES:
            break
        count += 1
    return count
