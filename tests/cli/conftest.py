"""The command as a user runs it: a process, in an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from memexllm.testing.server import OpenAIServer

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Command:
    """Runs `memexllm` in `folder`, with `variables` and nothing of OPENAI_* or MEMEXLLM_* from outside."""

    folder: Path
    variables: dict[str, str]

    def __call__(self, *arguments: str | Path, typed: str | bytes = b"") -> subprocess.CompletedProcess[bytes]:
        given = typed.encode() if isinstance(typed, str) else typed
        return subprocess.run(
            self.line(*arguments), cwd=self.folder, env=self.variables, input=given, capture_output=True, check=False
        )

    def line(self, *arguments: str | Path) -> list[str]:
        options = ["-W", "error::ResourceWarning", "-X", "utf8"]
        return [sys.executable, *options, "-m", "memexllm", *map(str, arguments)]

    def printed(self, *arguments: str | Path, typed: str | bytes = b"") -> str:
        """What it prints, having ended well and without a word on stderr about an error."""
        done = self(*arguments, typed=typed)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def refused(self, *arguments: str | Path, typed: str | bytes = b"", code: int = 1) -> str:
        """What it says on stderr, having ended with `code` and printed nothing."""
        done = self(*arguments, typed=typed)
        assert (done.returncode, done.stdout) == (code, b""), (done.returncode, done.stdout, done.stderr)
        assert b"Traceback" not in done.stderr
        return done.stderr.decode()


@pytest.fixture
def memexllm(tmp_path: Path) -> Command:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "MEMEXLLM_"))}
    extra = {"PYTHONPATH": str(ROOT), "MEMEXLLM_STORAGE": "chat.db", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    return Command(tmp_path, {**kept, **extra})


@pytest.fixture
def api(memexllm: Command) -> Iterator[OpenAIServer]:
    """A local server that the command reaches by its environment."""
    with OpenAIServer() as server:
        memexllm.variables.update(OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="test-key")
        yield server


@pytest.fixture
def on_terminal(memexllm: Command) -> Callable[..., bytes]:
    """Runs the command on a pseudo-terminal and returns what the terminal was sent."""
    import pty
    import select

    def run(*arguments: str | Path) -> bytes:
        ours, theirs = pty.openpty()
        variables = {**memexllm.variables, "TERM": "xterm-256color", "COLUMNS": "100"}
        with subprocess.Popen(
            memexllm.line(*arguments), cwd=memexllm.folder, env=variables, stdin=theirs, stdout=theirs, stderr=theirs
        ) as process:
            os.close(theirs)
            received = b""
            while select.select([ours], [], [], 60)[0]:
                try:
                    piece = os.read(ours, 65536)
                except OSError:  # the other side is closed
                    break
                if not piece:
                    break
                received += piece
        os.close(ours)
        assert process.returncode == 0, received
        return received

    return run
