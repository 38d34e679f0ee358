"""The one way a ticket enters: a hook's delivery, an import and the samples all come through here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import and_, bindparam, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert

from agents.masking import revise
from agents.ticket import filled_fields
from app import documents, queue
from app.judgements import current_verdict, standing_label
from app.tables import BatchTicket, Connection, Escalation, Revision, Ticket, table_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from agents import ticket as tickets

HISTORY = timedelta(days=7)  # closed longer ago than this, an imported ticket says nothing about the agents of today
CLOCK_AHEAD = timedelta(days=1)  # a source's clock is believed no further ahead than this, or nothing newer could come
NEXT_BATCH = "waiting for the next batch to be sent"
LONGEST_COLUMN = 500  # characters of what the queue page shows; the revision keeps all

_GROW_SUPPLIED = text(
    """
    update connections set supplied = array(select distinct unnest(supplied || cast(:found as text[])) order by 1)
    where id = :id and not supplied @> cast(:found as text[])
    """
)


# Built once: they are a part of every delivery.
_TICKETS, _REVISIONS = table_of(Ticket), table_of(Revision)
_ROW = (_TICKETS.c.id, _TICKETS.c.revision_id, _TICKETS.c.state_at, _TICKETS.c.state_received_at)
_MAKE_TICKET = insert(_TICKETS).on_conflict_do_nothing(index_elements=["connection_id", "external_id"]).returning(*_ROW)
_LOCK_TICKET = (
    select(*_ROW)
    .where(_TICKETS.c.connection_id == bindparam("of_connection_id"))
    .where(_TICKETS.c.external_id == bindparam("of_external_id"))
    .with_for_update()
)
_MAKE_REVISION = (
    insert(_REVISIONS).on_conflict_do_nothing(index_elements=["ticket_id", "content_hash"]).returning(_REVISIONS.c.id)
)
_MOVE = update(_TICKETS).where(_TICKETS.c.id == bindparam("of_ticket"))
_MOVE_NEWEST = _MOVE.values(changed_at=func.clock_timestamp())


class Recorded(NamedTuple):
    ticket_id: int
    revision_id: int
    new: bool  # this state of the ticket was not here before


@dataclass(frozen=True)
class Arrival:
    """How tickets came. `live` is False for imported history; `sample` marks those we ship."""

    received_at: datetime
    sample: bool = False
    live: bool = True
    batch: bool = False  # judged by batch, at half the price and within a day


def record(
    session: Session, *, connection: Connection, ticket: tickets.Ticket, sample: bool = False, live: bool = True
) -> Recorded:
    """One ticket that arrives now."""
    now = session.scalars(select(func.clock_timestamp())).one()
    arrival = Arrival(received_at=now, sample=sample, live=live)
    return record_all(session, connection=connection, tickets=[ticket], arrival=arrival)[0]


def record_all(
    session: Session, *, connection: Connection, tickets: Sequence[tickets.Ticket], arrival: Arrival
) -> list[Recorded]:
    """Each ticket's state is a revision, kept once; what came is answered in the order given.

    1. Mask, before any lock is held.
    2. What the connection supplies grows once, before the tickets: between them it could deadlock with another's.
    3. Tickets in the order of their ids, for the same reason; of one ticket the order in which its states came.
    """
    revisions = [revise(_named(ticket, connection)) for ticket in tickets]
    _grow_supplied(session, connection=connection, tickets=tickets)
    order = sorted(range(len(revisions)), key=lambda index: revisions[index].ticket.external_id)
    recorded = {index: _record(session, connection.id, revisions[index], arrival) for index in order}
    return [recorded[index] for index in range(len(revisions))]


def _named(ticket: tickets.Ticket, connection: Connection) -> tickets.Ticket:
    return ticket if ticket.source else ticket.model_copy(update={"source": connection.name})


def _grow_supplied(session: Session, *, connection: Connection, tickets: Sequence[tickets.Ticket]) -> None:
    found = frozenset[str]().union(*map(filled_fields, tickets))
    if not found <= set(connection.supplied):
        session.execute(_GROW_SUPPLIED, {"id": connection.id, "found": sorted(found)})
        session.refresh(connection, ["supplied"])


def _record(session: Session, connection_id: int, revision: tickets.Revision, arrival: Arrival) -> Recorded:
    row = _locked(session, connection_id=connection_id, revision=revision, arrival=arrival)
    recorded = _insert(session, ticket_id=row.id, revision=revision, arrival=arrival)
    state_at = _state_at(revision.ticket, arrival)
    if row.revision_id is None or (state_at, arrival.received_at) >= (row.state_at, row.state_received_at):
        moved = {"state_at": state_at, "state_received_at": arrival.received_at, **_shown(revision.ticket)}
        newest = row.revision_id != recorded.revision_id
        if newest:
            moved |= _newest(
                session, recorded=recorded, revision=revision, first=row.revision_id is None, batch=arrival.batch
            )
        session.execute(_MOVE_NEWEST if newest else _MOVE, {"of_ticket": row.id, **moved})
    return recorded


def _state_at(ticket: tickets.Ticket, arrival: Arrival) -> datetime:
    return min(ticket.updated_at or arrival.received_at, arrival.received_at + CLOCK_AHEAD)


def _shown(ticket: tickets.Ticket) -> dict[str, str]:
    columns = {"subject": ticket.subject, "queue": ticket.queue, "assignee": ticket.assignee, "status": ticket.status}
    return {name: value[:LONGEST_COLUMN] for name, value in columns.items()}


class _Row(NamedTuple):
    id: int
    revision_id: int | None
    state_at: datetime
    state_received_at: datetime


def _locked(session: Session, *, connection_id: int, revision: tickets.Revision, arrival: Arrival) -> _Row:
    """The ticket's row, made if it is not there, ours until the transaction ends."""
    key = {"connection_id": connection_id, "external_id": revision.ticket.external_id}
    moment = {"state_at": _state_at(revision.ticket, arrival), "state_received_at": arrival.received_at}
    columns = {**key, **moment, **_shown(revision.ticket), "sample": arrival.sample}
    made = session.execute(_MAKE_TICKET, columns).first()
    return _Row(*(made or session.execute(_LOCK_TICKET, {f"of_{name}": value for name, value in key.items()}).one()))


