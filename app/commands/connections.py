"""`ticketqc connection ...`: where tickets come from."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from app.intake.connections import Listed, Wanted
    from app.intake.example import Sender
    from app.settings import Settings

connection_app = typer.Typer(help="Where tickets come from: webhooks of ticketing systems.", no_args_is_help=True)

FROM_STDIN = "-"
Name = Annotated[str, typer.Argument(help="The connection's name, the last part of its address.")]


@connection_app.command("add")
def add(  # noqa: PLR0913  each is an option of the command
    name: Name,
    *,
    scheme: Annotated[str | None, typer.Option(help="standard, hmac, header, basic or path.")] = None,
    secret: Annotated[str | None, typer.Option(help="The shared secret; - reads it from standard input.")] = None,
    header: Annotated[str | None, typer.Option(help="hmac, header: the header that carries it.")] = None,
    prefix: Annotated[str | None, typer.Option(help="hmac, header: what stands before it, such as sha256=")] = None,
    encoding: Annotated[str | None, typer.Option(help="hmac: hex or base64.", show_default="hex")] = None,
    digest: Annotated[str | None, typer.Option(help="hmac: sha256 or sha1.", show_default="sha256")] = None,
    user: Annotated[str | None, typer.Option(help="basic: the user's name; the secret is the password.")] = None,
    delivery_id_header: Annotated[
        str | None, typer.Option(help="A header that names each delivery and stays the same when it is sent again.")
    ] = None,
    field_map: Annotated[Path | None, typer.Option(help="A JSON file: which part of theirs is which of ours.")] = None,
    supplies: Annotated[
        str | None, typer.Option(help="Optional fields it fills, with commas.", show_default="found out")
    ] = None,
    change: Annotated[bool, typer.Option("--replace", help="Change an existing one; the rest stays.")] = False,
) -> None:
    """Make a connection, and print its address and an example to try it with.

    Without --secret one is made and shown this once.
    """
    from app.intake.connections import Wanted

    options = {"header": header, "prefix": prefix, "encoding": encoding, "digest": digest, "user": user}
    options["delivery_id_header"] = delivery_id_header
    wanted = Wanted(
        name=name,
        scheme=scheme,
        secret=sys.stdin.readline().rstrip("\r\n") if secret == FROM_STDIN else secret,
        options={key: value for key, value in options.items() if value is not None},
        field_map=None if field_map is None else _read_map(field_map),
        declared=None if supplies is None else tuple(part.strip() for part in supplies.split(",") if part.strip()),
    )
    _keep(wanted, change=change)


def _keep(wanted: "Wanted", *, change: bool) -> None:
    from app.commands import database
    from app.db import transaction
    from app.intake import connections, example
    from app.settings import load_settings
    from app.vault import Vault

    settings = load_settings()
    vault = Vault.load(settings)
    keep = connections.replace if change else connections.add
    with database.opened(settings) as engine, transaction(engine) as session:
        kept = keep(session, vault, wanted)
    sender = _sender(settings, kept.connection, secret=kept.made_secret or "")
    typer.echo(f"{wanted.name} {'is changed' if change else 'is ready'}. Its address: {sender.address}")
    if kept.made_secret is not None:
        typer.echo(f"Its secret, shown this once: {kept.made_secret}")
    typer.echo(f"\nTry it:\n\n{example.shell(sender)}")


@connection_app.command("list")
def list_connections() -> None:
    """List the connections with what came in."""
    from rich.console import Console
    from rich.table import Table

    from app.commands import database
    from app.db import transaction
    from app.intake.connections import listed
    from app.settings import load_settings

    with database.opened(load_settings()) as engine, transaction(engine) as session:
        rows = listed(session)
    if not rows:
        typer.echo("There is no connection yet; make one with: ticketqc connection add NAME --scheme standard")
        return
    table = Table("name", "scheme", "tickets", "deliveries", "parked", "rejected", "last (UTC)")
    for row in rows:
        table.add_row(*_cells(row))
    Console().print(table)


def _cells(row: "Listed") -> list[str]:
    last = row.last_at.strftime("%Y-%m-%d %H:%M") if row.last_at else "never"
    return [row.name, row.scheme, *(str(count) for count in row[2:6]), last]


@connection_app.command("test")
def try_delivery(
    name: Name,
    file: Annotated[Path, typer.Argument(help="A delivery's body, as the other system sends it.")],
    *,
    send: Annotated[bool, typer.Option("--send", help="Send it, signed, to the service on this machine.")] = False,
) -> None:
    """Show how a delivery would be read, without storing anything. Ends with 1 if it could not be read."""
    from app.commands import database
    from app.db import transaction
    from app.intake.connections import by_name
    from app.settings import load_settings
    from app.vault import Vault

    settings = load_settings()
    body = _read(file)
    with database.opened(settings) as engine, transaction(engine) as session:
        connection = by_name(session, name)
        if send:
            secret = Vault.load(settings).open(connection.secret).decode() if connection.secret else ""
            _send(_sender(settings, connection, secret=secret, local=True), body)
            return
    _show(body, connection.field_map)


@connection_app.command("replay")
def replay(name: Name) -> None:
    """Read the parked deliveries of a connection again, for instance after its field map was mended."""
    from app.commands import database
    from app.db import transaction
    from app.intake import reading
    from app.intake.connections import by_name
    from app.settings import load_settings

    with database.opened(load_settings()) as engine, transaction(engine) as session:
        count = reading.replay(session, connection_id=by_name(session, name).id)
    deliveries = "delivery is" if count == 1 else "deliveries are"
    typer.echo(f"{count} parked {deliveries} read again by the running service.")


def _sender(settings: "Settings", connection: Any, *, secret: str, local: bool = False) -> "Sender":  # noqa: ANN401  its row
    from app.errors import ConnectionRefused
    from app.intake.example import Sender
    from app.intake.signatures import Options
    from app.listening import address, of_running

    if connection.scheme == "file":
        raise ConnectionRefused(
            f"{connection.name}: takes files only; use: ticketqc import FILE --source {connection.name}"
        )
    here = of_running(settings)
    base = address(here.model_copy(update={"base_url": None}) if local else here)
    return Sender(
        address=f"{base}/hooks/{connection.name}",
        scheme=connection.scheme,
        options=Options.model_validate(connection.options),
        secret=secret,
        mapped=connection.field_map is not None,
    )


def _send(sender: "Sender", body: bytes) -> None:
    import httpx2

    from app import clock
    from app.intake.example import sign

    signed = sign(sender, body=body, now=clock.now())
    try:
        answer = httpx2.post(signed.address, headers=dict(signed.headers), content=body, timeout=10)
    except httpx2.TransportError as error:
        typer.echo(f"{sender.address}: no answer ({type(error).__name__}); is the service running?", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{answer.status_code} {answer.text}")
    if not answer.is_success:
        raise typer.Exit(1)


def _show(body: bytes, raw_map: dict[str, Any] | None) -> None:
    from agents.ticket import TicketError
    from app.intake.mapping import parse_field_map
    from app.intake.reading import read_body

    try:
        tickets = read_body(body, field_map=None if raw_map is None else parse_field_map(raw_map))
    except TicketError as error:
        typer.echo(f"It would be parked: {error}", err=True)
        raise typer.Exit(1) from None
    for ticket in tickets:
        typer.echo(ticket.model_dump_json(by_alias=True, indent=2))


def _read(file: Path) -> bytes:
    from app.errors import FileUnreadable

    try:
        return file.read_bytes()
    except OSError as error:
        raise FileUnreadable(f"{file}: cannot be read ({error.strerror})") from None


def _read_map(file: Path) -> dict[str, Any]:
    from app.errors import FieldMapError

    try:
        raw = json.loads(_read(file))
    except ValueError as error:
        raise FieldMapError(f"{file}: not valid JSON: {error}") from None
    if not isinstance(raw, dict):
        raise FieldMapError(f"{file}: a field map is a JSON object")
    return raw
