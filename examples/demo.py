"""A conversation that survives `kill -9`: one process talks and is killed, the next one goes on where it stopped.

    ./scripts/demo                                 # makes the environment, then runs this file
    python examples/demo.py                        # against a local server that speaks the OpenAI API
    OPENAI_API_KEY=... python examples/demo.py     # against the real one (OPENAI_BASE_URL, OPENAI_MODEL)
    python examples/demo.py --without-memory       # shows that it can fail

The exit code is 0 when the second process knew the name that was told to the first.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import demo_talk
from terminal import bold, colours_wanted, dim, green, table

from memexllm import HistoryManager

if TYPE_CHECKING:
    from memexllm import Message

TALK = Path(demo_talk.__file__)
STOPPED_BY = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(*, without_memory: bool) -> None:
    """The demo in five steps; raises `SystemExit` with a reason when one of them fails."""
    print(bold("memexllm: a conversation that survives kill -9"), end="\n\n")
    with tempfile.TemporaryDirectory(prefix="memexllm-demo-") as folder, environment() as variables:
        storage = str(Path(folder, "chat.db"))
        print(f"Thread: {demo_talk.THREAD_ID!r} in chat.db, a SQLite file in a temporary folder", end="\n\n")

        killed_id = talk_until_killed(storage, variables)
        with HistoryManager(storage) as manager:
            n_survived = len(manager.get_messages(demo_talk.THREAD_ID))
        print(f"Killed by SIGKILL. In the file: {n_survived} messages.", end="\n\n")

        recalling_id = talk_again(storage, variables, without_memory=without_memory)
        print("\nThe thread as it is stored:\n")
        with HistoryManager(storage) as manager:
            messages = manager.get_messages(demo_talk.THREAD_ID)
        processes = [f"{killed_id} killed"] * n_survived + [str(recalling_id)] * (len(messages) - n_survived)
        print(as_table(messages, processes), end="\n\n")
    print(green(f"The second process knew {demo_talk.NAME!r}, which only the killed one had been told."))


@contextmanager
def environment() -> Iterator[dict[str, str]]:
    """The variables of the two processes: those of the real API if there is a key, else of a local server."""
    variables = {**os.environ, **({"FORCE_COLOR": "1"} if colours_wanted() else {"NO_COLOR": "1"})}
    if os.environ.get("OPENAI_API_KEY"):
        server = os.environ.get("OPENAI_BASE_URL") or "the OpenAI API"
        print(f"Model:  {demo_talk.MODEL} at {server}")
        yield variables
        return
    with started("-P", "-m", "memexllm.testing.server", variables=variables) as server_process:
        base_url = read_line(server_process)
        print("Model:  a local server that answers from nothing but the messages it is sent")
        print(dim("        (set OPENAI_API_KEY to talk to the real API)"))
        # A proxy named in the environment must not be asked for this machine's own address.
        no_proxy = ",".join(filter(None, [os.environ.get("NO_PROXY", os.environ.get("no_proxy")), "127.0.0.1"]))
        yield {
            **variables,
            "OPENAI_API_KEY": "local",
            "OPENAI_BASE_URL": base_url,
            "NO_PROXY": no_proxy,
            "no_proxy": no_proxy,
        }


def talk_until_killed(storage: str, variables: dict[str, str]) -> int:
    """The process id of the one that said everything and was killed."""
    with started(str(TALK), "meet", storage, variables=variables) as process:
        print(bold(f"Process {process.pid}"))
        if not echo(process, until=demo_talk.READY):
            raise SystemExit(f"the first process ended before it was killed (exit code {process.wait()})")
        process.send_signal(signal.SIGKILL)
        if process.wait() != -signal.SIGKILL:
            raise SystemExit(f"the first process was not killed (exit code {process.returncode})")
        return process.pid


def talk_again(storage: str, variables: dict[str, str], *, without_memory: bool) -> int:
    """The process id of the one that went on with the thread, and knew the name."""
    flags = ["--without-memory"] if without_memory else []
    with started(str(TALK), "recall", storage, *flags, variables=variables) as process:
        print(bold(f"Process {process.pid}") + ", which knows the file and the thread's id and nothing else")
        echo(process)
        exit_code = process.wait()
    if exit_code == 1:
        raise SystemExit(f"the second process did not know {demo_talk.NAME!r}: nothing was remembered")
    if exit_code:
        raise SystemExit(f"the second process failed (exit code {exit_code})")
    return process.pid


@contextmanager
def started(*arguments: str, variables: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A Python process that is gone when the block is left, however it is left."""
    with subprocess.Popen(
        [sys.executable, *arguments],
        env=variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C is for this process, which ends the others
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def echo(process: subprocess.Popen[str], until: str = "") -> bool:
    """Pass on what `process` prints, character by character, up to `until`; False when it ended before."""
    assert process.stdout is not None  # noqa: S101 - it was asked for as a pipe
    while character := process.stdout.read(1):
        if character == until:
            return True
        print(character, end="", flush=True)
    return False


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None  # noqa: S101 - it was asked for as a pipe
    line = process.stdout.readline().strip()
    if not line:
        raise SystemExit(f"the local server did not start (exit code {process.wait()})")
    return line


def as_table(messages: list[Message], processes: list[str]) -> str:
    rows = [
        [str(message.seq), message.role, what_was_said(message), tokens(message), process]
        for message, process in zip(messages, processes, strict=True)
    ]
    return table(["#", "role", "text or tool call", "tokens in/out", "process"], rows, stretch=2)


def what_was_said(message: Message) -> str:
    calls = [f"{call.function.name}({call.function.arguments})" for call in message.tool_calls or ()]
    return " ".join(filter(None, [message.text, *calls]))


def tokens(message: Message) -> str:
    """What the call of an answer was billed for, as the server said."""
    usage = message.call.usage if message.call else None
    return f"{usage['prompt_tokens']}/{usage['completion_tokens']}" if usage else ""


def stop(number: int, _frame: object) -> NoReturn:
    for each in STOPPED_BY:
        signal.signal(each, signal.SIG_IGN)  # nothing breaks off the cleaning up
    raise SystemExit(128 + number)


def main() -> None:
    parser = argparse.ArgumentParser(description="A conversation that survives kill -9.")
    parser.add_argument(
        "--without-memory", action="store_true", help="the second process names no thread, and the demo fails"
    )
    options = parser.parse_args()
    for number in STOPPED_BY:
        signal.signal(number, stop)
    try:
        run(without_memory=options.without_memory)
    except SystemExit as stopped:
        if isinstance(stopped.code, str):
            sys.exit(f"demo failed: {stopped.code}")
        raise


if __name__ == "__main__":
    main()
