"""The command line. Every command imports what it needs when it runs, so that help comes at once."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from app.commands.batches import batch_app
from app.commands.connections import connection_app
from app.commands.context import context_app
from app.commands.doctor import doctor
from app.commands.evaluating import evaluate
from app.commands.importing import import_
from app.commands.local_model import command as local_model
from app.commands.reporting import report
from app.commands.rescoring import rescore
from app.commands.reviewing import review
from app.commands.running import clock, prepare, serve, up, upgrade, work
from app.commands.users import user_app
from app.errors import TicketqcError

root = typer.Typer(
    help="Reviews every closed service ticket against your own written standard, with evidence.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # its tracebacks show the values of variables: keys and tickets among them
    add_completion=False,
)
db_app = typer.Typer(help="The database.", no_args_is_help=True)


def _version(asked: bool) -> None:  # noqa: FBT001  typer calls it
    if asked:
        typer.echo(f"ticketqc {version('ticketqc')}")
        raise typer.Exit


@root.callback()
def _root(
    *,
    version_: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None: ...


root.command()(up)
root.command()(serve)
root.command()(work)
root.command()(clock)
root.command(hidden=True)(prepare)
root.command("local-model", hidden=True)(local_model)
root.command("import")(import_)
root.command()(review)
root.command()(report)
root.command()(rescore)
root.command("eval")(evaluate)
root.command()(doctor)
root.add_typer(context_app, name="context")
root.add_typer(connection_app, name="connection")
root.add_typer(user_app, name="user")
root.add_typer(batch_app, name="batch")
root.add_typer(db_app, name="db")
db_app.command()(upgrade)


def main() -> None:
    """Expected errors are one clear line each and an exit code; anything else is a defect and shows its traceback."""
    try:
        root(prog_name="ticketqc")
    except TicketqcError as error:
        for line in str(error).splitlines():
            typer.echo(f"ticketqc: {line}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
