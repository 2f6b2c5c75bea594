"""The guide to the command line runs: its `console` blocks, in order, in one shell session on a terminal.

A line that begins with `$ ` is typed; what follows, up to the next one, is what the terminal shows.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.docs.test_code_blocks import ROOT, blocks

PAGE = ROOT / "docs" / "guides" / "command-line.md"
VARYING = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\dZ|\b[0-9a-f]{24,32}\b")
"""Times, and ids of messages."""


class Server(Protocol):
    @property
    def base_url(self) -> str: ...


def typed(text: str) -> Iterator[tuple[str, str]]:
    """Each command with what is shown for it."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield command, shown


def shown_by(command: str, folder: Path, variables: dict[str, str]) -> str:
    """What a terminal shows of the command, with its colours left out."""
    ours, theirs = pty.openpty()
    script = f"source ./session; {command}; export -p > ./session"
    with subprocess.Popen(
        ["bash", "-c", script], cwd=folder, env=variables, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
    ):
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:  # Linux's way to say that the other side is closed
            pass
    os.close(ours)
    return shown.decode().replace("\r\n", "\n")


@pytest.fixture
def variables(openai_server: Server, tmp_path: Path) -> dict[str, str]:
    program = tmp_path / "bin" / "memexllm"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable!r} -m memexllm "$@"\n')
    program.chmod(0o755)
    (tmp_path / "session").write_text("")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "MEMEXLLM_"))}
    return {
        **kept,
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PYTHONUTF8": "1",
        "TERM": "dumb",
        "COLUMNS": "100",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        "OPENAI_BASE_URL": openai_server.base_url,
        "OPENAI_API_KEY": "test-key",
    }


def test_the_console_blocks_of_the_guide_show_what_a_terminal_shows(tmp_path: Path, variables: dict[str, str]) -> None:
    n_commands = 0
    for block in blocks(PAGE):
        for command, expected in typed(block.text) if block.language == "console" else ():
            shown = shown_by(command, tmp_path, variables)
            assert [VARYING.sub("…", line.rstrip()) for line in shown.splitlines()] == [
                VARYING.sub("…", line.rstrip()) for line in expected.splitlines()
            ], f"{block}: {command}"
            n_commands += 1
    assert n_commands > 10
