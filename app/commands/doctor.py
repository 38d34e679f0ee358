"""`ticketqc doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from app.diagnosis import Line

WIDEST_SUBJECT = 14  # characters; the texts stand in one column
COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


def doctor() -> None:
    """Say what is configured, reachable and missing, and how to mend it. Ends with 1 if there is a problem."""
    from app.clock import now
    from app.diagnosis import summary
    from app.doctor import examine

    lines = []
    for line in examine(now=now()):
        lines.append(line)
        _show(line)
    typer.echo(summary(lines))
    if any(line.mark == "problem" for line in lines):
        raise typer.Exit(1)


def _show(line: Line) -> None:
    """Words, not only colours, say how it is; without a terminal there are no colours."""
    mark = typer.style(f"{line.mark:7}", fg=COLOURS[line.mark])
    typer.echo(f"{mark}  {line.subject:{WIDEST_SUBJECT}}  {line.text}")
