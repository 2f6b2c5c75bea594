"""The commands: what can be typed. What they do is in the modules beside, imported when a command runs.

`typer` is all that is imported for `--help`; rich is used for tables and bars only.
"""

from __future__ import annotations

from typing import Annotated

import typer

from memexllm.cli.output import command

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Place = Annotated[
    str | None,
    typer.Option(
        "--storage",
        metavar="URL",
        help="The storage: a path, or sqlite:///FILE, postgresql://…, redis://… (default: $MEMEXLLM_STORAGE).",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON, errors too.")]
ThreadId = Annotated[str, typer.Argument(metavar="THREAD", help="The thread's id.", show_default=False)]
UserId = Annotated[str | None, typer.Option("--user", metavar="ID", help="Threads of this user only.")]


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"memexllm {version('memexllm')}")
        except PackageNotFoundError:
            typer.echo("memexllm, of a folder that was not installed")
        raise typer.Exit


@app.callback()
def _globally(
    context: typer.Context,
    storage: Place = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Threads of conversations: list, read, search, explain, continue, move and delete them.

    --storage may stand before or after the command. Exit codes: 0 done, 1 an error that was told, 2 wrong usage,
    130 interrupted.
    """
    context.obj = {"storage": storage}


def _place(context: typer.Context, storage: str | None) -> str | None:
    found: str | None = storage or context.obj["storage"]
    return found


@app.command()
@command
def threads(
    context: typer.Context,
    user: UserId = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option("--metadata", metavar="KEY=VALUE", help="Threads with this metadata only; may be repeated."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 50,
    storage: Place = None,
    as_json: AsJson = False,
) -> None:
    """List threads, newest first; one without a title by what was said last. With --json one document a line."""
    from memexllm.cli import reading

    reading.threads(_place(context, storage), user, metadata or [], limit, as_json=as_json)


@app.command()
@command
def show(
    context: typer.Context,
    thread: ThreadId,
    everything: Annotated[bool, typer.Option("--all", help="Superseded messages too.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="The newest so many messages.")] = None,
    storage: Place = None,
    as_json: AsJson = False,
) -> None:
    """Show what was said in a thread. With --json one document."""
    from memexllm.cli import reading

    reading.show(_place(context, storage), thread, limit, everything=everything, as_json=as_json)


@app.command()
@command
def search(
    context: typer.Context,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Words; quotes and operators are words too.")],
    thread: Annotated[str | None, typer.Option("--thread", metavar="ID", help="In this thread only.")] = None,
    user: UserId = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many messages.")] = 10,
    storage: Place = None,
    as_json: AsJson = False,
) -> None:
    """Find messages by their words, best first. With --json one document a line."""
    from memexllm.cli import reading

    reading.search(_place(context, storage), text, thread, user, limit, as_json=as_json)


@app.command()
@command
def explain(
    context: typer.Context,
    thread: ThreadId,
    model: Annotated[
        str | None, typer.Option("--model", help="Whose tokens are counted (default: the model that answered last).")
    ] = None,
    max_tokens: Annotated[
        float | None,
        typer.Option("--max-tokens", help="The window; at most 1 a fraction of the model's (default: 0.8)."),
    ] = None,
    storage: Place = None,
    as_json: AsJson = False,
) -> None:
    """Explain which messages a model would be sent, and why not the others. With --json one document."""
    from memexllm.cli import reading

    reading.explain(_place(context, storage), thread, model, max_tokens, as_json=as_json)


@app.command()
@command
def chat(
    context: typer.Context,
    thread: Annotated[str | None, typer.Argument(metavar="THREAD", help="Go on with it, or begin it.")] = None,
    model: Annotated[str, typer.Option("--model", "-m", envvar="OPENAI_MODEL")] = "gpt-4o-mini",
    base_url: Annotated[
        str | None, typer.Option("--base-url", help="An OpenAI-compatible server (default: $OPENAI_BASE_URL).")
    ] = None,
    system: Annotated[str | None, typer.Option("--system", help="Instructions for the model.")] = None,
    user: Annotated[str | None, typer.Option("--user", metavar="ID", help="Whose thread it is.")] = None,
    storage: Place = None,
    as_json: AsJson = False,
) -> None:
    """Talk to a model; what is said is kept in the thread.

    The key is read from $OPENAI_API_KEY. Ctrl-C stops an answer and keeps what was said so far; at the prompt it
    leaves, as Ctrl-D does. What is piped in is read line by line. With --json one document a line for each answer.
    """
    from memexllm.cli import talk

    talk.chat(
        _place(context, storage),
        talk.Settings(thread, model, base_url, system, user, as_json=as_json),
    )


@app.command("export")
@command
def export_(
    context: typer.Context,
    threads: Annotated[list[str] | None, typer.Argument(metavar="THREAD", help="None named: all.")] = None,
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="- is the standard output.")] = "-",
    storage: Place = None,
    as_json: AsJson = False,
) -> None:
    """Write threads as lossless JSON Lines, to be read by import.

    With --json, errors and (when there is an --output) the counts are JSON.
    """
    from memexllm.cli import moving

    moving.export(_place(context, storage), threads or None, output, as_json=as_json)


@app.command("import")
@command
def import_(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="What export wrote; - is the standard input.")],
    replace: Annotated[bool, typer.Option("--replace", help="Replace threads that exist.")] = False,
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Leave threads that exist alone.")] = False,
    storage: Place = None,
    as_json: AsJson = False,
) -> None:
    """Store the threads of an export. The file is verified first: a bad one changes nothing."""
    from memexllm.cli import moving

    if replace and skip_existing:
        raise typer.BadParameter("--replace and --skip-existing exclude each other")
    existing = moving.existing(replace=replace, skip=skip_existing)
    moving.import_(_place(context, storage), file, existing, as_json=as_json)


@app.command()
@command
def copy(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A path or URL.", show_default=False)],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="A path or URL.", show_default=False)],
    threads: Annotated[list[str] | None, typer.Argument(metavar="THREAD", help="None named: all.")] = None,
    update: Annotated[bool, typer.Option("--update", help="Copy anew what changed in the source since.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace other threads of the same id.")] = False,
    as_json: AsJson = False,
) -> None:
    """Copy threads from one storage to another, and compare what arrived; run again, it goes on where it ended.

    A thread whose id the target has for something else is left alone and told, and the exit code is 1.
    """
    from memexllm.cli import moving

    if replace and update:
        raise typer.BadParameter("--replace and --update exclude each other")
    existing = moving.kept(replace=replace, update=update)
    moving.report_copy(moving.copy(source, target, threads or None, existing), as_json=as_json)


@app.command()
@command
def delete(
    context: typer.Context,
    threads: Annotated[list[str], typer.Argument(metavar="THREAD", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    storage: Place = None,
    as_json: AsJson = False,
) -> None:
    """Delete threads for good. The exit code is 1 if one of them was not there."""
    from memexllm.cli import moving

    moving.delete(_place(context, storage), threads, yes=yes, as_json=as_json)
