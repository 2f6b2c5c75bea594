"""Several processes on one thread of one SQLite file, each with a wrapped client; and processes killed in mid-call."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from memexllm import HistoryManager, SQLiteStorage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

N_PROCESSES = 4
SCALE = float(os.environ.get("MEMEXLLM_TEST_SCALE", "1"))
N_CALLS = int(25 * SCALE)
N_KILLS = int(5 * SCALE)
CALLER = """
import sys

from openai import OpenAI

from memexllm import FIFOAlgorithm, SQLiteStorage, history_of, with_history

url, path, name, n_calls = sys.argv[1:]
client = with_history(
    OpenAI(base_url=url, api_key="local", max_retries=0), storage=SQLiteStorage(path), algorithm=FIFOAlgorithm(20)
)
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(n_calls)):
    answer = client.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": f"{name} {number}"}], thread_id="t"
    )
    info = history_of(answer)
    assert info.saved, info.error
    print(number, answer.choices[0].message.content, flush=True)
"""


@pytest.fixture
def server_url() -> Iterator[str]:
    command = [sys.executable, "-m", "memexllm.testing.server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process.stdout.readline().strip()
        process.terminate()


class Caller:
    """A process that makes `n_calls` wrapped calls and prints a line for each it got back."""

    def __init__(self, server_url: str, path: Path, name: str, n_calls: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CALLER, server_url, str(path), name, str(n_calls)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def read_line(self) -> str:
        line: str = self._pipe("stdout").readline()
        return line

    def go(self) -> None:
        self._pipe("stdin").write("\n")
        self._pipe("stdin").flush()

    def ended(self) -> list[str]:
        """What it has printed since, until its end; its errors too."""
        with self.process:
            lines: list[str] = self._pipe("stdout").readlines()
        return lines

    def killed(self, after_s: float) -> list[str]:
        """What it printed until it was killed, wherever in a call it was."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(after_s)
        self.process.kill()
        return self.ended()

    def _pipe(self, name: str) -> Any:
        return getattr(self.process, name)


def stored(path: Path) -> list[Any]:
    messages: list[Any] = HistoryManager(SQLiteStorage(path)).get_messages("t")
    return messages


def whole_calls(messages: list[Any]) -> list[tuple[str, int]]:
    """The questions, in order; each must be followed by its own answer."""
    assert len(messages) % 2 == 0
    found: list[tuple[str, int]] = []
    for question, answer in zip(messages[::2], messages[1::2], strict=True):
        assert (question.role, answer.role) == ("user", "assistant")
        assert answer.content == f"You said: {question.content}"
        name, _, number = question.content.partition(" ")
        found.append((name, int(number)))
    return found


@pytest.mark.timeout(600)
def test_calls_of_many_processes_on_one_thread_stay_whole(server_url: str, tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    callers = [Caller(server_url, path, str(index), N_CALLS) for index in range(N_PROCESSES)]
    for caller in callers:
        assert caller.read_line() == "ready\n"
    for caller in callers:
        caller.go()
    printed = [caller.ended() for caller in callers]  # a pipe holds all lines of a process
    assert [caller.process.returncode for caller in callers] == [0] * N_PROCESSES, printed
    for index, lines in enumerate(printed):
        assert lines == [f"{number} You said: {index} {number}\n" for number in range(N_CALLS)]
    messages = stored(path)
    assert len(messages) == 2 * N_PROCESSES * N_CALLS
    calls = whole_calls(messages)
    for index in range(N_PROCESSES):
        assert [number for name, number in calls if name == str(index)] == list(range(N_CALLS))
    assert [message.seq for message in messages] == list(range(len(messages)))


@pytest.mark.timeout(600)
def test_a_process_killed_in_the_middle_of_calls_loses_none_that_returned(server_url: str, tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    rng = random.Random(2)
    returned: Counter[str] = Counter()
    for kill in range(N_KILLS):
        caller = Caller(server_url, path, str(kill), 10_000)
        assert caller.read_line() == "ready\n"
        caller.go()
        lines = [caller.read_line() for _ in range(rng.randint(1, 12))]
        lines += caller.killed(after_s=rng.random() / 50)
        assert caller.process.returncode == -signal.SIGKILL
        returned[str(kill)] = len([line for line in lines if " You said: " in line])
        calls = whole_calls(stored(path))
        for name, count in returned.items():
            numbers = [number for other, number in calls if other == name]
            assert numbers in (list(range(count)), list(range(count + 1)))
