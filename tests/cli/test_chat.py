"""`chat` against a local server, over HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from typing import Self

import pytest

from memexllm import HistoryManager
from memexllm.testing.server import Answer, Drop, Gate, Hold, OpenAIServer, ServerError
from tests.cli.conftest import ROOT, Command


def stored(memexllm: Command, thread_id: str) -> list[tuple[str, str, str]]:
    with HistoryManager(memexllm.folder / "chat.db") as manager:
        return [(message.role, message.text, message.status) for message in manager.get_messages(thread_id)]


def test_lines_piped_in_are_answered_and_kept(memexllm: Command, api: OpenAIServer) -> None:
    printed = memexllm.printed("chat", "names", typed="My name is Ada.\n\nWhat is my name?")
    assert printed == "You said: My name is Ada.\nYour name is Ada.\n"
    assert [role for role, _, _ in stored(memexllm, "names")] == ["user", "assistant"] * 2


def test_a_thread_goes_on_the_next_day(memexllm: Command, api: OpenAIServer) -> None:
    memexllm.printed("chat", "names", typed="My name is Ada.\n")
    assert memexllm.printed("chat", "names", typed="What is my name?\n") == "Your name is Ada.\n"
    assert memexllm.printed("threads").split("\t")[:4] == ["names", "My name is Ada.", "", "4"]


def test_answers_in_json_name_the_thread(memexllm: Command, api: OpenAIServer) -> None:
    lines = memexllm.printed("chat", "--json", typed="Hi.\nMy name is Ada.\n").splitlines()
    answers = [json.loads(line) for line in lines]
    thread_id = answers[0]["thread_id"]
    assert answers[1] == {"thread_id": thread_id, "status": "complete", "text": "You said: My name is Ada."}
    assert len(stored(memexllm, thread_id)) == 4


def test_the_model_and_the_instructions_are_sent(memexllm: Command, api: OpenAIServer) -> None:
    memexllm.printed("chat", "t", "--model", "gpt-4o", "--system", "Be brief.", typed="Hi.\nHo.\n")
    request = api.chat_requests[-1]
    assert request.body["model"] == "gpt-4o"
    assert [message["role"] for message in api.last_messages] == ["system", "user", "assistant", "user"]
    assert [role for role, _, _ in stored(memexllm, "t")].count("system") == 1


def test_a_server_without_keys_is_named_by_its_address(memexllm: Command, api: OpenAIServer) -> None:
    del memexllm.variables["OPENAI_BASE_URL"], memexllm.variables["OPENAI_API_KEY"]
    assert memexllm.printed("chat", "t", "--base-url", api.base_url, typed="Hi.") == "You said: Hi.\n"


def test_without_a_key_or_an_address_it_says_what_to_set(memexllm: Command) -> None:
    assert "OPENAI_API_KEY" in memexllm.refused("chat", "t", typed="Hi.")


def test_without_openai_it_names_the_extra(memexllm: Command) -> None:
    code = (
        f"import sys; sys.modules['openai'] = None; sys.path.insert(0, {str(ROOT)!r})\n"
        "sys.argv = ['memexllm', 'chat']\nfrom memexllm.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=memexllm.folder, env=memexllm.variables, capture_output=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == b'memexllm: memexllm chat needs the openai package: pip install "memexllm[openai]"\n'


@pytest.mark.parametrize("json_option", [[], ["--json"]], ids=["text", "json"])
def test_an_error_of_the_server_is_one_line_and_the_talk_goes_on(
    memexllm: Command, api: OpenAIServer, json_option: list[str]
) -> None:
    api.plan(ServerError(400, "Not\x1b[2J today.\nReally."))
    done = memexllm("chat", "t", *json_option, typed="Hi.\nHello?\n")
    assert done.returncode == 0
    (line,) = done.stderr.decode().splitlines()
    assert "Not" in line
    assert "\x1b" not in line
    assert b"You said: Hello?" in done.stdout
    assert [text for _, text, _ in stored(memexllm, "t")] == ["Hello?", "You said: Hello?"]


def test_an_answer_that_breaks_off_is_kept_as_far_as_it_came(memexllm: Command, api: OpenAIServer) -> None:
    api.plan(Drop(after_chunks=2, answer="Once upon a time"))
    done = memexllm("chat", "t", typed="A story!\n")
    assert done.returncode == 0
    assert len(done.stderr.splitlines()) == 1
    _, answer = stored(memexllm, "t")
    assert answer[2] == "incomplete"
    assert "Once upon a time".startswith(answer[1])


def test_an_answer_cannot_steer_a_terminal(memexllm: Command, api: OpenAIServer) -> None:
    api.plan(Answer("a\x1b[2Jb\x9b1mc\u202ed\x07e\nf"))
    assert memexllm.printed("chat", "t", typed="Hi.\n") == "a\\x1b[2Jb\\x9b1mc\\u202ed\\x07e\nf\n"


def test_a_thread_of_another_user_is_not_there(memexllm: Command, api: OpenAIServer) -> None:
    memexllm.printed("chat", "t", "--user", "ada", typed="My name is Ada.\n")
    assert memexllm.printed("threads", "--user", "ada").startswith("t\t")
    done = memexllm("chat", "t", "--user", "bob", typed="What is my name?\n")
    assert b"Thread not found: t" in done.stderr
    assert len(stored(memexllm, "t")) == 2


def test_commands_are_no_messages(memexllm: Command, api: OpenAIServer) -> None:
    done = memexllm("chat", "a", typed="/help\n/new b\nHi.\n/quit\nNot said.\n")
    assert b"/new [THREAD]" in done.stderr
    assert [text for _, text, _ in stored(memexllm, "b")] == ["Hi.", "You said: Hi."]
    assert len(api.chat_requests) == 1


class Terminal:
    """A person at `memexllm chat` on a pseudo-terminal."""

    def __init__(self, memexllm: Command, *arguments: str) -> None:
        import pty

        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            memexllm.line("chat", *arguments),
            cwd=memexllm.folder,
            env={**memexllm.variables, "TERM": "dumb"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.seen = ""

    def types(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def sees(self, text: str) -> None:
        """Reads on until `text` was printed; what follows is left for the next time."""
        while text not in self.seen:
            assert select.select([self._ours], [], [], 60)[0], f"{text!r} never came: {self.seen!r}"
            try:
                self.seen += os.read(self._ours, 4096).decode()
            except OSError:
                raise AssertionError(f"it ended without {text!r}: {self.seen!r}") from None
        self.seen = self.seen.partition(text)[2]

    def interrupts(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def interrupts_until_it_ends(self) -> int:
        """Python's input() misses a signal that comes between its prompt and its wait, so a person presses again."""
        for _ in range(60):
            self.interrupts()
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self.process.wait(1)
        raise AssertionError(f"it does not end: {self.seen!r}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


def test_ctrl_c_stops_an_answer_and_a_second_one_leaves(memexllm: Command, api: OpenAIServer) -> None:
    with Gate() as gate, Terminal(memexllm, "t") as person:
        api.plan(Hold(gate, "Once upon a time", before_chunk=3))
        person.sees("> ")
        person.types("A story!\n")
        person.sees("Once")
        person.interrupts()
        person.sees("[stopped; what was said so far is kept]")
        person.sees("> ")
        person.types("What did I say about a story?\n")
        person.sees('You said: "A story!"')
        person.sees("> ")
        assert person.interrupts_until_it_ends() == 130
    answers = stored(memexllm, "t")
    assert answers[1][2] == "incomplete"
    assert answers[1][1].startswith("Once")
    assert answers[3][2] == "complete"


def test_ctrl_c_before_an_answer_keeps_nothing(memexllm: Command, api: OpenAIServer) -> None:
    with Gate() as gate, Terminal(memexllm, "t") as person:
        api.plan(Hold(gate, "Once upon a time"))
        person.sees("> ")
        person.types("A story!\n")
        gate.wait_until_reached()
        person.interrupts()
        person.sees("[stopped before an answer came; nothing is kept]")
        person.sees("> ")
        person.types("\x04")
        assert person.process.wait(60) == 0


def test_the_prompt_names_the_thread(memexllm: Command, api: OpenAIServer) -> None:
    memexllm.printed("chat", "t", typed="Hi.\n")
    with Terminal(memexllm, "t") as person:
        person.sees("[thread t: 2 messages; /help lists the commands]")
        person.types("/quit\n")
        assert person.process.wait(60) == 0


def test_ctrl_c_ends_a_command_with_130(memexllm: Command) -> None:
    with subprocess.Popen(
        memexllm.line("import", "-"),
        cwd=memexllm.folder,
        env=memexllm.variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin
        # More than a pipe holds: once it is taken, the command is reading.
        process.stdin.write(b" " * 10_000_000)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate()
    assert process.returncode == 130
    assert b"Traceback" not in told
