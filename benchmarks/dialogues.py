"""Plays recorded dialogues through a wrapped client, and checks every turn: `benchmarks/replay --data FOLDER`.

The folder holds JSON files in LoCoMo's form: `session_1`, `session_2`, … are lists of turns with `speaker` and `text`.
The first speaker is the user, the other one the model; the server answers what the dialogue says. The wrapped client,
on a SQLite file, is told the new messages only; a bare client sends the whole list. The server must receive the same
from both, and the stored thread must be the dialogue.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import Any

from openai import OpenAI

from memexllm.integrations.openai import with_history
from memexllm.storage import SQLiteStorage
from memexllm.testing import OpenAIServer

Wire = dict[str, Any]


@dataclass(frozen=True)
class Exchange:
    said: list[Wire]
    answer: str


@dataclass
class Times:
    """Seconds each call took, the server's work included."""

    bare: list[float] = field(default_factory=list[float])
    wrapped: list[float] = field(default_factory=list[float])


def exchanges_of(dialogue: dict[str, Any]) -> Iterator[Exchange]:
    """The dialogue as calls: what the first speaker says, one message a turn, and what the other answers."""
    said: list[Wire] = []
    answers: list[str] = []
    for turn in _turns(dialogue):
        if turn["speaker"] == dialogue["speaker_a"]:
            if said and answers:
                yield Exchange(said, "\n".join(answers))
                said, answers = [], []
            said.append({"role": "user", "content": turn["text"]})
        elif said:
            answers.append(turn["text"])
        # What the model would say before anybody asked has no call; the dialogue begins with the first question.
    if said and answers:
        yield Exchange(said, "\n".join(answers))


def _turns(dialogue: dict[str, Any]) -> Iterator[dict[str, Any]]:
    number = 1
    while (session := dialogue.get(f"session_{number}")) is not None:
        yield from session
        number += 1


def play(server: OpenAIServer, calls: Sequence[Exchange], database: Path, times: Times) -> None:
    whole: list[Any] = []
    with (
        SQLiteStorage(database) as storage,
        OpenAI(base_url=server.base_url, api_key="bare") as bare,
        OpenAI(base_url=server.base_url, api_key="wrapped") as original,
    ):
        client = with_history(original, storage=storage).with_thread("dialogue")
        for number, call in enumerate(calls):
            whole.extend(call.said)
            sides: list[tuple[list[float], Any, list[Any]]] = [
                (times.bare, bare, whole),
                (times.wrapped, client, call.said),
            ]
            received: list[str] = []
            for timed, caller, messages in sides if number % 2 else reversed(sides):
                server.answer(call.answer)
                timed.append(_seconds(caller.chat.completions.create, model="any", messages=messages))
                received.append(json.dumps(server.last_messages))
                server.clear()
            assert received[0] == received[1], f"call {number}: what was sent is not the dialogue so far"
            whole.append({"role": "assistant", "content": call.answer})
        stored = [message.wire for message in client.history.get_messages("dialogue")]
        assert json.dumps([_said(wire) for wire in stored]) == json.dumps(whole), "the thread is not the dialogue"


def _seconds(create: Callable[..., Any], **arguments: Any) -> float:
    started_at = time.perf_counter()
    create(**arguments)
    return time.perf_counter() - started_at


def _said(wire: Wire) -> Wire:
    return {"role": wire["role"], "content": wire["content"]}


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/replay", description="Play dialogues through a wrapped client.")
    parser.add_argument("--data", type=Path, required=True, help="a folder of dialogues, one JSON file each")
    paths = sorted(parser.parse_args().data.glob("*.json"))
    if not paths:
        parser.error("the folder holds no .json file")
    with OpenAIServer() as server, tempfile.TemporaryDirectory() as folder:
        for path in paths:
            calls = list(exchanges_of(json.loads(path.read_text("utf-8"))))
            times = Times()
            play(server, calls, Path(folder) / f"{path.stem}.db", times)
            report(path.stem, calls, times)


def report(name: str, calls: Sequence[Exchange], times: Times) -> None:
    n_messages = sum(len(call.said) + 1 for call in calls)
    over = [wrapped - bare for wrapped, bare in zip(times.wrapped, times.bare, strict=True)]
    print(f"{name}: {len(calls)} calls, {n_messages} messages; every request and the stored thread are the dialogue")
    for side, seconds in (("bare, whole list", times.bare), ("wrapped, new messages", times.wrapped)):
        print(f"  {side:22} {len(seconds) / sum(seconds):7.1f} calls/s, {mean(seconds) * 1000:7.2f} ms a call")
    print(
        f"  wrapped over bare      {mean(over) * 1000:+7.2f} ms a call (mean); "
        f"first 10 calls {median(over[:10]) * 1000:+.2f} ms, last 10 {median(over[-10:]) * 1000:+.2f} ms (median)"
    )


if __name__ == "__main__":
    main()
