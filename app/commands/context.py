"""`ticketqc context ...`: look at the context files of a folder and say what is wrong with them; versions beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.commands.context_folder import place_of, refuse, shown
from app.commands.context_versions import versions_app

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

    place = place_of(folder)
    try:
        files = read_folder(place)
        problems = lint(files, read_folder(against) if against else None)
    except ContextError as error:
        refuse(error, place)
    for problem in problems:
        typer.echo(f"{shown(place)}/{problem}")
    errors = sum(problem.severity == "error" for problem in problems)
    if errors:
        typer.echo(f"Errors: {errors} of {len(problems)} problems. These files cannot be released as they are.")
        raise typer.Exit(1)
    context = parse(files)
    counts = ", ".join(f"{agent} {prefix_tokens(context, agent):,}" for agent in READ_BY)
    warnings = f"warnings: {len(problems)}" if problems else "nothing to mend"
    typer.echo(
        f"{shown(place)}: {warnings}; tokens before each ticket (at most {PREFIX_TOKENS:,}): {counts}; "
        f"version {context.version[:12]}"
    )


@context_app.command("list")
def list_files(folder: Folder = None) -> None:
    """List the files: who reads each, how many items it has, how many tokens agents read of it."""
    from rich.console import Console
    from rich.table import Table

    from agents.context import READ_BY, ContextError, parse, read_documents, read_folder
    from agents.tokens import token_estimate

    place = place_of(folder)
    try:
        context = parse(read_folder(place))
    except ContextError as error:
        refuse(error, place)
    table = Table("file", "read by", "items", "tokens")
    for name, document in read_documents(context.files).items():
        readers = ", ".join(agent for agent, names in READ_BY.items() if name in names)
        table.add_row(name, readers, str(len(document.items)), f"{token_estimate(context.documents[name]):,}")
    Console().print(table)
    typer.echo(f"{shown(place)}: version {context.version}")


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
    place = place_of(folder)
    try:
        context = parse(read_folder(place))
    except ContextError as error:
        refuse(error, place)
    typer.echo(context.documents[name])


context_app.add_typer(versions_app)
