"""Claims: one of two wins, a second look is needed to take over, and a decision ends them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from app.audit import Actor
from app.claims import claim, release
from app.db import transaction
from app.errors import Conflict, NotFound
from app.tables import AuditEvent, Ticket
from tests.factories import make_ticket

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from app.tables import User

NOW = datetime(2026, 11, 26, 9, 0, tzinfo=UTC)
LATER = datetime(2026, 11, 26, 10, 0, tzinfo=UTC)


def _actor(user: User) -> Actor:
    return Actor(user.email, user.id)


def _events(session: Session) -> list[tuple[str, str]]:
    session.flush()
    return [(event.action, event.actor) for event in session.scalars(select(AuditEvent).order_by(AuditEvent.id))]


def test_a_claim_is_held_until_it_is_released(session: Session, lead: User, other_lead: User) -> None:
    ticket = make_ticket(session, escalated=True)
    claim(session, actor=_actor(lead), ticket_id=ticket.id, now=NOW)
    claim(session, actor=_actor(lead), ticket_id=ticket.id, now=LATER)
    session.expire_all()
    assert (ticket.claimed_by, ticket.claimed_at) == (lead.id, NOW)
    with pytest.raises(Conflict, match=f"{lead.name} has had this ticket since 09:00 UTC on 26 November"):
        claim(session, actor=_actor(other_lead), ticket_id=ticket.id, now=LATER)
    with pytest.raises(Conflict, match="not yours to release"):
        release(session, actor=_actor(other_lead), ticket_id=ticket.id)
    release(session, actor=_actor(lead), ticket_id=ticket.id)
    release(session, actor=_actor(lead), ticket_id=ticket.id)
    session.expire_all()
    assert (ticket.claimed_by, ticket.claimed_at) == (None, None)
    assert _events(session) == [("ticket.claimed", lead.email), ("ticket.released", lead.email)]


def test_taking_over_is_from_whom_one_saw_there(session: Session, lead: User, other_lead: User, admin: User) -> None:
    ticket = make_ticket(session)
    claim(session, actor=_actor(lead), ticket_id=ticket.id, now=NOW)
    claim(session, actor=_actor(other_lead), ticket_id=ticket.id, now=LATER, instead_of=lead.id)
    with pytest.raises(Conflict, match=other_lead.name):
        claim(session, actor=_actor(admin), ticket_id=ticket.id, now=LATER, instead_of=lead.id)
    session.expire_all()
    assert (ticket.claimed_by, ticket.claimed_at) == (other_lead.id, LATER)
    assert _events(session)[-1] == ("ticket.taken_over", other_lead.email)


def test_what_is_decided_or_not_there_cannot_be_claimed(session: Session, lead: User) -> None:
    ticket = make_ticket(session, decision="pass")
    with pytest.raises(Conflict, match="decided meanwhile"):
        claim(session, actor=_actor(lead), ticket_id=ticket.id, now=NOW)
    with pytest.raises(NotFound):
        claim(session, actor=_actor(lead), ticket_id=10**17, now=NOW)
    with pytest.raises(NotFound):
        release(session, actor=_actor(lead), ticket_id=10**17)


def test_of_two_who_claim_at_once_one_has_it(engine: Engine, session: Session, lead: User, other_lead: User) -> None:
    ticket = make_ticket(session, escalated=True)
    session.commit()

    def attempt(user: User) -> bool:
        try:
            with transaction(engine) as own:
                claim(own, actor=_actor(user), ticket_id=ticket.id, now=NOW)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        won = list(pool.map(attempt, (lead, other_lead)))
    assert sorted(won) == [False, True]
    session.expire_all()
    assert session.get_one(Ticket, ticket.id).claimed_by == (lead.id if won[0] else other_lead.id)
    assert len(_events(session)) == 1
