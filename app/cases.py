"""What a job reads before it judges: a state of a ticket, under a context, with what triage has said of its intake."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import structlog
from sqlalchemy import bindparam, func, select

from agents.judge import ENGINE_VERSION
from app import documents, tables
from app.errors import NotFound
from app.judgements import AND, NO_MODEL, Case, show
from app.releases import in_force

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from agents.context import Context
    from agents.triage import Triage
    from app.models import Ready

log = structlog.get_logger()


def read_case(session: Session, revision_id: int, ready: Ready | None) -> Case | None:
    """What there is to judge; None where the revision is superseded, or has its verdict, which then shows."""
    found = placed(session, revision_id)
    if found.newest_id != revision_id:
        log.info("review.superseded", revision_id=revision_id)
        return None
    context = in_force(session)
    if _is_judged(session, revision_id, context, ready):
        show(session, found.row.ticket_id, revision_id)
        return None
    return _case(session, found, context, ready)


def case_of(session: Session, revision_id: int, context: Context, ready: Ready | None) -> Case | None:
    """A state of a ticket under a context, with what triage has said of its intake under the same.

    None where its texts were removed. Raises NotFound.
    """
    found = placed(session, revision_id)
    return None if documents.removed(found.row.document) else _case(session, found, context, ready)


class Placed(NamedTuple):
    """A revision, with what its ticket and its connection say that matters for judging it."""

    row: tables.Revision
    newest_id: int | None  # of the ticket's revisions
    supplied: list[str]


def placed(session: Session, revision_id: int) -> Placed:
    """Raises NotFound."""
    found = session.execute(_PLACED, {"revision": revision_id}).first()
    if found is None:
        raise NotFound(f"there is no revision {revision_id}")
    return Placed(*found)


_PLACED = (
    select(
        tables.Revision,
        tables.Ticket.revision_id,
        func.coalesce(tables.Connection.declared, tables.Connection.supplied),
    )
    .join(tables.Ticket, tables.Ticket.id == tables.Revision.ticket_id)
    .join(tables.Connection, tables.Connection.id == tables.Ticket.connection_id)
    .where(tables.Revision.id == bindparam("revision"))
)


def _case(session: Session, found: Placed, context: Context, ready: Ready | None) -> Case:
    row = found.row
    return Case(
        revision_id=row.id,
        ticket_id=row.ticket_id,
        revision=documents.revision(row.document),
        live=row.live,
        supplied=frozenset(found.supplied),
        context=context,
        triage=_known_triage(session, row, context, ready),
    )


def _is_judged(session: Session, revision_id: int, context: Context, ready: Ready | None) -> bool:
    """True where this panel's verdict under this context and engine is there; without a model any panel's is enough."""
    key = {"revision": revision_id, "context": context.version}
    panels = session.scalars(_PANELS, key).all()
    return bool(panels) if ready is None else any(panel.split(AND)[0] == ready.model for panel in panels)


_PANELS = select(tables.Verdict.panel).where(
    tables.Verdict.revision_id == bindparam("revision"),
    tables.Verdict.context_version == bindparam("context"),
    tables.Verdict.engine_version == ENGINE_VERSION,
)


def _known_triage(session: Session, row: tables.Revision, context: Context, ready: Ready | None) -> Triage | None:
    """Triage runs once per intake: an earlier revision with the same intake has its answer."""
    key = {"ticket": row.ticket_id, "intake": row.intake_hash, "agent_hash": context.agent_hash("triage")}
    answer = session.scalar(_TRIAGED, {**key, "model": panel_name(ready)})
    return None if answer is None else documents.triage(answer)


_TRIAGED = select(tables.Triage.answer).where(
    tables.Triage.ticket_id == bindparam("ticket"),
    tables.Triage.intake_hash == bindparam("intake"),
    tables.Triage.agent_hash == bindparam("agent_hash"),
    tables.Triage.model == bindparam("model"),
)


def panel_name(ready: Ready | None) -> str:
    """Who judges, as triages pin it, and verdicts in the first place."""
    return ready.model if ready else NO_MODEL
