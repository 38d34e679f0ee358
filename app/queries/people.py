"""Accounts, links that wait to be used, and the newest decisions and settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import func, select

from app.tables import AuditEvent, Invitation, SignIn, Ticket, User

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from sqlalchemy.orm import Session

EVENTS = 50  # on one page
OWN_NUMBERS = frozenset({"label"})  # of an event, which mean something to nobody outside
NOTHING: tuple[object, ...] = (None, "", False, {})  # as the value of what was not there before


class PersonRow(NamedTuple):
    id: int
    email: str
    name: str
    role: str
    closed_at: datetime | None
    seen_at: datetime | None  # None: signed in nowhere


class LinkRow(NamedTuple):
    email: str
    role: str
    actor: str
    expires_at: datetime
    user_id: int | None


class EventRow(NamedTuple):
    id: int
    recorded_at: datetime
    actor: str
    action: str
    subject: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    note: str

    @property
    def changes(self) -> list[tuple[str, Any, Any]]:
        """What is different: name, before, after. What was nothing and is nothing, and our own numbers, say nothing."""
        before, after = dict(self.before or {}), dict(self.after or {})
        if self.action == "ticket.decided" and "verdict" in before:  # so did releases before 26 November 2026 write it
            after["verdict"] = before.pop("verdict")
        names = [name for name in dict.fromkeys((*before, *after)) if name not in OWN_NUMBERS]
        pairs = [(name, before.get(name), after.get(name)) for name in names]
        return [(name, old, new) for name, old, new in pairs if old != new and (old is not None or new not in NOTHING)]


def tickets_of(session: Session, events: Iterable[EventRow]) -> dict[str, str]:
    """What the tickets that events are about are called where they come from, by our own number."""
    numbers = {name for kind, _, name in (event.subject.partition(":") for event in events) if kind == "ticket"}
    found = select(Ticket.id, Ticket.external_id).where(Ticket.id.in_(map(int, numbers)))
    return {str(row.id): row.external_id for row in session.execute(found)}


def people(session: Session) -> list[PersonRow]:
    """Everybody, open accounts first."""
    seen = select(func.max(SignIn.seen_at)).where(SignIn.user_id == User.id).scalar_subquery()
    listed = select(User.id, User.email, User.name, User.role, User.closed_at, seen)
    rows = session.execute(listed.order_by(User.closed_at.is_not(None), User.email))
    return [PersonRow(*row) for row in rows]


def links(session: Session, *, now: datetime) -> list[LinkRow]:
    """Those that still work and are somebody's."""
    columns = (Invitation.email, Invitation.role, Invitation.actor, Invitation.expires_at, Invitation.user_id)
    current = select(*columns).where(Invitation.used_at.is_(None), Invitation.expires_at > now, Invitation.email != "")
    return [LinkRow(*row) for row in session.execute(current.order_by(Invitation.expires_at.desc()))]


def events(session: Session, *, before: int | None) -> list[EventRow]:
    """The newest, or the newest of those before one; one more than a page shows, where there is one."""
    columns = [getattr(AuditEvent, name) for name in EventRow._fields]
    newest = select(*columns).order_by(AuditEvent.id.desc()).limit(EVENTS + 1)
    if before is not None:
        newest = newest.where(AuditEvent.id < before)
    return [EventRow(*row) for row in session.execute(newest)]
