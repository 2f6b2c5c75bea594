"""The `memexllm` command. Its packages are the extra `cli`; each command imports what it needs when it runs.

Exit codes: 0 done, 1 an error that was told, 2 wrong usage, 130 interrupted, 141 the reader of a pipe went away.
"""

from __future__ import annotations

import io
import sys
import warnings

INTERRUPTED = 130
PIPE_CLOSED = 141


def main() -> None:
    """Run the command with `sys.argv`, and exit."""
    try:
        sys.exit(_run())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _run() -> int:
    from memexllm._extras import required
    from memexllm.core.errors import MissingDependencyError

    try:
        for package in ("typer", "rich"):
            required(package, extra="cli", by="the memexllm command")
    except MissingDependencyError as error:
        sys.stderr.write(f"memexllm: {error}\n")
        return 1
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character must not end the command.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    warnings.showwarning = _show_warning
    from memexllm.cli.app import app

    try:
        app(prog_name="memexllm")
    except SystemExit as leaving:
        sys.stdout.flush()
        return leaving.code if isinstance(leaving.code, int) else 1
    return 0


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Where in the library a warning was raised says nothing to who typed the command."""
    sys.stderr.write(f"memexllm: {message}\n")
