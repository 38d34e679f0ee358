"""What a job reads before it judges: a state of a ticket, under a context, with what triage has said of its intake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import structlog
from sqlalchemy import bindparam, func, select
from sqlalchemy.dialects.postgresql import JSONB, aggregate_order_by

from agents.judge import ENGINE_VERSION
from app import documents, tables
from app.errors import NotFound
from app.judgements import AND, NO_MODEL, Case, show
from app.releases import NEWEST, load_in_force
from app.tables import table_of

if TYPE_CHECKING:
    from sqlalchemy import Connection, Select
    from sqlalchemy.orm import Session

    from agents.context import Context
    from agents.triage import Triage
    from app.models import Ready

log = structlog.get_logger()


def read_case(session: Session | Connection, revision_id: int, ready: Ready | None) -> Case | None:
    """What there is to judge; None where the revision is superseded, or has its verdict, which then shows."""
    found = placed(session, revision_id)
    if found.newest_id != revision_id:
        log.info("review.superseded", revision_id=revision_id)
        return None
    context = load_in_force(session, found.version_in_force)
    if _is_judged(found, ready):
        show(session, found.ticket_id, revision_id)
        return None
    return _case(found, context, ready)


def case_of(session: Session, revision_id: int, context: Context, ready: Ready | None) -> Case | None:
    """A state of a ticket under a context, with what triage has said of its intake under the same.

    None where its texts were removed. Raises NotFound.
    """
    found = placed(session, revision_id)
    return None if documents.removed(found.document) else _case(found, context, ready)


class Placed(NamedTuple):
    """A revision, and everything beside it that matters for judging it, read in one round trip."""

    id: int
    ticket_id: int
    intake_hash: str
    document: dict[str, Any]
    live: bool
    newest_id: int | None  # of the ticket's revisions
    supplied: list[str]
    version_in_force: str | None
    panels: list[str] | None  # that have judged it under the context in force
    triages: list[list[Any]] | None  # of its intake: agent hash, model and answer of each; the newest last


def placed(session: Session | Connection, revision_id: int) -> Placed:
    """Raises NotFound."""
    found = session.execute(_PLACED, {"revision": revision_id}).first()
    if found is None:
        raise NotFound(f"there is no revision {revision_id}")
    return Placed(*found)


def _placing() -> Select[Any]:
    revision, ticket, connection, verdict, triage = map(
        table_of, (tables.Revision, tables.Ticket, tables.Connection, tables.Verdict, tables.Triage)
    )
    in_force = NEWEST.scalar_subquery()
    panels = select(func.array_agg(verdict.c.panel)).where(
        verdict.c.revision_id == revision.c.id,
        verdict.c.context_version == in_force,
        verdict.c.engine_version == ENGINE_VERSION,
    )
    said = func.jsonb_build_array(triage.c.agent_hash, triage.c.model, triage.c.answer)
    triages = select(func.jsonb_agg(aggregate_order_by(said, triage.c.id), type_=JSONB)).where(
        triage.c.ticket_id == revision.c.ticket_id, triage.c.intake_hash == revision.c.intake_hash
    )
    own = (revision.c[name] for name in ("id", "ticket_id", "intake_hash", "document", "live"))
    supplied = func.coalesce(connection.c.declared, connection.c.supplied)
    beside = (in_force, panels.scalar_subquery(), triages.scalar_subquery())
    return (
        select(*own, ticket.c.revision_id, supplied, *beside)
        .join(ticket, ticket.c.id == revision.c.ticket_id)
        .join(connection, connection.c.id == ticket.c.connection_id)
        .where(revision.c.id == bindparam("revision"))
    )


_PLACED = _placing()  # built once: it is a part of every review


def _case(found: Placed, context: Context, ready: Ready | None) -> Case:
    return Case(
        revision_id=found.id,
        ticket_id=found.ticket_id,
        revision=documents.revision(found.document),
        live=found.live,
        supplied=frozenset(found.supplied),
        context=context,
        triage=known_triage(found, context, model=panel_name(ready)),
    )


def _is_judged(found: Placed, ready: Ready | None) -> bool:
    """True where this panel's verdict under this context and engine is there; without a model any panel's is enough."""
    panels = found.panels or ()
    return bool(panels) if ready is None else any(panel.split(AND)[0] == ready.model for panel in panels)


def known_triage(found: Placed, context: Context, *, model: str | None) -> Triage | None:
    """Triage runs once per intake: what it said of this one under the same files; the newest of any model, if none."""
    agent = context.agent_hash("triage")
    said = (answer for hashed, by, answer in reversed(found.triages or ()) if hashed == agent and model in (by, None))
    answer = next(said, None)
    return None if answer is None else documents.triage(answer)


def panel_name(ready: Ready | None) -> str:
    """Who judges, as triages pin it, and verdicts in the first place."""
    return ready.model if ready else NO_MODEL
