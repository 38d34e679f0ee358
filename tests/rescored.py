"""What tests of re-scoring share: tickets with live verdicts, a version that changes them, and the job to its end."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select

from agents.edits import apply_edits
from app import releases, rescores, rescoring, reviewing
from app.audit import COMMAND_LINE
from app.clock import now
from app.tables import Rescore, Ticket
from tests.factories import shipped_context
from tests.proposing import EDIT, tickets

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from agents.edits import Edit
    from app.deps import Deps
    from app.rescores import Order
    from app.settings import Settings


def reviewed(deps: Deps, session: Session, *, number: int = 3) -> list[Ticket]:
    """Tickets with the verdict that a review gives them under what is in force."""
    made = tickets(session, number=number)
    session.commit()
    for ticket in made:
        assert ticket.revision_id is not None
        reviewing.review(deps, revision_id=ticket.revision_id)
    session.expire_all()
    return made


def version_with(session: Session, *edits: Edit) -> str:
    """A stored version that never was in force."""
    version = releases.store(session, apply_edits(shipped_context().files, edits or (EDIT,))).version
    session.commit()
    return version


def window(version: str) -> Order:
    """The last hour."""
    moment = now()
    return rescores.Order(version, moment - timedelta(hours=1), moment)


def begun(session: Session, settings: Settings, version: str) -> Rescore:
    row = rescores.begin(session, rescores.plan(session, window(version), settings=settings), actor=COMMAND_LINE)
    session.commit()
    return row


def finished(deps: Deps, session: Session, rescore_id: int) -> Rescore:
    """After as many jobs as it takes, unless it waits for something."""
    state = "running"
    while state == "running":
        rescoring.run(deps, rescore_id=rescore_id)
        session.expire_all()
        state = session.scalars(select(Rescore.state).where(Rescore.id == rescore_id)).one()
    return session.get_one(Rescore, rescore_id)
