"""`ticketqc context ...`: look at the context files of a folder, say what is wrong with them, put them in force."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agents.context import Context, ContextError, Problem

context_app = typer.Typer(help="The files that agents judge by.", no_args_is_help=True)

Folder = Annotated[
    Path | None, typer.Argument(show_default="the configured folder", help="The folder that holds the context files.")
]


@context_app.command("lint")
def lint(
    folder: Folder = None,
    against: Annotated[
        Path | None, typer.Option(help="An older copy of the folder: also report ids that changed since.")
    ] = None,
) -> None:
    """Say what is wrong, with file and line. Ends with 1 if there is an error, with 0 if there are only warnings."""
    from agents.context import READ_BY, ContextError, parse, read_folder
    from agents.context_lint import PREFIX_TOKENS, lint, prefix_tokens

    place = _folder(folder)
    try:
        files = read_folder(place)
        problems = lint(files, read_folder(against) if against else None)
    except ContextError as error:
        _refuse(error, place)
    for problem in problems:
        typer.echo(f"{_shown(place)}/{problem}")
    errors = sum(problem.severity == "error" for problem in problems)
    if errors:
        typer.echo(f"Errors: {errors} of {len(problems)} problems. These files cannot be released as they are.")
        raise typer.Exit(1)
    context = parse(files)
    counts = ", ".join(f"{agent} {prefix_tokens(context, agent):,}" for agent in READ_BY)
    warnings = f"warnings: {len(problems)}" if problems else "nothing to mend"
    typer.echo(
        f"{_shown(place)}: {warnings}; tokens before each ticket (at most {PREFIX_TOKENS:,}): {counts}; "
        f"version {context.version[:12]}"
    )


@context_app.command("list")
def list_files(folder: Folder = None) -> None:
    """List the files: who reads each, how many items it has, how many tokens agents read of it."""
    from rich.console import Console
    from rich.table import Table

    from agents.context import READ_BY, ContextError, parse, read_documents, read_folder
    from agents.tokens import token_estimate

    place = _folder(folder)
    try:
        context = parse(read_folder(place))
    except ContextError as error:
        _refuse(error, place)
    table = Table("file", "read by", "items", "tokens")
    for name, document in read_documents(context.files).items():
        readers = ", ".join(agent for agent, names in READ_BY.items() if name in names)
        table.add_row(name, readers, str(len(document.items)), f"{token_estimate(context.documents[name]):,}")
    Console().print(table)
    typer.echo(f"{_shown(place)}: version {context.version}")


@context_app.command("show")
def show(
    file: Annotated[str, typer.Argument(help="One of the context files, such as qc_rubric.md.")],
    folder: Annotated[Path | None, typer.Option(help="The folder that holds the context files.")] = None,
) -> None:
    """Print one file exactly as agents read it: without notes to editors, settings and checked criteria."""
    from agents.context import FILES, ContextError, parse, read_folder

    name = file if file.endswith(".md") else f"{file}.md"
    if name not in FILES:
        typer.echo(f"There is no context file {file}. There are: {', '.join(FILES)}.", err=True)
        raise typer.Exit(2)
    place = _folder(folder)
    try:
        context = parse(read_folder(place))
    except ContextError as error:
        _refuse(error, place)
    typer.echo(context.documents[name])


@context_app.command("release")
def release(
    folder: Folder = None,
    *,
    note: Annotated[str, typer.Option(help="Why, in a few words; people read it beside the version.")],
) -> None:
    """Put the files in force: from now on tickets are judged by them. Verdicts that exist stay as they are."""
    from agents.context import ContextError, read_folder
    from agents.context_lint import lint
    from agents.prompt import visible
    from app import audit, releases
    from app.commands import database
    from app.db import transaction
    from app.settings import load_settings

    place = _folder(folder)
    why = " ".join(visible(note).split())
    if not why:
        raise typer.BadParameter("say why in a few words", param_hint="--note")
    try:
        files = read_folder(place)
    except ContextError as error:
        _refuse(error, place)
    _refuse_errors(lint(files), place)
    with database.opened(load_settings()) as engine, transaction(engine) as session:
        before = releases.newest(session)
        _refuse_errors(lint(files, before.files if before else None), place)
        if before and dict(before.files) == files:
            typer.echo(f"{_shown(place)} is what is in force already (version {before.version}); nothing was changed.")
            return
        released = releases.release(session, files, note=why)
        was = {"version": before.version} if before else None
        subject = f"context:{released.version}"
        audit.record(session, audit.COMMAND_LINE, action="context.released", subject=subject, before=was, note=why)
    for line in _what_changed(before, released):
        typer.echo(line)


def _refuse_errors(problems: Iterable[Problem], place: Path) -> None:
    """The end of the command where there is an error; what is in force stays."""
    errors = [problem for problem in problems if problem.severity == "error"]
    for problem in errors:
        typer.echo(f"{_shown(place)}/{problem}", err=True)
    if errors:
        typer.echo(f"Errors: {len(errors)}. Nothing was released; what is in force stays.", err=True)
        raise typer.Exit(1)


def _what_changed(before: Context | None, released: Context) -> Iterator[str]:
    yield f"in force now: {released.version}"
    if before is None:
        yield "before:       nothing"
        return
    yield f"before:       {before.version}"
    for name, text in released.files.items():
        if text != (old := before.files.get(name, "")):
            yield f"  {name}: {_lines_changed(old, text)}"


def _lines_changed(before: str, after: str) -> str:
    from difflib import SequenceMatcher

    matcher = SequenceMatcher(None, before.splitlines(), after.splitlines(), autojunk=False)
    moves = [move for move in matcher.get_opcodes() if move[0] != "equal"]
    removed = sum(end - start for _, start, end, _, _ in moves)
    added = sum(end - start for _, _, _, start, end in moves)
    return f"+{added} -{removed} lines" if moves else "only line ends changed"


def _folder(given: Path | None) -> Path:
    """The folder asked for, else the configured one."""
    from app.settings import load_settings

    return given or load_settings().context_dir


def _shown(place: Path) -> Path:
    """As short as it can be written from here."""
    here = Path.cwd()
    return place.relative_to(here) if place.is_relative_to(here) else place


def _refuse(error: ContextError, place: Path) -> NoReturn:
    """Every problem on standard error, and the end of the command."""
    for problem in error.problems:
        typer.echo(str(problem) if problem.file == str(place) else f"{_shown(place)}/{problem}", err=True)
    raise typer.Exit(1)
