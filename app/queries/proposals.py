"""Proposals: the list, and for one of them what fails, its wordings, its trial, and who decided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from agents.edits import Edit, from_documents
from app import documents, patterns, replaying
from app.errors import NotFound
from app.tables import Draft, Observation, Pattern, PatternEvent, Proposal, Replay, Revision, Run, Ticket, User

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from decimal import Decimal

    from sqlalchemy import Select
    from sqlalchemy.orm import Session

    from agents.verdict import Evidence

MOST_LISTED = 100
EXAMPLES = 3
MOST_LOOKED_AT = 50  # of a pattern's observations, the newest, to find examples on different tickets


def waiting(session: Session) -> int:
    """How many proposals a lead has to decide about."""
    return session.scalar(select(func.count()).select_from(Proposal).where(Proposal.state == "open")) or 0


@dataclass(frozen=True)
class ProposalRow:
    """`decided_by` is a person's name; None while it is open."""

    id: int
    pattern_id: int
    agent: str
    code: str
    subject: str
    direction: str
    kind: str
    why: str
    questions: tuple[str, ...]
    model: str
    demonstration: bool
    state: str
    decided_by: str | None
    decided_at: datetime | None
    decision_note: str
    recorded_at: datetime


@dataclass(frozen=True)
class DraftRow:
    """One wording; `author` is a person's name, None for the chief of staff's own."""

    id: int
    number: int
    base_version: str
    candidate_version: str
    edits: tuple[Edit, ...]
    author: str | None
    recorded_at: datetime


@dataclass(frozen=True)
class ReplayRow:
    """A wording's trial. `made` counts the calls that were answered so far."""

    id: int
    state: str
    note: str
    model: str
    demonstration: bool
    repetitions: int
    tickets: int
    labelled: int
    available: int
    calls: int
    made: int
    estimate_usd: Decimal | None
    result: Mapping[str, Any] | None
    cost_usd: Decimal | None
    recorded_at: datetime
    finished_at: datetime | None

    @property
    def going(self) -> bool:
        return self.state in {"waiting", "running"}


@dataclass(frozen=True)
class Example:
    """A failure as it was seen: the ticket, and the words that show it where there are any."""

    ticket_id: int
    revision_id: int
    external_id: str
    subject: str
    evidence: tuple[Evidence, ...]
    recorded_at: datetime


def listed(session: Session) -> tuple[ProposalRow, ...]:
    """What waits for a decision first, then the latest."""
    order = ((Proposal.state == "open").desc(), Proposal.id.desc())
    return tuple(_row(row) for row in session.execute(_proposals().order_by(*order).limit(MOST_LISTED)))


def proposal(session: Session, proposal_id: int) -> ProposalRow:
    """Raises NotFound."""
    row = session.execute(_proposals().where(Proposal.id == proposal_id)).one_or_none()
    if row is None:
        raise NotFound("there is no such proposal; it may have been in another database")
    return _row(row)


def _proposals() -> Select[*tuple[Any, ...]]:
    return (
        select(
            *(Proposal.id, Proposal.pattern_id, Pattern.agent, Pattern.code, Pattern.subject, Pattern.direction),
            *(Proposal.kind, Proposal.why, Proposal.questions, Proposal.model, Proposal.demonstration),
            *(Proposal.state, User.name.label("decided_by"), Proposal.decided_at, Proposal.decision_note),
            Proposal.recorded_at,
        )
        .join(Pattern, Pattern.id == Proposal.pattern_id)
        .outerjoin(User, User.id == Proposal.decided_by)
    )


def _row(row: Any) -> ProposalRow:  # noqa: ANN401  SQLAlchemy's own row
    return ProposalRow(**{**row._asdict(), "questions": tuple(row.questions)})


def drafts(session: Session, proposal_id: int) -> tuple[DraftRow, ...]:
    """Every wording, the newest first."""
    rows = session.execute(
        select(Draft, User.name)
        .outerjoin(User, User.id == Draft.author_id)
        .where(Draft.proposal_id == proposal_id)
        .order_by(Draft.number.desc())
    )
    return tuple(
        DraftRow(
            id=draft.id,
            number=draft.number,
            base_version=draft.base_version,
            candidate_version=draft.candidate_version,
            edits=from_documents(draft.edits),
            author=author,
            recorded_at=draft.recorded_at,
        )
        for draft, author in rows
    )


def replay(session: Session, draft_id: int) -> ReplayRow:
    """The trial of a wording; every wording has one."""
    row = session.scalars(select(Replay).where(Replay.draft_id == draft_id)).one()
    made = session.scalar(select(func.count()).select_from(Run).where(replaying.runs_of(row), Run.replied)) or 0
    kept = {name: getattr(row, name) for name in ReplayRow.__dataclass_fields__ if name != "made"}
    return ReplayRow(made=made, **kept)


def examples(session: Session, pattern_id: int) -> tuple[Example, ...]:
    """The latest failures of the pattern on different tickets, those with words to show first."""
    rows = session.execute(
        select(Observation, Revision.ticket_id, Ticket.external_id, Ticket.subject)
        .select_from(Pattern)
        .join(Observation, patterns.same())
        .join(Revision, Revision.id == Observation.revision_id)
        .join(Ticket, Ticket.id == Revision.ticket_id)
        .where(Pattern.id == pattern_id, patterns.stands())
        .order_by(Observation.id.desc())
        .limit(MOST_LOOKED_AT)
    )
    found: dict[int, Example] = {}
    for seen, ticket_id, external_id, subject in rows:
        evidence = documents.evidence(seen.evidence)
        shown = Example(ticket_id, seen.revision_id, external_id, subject, evidence, seen.recorded_at)
        if ticket_id not in found or (evidence and not found[ticket_id].evidence):
            found[ticket_id] = shown
    return tuple(sorted(found.values(), key=lambda one: not one.evidence)[:EXAMPLES])


def names(session: Session, ticket_ids: Sequence[int]) -> dict[int, tuple[str, str]]:
    """What people call these tickets: id and subject."""
    rows = session.execute(select(Ticket.id, Ticket.external_id, Ticket.subject).where(Ticket.id.in_(ticket_ids)))
    return {number: (name, subject) for number, name, subject in rows}


def unanswered(session: Session) -> str:
    """Why the chief of staff gave no proposal when it was last called; empty where it did."""
    last = select(PatternEvent.kind, PatternEvent.note).where(PatternEvent.kind.in_(("proposed", "no_answer")))
    row = session.execute(last.order_by(PatternEvent.id.desc()).limit(1)).first()
    return row.note if row is not None and row.kind == "no_answer" else ""
