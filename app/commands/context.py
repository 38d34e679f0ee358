"""`ticketqc context ...`: look at the context files of a folder and say what is wrong with them. Needs no database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from agents.context import ContextError

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
