"""A wrapped client's CPU over the bare SDK's, storage and network apart: `python -m benchmarks.wrapper`.

Both clients have a transport that answers from memory with the same bytes every time, and send the same request. The
storage returns constants, so that what is left is the wrapper: reading, merging, choosing, and making the turn.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
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
    streamed = b'"stream":true' in request.content
    kind = "text/event-stream" if streamed else "application/json"
    return http.Response(200, content=STREAM if streamed else COMPLETION, headers={"content-type": kind})


def sync_client() -> OpenAI:
    return OpenAI(api_key="none", http_client=http.Client(transport=http.MockTransport(answer)))


def async_client() -> AsyncOpenAI:
    return AsyncOpenAI(api_key="none", http_client=http.AsyncClient(transport=http.MockTransport(answer)))


def calls(client: Any, messages: list[Any], **arguments: Any) -> Batch:
    create = client.chat.completions.create

    def batch(n_operations: int) -> None:
        for _ in range(n_operations):
            create(model="gpt-4o", messages=messages, **arguments)

    return batch


def streams(client: Any, **arguments: Any) -> Batch:
    create = client.chat.completions.create

    def batch(n_operations: int) -> None:
        for _ in range(n_operations):
            for _chunk in create(model="gpt-4o", messages=NEW, stream=True, **arguments):
                pass

    return batch


def async_calls(runner: asyncio.Runner, client: Any, messages: list[Any], **arguments: Any) -> Batch:
    async def batch(n_operations: int) -> None:
        for _ in range(n_operations):
            await client.chat.completions.create(model="gpt-4o", messages=messages, **arguments)

    return _on_loop(runner, batch)


def async_streams(runner: asyncio.Runner, client: Any, **arguments: Any) -> Batch:
    async def batch(n_operations: int) -> None:
        for _ in range(n_operations):
            stream = await client.chat.completions.create(model="gpt-4o", messages=NEW, stream=True, **arguments)
            async for _chunk in stream:
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


def main() -> None:
    history = [row["wire"] for row in rows_of(N_HISTORY)]
    bare = sync_client()
    wrapped = with_history(sync_client(), storage=ConstantStorage(0))
    remembering = with_history(sync_client(), storage=ConstantStorage(N_HISTORY))
    check_same_request(history)
    report_calls("sync", calls(bare, NEW), calls(wrapped, NEW, thread_id="t"), calls(wrapped, NEW, thread_id=None))
    report_streams("sync", streams(bare), streams(wrapped, thread_id="t"))
    report_history("sync", calls(bare, [*history, *NEW]), calls(remembering, NEW, thread_id="t"))
    with asyncio.Runner() as runner:
        a_bare = async_client()
        a_wrapped = with_history(async_client(), storage=AsyncConstantStorage(0))
        a_remembering = with_history(async_client(), storage=AsyncConstantStorage(N_HISTORY))
        report_calls(
            "async",
            async_calls(runner, a_bare, NEW),
            async_calls(runner, a_wrapped, NEW, thread_id="t"),
            async_calls(runner, a_wrapped, NEW, thread_id=None),
        )
        report_streams("async", async_streams(runner, a_bare), async_streams(runner, a_wrapped, thread_id="t"))
        report_history(
            "async",
            async_calls(runner, a_bare, [*history, *NEW]),
            async_calls(runner, a_remembering, NEW, thread_id="t"),
        )


def check_same_request(history: list[Any]) -> None:
    """Both sides of the comparison with history send the same bytes."""
    sent: list[bytes] = []

    def keep(request: Any) -> Any:
        sent.append(request.content)
        return answer(request)

    client = OpenAI(api_key="none", http_client=http.Client(transport=http.MockTransport(keep)))
    client.chat.completions.create(model="gpt-4o", messages=[*history, *NEW])
    remembering = with_history(client, storage=ConstantStorage(N_HISTORY))
    remembering.chat.completions.create(model="gpt-4o", messages=NEW, thread_id="t")
    assert json.loads(sent[0]) == json.loads(sent[1])


if __name__ == "__main__":
    main()
