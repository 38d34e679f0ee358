"""Blind checks: finished tickets that a lead judges before seeing what the machine said of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import exists, func, insert, select, update

from app import audit, labels
from app.documents import REMOVED_SUBJECT
from app.errors import NotFound
from app.tables import BlindCheck, Label, Revision, Ticket, User, Viewing

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Select
    from sqlalchemy.orm import Session

    from app.audit import Actor
    from app.weighing import Decision, Problem

BATCH = 10  # tickets: half an hour


def unseen(user_id: int) -> Select[int | None, int | None]:
    """(revision, verdict) of the finished tickets that this person has not seen judged, decided, or been given."""
    revision = Ticket.revision_id
    return select(Ticket.revision_id, Ticket.verdict_id).where(
        Ticket.review_state == "done",
        Ticket.verdict_id.is_not(None),
        Ticket.subject != REMOVED_SUBJECT,
        ~exists().where(Viewing.revision_id == revision, Viewing.user_id == user_id),
        ~exists().where(Label.revision_id == revision, Label.user_id == user_id),
        ~exists().where(BlindCheck.revision_id == revision, BlindCheck.user_id == user_id),
    )


def give(session: Session, *, actor: Actor, user_id: int, now: datetime) -> int | None:
    """The id of the check to go on with, None where no ticket is left to give.

    Up to BATCH tickets, chosen by chance; while some of them are not answered there are no others. The account's row
    is locked, so that the button pressed twice gives one batch.
    """
    session.execute(select(User.id).where(User.id == user_id).with_for_update())
    if (unanswered := _next(session, user_id)) is not None:
        return unanswered
    chosen = session.execute(unseen(user_id).order_by(func.random()).limit(BATCH)).all()
    if not chosen:
        return None
    rows = [{"user_id": user_id, "revision_id": row[0], "verdict_id": row[1], "recorded_at": now} for row in chosen]
    session.execute(insert(BlindCheck), rows)
    audit.record(session, actor, action="blind_check.begun", subject=f"user:{user_id}", after={"tickets": len(rows)})
    return _next(session, user_id)


def _next(session: Session, user_id: int) -> int | None:
    mine = BlindCheck.user_id == user_id, BlindCheck.label_id.is_(None)
    return session.scalar(select(func.min(BlindCheck.id)).where(*mine))


def problem(session: Session, *, actor: Actor, check_id: int, decision: Decision) -> Problem | None:
    """What keeps this answer from being taken; it stays so until the transaction ends."""
    check = _locked(session, actor=actor, check_id=check_id)
    if check.label_id is not None:
        return None
    return labels.problem(session, actor=actor, ticket_id=_ticket_of(session, check), decision=decision)


def answer(session: Session, *, actor: Actor, check_id: int, decision: Decision, now: datetime) -> int:
    """The id of the label that this check led to. The first answer counts: whoever answers again has seen the verdict.

    Raises NotFound where the check is another lead's.
    """
    check = _locked(session, actor=actor, check_id=check_id)
    if check.label_id is not None:
        return check.label_id
    label_id = labels.decide(session, actor=actor, ticket_id=_ticket_of(session, check), decision=decision, now=now)
    session.execute(update(BlindCheck).where(BlindCheck.id == check_id).values(label_id=label_id))
    return label_id


def _locked(session: Session, *, actor: Actor, check_id: int) -> BlindCheck:
    mine = select(BlindCheck).where(BlindCheck.id == check_id, BlindCheck.user_id == actor.user_id)
    check = session.scalar(mine.with_for_update().execution_options(populate_existing=True))
    if check is None:
        raise NotFound("There is no such blind check of yours.")
    return check


def _ticket_of(session: Session, check: BlindCheck) -> int:
    return session.scalars(select(Revision.ticket_id).where(Revision.id == check.revision_id)).one()