def _insert(session: Session, *, ticket_id: int, revision: tickets.Revision, arrival: Arrival) -> Recorded:
    key = {"ticket_id": ticket_id, "content_hash": revision.hash}
    closed_at = revision.ticket.closed_at
    columns = {
        **key,
        "intake_hash": revision.intake_hash,
        "document": documents.revision_document(revision),
        "updated_at": revision.ticket.updated_at,
        "live": arrival.live or closed_at is None or closed_at > arrival.received_at - HISTORY,
        "recorded_at": arrival.received_at,  # not the moment of a late job: states that came in order stay in order
    }
    new = session.scalar(_MAKE_REVISION, columns)
    if new is not None:
        return Recorded(ticket_id, new, new=True)
    return Recorded(ticket_id, session.scalars(select(Revision.id).filter_by(**key)).one(), new=False)


def _newest(
    session: Session, *, recorded: Recorded, revision: tickets.Revision, first: bool, batch: bool
) -> dict[str, Any]:
    """The columns that follow from this revision becoming the newest; what has to be done about it is enqueued.

    A ticket may return to a state that is judged already: its verdict and what a person decided about it stand again,
    and nothing is paid. Who has claimed the ticket keeps it.
    """
    revision_id = recorded.revision_id
    standing = None if recorded.new else session.scalar(current_verdict(revision_id))
    label = None if recorded.new else session.scalar(standing_label(revision_id))
    handed_over = not first and _has_escalation(session, recorded=recorded, intake_hash=revision.intake_hash)
    finished = revision.ticket.finished
    batched = standing is None and batch
    if batched:
        session.execute(insert(BatchTicket).values(revision_id=revision_id).on_conflict_do_nothing())
    if standing is None:
        task: queue.TaskName = "review" if finished else "triage"
        lock = f"ticket:{recorded.ticket_id}"  # states of one ticket are judged one after the other
        queue.enqueue(session, task, lock=lock, once=f"{task}:{revision_id}", revision_id=revision_id)
    waiting = "waiting_model" if finished else "open"
    return {
        "revision_id": revision_id,
        "review_state": "done" if standing else waiting,
        "review_note": NEXT_BATCH if batched else "",
        "verdict_id": standing and standing.id,
        "outcome": standing and standing.outcome,
        "score": standing and standing.score,
        "escalated": handed_over or (standing is not None and standing.outcome == "escalate"),
        "label_id": label and label.id,
        "decision": label and label.outcome,
    }


def _has_escalation(session: Session, *, recorded: Recorded, intake_hash: str) -> bool:
    """What triage or code handed to a person stays with a person while the intake is the same."""
    same_intake = and_(Escalation.agent.in_(("triage", "code")), Revision.intake_hash == intake_hash)
    found = (
        select(Escalation.id)
        .join(Revision, Revision.id == Escalation.revision_id)
        .where(Escalation.ticket_id == recorded.ticket_id)
        .where(or_(Escalation.revision_id == recorded.revision_id, same_intake))
    )
    return session.scalar(found.limit(1)) is not None
