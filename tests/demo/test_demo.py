"""The demo, run as a user runs it, with the interpreter of the tests."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from memexllm.testing.server import Gate, Hold, OpenAIServer

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, str(ROOT / "examples" / "demo.py")]
COLOUR = "\033["


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """An environment without a key, whose temporary folder is `tmp_path / "temp"`."""
    (tmp_path / "temp").mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    for name in ("NO_COLOR", "FORCE_COLOR"):
        kept.pop(name, None)
    return {**kept, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path / "temp"), "TERM": "xterm"}


@pytest.fixture
def api(variables: dict[str, str]) -> Iterator[OpenAIServer]:
    """Stands for the real API: the demo is given a key for it."""
    with OpenAIServer() as server:
        variables.update(OPENAI_API_KEY="a-key", OPENAI_BASE_URL=server.base_url, OPENAI_MODEL="some-model")
        yield server


def demo(tmp_path: Path, variables: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """A finished run, from a folder with spaces in its path; it must leave nothing in the temporary folder."""
    folder = tmp_path / "a folder with spaces"
    folder.mkdir()
    done = subprocess.run(
        [*COMMAND, *arguments], cwd=folder, env=variables, capture_output=True, text=True, check=False
    )
    assert list((tmp_path / "temp").iterdir()) == []
    assert list(folder.iterdir()) == []
    return done


def is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_second_process_goes_on_where_the_killed_one_stopped(tmp_path: Path, variables: dict[str, str]) -> None:
    done = demo(tmp_path, variables)
    assert (done.returncode, done.stderr) == (0, "")
    told, _, recalled = done.stdout.partition("Killed by SIGKILL. In the file: 6 messages.")
    assert "Hi! My name is Ada." in told
    assert "model  Your name is Ada." in recalled
    assert COLOUR not in done.stdout
    first, second = re.findall(r"^Process (\d+)", done.stdout, re.MULTILINE)
    rows = rows_of_the_table(done.stdout)
    assert [row[1] for row in rows] == ["user", "assistant"] * 2 + ["tool", "assistant", "user", "assistant"]
    assert rows[3][2] == 'get_weather({"city": "Lisbon"})'
    assert [row[-1] for row in rows] == [f"{first} killed"] * 6 + [second] * 2


def rows_of_the_table(printed: str) -> list[list[str]]:
    return [re.split(r"  +", line.strip()) for line in printed.splitlines() if re.match(r"  \d  ", line)]


def test_a_proxy_is_not_asked_for_the_local_server(tmp_path: Path, variables: dict[str, str]) -> None:
    variables.update(HTTP_PROXY="http://127.0.0.1:9", http_proxy="http://127.0.0.1:9")
    assert demo(tmp_path, variables).returncode == 0


def test_without_memory_the_demo_fails(tmp_path: Path, variables: dict[str, str]) -> None:
    done = demo(tmp_path, variables, "--without-memory")
    assert done.returncode == 1
    assert "I don't know your name." in done.stdout
    assert "demo failed: the second process did not know 'Ada'" in done.stderr


def test_with_a_key_it_talks_to_the_api_and_says_so(
    tmp_path: Path, variables: dict[str, str], api: OpenAIServer
) -> None:
    done = demo(tmp_path, variables)
    assert done.returncode == 0
    assert f"some-model at {api.base_url}" in done.stdout
    assert [len(request.messages) for request in api.chat_requests] == [1, 3, 5, 7]


def test_a_model_that_ignores_the_thread_makes_the_demo_fail(
    tmp_path: Path, variables: dict[str, str], api: OpenAIServer
) -> None:
    api.plan(*["I cannot help with that."] * 3)
    done = demo(tmp_path, variables)
    assert done.returncode == 1
    assert "did not know 'Ada'" in done.stderr


def test_an_api_that_refuses_is_reported_and_makes_the_demo_fail(
    tmp_path: Path, variables: dict[str, str], api: OpenAIServer
) -> None:
    variables["OPENAI_BASE_URL"] = api.origin + "/nowhere"
    done = demo(tmp_path, variables)
    assert done.returncode == 1
    assert "the model could not be asked: Error code: 404" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stopped_demo_leaves_no_process_and_no_file(
    number: signal.Signals, tmp_path: Path, variables: dict[str, str], api: OpenAIServer
) -> None:
    with Gate() as gate, subprocess.Popen(COMMAND, env=variables, stdout=subprocess.PIPE, text=True) as process:
        api.plan(Hold(gate))
        gate.wait_until_reached(30)
        process.send_signal(number)
        printed, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert [
        int(found) for found in re.findall(r"^Process (\d+)", printed, re.MULTILINE) if is_running(int(found))
    ] == []
    assert list((tmp_path / "temp").iterdir()) == []


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_a_terminal_sees_colours_unless_it_wants_none(
    no_color: str, coloured: bool, variables: dict[str, str], tmp_path: Path
) -> None:
    terminal, end = pty.openpty()
    with open(terminal, encoding="utf-8", errors="replace") as screen:
        done = subprocess.run(COMMAND, env={**variables, "NO_COLOR": no_color}, stdout=end, check=False)
        os.close(end)
        assert done.returncode == 0
        assert (COLOUR in os.read(screen.fileno(), 100_000).decode()) == coloured
