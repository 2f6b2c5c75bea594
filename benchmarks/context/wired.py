"""A workload through a wrapped client: the bodies that reach the wire, from a transport that answers from memory."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from openai import DefaultHttpxClient, OpenAI

from benchmarks.context.workloads import Wire, Workload
from memexllm import BaseAlgorithm, MemoryStorage, with_history

# httpx or httpx2, whichever this release of the SDK is made on.
http: Any = sys.modules[DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]]

MODEL = "gpt-4o"
THREAD = "played"


def requests(workload: Workload, algorithm: BaseAlgorithm) -> Iterator[dict[str, Any]]:
    """The body of each call's request, as JSON gave it back."""
    bodies: list[bytes] = []
    with answering((call.answer for call in workload.calls), bodies) as api:
        client = with_history(api, storage=MemoryStorage(), algorithm=algorithm).with_thread(THREAD)
        for number, call in enumerate(workload.calls):
            said: list[Any] = [*([workload.block] if number == 0 else []), *call.said]
            client.chat.completions.create(model=MODEL, messages=said)
            yield json.loads(bodies.pop())


def answering(answers: Iterable[Wire], bodies: list[bytes]) -> OpenAI:
    """A client whose requests go no further than `bodies`, and get the answers in turn."""
    waiting = iter(answers)

    def answer(request: Any) -> Any:
        bodies.append(request.content)
        return http.Response(200, content=_completion(next(waiting)), headers={"content-type": "application/json"})

    return OpenAI(api_key="none", http_client=http.Client(transport=http.MockTransport(answer)))


def _completion(message: Wire) -> bytes:
    choice = {
        "index": 0,
        "message": message,
        "finish_reason": "tool_calls" if message.get("tool_calls") else "stop",
    }
    envelope = {"id": "chatcmpl-1", "created": 1, "model": MODEL, "object": "chat.completion"}
    return json.dumps({**envelope, "choices": [choice]}).encode()
