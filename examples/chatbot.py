"""A chatbot for the terminal whose threads have names and are still there tomorrow.

    python examples/chatbot.py                # goes on with the thread "default"
    python examples/chatbot.py groceries      # goes on with "groceries", or begins it
    python examples/chatbot.py --storage work.db --model gpt-4o groceries

Threads are kept in chatbot.db in the current folder unless `--storage` names another file. With OPENAI_API_KEY set it
talks to the API (OPENAI_BASE_URL and OPENAI_MODEL are read as well); without a key it starts a local server that
answers from the messages it is sent, so you can try it with no account: tell it your name, quit, come back, ask.

Ctrl-C while an answer streams in stops it and keeps what was said. /help lists the commands.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from openai import OpenAI, OpenAIError

from memexllm import with_history
from memexllm.core.errors import MemexLLMError, ThreadNotFoundError

if TYPE_CHECKING:
    from memexllm import Thread
    from memexllm.integrations.openai.typed import HistoryOpenAI

with suppress(ImportError):
    import readline  # noqa: F401 - input() edits lines once it is loaded

TITLE_LENGTH = 50
MAX_LISTED = 1000
HELP = """\
/threads          list the threads
/open NAME        go on with a thread
/new NAME         begin one
/history          show what was said in this thread
/delete [NAME]    delete a thread, this one if none is named
/quit             leave (so does Ctrl-D)"""


class Chatbot:
    """Talks on one thread at a time; everything that is remembered is in the client's storage."""

    def __init__(self, client: HistoryOpenAI, model: str, thread_id: str) -> None:
        self.client = client
        self.model = model
        self.thread_id = thread_id
        self.is_new = True

    def run(self) -> None:
        self.open(self.thread_id)
        while (line := read_line(f"{self.thread_id}> ")) is not None:
            try:
                if line == "/quit":
                    return
                if line.startswith("/"):
                    self.obey(line)
                elif line:
                    self.answer(line)
            except (OpenAIError, MemexLLMError) as error:
                print(f"[{error}]")

    def answer(self, text: str) -> None:
        """Ask the model and print its answer as it streams in."""
        try:
            with self.client.chat.completions.create(
                model=self.model,
                messages=[{"role": "user", "content": text}],
                stream=True,
                thread_id=self.thread_id,
            ) as stream:
                for chunk in stream:
                    print((chunk.choices[0].delta.content or "") if chunk.choices else "", end="", flush=True)
            print()
        except KeyboardInterrupt:
            print("\n[stopped; what was said so far is kept]")
        if self.is_new and self.found(self.thread_id) is not None:
            self.client.history.update_thread(self.thread_id, title=cut(text, TITLE_LENGTH))
            self.is_new = False

    def obey(self, line: str) -> None:
        command, _, name = line.partition(" ")
        name = name.strip()
        match command:
            case "/threads":
                self.list_threads()
            case "/open" if name:
                self.open(name)
            case "/new" if name:
                self.begin(name)
            case "/history":
                self.show_history()
            case "/delete":
                self.delete(name or self.thread_id)
            case "/help":
                print(HELP)
            case _:
                print(f"[no such command: {line}; /help lists them]")

    def open(self, name: str) -> None:
        thread = self.found(name)
        self.thread_id = name
        self.is_new = thread is None
        if thread is None:
            print(f"[{name}: a new thread; /help lists the commands]")
        else:
            print(f"[{name}: {len(thread.messages)} messages so far; /history shows them]")

    def begin(self, name: str) -> None:
        if self.found(name) is not None:
            print(f"[{name} exists already: /open {name} goes on with it]")
        else:
            self.open(name)

    def list_threads(self) -> None:
        threads = self.client.history.list_threads(limit=MAX_LISTED)
        if not threads:
            print("[nothing was said yet]")
        for thread in threads:
            mark = "*" if thread.id == self.thread_id else " "
            print(f"{mark} {thread.id:<16} {thread.stored_messages:>4} messages   {thread.title or ''}")

    def show_history(self) -> None:
        thread = self.found(self.thread_id)
        if thread is None:
            print("[nothing was said in this thread yet]")
            return
        for message in thread.messages:
            broken_off = "" if message.status == "complete" else "  [stopped here]"
            print(f"{message.role:>9}: {message.text}{broken_off}")

    def delete(self, name: str) -> None:
        deleted = self.client.history.delete_thread(name)
        print(f"[{name} is deleted]" if deleted else f"[there is no thread {name}]")
        if name == self.thread_id:
            self.is_new = True

    def found(self, name: str) -> Thread | None:
        try:
            return self.client.history.get_thread(name)
        except ThreadNotFoundError:
            return None


def read_line(prompt: str) -> str | None:
    """What was typed, or None at the end of the input."""
    while True:
        try:
            return input(prompt).strip()
        except KeyboardInterrupt:
            print("\n[/quit or Ctrl-D leaves]")
        except EOFError:
            print()
            return None


def cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


@contextmanager
def connected(model: str) -> Iterator[OpenAI]:
    """A client of the API, or of a local server when there is no key."""
    if os.environ.get("OPENAI_API_KEY"):
        print(f"[{model} at {os.environ.get('OPENAI_BASE_URL') or 'the OpenAI API'}]")
        with OpenAI() as client:
            yield client
        return
    from memexllm.testing import OpenAIServer

    # A proxy named in the environment must not be asked for this machine's own address.
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"
    print("[no OPENAI_API_KEY: a local server answers, from nothing but the messages it is sent]")
    with OpenAIServer(record=False) as server, OpenAI(base_url=server.base_url, api_key="local") as client:
        yield client


def main() -> None:
    parser = argparse.ArgumentParser(description="A chatbot that remembers its threads.")
    parser.add_argument("thread", nargs="?", default="default", help="the thread's name (default: %(default)s)")
    parser.add_argument("--storage", default="chatbot.db", help="the SQLite file of the threads (default: %(default)s)")
    parser.add_argument("--model", default=os.environ.get("OPENAI_MODEL") or "gpt-4o-mini")
    options = parser.parse_args()
    with connected(options.model) as api:
        client = with_history(api, storage=options.storage)
        with client.history:
            Chatbot(client, options.model, options.thread).run()


if __name__ == "__main__":
    main()
