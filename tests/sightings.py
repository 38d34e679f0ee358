"""Failures that were seen, as tests of patterns arrange them, and what has become of the patterns."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select, text

from agents.observation import Fingerprint
from app.audit import Actor
from app.patterns import sweep
from app.tables import Label, Pattern, PatternEvent
from tests.factories import make_context, make_observation, make_ticket, office_ticket

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.tables import Ticket, User

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
DAY = timedelta(days=1)
WEEK = timedelta(hours=168)
INSTANT = timedelta(microseconds=1)
FINGERPRINT = Fingerprint("qc", "quote_not_found", "root_cause")
LEE = Actor("lee@example.com")


def ticket(session: Session, *, requester: str = "Ana Ruiz") -> Ticket:
    return make_ticket(session, text=office_ticket(requester=requester))


def seen(session: Session, *moments: datetime, requester: str = "Ana Ruiz", **columns: object) -> None:
    """The same failure on a ticket of its own at each of these moments, as far as anybody can see by now."""
    for moment in moments:
        make_observation(session, ticket(session, requester=requester), recorded_at=moment, **columns)
    session.commit()


def swept(session: Session, now: datetime = NOON) -> list[tuple[str, list[str]]]:
    """State and history of every pattern after the hourly job."""
    sweep(session, now=now)
    session.commit()
    return told(session)


def told(session: Session) -> list[tuple[str, list[str]]]:
    session.expire_all()
    kinds = select(PatternEvent.kind).order_by(PatternEvent.id)
    return [
        (pattern.state, list(session.scalars(kinds.where(PatternEvent.pattern_id == pattern.id))))
        for pattern in session.scalars(select(Pattern).order_by(Pattern.id))
    ]


def only(session: Session) -> Pattern:
    session.expire_all()
    return session.scalars(select(Pattern)).one()


def calls(session: Session) -> list[str]:
    found = "select queueing_lock from procrastinate.procrastinate_jobs where task_name = 'propose' order by id"
    return list(session.scalars(text(found)))


OPENED = [("open", ["opened"])]


def labelled(session: Session, user: User, one: Ticket) -> Label:
    """A decision about a ticket's newest revision."""
    row = Label(
        revision_id=one.revision_id, context_version=make_context(session).version, user_id=user.id,
        kind="overrule", outcome="pass", blind=False, split="dev",
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row
