"""Connections: made, changed and listed by an operator; a secret is sealed at once and shown once."""

from __future__ import annotations

import base64
import re
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from pydantic import ValidationError
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from agents.ticket import OPTIONAL_FIELDS
from app import audit
from app.audit import COMMAND_LINE
from app.errors import ConnectionRefused, NotFound
from app.intake.mapping import parse_field_map
from app.intake.signatures import STANDARD_PREFIX, Options, Scheme, standard_key
from app.tables import Connection, Delivery, Ticket

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy.orm import Session

    from app.vault import Vault

NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,48}[a-z0-9])?")  # a slug, as it stands in the hook's address
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
SHORTEST_SECRET = 8  # characters; what we make has 32
# Which options a scheme reads, and which of them it cannot do without.
READS: Mapping[Scheme, frozenset[str]] = {
    "standard": frozenset(),
    "hmac": frozenset({"header", "prefix", "encoding", "digest", "delivery_id_header"}),
    "header": frozenset({"header", "prefix", "delivery_id_header"}),
    "basic": frozenset({"user", "delivery_id_header"}),
    "path": frozenset({"delivery_id_header"}),
}
NEEDS: Mapping[Scheme, str] = {"hmac": "header", "header": "header", "basic": "user"}


@dataclass(frozen=True)
class Wanted:
    """A connection as asked for; None = as it is, or nothing where there is none yet."""

    name: str
    scheme: str | None = None
    secret: str | None = field(default=None, repr=False)
    options: Mapping[str, str] | None = None
    field_map: Mapping[str, Any] | None = None
    declared: tuple[str, ...] | None = None


class Kept(NamedTuple):
    """The connection, and its secret if one was made just now: it cannot be shown again."""

    connection: Connection
    made_secret: str | None


class Listed(NamedTuple):
    name: str
    scheme: str
    tickets: int
    deliveries: int
    parked: int
    rejected: int
    last_at: datetime | None


def add(session: Session, vault: Vault, wanted: Wanted) -> Kept:
    """A new connection. Raises ConnectionRefused or FieldMapError; then nothing is changed."""
    if not NAME.fullmatch(wanted.name):
        raise ConnectionRefused(f"{wanted.name!r}: a name has 1 to 50 small letters, digits and hyphens")
    scheme = _scheme(wanted.scheme)
    secret = _secret(scheme, wanted.secret)
    row = {
        "name": wanted.name,
        "scheme": scheme,
        "secret": vault.seal(secret.text.encode()),
        "options": _options(scheme, wanted.options or {}),
        "field_map": _checked_map(wanted.field_map),
        "declared": _declared(wanted.declared),
        "supplied": [],
    }
    insertion = insert(Connection).values(row).on_conflict_do_nothing(index_elements=["name"]).returning(Connection)
    connection = session.scalar(insertion)
    if connection is None:
        raise ConnectionRefused(f"{wanted.name}: exists already; to change it add --replace, or take another name")
    _record(session, connection, action="connection.added", before=None, new_secret=True)
    return Kept(connection, secret.text if secret.made else None)


def replace(session: Session, vault: Vault, wanted: Wanted) -> Kept:
    """An existing connection, changed in what is given. Another scheme needs a secret of its own."""
    connection = by_name(session, wanted.name, for_update=True)
    before = _told(connection)
    scheme = _scheme(wanted.scheme or connection.scheme)
    secret = None
    if wanted.secret is not None or scheme != connection.scheme:
        secret = _secret(scheme, wanted.secret)
        connection.secret = vault.seal(secret.text.encode())
    if wanted.options or scheme != connection.scheme:
        kept = connection.options if scheme == connection.scheme else {}
        connection.options = _options(scheme, {**kept, **(wanted.options or {})})
    if wanted.field_map is not None:
        connection.field_map = _checked_map(wanted.field_map)
    if wanted.declared is not None:
        connection.declared = _declared(wanted.declared)
    connection.scheme = scheme
    session.flush()
    _record(session, connection, action="connection.changed", before=before, new_secret=secret is not None)
    return Kept(connection, secret.text if secret and secret.made else None)


def _record(
    session: Session, connection: Connection, *, action: str, before: dict[str, Any] | None, new_secret: bool
) -> None:
    """Only commands make and change connections. That there is a new secret is told, never which."""
    after = {**_told(connection), **({"secret": "a new one"} if new_secret else {})}
    subject = f"connection:{connection.name}"
    audit.record(session, COMMAND_LINE, action=action, subject=subject, before=before, after=after)


