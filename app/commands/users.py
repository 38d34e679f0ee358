"""`ticketqc user ...`: who may sign in. An admin does the same on `/settings`; here it works without one."""

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

user_app = typer.Typer(help="Who may sign in, and as what: viewer, lead or admin.", no_args_is_help=True)

Email = Annotated[str, typer.Argument(help="The account's e-mail address.")]


@user_app.command("add")
def add(
    email: Email,
    *,
    role: Annotated[str, typer.Option(help="viewer reads, lead decides, admin also manages people.")],
    name: Annotated[str, typer.Option(help="What colleagues call them; they can change it.")] = "",
) -> None:
    """Print a link that makes the account. It works once, for 7 days; an earlier one for the address is void."""
    from app import clock, links
    from app.audit import COMMAND_LINE

    with _session() as session:
        token = links.invite(session, email=email, role=role, name=name, actor=COMMAND_LINE, now=clock.now())
    _print_link(email, token)


@user_app.command("list")
def list_users() -> None:
    """List the accounts, and the links that nobody has used yet."""
    from rich.console import Console
    from rich.table import Table

    from app import clock
    from app.queries import people

    with _session() as session:
        accounts, waiting = people.people(session), people.links(session, now=clock.now())
    if not accounts and not waiting:
        typer.echo("There is no account yet. `ticketqc up` prints a link that makes the first one.")
        return
    table = Table("e-mail", "name", "role", "state")
    for one in accounts:
        table.add_row(one.email, one.name, one.role, "closed" if one.closed_at else "open")
    for link in waiting:
        until = f"{link.expires_at:%Y-%m-%d %H:%M} UTC"
        what = "link for a new password" if link.user_id else "invited"
        table.add_row(link.email, "", link.role, f"{what}, until {until}")
    Console().print(table)


@user_app.command("role")
def role(email: Email, role: Annotated[str, typer.Argument(help="viewer, lead or admin.")]) -> None:
    """Give an account another role. Whoever is signed in with it signs in again."""
    from app import people
    from app.audit import COMMAND_LINE

    with _session() as session:
        user = people.by_email(session, email)
        people.change_role(session, user.id, role=role, actor=COMMAND_LINE)
    typer.echo(f"{user.email} is {role} now.")


@user_app.command("reset")
def reset(email: Email) -> None:
    """Print a link that gives an account a new password. It works once, for 7 days."""
    from app import clock, links, people
    from app.audit import COMMAND_LINE

    with _session() as session:
        made = links.reset(session, people.by_email(session, email).id, actor=COMMAND_LINE, now=clock.now())
    _print_link(made.email, made.token)


@user_app.command("close")
def close(email: Email) -> None:
    """Close an account: nobody signs in with it, or is signed in. What its owner decided stays, and says so."""
    from app import clock, people
    from app.audit import COMMAND_LINE

    with _session() as session:
        user = people.by_email(session, email)
        people.close(session, user.id, actor=COMMAND_LINE, now=clock.now())
    typer.echo(f"{user.email} is closed. An admin can reopen it on /settings.")


@contextmanager
def _session() -> "Iterator[Session]":
    from app.commands import database
    from app.db import transaction
    from app.settings import load_settings

    with database.opened(load_settings()) as engine, transaction(engine) as session:
        yield session


def _print_link(email: str, token: str) -> None:
    """For the address where the service of this data directory listens."""
    from app.listening import address, of_running
    from app.settings import load_settings

    typer.echo(f"The link for {email}, shown this once; it works once, for 7 days:")
    typer.echo(f"{address(of_running(load_settings()))}/welcome/{token}")
