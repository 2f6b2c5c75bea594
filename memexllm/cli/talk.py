"""The command `chat`: a conversation with a model, over `with_history`."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from memexllm._extras import required
from memexllm.cli import INTERRUPTED
from memexllm.cli.escape import visible, visible_line
from memexllm.cli.output import counted, tell, tell_error, write, write_json
from memexllm.cli.places import opened_manager
from memexllm.core.errors import ConfigurationError, MemexLLMError
from memexllm.core.flow import run
from memexllm.core.moments import new_id

if TYPE_CHECKING:
    from memexllm.core.models import Thread
    from memexllm.history.manager import HistoryManager
    from memexllm.integrations.openai.typed import HistoryOpenAI

_TITLE_LENGTH = 50
_HELP = """\
/new [THREAD]   begin another thread
/quit           leave (so do Ctrl-D, and Ctrl-C at the prompt)
Ctrl-C while an answer comes in stops it and keeps what was said so far."""


@dataclass(frozen=True)
class Settings:
    thread_id: str | None
    model: str
    base_url: str | None
    system: str | None
    user_id: str | None
    as_json: bool


def chat(place: str | None, settings: Settings) -> None:
    openai: Any = required("openai", extra="openai", by="memexllm chat")
    base_url = settings.base_url or os.environ.get("OPENAI_BASE_URL")
    key = os.environ.get("OPENAI_API_KEY") or ("none" if base_url else None)
    if key is None:
        raise ConfigurationError("which server? Set OPENAI_API_KEY, or give --base-url of one that needs no key")
    from memexllm.integrations.openai.wrap import with_history

    with (
        opened_manager(place, may_create=True) as manager,
        openai.OpenAI(base_url=base_url, api_key=key) as api,
    ):
        client: HistoryOpenAI = with_history(api, storage=manager.storage, on_write_error="raise")
        if settings.user_id is not None:
            client = client.for_user(settings.user_id)
        _Talk(client, manager, settings, openai.OpenAIError).run()


class _Talk:
    """Of one thread at a time. `watched`: a person types, so there is a prompt."""

    def __init__(self, client: HistoryOpenAI, manager: HistoryManager, settings: Settings, api_error: Any) -> None:
        self.client = client
        self.manager = manager
        self.settings = settings
        self.errors: tuple[type[Exception], ...] = (api_error, MemexLLMError)
        self.thread_id = settings.thread_id or new_id()
        self.watched = sys.stdin.isatty() and not settings.as_json

    def run(self) -> None:
        if self.watched:
            with suppress(ImportError):
                importlib.import_module("readline")  # input() edits lines once it is loaded
        self._greet()
        for line in self._lines():
            command, _, name = line.partition(" ")
            if command == "/quit":
                return
            if command == "/help":
                tell(_HELP)
            elif command == "/new":
                self.thread_id = name.strip() or new_id()
                self._greet()
            elif line:
                self._answer(line)

    def _greet(self) -> None:
        if self.watched:
            head = self._head()
            found = "new" if head is None else counted(head.message_count, "message")
            tell(f"[thread {visible_line(self.thread_id)}: {found}; /help lists the commands]")

    def _lines(self) -> Iterator[str]:
        while True:
            try:
                if self.watched:
                    line = input("> ")
                else:
                    line = sys.stdin.readline()
                    if not line:
                        return
            except EOFError:
                write()
                return
            except KeyboardInterrupt:
                if self.watched:
                    write()
                raise typer.Exit(INTERRUPTED) from None
            yield line.strip()

    def _answer(self, text: str) -> None:
        messages: list[Any] = [{"role": "user", "content": text}]
        if self.settings.system is not None:
            messages.insert(0, {"role": "system", "content": self.settings.system})
        interrupted = False
        try:
            is_new = self._head() is None
            try:
                self._stream(messages)
            except KeyboardInterrupt:
                interrupted = True
            if is_new and self._head() is not None:
                title = text if len(text) <= _TITLE_LENGTH else f"{text[: _TITLE_LENGTH - 1]}…"
                self.manager.update_thread(self.thread_id, title=title)
            self._after(interrupted=interrupted)
        except self.errors as error:
            if not self.settings.as_json:
                write()
            sys.stdout.flush()
            tell_error(error, as_json=self.settings.as_json)

    def _stream(self, messages: list[Any]) -> None:
        with self.client.chat.completions.create(
            model=self.settings.model, messages=messages, stream=True, thread_id=self.thread_id
        ) as stream:
            for chunk in stream:
                delta = chunk.choices[0].delta if chunk.choices else None
                if delta is not None and not self.settings.as_json:
                    write(visible(delta.content or delta.refusal or ""), end="")
                    sys.stdout.flush()

    def _after(self, *, interrupted: bool) -> None:
        newest = [] if self._head() is None else self.manager.get_messages(self.thread_id, limit=1)
        answer = newest[0] if newest and newest[0].role == "assistant" else None
        if self.settings.as_json:
            status = answer.status if answer is not None else "incomplete"
            text = answer.text if answer is not None else ""
            write_json({"thread_id": self.thread_id, "status": status, "text": text})
        else:
            write()
        sys.stdout.flush()
        if interrupted:
            kept = answer is not None and answer.status != "complete"
            tell(
                "[stopped; what was said so far is kept]"
                if kept
                else "[stopped before an answer came; nothing is kept]"
            )

    def _head(self) -> Thread | None:
        """The thread without its messages; None while nothing was said in it."""
        reader = run(self.manager.port.read(self.thread_id))
        return None if reader is None else reader.head
