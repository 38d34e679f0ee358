"""`ticketqc batch ...`: what is judged by Message Batches."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from app.queries.batches import BatchRow

batch_app = typer.Typer(help="Judging by Message Batches: half the price, within a day.", no_args_is_help=True)

STATES = {"submitting": "being sent", "waiting": "under way", "ended": "ended", "lost": "came to nothing"}


@batch_app.command("list")
def list_batches() -> None:
    """List the newest batches: where they are, how many questions were answered, what they cost."""
    from rich.console import Console
    from rich.table import Table

    from app import clock
    from app.commands import database
    from app.db import transaction
    from app.queries import batches
    from app.settings import load_settings
    from app.web import words

    with database.opened(load_settings()) as engine, transaction(engine) as session:
        rows, waiting = batches.listed(session), batches.waiting_tickets(session)
    if not rows:
        typer.echo("There is no batch yet. `ticketqc import FILE --batch` makes the first.")
        return
    table = Table("batch", "made", "state", "questions", "answered", "cost", "note")
    for row in rows:
        made = words.since(row.created_at, clock.now())
        answered = str(row.succeeded) if row.state == "ended" else ""
        table.add_row(str(row.id), made, _state(row), str(row.requests), answered, words.dollars(row.cost), row.note)
    Console().print(table)
    typer.echo(f"{waiting} tickets are judged by batch and have no verdict yet.")


def _state(row: "BatchRow") -> str:
    return "being cancelled" if row.open and row.cancel_asked else STATES[row.state]


@batch_app.command("cancel")
def cancel(batch: Annotated[int, typer.Argument(help="Its number in `ticketqc batch list`.")]) -> None:
    """Cancel a batch. What is answered by then counts; the other tickets are judged one by one, at the full price."""
    from app import batch_results
    from app.audit import COMMAND_LINE
    from app.commands import database
    from app.db import transaction
    from app.settings import load_settings

    with database.opened(load_settings()) as engine, transaction(engine) as session:
        batch_results.cancel(session, batch, actor=COMMAND_LINE)
    typer.echo(f"The running service cancels batch {batch}.")


@batch_app.command("add")
def add(
    *, source: Annotated[str, typer.Option(help="Only tickets of this connection.", show_default="all")] = ""
) -> None:
    """Judge by batch what has waited for its review until now, for instance a file imported without --batch."""
    from app import batches
    from app.commands import database
    from app.db import transaction
    from app.settings import load_settings

    with database.opened(load_settings()) as engine, transaction(engine) as session:
        number = batches.add(session, source=source)
    typer.echo(f"{number} tickets wait for the next batch.")
