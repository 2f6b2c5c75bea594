"""The commands that move and remove: `copy`, `export`, `import`, `delete`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Literal

import typer

from memexllm.cli.escape import visible_line
from memexllm.cli.output import counted, progress_bar, tell, write_json
from memexllm.cli.places import opened_manager
from memexllm.history.copying import Copied, copy_threads
from memexllm.history.transfer import Transfer, export_threads, import_threads

Existing = Literal["refuse", "skip", "replace"]
Kept = Literal["keep", "update", "replace"]


def existing(*, replace: bool, skip: bool) -> Existing:
    if replace:
        return "replace"
    return "skip" if skip else "refuse"


def export(place: str | None, thread_ids: Sequence[str] | None, output: str, *, as_json: bool) -> None:
    with opened_manager(place) as manager, progress_bar("exporting") as progress:
        if output == "-":
            export_threads(manager, sys.stdout.buffer, thread_ids, progress=progress)
            return
        done = export_threads(manager, output, thread_ids, progress=progress)
    _report("exported", done, as_json=as_json)


def import_(place: str | None, file: str, existing: Existing, *, as_json: bool) -> None:
    with opened_manager(place, may_create=True) as manager, progress_bar("importing") as progress:
        source = sys.stdin.buffer if file == "-" else file
        done = import_threads(manager, source, existing=existing, progress=progress)
    _report("imported", done, as_json=as_json)


def kept(*, replace: bool, update: bool) -> Kept:
    if replace:
        return "replace"
    return "update" if update else "keep"


def copy(source: str, target: str, thread_ids: Sequence[str] | None, existing: Kept) -> Copied:
    with (
        opened_manager(source) as ours,
        opened_manager(target, may_create=True) as theirs,
        progress_bar("copying") as progress,
    ):
        return copy_threads(ours, theirs, thread_ids, existing=existing, progress=progress)


def report_copy(done: Copied, *, as_json: bool) -> None:
    """Exits with 1 when threads were left out."""
    if as_json:
        counts = {"threads": done.n_threads, "messages": done.n_messages, "finished": done.n_finished}
        conflicts = [{"thread": each.thread_id, "reason": each.reason} for each in done.conflicts]
        write_json({**counts, "skipped": done.n_skipped, "conflicts": conflicts})
    else:
        were = "was" if done.n_skipped == 1 else "were"
        skipped = f"; {counted(done.n_skipped, 'thread')} {were} there" if done.n_skipped else ""
        tell(f"copied {counted(done.n_threads, 'thread')}, {counted(done.n_messages, 'message')}{skipped}")
        for each in done.conflicts:
            tell(f"memexllm: thread {visible_line(each.thread_id)} was left alone: {each.reason}")
    if done.conflicts:
        raise typer.Exit(1)


def _report(what: str, done: Transfer, *, as_json: bool) -> None:
    if as_json:
        write_json({"threads": done.n_threads, "messages": done.n_messages, "skipped": done.n_skipped})
        return
    skipped = f"; {counted(done.n_skipped, 'thread')} skipped" if done.n_skipped else ""
    tell(f"{what} {counted(done.n_threads, 'thread')}, {counted(done.n_messages, 'message')}{skipped}")


def delete(place: str | None, thread_ids: Sequence[str], *, yes: bool, as_json: bool) -> None:
    with opened_manager(place) as manager:
        if not yes:
            shown = ", ".join(visible_line(thread_id) for thread_id in thread_ids)
            if not _confirmed(f"Delete {shown} for good?"):
                tell("nothing was deleted")
                raise typer.Exit(1)
        there = {thread_id: manager.delete_thread(thread_id) for thread_id in thread_ids}
    missing = [thread_id for thread_id, was_there in there.items() if not was_there]
    if as_json:
        write_json({"deleted": [thread_id for thread_id in there if there[thread_id]], "missing": missing})
    else:
        tell(f"deleted {counted(len(there) - len(missing), 'thread')}")
        for thread_id in missing:
            tell(f"memexllm: there is no thread {visible_line(thread_id)}")
    if missing:
        raise typer.Exit(1)


def _confirmed(question: str) -> bool:
    # typer.confirm() writes to stdout as well, which is for results.
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
