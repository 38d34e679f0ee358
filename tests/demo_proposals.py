"""The proposal that waits, in the demonstration: with a wording, and a trial that is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from app import audit, proposals, releases
from app.settings import Settings
from app.tables import Proposal
from tests.proposing import EDIT, finish

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def fill(session: Session) -> None:
    """After the patterns are there."""
    waiting = session.scalars(select(Proposal).where(Proposal.state == "open")).one()
    base, settings = releases.in_force(session), Settings(_env_file=None)
    proposals.add_draft(session, waiting, base=base, edits=[EDIT], author=audit.MACHINE, settings=settings)
    finish(session)
