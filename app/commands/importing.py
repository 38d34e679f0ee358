"""`ticketqc import FILE`."""

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from app.importing import Progress

SHOWN_PROBLEMS = 100  # rows told one by one; of a file that is wrong throughout nobody reads more
ALL_BAD = 2
STEP = 0.1  # of the file, between two lines where there is no terminal


def import_(
    file: Annotated[Path, typer.Argument(help="Tickets as .jsonl (one JSON object a line) or .csv (a header row).")],
    *,
    source: Annotated[str, typer.Option(help="The connection that the tickets belong to.", show_default="FILE")] = "",
    live: Annotated[bool, typer.Option("--live", help="Closed long ago counts as work of today.")] = False,
    batch: Annotated[bool, typer.Option("--batch", help="Half the price; verdicts come within a day.")] = False,
) -> None:
    """Import tickets from a file; they are reviewed by the running service.

    Interrupted, it goes on where it stopped. A bad row is reported by its line and skipped. Ends with 2 if every row
    was bad, else with 0.
    """
    from app import clock
    from app.commands import database
    from app.importing import Order, import_file
    from app.settings import load_settings

    with _stoppable(), database.opened(load_settings()) as engine, _shown(file.name) as show:
        steps = import_file(engine, Order(file, source=source, live=live, batch=batch), now=clock.now)
        first = last = next(steps)
        for last in steps:
            show(last)
    _summary(file.name, last, known_before=first.finished)


@contextmanager
def _stoppable() -> "Iterator[None]":
    """Ctrl-C ends with what is safe and how to go on, not without a word."""
    from app.errors import ImportStopped

    try:
        yield
    except KeyboardInterrupt:
        raise ImportStopped("stopped. What was read so far is imported; the same command goes on from there.") from None


def _summary(name: str, last: "Progress", *, known_before: bool) -> None:
    counts = f"{last.new} new, {last.unchanged} unchanged, {last.skipped} skipped"
    if known_before:
        typer.echo(f"{name} was imported into {last.source} before ({last.rows} rows: {counts}); nothing to do.")
        return
    typer.echo(f"{name} -> {last.source}: {last.rows} rows: {counts}")
    if last.skipped and last.skipped == last.rows:
        raise typer.Exit(ALL_BAD)


@contextmanager
def _shown(name: str) -> "Iterator[Callable[[Progress], None]]":
    """Bad rows and progress on standard error: a bar where that is a terminal, else a line now and then."""
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    tell = _Teller(console.is_terminal)
    with Bar(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(name, total=None)

        def show(progress: "Progress") -> None:
            for line in tell.lines(progress):
                bar.console.print(line, markup=False)
            rows = f"{name}: {progress.rows} rows"
            bar.update(task, total=progress.size or 1, completed=progress.done, description=rows)

        yield show


class _Teller:
    """Which lines a batch is worth."""

    def __init__(self, is_terminal: bool) -> None:  # noqa: FBT001  its only argument
        self._is_terminal = is_terminal
        self._told = 0
        self._share = 0.0

    def lines(self, progress: "Progress") -> "Iterator[str]":
        for problem in progress.problems:
            self._told += 1
            if self._told <= SHOWN_PROBLEMS:
                yield f"line {problem.line}: {problem.reason} (skipped)"
            elif self._told == SHOWN_PROBLEMS + 1:
                yield "further bad rows are only counted"
        share = progress.done / progress.size if progress.size else 1.0
        if not self._is_terminal and share >= self._share + STEP:
            self._share = share
            yield f"{share:.0%}: {progress.rows} rows"
