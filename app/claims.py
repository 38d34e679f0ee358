"""Who looks after a ticket now. A claim is a courtesy between leads: it keeps nobody from deciding."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import select, update

from app import audit
from app.errors import Conflict, NotFound
from app.tables import Ticket, User

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from app.audit import Actor


def claim(session: Session, *, actor: Actor, ticket_id: int, now: datetime, instead_of: int | None = None) -> None:
    """The ticket is the actor's. `instead_of` is the user whom the actor saw there and takes it over from.

    Raises Conflict where somebody else has it, or where it has been decided meanwhile; claiming one's own is nothing.
    """
    before = _locked(session, ticket_id)
    if before.decision is not None:
        raise Conflict("this ticket has been decided meanwhile; there is nothing left to claim")
    if before.user_id == actor.user_id:
        return
    if before.user_id not in {None, instead_of}:
        raise Conflict(f"{before.name} has had this ticket since {_moment(before.since)}; nothing was changed")
    _set(session, ticket_id, user_id=actor.user_id, at=now)
    action = "ticket.taken_over" if before.user_id else "ticket.claimed"
    audit.record(
        session,
        actor,
        action=action,
        subject=f"ticket:{ticket_id}",
        before=_told(before),
        after={"claimed_by": actor.user_id},
    )


def release(session: Session, *, actor: Actor, ticket_id: int) -> None:
    """The ticket is nobody's. Raises Conflict where it is somebody else's; one that is nobody's stays so."""
    before = _locked(session, ticket_id)
    if before.user_id is None:
        return
    if before.user_id != actor.user_id:
        raise Conflict(f"{before.name} has taken this ticket over; it is not yours to release")
    _set(session, ticket_id, user_id=None, at=None)
    audit.record(
        session,
        actor,
        action="ticket.released",
        subject=f"ticket:{ticket_id}",
        before=_told(before),
        after={"claimed_by": None},
    )


class _Claim(NamedTuple):
    decision: str | None
    user_id: int | None
    since: datetime | None
    name: str | None


def _locked(session: Session, ticket_id: int) -> _Claim:
    """Ours until the transaction ends: of two who claim at once the second sees the first."""
    row = session.execute(
        select(Ticket.decision, Ticket.claimed_by, Ticket.claimed_at)
        .where(Ticket.id == ticket_id, Ticket.revision_id.is_not(None))
        .with_for_update()
    ).one_or_none()
    if row is None:
        raise NotFound("there is no such ticket; it may have been in another database")
    name = session.scalar(select(User.name).where(User.id == row.claimed_by))
    return _Claim(row.decision, row.claimed_by, row.claimed_at, name)


def _set(session: Session, ticket_id: int, *, user_id: int | None, at: datetime | None) -> None:
    session.execute(update(Ticket).where(Ticket.id == ticket_id).values(claimed_by=user_id, claimed_at=at))


def _moment(since: datetime | None) -> str:
    return f"{since:%H:%M} UTC on {since.day} {since:%B}" if since else "now"


def _told(before: _Claim) -> dict[str, object]:
    return {"claimed_by": before.user_id}