def _told(connection: Connection) -> dict[str, Any]:
    names = ("scheme", "options", "field_map", "declared")
    return {name: getattr(connection, name) for name in names}


def by_name(session: Session, name: str, *, for_update: bool = False) -> Connection:
    found = select(Connection).where(Connection.name == name)
    connection = session.scalar(found.with_for_update() if for_update else found)
    if connection is None:
        raise NotFound(f"there is no connection called {name}; see them with: ticketqc connection list")
    return connection


def listed(session: Session) -> list[Listed]:
    deliveries = (
        select(
            Delivery.connection_id,
            func.count().label("all"),
            func.count().filter(Delivery.state == "parked").label("parked"),
            func.max(Delivery.received_at).label("last_at"),
        )
        .group_by(Delivery.connection_id)
        .subquery()
    )
    tickets = select(func.count()).where(Ticket.connection_id == Connection.id).scalar_subquery()
    counted = select(
        Connection.name,
        Connection.scheme,
        tickets,
        func.coalesce(deliveries.c.all, 0),
        func.coalesce(deliveries.c.parked, 0),
        Connection.rejected,
        deliveries.c.last_at,
    ).outerjoin(deliveries, deliveries.c.connection_id == Connection.id)
    return [Listed(*row) for row in session.execute(counted.order_by(Connection.name))]


def make_secret(scheme: Scheme) -> str:
    """Fit for any header and address."""
    if scheme == "standard":
        return STANDARD_PREFIX + base64.b64encode(secrets.token_bytes(24)).decode()
    return secrets.token_urlsafe(24)


def _scheme(given: str | None) -> Scheme:
    for scheme in SCHEMES:
        if scheme == given:
            return scheme
    raise ConnectionRefused(f"choose a scheme with --scheme: {', '.join(SCHEMES)}")


class _Secret(NamedTuple):
    text: str
    made: bool  # by us, just now


def _secret(scheme: Scheme, given: str | None) -> _Secret:
    if given is None:
        return _Secret(make_secret(scheme), made=True)
    _check_secret(scheme, given)
    return _Secret(given, made=False)


def _check_secret(scheme: Scheme, secret: str) -> None:
    """Errors never repeat the secret."""
    if len(secret) < SHORTEST_SECRET:
        raise ConnectionRefused(
            f"the secret is too short; give at least {SHORTEST_SECRET} characters, or none: we make one"
        )
    if not secret.isprintable() or secret != secret.strip():
        raise ConnectionRefused("the secret has control characters, or blanks at an end, which headers do not carry")
    if scheme == "header" and not secret.isascii():
        raise ConnectionRefused("a secret in a header may hold plain letters, digits and signs only (ASCII)")
    if scheme == "path" and not re.fullmatch(r"[A-Za-z0-9._~-]+", secret):
        raise ConnectionRefused("a token in an address may hold letters, digits and the characters . _ ~ -")
    if scheme == "standard":
        try:
            standard_key(secret.encode())
        except ValueError:
            raise ConnectionRefused("a Standard Webhooks secret is base64, usually after whsec_") from None


def _options(scheme: Scheme, given: Mapping[str, str]) -> dict[str, str]:
    if foreign := sorted(given.keys() - READS[scheme]):
        names = ", ".join("--" + name.replace("_", "-") for name in foreign)
        raise ConnectionRefused(f"{names}: means nothing to the scheme {scheme}")
    try:
        options = Options.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConnectionRefused(f"--{str(first['loc'][0]).replace('_', '-')}: {first['msg']}") from None
    needed = NEEDS.get(scheme)
    if needed and not getattr(options, needed):
        raise ConnectionRefused(f"the scheme {scheme} needs --{needed}")
    return options.model_dump(exclude_defaults=True)


def _checked_map(raw: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if raw is None:
        return None
    parse_field_map(raw)
    return dict(raw)


def _declared(fields: tuple[str, ...] | None) -> list[str] | None:
    unknown = sorted(set(fields or ()) - set(OPTIONAL_FIELDS))
    if unknown:
        raise ConnectionRefused(f"--supplies: {', '.join(unknown)} is none of {', '.join(OPTIONAL_FIELDS)}")
    return None if fields is None else sorted(set(fields))
