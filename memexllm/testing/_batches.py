"""Batches that say who wrote them, and what other processes do with a storage.

Everything here is importable by a fresh process: no pytest, and nothing but functions of picklable arguments.
"""

from __future__ import annotations

import asyncio
import inspect
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing.context import SpawnProcess
from typing import Any

from memexllm.core.models import Message

OpenStorage = Callable[[], Any]


def scale() -> int:
    """By what the small counts of processes and kills are multiplied: `MEMEXLLM_TEST_SCALE`, 10 for the full ones."""
    return int(os.environ.get("MEMEXLLM_TEST_SCALE", "1"))


def batch(writer: int, number: int, size: int) -> list[Message]:
    """Messages that name their writer, the number of their batch, their place in it and its size."""
    return [Message(f"{writer}:{number}:{place}:{size}", "user") for place in range(size)]


def batches_in(texts: Sequence[str]) -> list[tuple[int, int]]:
    """(writer, number) of every batch, in order; fails when one is not whole, in order and in one piece."""
    found: list[tuple[int, int]] = []
    at = 0
    while at < len(texts):
        writer, number, _, size = map(int, texts[at].split(":"))
        expected = [f"{writer}:{number}:{place}:{size}" for place in range(size)]
        assert list(texts[at : at + size]) == expected, f"batch {number} of writer {writer} is not in one piece"
        found.append((writer, number))
        at += size
    return found


def check_batches(texts: Sequence[str], expected: dict[int, int]) -> None:
    """`expected` batches of each writer are there: each once, each writer's in the order they were written."""
    found = batches_in(texts)
    assert Counter(writer for writer, _ in found) == Counter(expected)
    for writer, count in expected.items():
        assert [number for each, number in found if each == writer] == list(range(count))


def started(target: Callable[..., None], *args: Any) -> tuple[SpawnProcess, Any]:
    """A fresh process at `target(*args, connection)`, and the other end of the connection."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(*args, theirs), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def write_batches(open_storage: OpenStorage, thread_id: str, writer: int, count: int, size: int, told: Any) -> None:
    """Say that everything is open, wait for a word, append `count` batches, then say that all were acknowledged."""

    async def write() -> None:
        storage = await _result(open_storage())
        told.send("open")
        told.recv()
        for number in range(count):
            await _result(storage.append_messages(thread_id, batch(writer, number, size)))
        told.send("done")

    asyncio.run(write())


def write_until_killed(open_storage: OpenStorage, thread_id: str, writer: int, told: Any) -> None:
    """Append batches of three for ever, sending the number of each once it was acknowledged."""

    async def write() -> None:
        storage = await _result(open_storage())
        number = 0
        while True:
            await _result(storage.append_messages(thread_id, batch(writer, number, 3), state={"last": number}))
            told.send(number)
            number += 1

    asyncio.run(write())


def use_inherited(driven: Any, thread_id: str) -> None:
    """In a forked child: read what the parent wrote, and write, on the storage the parent made."""
    before = driven.texts(thread_id)
    assert before == ["0:0:0:1"], f"a forked child found {len(before)} messages of the parent's one"
    driven.append(thread_id, *batch(1, 0, 1))
    assert batches_in(driven.texts(thread_id)) == [(0, 0), (1, 0)]
    driven.leave()


async def _result(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
