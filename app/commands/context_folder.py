"""What the commands on context files share: which folder is meant, how it is written, how problems end a command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agents.context import ContextError, Problem


def place_of(given: Path | None) -> Path:
    """The folder asked for, else the configured one."""
    from app.settings import load_settings

    return given or load_settings().context_dir


def shown(place: Path) -> Path:
    """As short as it can be written from here."""
    here = Path.cwd()
    return place.relative_to(here) if place.is_relative_to(here) else place


def refuse(error: ContextError, place: Path) -> NoReturn:
    """Every problem on standard error, and the end of the command."""
    for problem in error.problems:
        typer.echo(str(problem) if problem.file == str(place) else f"{shown(place)}/{problem}", err=True)
    raise typer.Exit(1)


def refuse_errors(problems: Iterable[Problem], place: Path, *, nothing: str) -> None:
    """The end of the command where there is an error; what is in force stays."""
    errors = [problem for problem in problems if problem.severity == "error"]
    for problem in errors:
        typer.echo(f"{shown(place)}/{problem}", err=True)
    if errors:
        typer.echo(f"Errors: {len(errors)}. {nothing}; what is in force stays.", err=True)
        raise typer.Exit(1)


def reason(note: str) -> str:
    """The note as people will read it. Raises typer's own error where it says nothing or too much."""
    from agents.prompt import visible
    from app.releases import LONGEST_NOTE

    why = " ".join(visible(note).split())
    if not why:
        raise typer.BadParameter("say why in a few words", param_hint="--note")
    if len(why) > LONGEST_NOTE:
        raise typer.BadParameter(f"say why in at most {LONGEST_NOTE:,} characters", param_hint="--note")
    return why
