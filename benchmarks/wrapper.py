"""A wrapped client's CPU over the bare SDK, storage and network apart: `python -m benchmarks.wrapper [chat responses]`.

Both clients have a transport that answers from memory with the same bytes every time, and send the same request. The
storage returns constants, so that what is left is the wrapper: reading, merging, choosing, and making the turn.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from openai import AsyncOpenAI, DefaultHttpxClient, OpenAI

from benchmarks._pairs import Batch, difference_us, line, measured, ratio
from memexllm.core.models import Thread
from memexllm.core.moments import utc_now
from memexllm.core.wire import MessageRow
from memexllm.integrations.openai import with_history
from memexllm.storage import BaseStorage
from memexllm.storage.base import AsyncBaseStorage

# httpx or httpx2, whichever this release of the SDK is made on.
http: Any = sys.modules[DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]]

N_CHUNKS = 200
N_HISTORY = 100
NEW: list[Any] = [{"role": "user", "content": "What does the invoice of last month come to?"}]
ENVELOPE = {"id": "chatcmpl-1", "created": 1, "model": "gpt-4o"}
COMPLETION = json.dumps(
    {
        **ENVELOPE,
        "object": "chat.completion",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "It is 42 euros."}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 12, "completion_tokens": 6, "total_tokens": 18},
    }
).encode()


def _event(delta: dict[str, Any], finish_reason: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return f"data: {json.dumps({**ENVELOPE, 'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"


STREAM = "".join(
    [
        _event({"role": "assistant", "content": ""}),
        *(_event({"content": "word "}) for _ in range(N_CHUNKS - 2)),
        _event({}, "stop"),
        "data: [DONE]\n\n",
    ]
).encode()


SAID = {
    "type": "message",
    "id": "msg_1",
    "status": "completed",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "It is 42 euros.", "annotations": []}],
}
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": "gpt-4o",
    "output": [SAID],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        "input_tokens": 12,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 6,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 18,
    },
}


def _response_events() -> str:
    place = {"output_index": 0, "item_id": "msg_1", "content_index": 0}
    begun = {**RESPONSE, "status": "in_progress", "output": [], "usage": None}
    empty = {**SAID, "status": "in_progress", "content": []}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": empty},
        *(
            {"type": "response.output_text.delta", **place, "delta": "word ", "logprobs": []}
            for _ in range(N_CHUNKS - 4)
        ),
        {"type": "response.output_item.done", "output_index": 0, "item": SAID},
        {"type": "response.completed", "response": RESPONSE},
    ]
    numbered = ({**event, "sequence_number": number} for number, event in enumerate(events))
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in numbered)


@dataclass(frozen=True)
class Api:
    """One of the two that are measured: where the SDK has it, what carries the conversation, and what is answered."""

    name: str
    create: Callable[[Any], Any]
    key: str
    answered: bytes
    streamed: bytes

    def params(self, messages: list[Any], **arguments: Any) -> dict[str, Any]:
        return {"model": "gpt-4o", self.key: messages, **arguments}


CHAT = Api("chat", lambda client: client.chat.completions.create, "messages", COMPLETION, STREAM)
RESPONSES = Api(
    "responses",
    lambda client: client.responses.create,
    "input",
    json.dumps(RESPONSE).encode(),
    _response_events().encode(),
)


def rows_of(n_messages: int) -> list[MessageRow]:
    roles = ("user", "assistant")
    return [
        {"id": f"m{seq}", "created_at": 0, "seq": seq, "wire": {"role": roles[seq % 2], "content": "x" * 200}}
        for seq in range(n_messages)
    ]


class _Constant:
    """What both storages of constants have: one thread that exists and never changes."""

    def __init__(self, n_messages: int) -> None:
        now = utc_now()
        self.rows = rows_of(n_messages)
        self.head = Thread.from_storage(
            id="t",
            messages=[],
            metadata={},
            user_id=None,
            title=None,
            created_at=now,
            updated_at=now,
            state={"block": {"messages": [], "seqs": [], "hash": None}},
            version=1,
            partial=True,
            stored_messages=n_messages,
            place=1,
            preview=None,
        )


class ConstantStorage(_Constant, BaseStorage):
    blocking = False
    takes_rows = True

    def read_head(self, thread_id: str) -> Thread | None:
        return self.head

    def read_messages(self, thread_id: str, **bounds: Any) -> Any:
        return self.rows

    def append_messages(self, thread_id: str, messages: Any, **changes: Any) -> int:
        return 2

    def save_thread(self, thread: Thread) -> None:
        raise NotImplementedError

    def get_thread(self, thread_id: str) -> Thread | None:
        raise NotImplementedError

    def list_threads(self, limit: int = 100, offset: int = 0) -> list[Thread]:
        raise NotImplementedError

    def delete_thread(self, thread_id: str) -> bool:
        raise NotImplementedError


class AsyncConstantStorage(_Constant, AsyncBaseStorage):
    takes_rows = True

    async def read_head(self, thread_id: str) -> Thread | None:
        return self.head

    async def read_messages(self, thread_id: str, **bounds: Any) -> Any:
        return self.rows

    async def append_messages(self, thread_id: str, messages: Any, **changes: Any) -> int:
        return 2

    async def save_thread(self, thread: Thread) -> None:
        raise NotImplementedError

    async def get_thread(self, thread_id: str) -> Thread | None:
        raise NotImplementedError

    async def list_threads(self, limit: int = 100, offset: int = 0) -> list[Thread]:
        raise NotImplementedError

    async def delete_thread(self, thread_id: str) -> bool:
        raise NotImplementedError


def answer(request: Any) -> Any:
    api = RESPONSES if request.url.path.endswith("/responses") else CHAT
    streamed = b'"stream":true' in request.content
    kind = "text/event-stream" if streamed else "application/json"
    return http.Response(200, content=api.streamed if streamed else api.answered, headers={"content-type": kind})


def sync_client() -> OpenAI:
    return OpenAI(api_key="none", http_client=http.Client(transport=http.MockTransport(answer)))


def async_client() -> AsyncOpenAI:
    return AsyncOpenAI(api_key="none", http_client=http.AsyncClient(transport=http.MockTransport(answer)))


def calls(api: Api, client: Any, messages: list[Any], **arguments: Any) -> Batch:
    create = api.create(client)

    def batch(n_operations: int) -> None:
        for _ in range(n_operations):
            create(**api.params(messages, **arguments))

    return batch


def streams(api: Api, client: Any, **arguments: Any) -> Batch:
    create = api.create(client)

    def batch(n_operations: int) -> None:
        for _ in range(n_operations):
            for _chunk in create(**api.params(NEW, stream=True, **arguments)):
                pass

    return batch


def async_calls(api: Api, runner: asyncio.Runner, client: Any, messages: list[Any], **arguments: Any) -> Batch:
    async def batch(n_operations: int) -> None:
        for _ in range(n_operations):
            await api.create(client)(**api.params(messages, **arguments))

    return _on_loop(runner, batch)


def async_streams(api: Api, runner: asyncio.Runner, client: Any, **arguments: Any) -> Batch:
    async def batch(n_operations: int) -> None:
        for _ in range(n_operations):
            async for _chunk in await api.create(client)(**api.params(NEW, stream=True, **arguments)):
                pass

    return _on_loop(runner, batch)


def _on_loop(runner: asyncio.Runner, batch: Callable[[int], Coroutine[Any, Any, None]]) -> Batch:
    return lambda n_operations: runner.run(batch(n_operations))


def report_calls(kind: str, bare: Batch, wrapped: Batch, without: Batch) -> None:
    contestants = {"bare": bare, "wrapped": wrapped, "wrapped, thread_id=None": without}
    found = measured(contestants, n_rounds=300, n_operations=10)
    print(f"{kind}: one call, no history")
    for name, samples in found.items():
        print(line(name, samples))
    for name in ("wrapped", "wrapped, thread_id=None"):
        pairs, minima = difference_us(found[name], found["bare"])
        print(f"  {name} over bare: {pairs:6.1f} us median of pairs, {minima:6.1f} us of minima")


def report_streams(kind: str, bare: Batch, wrapped: Batch) -> None:
    found = measured({"bare": bare, "wrapped": wrapped}, n_rounds=100, n_operations=1)
    print(f"{kind}: one stream of {N_CHUNKS} chunks")
    for name, samples in found.items():
        print(line(name, samples))
    pairs, minima = (each / N_CHUNKS for each in difference_us(found["wrapped"], found["bare"]))
    print(f"  over bare, a chunk: {pairs:6.2f} us median of pairs, {minima:6.2f} us of minima")


def report_history(kind: str, bare: Batch, wrapped: Batch) -> None:
    found = measured({"bare": bare, "wrapped": wrapped}, n_rounds=60, n_operations=2)
    print(f"{kind}: one call that sends {N_HISTORY} messages of history")
    for name, samples in found.items():
        print(line(name, samples))
    print("  bare over wrapped:", ratio(found["bare"], found["wrapped"]))


def report(api: Api) -> None:
    history = [row["wire"] for row in rows_of(N_HISTORY)]
    bare = sync_client()
    wrapped = with_history(sync_client(), storage=ConstantStorage(0))
    remembering = with_history(sync_client(), storage=ConstantStorage(N_HISTORY))
    check_same_request(api, history)
    kind = f"{api.name}, sync"
    report_calls(
        kind,
        calls(api, bare, NEW),
        calls(api, wrapped, NEW, thread_id="t"),
        calls(api, wrapped, NEW, thread_id=None),
    )
    report_streams(kind, streams(api, bare), streams(api, wrapped, thread_id="t"))
    report_history(kind, calls(api, bare, [*history, *NEW]), calls(api, remembering, NEW, thread_id="t"))
    kind = f"{api.name}, async"
    with asyncio.Runner() as runner:
        a_bare = async_client()
        a_wrapped = with_history(async_client(), storage=AsyncConstantStorage(0))
        a_remembering = with_history(async_client(), storage=AsyncConstantStorage(N_HISTORY))
        report_calls(
            kind,
            async_calls(api, runner, a_bare, NEW),
            async_calls(api, runner, a_wrapped, NEW, thread_id="t"),
            async_calls(api, runner, a_wrapped, NEW, thread_id=None),
        )
        report_streams(kind, async_streams(api, runner, a_bare), async_streams(api, runner, a_wrapped, thread_id="t"))
        report_history(
            kind,
            async_calls(api, runner, a_bare, [*history, *NEW]),
            async_calls(api, runner, a_remembering, NEW, thread_id="t"),
        )


def check_same_request(api: Api, history: list[Any]) -> None:
    """Both sides of the comparison with history send the same bytes."""
    sent: list[bytes] = []

    def keep(request: Any) -> Any:
        sent.append(request.content)
        return answer(request)

    client = OpenAI(api_key="none", http_client=http.Client(transport=http.MockTransport(keep)))
    api.create(client)(**api.params([*history, *NEW]))
    remembering = with_history(client, storage=ConstantStorage(N_HISTORY))
    api.create(remembering)(**api.params(NEW, thread_id="t"))
    assert json.loads(sent[0]) == json.loads(sent[1])


def main() -> None:
    apis = {api.name: api for api in (CHAT, RESPONSES)}
    for name in sys.argv[1:] or apis:
        report(apis[name])


if __name__ == "__main__":
    main()
