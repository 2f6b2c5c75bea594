"""How the commands answer: JSON for programs, tables on a terminal, tab-separated lines into a pipe."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, ParamSpec

import typer

from memexllm.cli import PIPE_CLOSED
from memexllm.cli.escape import visible_line
from memexllm.core.errors import MemexLLMError

P = ParamSpec("P")


def command(function: Callable[P, None]) -> Callable[P, None]:
    """Errors of ours, and of files, become one line on stderr (JSON with `--json`) and exit code 1."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
            sys.stdout.flush()
        except BrokenPipeError:
            # What is still buffered would be written, and fail again, when Python ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(PIPE_CLOSED) from None
        except (MemexLLMError, OSError) as error:
            tell_error(error, as_json=bool(kwargs.get("as_json")))
            raise typer.Exit(1) from None

    return run


def tell_error(error: Exception, *, as_json: bool) -> None:
    if as_json:
        tell(json.dumps({"error": {"type": type(error).__name__, "message": _said(error)}}))
    else:
        tell(f"memexllm: {visible_line(_said(error))}")


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename!r}: {error.strerror}"
    return str(error)


def tell(line: str) -> None:
    """A remark for whoever watches; results go to stdout."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def write(text: str = "", *, end: str = "\n") -> None:
    """`text` is shown as it is: what others said in it has gone through `escape`."""
    sys.stdout.write(text + end)


def write_json(document: Any) -> None:
    """One JSON document a line, in ASCII: no terminal obeys it."""
    sys.stdout.write(json.dumps(document) + "\n")


def write_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """A table on a terminal; elsewhere a line a row, its cells whole and separated by tabs."""
    if not sys.stdout.isatty():
        for row in rows:
            write("\t".join(visible_line(cell) for cell in row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        # Text, not str: rich reads markup in a string.
        table.add_row(*(Text(visible_line(cell)) for cell in row))
    Console(highlight=False, emoji=False).print(table)


@contextmanager
def progress_bar(what: str) -> Generator[Callable[[int, int], None] | None]:
    """A bar on stderr while a terminal watches, else None."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def moment(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M}Z"


def message_json(message: Any) -> dict[str, Any]:
    """A message as JSON: its wire form under `message`, what the library knows of it beside."""
    fields: dict[str, Any] = {
        "id": message.id,
        "seq": message.seq,
        "created_at": message.created_at.isoformat(),
        "status": message.status,
        "superseded": message.superseded,
        "message": message.wire,
    }
    if message.metadata:
        fields["metadata"] = message.metadata
    if message.call is not None:
        fields["call"] = {key: value for key, value in message.call if value is not None}
    return fields


def thread_json(thread: Any) -> dict[str, Any]:
    return {
        "id": thread.id,
        "title": thread.title,
        "user_id": thread.user_id,
        "messages": thread.message_count,
        "created_at": thread.created_at.isoformat(),
        "updated_at": thread.updated_at.isoformat(),
        "metadata": thread.metadata,
    }


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def pairs(given: Sequence[str]) -> Mapping[str, Any]:
    """`key=value` as typed: the value is read as JSON where it is JSON (`3`, `true`, `"3"`), else as a string."""
    found: dict[str, Any] = {}
    for each in given:
        key, equals, value = each.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"{visible_line(each)!r} is not key=value", param_hint="--metadata")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found
