"""What a stored delivery says: recorded, or parked with the reason, to be replayed once that is mended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import bindparam, select, update

from agents.ticket import Ticket, TicketError, read_json, read_ticket
from app import audit, queue
from app.audit import COMMAND_LINE
from app.db import transaction
from app.errors import FieldMapError, VaultError
from app.intake import mapping
from app.intake.recording import Arrival, record_all
from app.tables import Connection, Delivery, table_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from app.audit import Actor
    from app.deps import Deps

log = structlog.get_logger()

MAX_TICKETS = 500  # in one delivery; a batch of events holds a few dozen
LONGEST_REASON = 500  # characters


def read_delivery(deps: Deps, *, delivery_id: int) -> None:
    """One transaction, and nothing at all where the delivery is read or parked already.

    1. Hold the delivery's row, so that a second worker waits and then finds it read.
    2. Open, decode, map; each ticket in it becomes a revision.
    3. What cannot be read parks the whole delivery with the reason: half a batch would hide the other half.
    """
    with transaction(deps.engine) as session:
        delivery = session.scalar(_HOLD, {"delivery": delivery_id})
        if delivery is None or delivery.state != "received":
            return
        connection = session.get_one(Connection, delivery.connection_id)  # as it is now, however long we waited
        try:
            tickets = _open(deps, delivery=delivery, connection=connection)
        except (TicketError, FieldMapError, VaultError) as error:
            _park(session, delivery_id=delivery_id, reason=str(error))
            return
        arrival = Arrival(received_at=delivery.received_at)
        recorded = record_all(session, connection=connection, tickets=tickets, arrival=arrival)
        # A batch points at its first ticket.
        session.execute(_READ, {"of_delivery": delivery_id, "of_revision": recorded[0].revision_id})


# Built once: they are a part of every delivery.
_HOLD = select(Delivery).where(Delivery.id == bindparam("delivery")).with_for_update()
_DELIVERIES = table_of(Delivery)
_READ = (
    update(_DELIVERIES)
    .where(_DELIVERIES.c.id == bindparam("of_delivery"))
    .values(state="read", reason="", revision_id=bindparam("of_revision"))
)


def give_up(deps: Deps, reason: str, *, delivery_id: int) -> None:
    """A delivery whose job failed for good waits for people like any other that could not be read."""
    with transaction(deps.engine) as session:
        _park(session, delivery_id=delivery_id, reason=reason)


def replay(
    session: Session,
    *,
    actor: Actor = COMMAND_LINE,
    delivery_ids: Sequence[int] | None = None,
    connection_id: int | None = None,
) -> int:
    """Parked deliveries (these, those of one connection, or all) are read again; how many that are."""
    parked = update(Delivery).where(Delivery.state == "parked", Delivery.body.is_not(None))
    if delivery_ids is not None:
        parked = parked.where(Delivery.id.in_(delivery_ids))
    if connection_id is not None:
        parked = parked.where(Delivery.connection_id == connection_id)
    again = session.scalars(parked.values(state="received", reason="").returning(Delivery.id)).all()
    for delivery_id in sorted(again):
        queue.enqueue(session, "intake", once=f"intake:{delivery_id}", delivery_id=delivery_id)
    if again:
        told = {"number": len(again), "first": min(again), "last": max(again)}
        audit.record(session, actor, action="deliveries.replayed", subject="deliveries", after=told)
    return len(again)


def read_body(body: bytes, *, field_map: mapping.FieldMap | None) -> list[Ticket]:
    """Every ticket that a delivery's body holds. Raises TicketError with the reason, in a list with the place."""
    if not body.strip():
        raise TicketError("the body is empty")
    document = read_json(body)
    document = document if field_map else _unwrapped(document)
    if not isinstance(document, list):
        return [_ticket(document, field_map)]
    if not 0 < len(document) <= MAX_TICKETS:
        raise TicketError(f"a list of {len(document):,} tickets; send 1 to {MAX_TICKETS} in one delivery")
    return [_placed(item, field_map, place=f"ticket {number} of the list") for number, item in enumerate(document, 1)]


def _open(deps: Deps, *, delivery: Delivery, connection: Connection) -> list[Ticket]:
    if delivery.body is None:
        raise TicketError("retention has taken the body; have it sent again")
    field_map = None if connection.field_map is None else mapping.parse_field_map(connection.field_map)
    return read_body(deps.vault.open(delivery.body), field_map=field_map)


def _unwrapped(document: object) -> object:
    """Standard Webhooks advises an envelope `{"type", "timestamp", "data"}`; our own ticket has no such fields."""
    if isinstance(document, Mapping) and isinstance(document.get("type"), str) and "external_id" not in document:
        return document.get("data", document)
    return document


def _ticket(document: object, field_map: mapping.FieldMap | None) -> Ticket:
    return read_ticket(mapping.apply(field_map, document) if field_map else _unwrapped(document))


def _placed(document: object, field_map: mapping.FieldMap | None, *, place: str) -> Ticket:
    try:
        return _ticket(document, field_map)
    except TicketError as error:
        raise TicketError(f"{place}: {error}") from None


def _park(session: Session, *, delivery_id: int, reason: str) -> None:
    parked = update(Delivery).where(Delivery.id == delivery_id, Delivery.state == "received")
    session.execute(parked.values(state="parked", reason=reason[:LONGEST_REASON]))
    log.warning("delivery.parked", delivery=delivery_id)
