"""The example chatbot, run as a user runs it: a process that is typed to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from memexllm.testing.server import Gate, Hold, OpenAIServer, ServerError

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-W", "always::ResourceWarning", str(ROOT / "examples" / "chatbot.py")]


@pytest.fixture
def variables() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    return {**kept, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def api(variables: dict[str, str]) -> Iterator[OpenAIServer]:
    """Stands for the real API: the chatbot is given a key for it."""
    with OpenAIServer() as server:
        variables.update(OPENAI_API_KEY="a-key", OPENAI_BASE_URL=server.base_url)
        yield server


def chat(tmp_path: Path, variables: dict[str, str], *typed: str, thread: str = "default") -> str:
    """What one run prints; its input ends after the lines typed."""
    text = "".join(f"{line}\n" for line in typed)
    done = subprocess.run(
        [*COMMAND, thread], cwd=tmp_path, env=variables, input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def read_until(output: IO[str], text: str) -> str:
    printed = ""
    while text not in printed:
        piece = output.read(1)
        assert piece, f"it ended after printing {printed!r}"
        printed += piece
    return printed


def test_a_thread_is_remembered_by_the_next_run(tmp_path: Path, variables: dict[str, str]) -> None:
    chat(tmp_path, variables, "My name is Ada.", "/quit")
    printed = chat(tmp_path, variables, "What is my name?")
    assert "[default: 2 messages so far" in printed
    assert "Your name is Ada." in printed


def test_a_proxy_is_not_asked_for_the_local_server(tmp_path: Path, variables: dict[str, str]) -> None:
    variables.update(HTTP_PROXY="http://127.0.0.1:9", http_proxy="http://127.0.0.1:9")
    assert "You said: Hi." in chat(tmp_path, variables, "Hi.")


def test_threads_do_not_know_of_each_other(tmp_path: Path, variables: dict[str, str]) -> None:
    printed = chat(tmp_path, variables, "My name is Ada.", "/new work", "What is my name?", "/open default", "/history")
    assert "work> I don't know your name." in printed
    assert "user: My name is Ada." in printed
    assert "user: What is my name?" not in printed


def test_threads_are_listed_with_title_and_count(tmp_path: Path, variables: dict[str, str]) -> None:
    chat(tmp_path, variables, "Milk and bread.", "And eggs.", thread="groceries")
    listed = [line.split() for line in chat(tmp_path, variables, "/threads").splitlines() if "messages  " in line]
    assert listed == [["default>", "groceries", "4", "messages", "Milk", "and", "bread."]]


def test_a_deleted_thread_is_forgotten(tmp_path: Path, variables: dict[str, str]) -> None:
    printed = chat(tmp_path, variables, "My name is Ada.", "/delete", "/delete", "What is my name?")
    assert "[default is deleted]" in printed
    assert "[there is no thread default]" in printed
    assert "I don't know your name." in printed


def test_a_name_that_exists_is_not_begun_again(tmp_path: Path, variables: dict[str, str]) -> None:
    assert "[default exists already" in chat(tmp_path, variables, "Hi.", "/new default")


def test_an_unknown_command_is_no_message(tmp_path: Path, variables: dict[str, str]) -> None:
    printed = chat(tmp_path, variables, "/nonsense", "/help", "/history")
    assert "[no such command: /nonsense" in printed
    assert "/open NAME" in printed
    assert "[nothing was said in this thread yet]" in printed


def test_with_a_key_it_talks_to_the_api_and_says_so(
    tmp_path: Path, variables: dict[str, str], api: OpenAIServer
) -> None:
    assert f"gpt-4o-mini at {api.base_url}" in chat(tmp_path, variables, "Hi.")
    assert api.last_messages == [{"role": "user", "content": "Hi."}]


def test_an_error_of_the_api_is_told_and_the_chat_goes_on(
    tmp_path: Path, variables: dict[str, str], api: OpenAIServer
) -> None:
    api.plan(ServerError(400, "Not today."))
    printed = chat(tmp_path, variables, "Hi.", "Hello?")
    assert "Not today." in printed
    assert "You said: Hello?" in printed


def test_ctrl_c_keeps_what_was_said_so_far(tmp_path: Path, variables: dict[str, str], api: OpenAIServer) -> None:
    with (
        Gate() as gate,
        subprocess.Popen(
            COMMAND, cwd=tmp_path, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        ) as process,
    ):
        assert process.stdin
        assert process.stdout
        api.plan(Hold(gate, "Once upon a time", before_chunk=3))
        process.stdin.write("Tell me a story.\n")
        read_until(process.stdout, "Once")
        process.send_signal(signal.SIGINT)
        read_until(process.stdout, "[stopped")
        printed, _ = process.communicate("/history\nWhat did I say about a story?\n", timeout=30)
    assert process.returncode == 0
    assert "user: Tell me a story.\nassistant: Once" in printed
    assert "[stopped here]" in printed
    assert 'You said: "Tell me a story."' in printed
